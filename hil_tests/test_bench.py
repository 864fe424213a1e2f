"""From blank flash to a node that the gateway hears: written by the real esptool, run by a real MicroPython."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from esptool import cmds
from esptool.logger import log

from flash_tools.images import board_constants
from flash_tools.mint import mint
from hil_tests.bench_rig import Bench, parts_of, write_board
from hil_tests.world.esp import slip
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.loader import OPS
from hil_tests.world.esp.nor import NorFlash
from hil_tests.world.esp.port import SerialChip

ALL_OPS = [*OPS, 0xFF]


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    log.set_verbosity("silent")
    made = Bench(tmp_path, request.param)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("bench", ["esp32_devkitc_sx1262"], indirect=True)
def test_a_flashed_board_boots_and_the_gateway_stores_what_it_says_and_a_reflash_keeps_what_it_knew(
    bench: Bench,
) -> None:
    assert bench.bench.boot is not None
    assert bench.bench.boot.fault == "no bootloader", "a fresh board is blank"
    bench.write()
    bench.bench.wait_for_life()
    bench.gateway.start()
    bench.wait(lambda: bench.stored() >= 3, "sets of the node")
    bench.gateway.stop()
    before = bench.stored()
    bench.write(with_state=False)
    bench.gateway.start()
    bench.wait(lambda: bench.stored() > before, "sets after the reflash")
    assert bench.bench.lives == 2


def test_a_board_with_another_chip_runs_what_was_built_for_it(tmp_path: Path) -> None:
    """Pins, image and chip are the board's own; the node says who it is on the line that wrote its flash."""
    name = "heltec_wifi_lora_32_v3"
    log.set_verbosity("silent")
    minted = mint(out=tmp_path, node_type="river", board=name, address=0x42)
    board = BenchBoard(tmp_path / "board", EspChip(board_constants(name).CHIP))
    port = SerialChip(board)
    with hurried():
        write_board(port, parts_of(name, "river", minted.state_image.read_bytes()))
    port.open()
    port.baudrate, port.timeout = 115_200, 30
    greeting = b"node 0042, river on " + name.encode()
    assert port.read_until(greeting).endswith(greeting)
    board.close()
    assert board.chip.flash.data[0x380000:0x400000] != minted.state_image.read_bytes(), "it counted its start"


def test_whatever_comes_down_the_line_a_loader_goes_on() -> None:
    """Random bytes, and requests with a byte changed, cut or doubled; to the ROM and to a stub."""
    rng = random.Random(3)
    chip = EspChip("esp32s3", flash=NorFlash(1 << 20))
    answers: list[bytes] = []
    chip.say = answers.append
    for number in range(6000):
        if number % 20 == 0:  # it may have been told to jump, to boot, or to read for ever
            chip.restart_loader()
            if number % 40:
                chip.start_stub()
        words = struct.pack(
            "<IIII", *(rng.choice((0, 1, 4096, 0x4000, rng.getrandbits(21))) for _ in range(4))
        )
        body = bytearray(struct.pack("<BBHI", 0, rng.choice(ALL_OPS), 16, rng.choice((0xEF, 0))) + words)
        for _ in range(rng.choice((0, 0, 1, 2))):
            where = rng.randrange(len(body))
            body[where : where + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        chip.hear(rng.choice((slip.frame(bytes(body)), slip.frame(bytes(body)), rng.randbytes(40))))
    kinds = {(answer[2], answer[-3:-1]) for answer in answers if len(answer) > 12}
    assert len(kinds) > 40, "they were understood, and most were refused for a reason"
    port = SerialChip(chip)
    with hurried():
        assert cmds.detect_chip(port, connect_attempts=1).CHIP_NAME == "ESP32-S3"
