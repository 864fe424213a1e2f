"""Chips behind ports that any program opens: a pseudo-terminal, and a serial port over TCP with its reset lines."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from esptool.util import FatalError

from hil_tests.world.esp.boot import Boot
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.pty_port import PtyPort
from hil_tests.world.esp.rfc2217_port import Rfc2217Port
from tests.world.esp_tool import connect, quiet, write

DATA = random.Random(2).randbytes(100_000)


@pytest.fixture(autouse=True)
def _no_progress() -> None:
    quiet()


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[PtyPort]:
    port = PtyPort(EspChip("esp32"), tmp_path / "tty")
    yield port
    port.close()


def told_of_boot(chip: EspChip) -> Callable[[], bool]:
    """Waits until the chip starts from its flash, from now on."""
    happened = threading.Event()
    before = chip.on_boot

    def on_boot(boot: Boot) -> None:
        before(boot)
        happened.set()

    chip.on_boot = on_boot
    return lambda: happened.wait(20)


def test_a_path_has_no_lines_and_is_flashed_all_the_same(pty: PtyPort) -> None:
    chip = pty.device
    assert isinstance(chip, EspChip)
    assert chip.state == "app"
    esp = connect(str(pty.path))
    assert chip.state == "stub"
    esp.change_baud(921_600)
    write(esp, 0x20000, DATA)
    assert esp.read_flash(0x20000, len(DATA)) == DATA
    esp.hard_reset()
    assert chip.state == "stub", "no line, no reset"
    booted = told_of_boot(chip)
    esp._port.close()
    assert booted(), "closing the port is what stands for the reset"


def test_a_host_that_goes_back_to_the_consoles_speed_wants_to_hear_the_program(pty: PtyPort) -> None:
    assert isinstance(pty.device, EspChip)
    esp = connect(str(pty.path))
    esp.change_baud(460_800)
    booted = told_of_boot(pty.device)
    esp._port.baudrate = 115_200
    assert booted()
    esp._port.timeout = 5
    assert esp._port.read_until(b"invalid header: 0xffffffff").endswith(b"0xffffffff")
    esp._port.close()


def test_a_path_without_a_hand_at_the_button_finds_no_loader(tmp_path: Path) -> None:
    port = PtyPort(EspChip("esp32"), tmp_path / "tty", has_boot_button=False)
    try:
        with pytest.raises(FatalError, match="No serial data received"):
            connect(str(port.path))
    finally:
        port.close()


def test_a_port_that_the_gateway_has_open_is_not_to_be_had(pty: PtyPort) -> None:
    with (
        serial.Serial(str(pty.path), exclusive=True),
        pytest.raises(FatalError, match="port is busy or doesn't exist"),
    ):
        connect(str(pty.path))


def test_a_slow_line_takes_its_time(tmp_path: Path) -> None:
    """Nothing is lost on it; the order of answers stays."""
    port = PtyPort(EspChip("esp32c3"), tmp_path / "tty", slower=1)
    try:
        esp = connect(str(port.path), stub=False)
        assert bytes(esp.read_mac())[:3] == b"\x24\x6f\x28"
    finally:
        port.close()


def test_a_port_over_tcp_has_its_lines_and_one_client() -> None:
    chip = EspChip("esp32c6")
    port = Rfc2217Port(chip)
    try:
        # esptool's usual time-out from the start: pyserial's client takes 0.2 s for each change of it.
        esp = connect(serial.serial_for_url(port.url, timeout=3))
        assert chip.state == "stub"
        write(esp, 0x20000, DATA[:4000])
        assert chip.flash.data[0x20000 : 0x20000 + 4000] == DATA[:4000]
        with pytest.raises(OSError, match=r"not|roken|reset"):
            serial.serial_for_url(port.url)
        esp.hard_reset()
        assert chip.state == "app"
        esp._port.close()
    finally:
        port.close()
