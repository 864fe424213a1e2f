"""Chips behind ports that any program opens: a pseudo-terminal, and a serial port over TCP with its reset lines."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from esptool.util import FatalError

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


def told_when(chip: EspChip, state: str) -> Callable[[], bool]:
    """Waits until the chip has started what is in its flash (`boot`) or lost its life."""
    happened = threading.Event()
    before = chip.on_boot

    def on_boot(boot: object) -> None:
        before(boot)  # type: ignore[arg-type]
        happened.set()

    assert state == "app"
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
    booted = told_when(chip, "app")
    esp._port.close()
    assert booted(), "closing the port is what stands for the reset"


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
        esp = connect(port.url)
        assert chip.state == "stub"
        write(esp, 0x20000, DATA[:30_000])
        assert chip.flash.data[0x20000 : 0x20000 + 30_000] == DATA[:30_000]
        with pytest.raises(serial.SerialException):
            serial.serial_for_url(port.url)
        esp.hard_reset()
        assert chip.state == "app"
        esp._port.close()
    finally:
        port.close()
