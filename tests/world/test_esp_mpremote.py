"""The real mpremote can not tell a bench board at its prompt from a board with stock MicroPython."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mpremote.transport_serial import SerialTransport

from flash_tools.images import board_constants
from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.boot import TABLE_AT
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.kinds import KINDS
from hil_tests.world.esp.nor import NorFlash
from hil_tests.world.esp.pty_port import PtyPort
from hil_tests.world.flash import formatted


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[PtyPort]:
    """A board with MicroPython as downloaded, and nothing else in its flash."""
    kind = KINDS["esp32"]
    flash = NorFlash(4 << 20, b"\xff" * kind.bootloader_at + image.release("esp32"))
    board = BenchBoard(tmp_path / "board", EspChip("esp32", flash=flash))
    made = PtyPort(board, tmp_path / "tty")
    yield made
    made.close()
    board.close()


def test_a_program_that_has_ended_leaves_the_prompt_and_its_files(tmp_path: Path) -> None:
    app, files = formatted(384)
    files.mkdir("/a")
    for path in ("/main.py", "/a/main.py"):
        with files.open(path, "w") as file:
            file.write(b"print('that was all')")
    flash = NorFlash(4 << 20, b"\xff" * 0x1000 + image.release("esp32"))
    flash.data[TABLE_AT : TABLE_AT + 0xC00] = image.board_table(board_constants("esp32_devkitc_sx1262"))
    flash.data[0x200000:0x380000] = app.image
    bench = BenchBoard(tmp_path / "board", EspChip("esp32", flash=flash))
    port = PtyPort(bench, tmp_path / "tty")
    board = open_board(port)
    assert sorted(entry.name for entry in board.fs_listdir("/")) == ["a", "main.py"]
    board.close()
    port.close()
    bench.close()


def open_board(port: PtyPort) -> SerialTransport:
    assert isinstance(port.device, BenchBoard)
    port.device.wait_for_prompt()
    # mpremote reads a pty fast only by its own name.
    transport = SerialTransport(str(port.path.resolve()), timeout=5)
    transport.enter_raw_repl()
    return transport


def test_files_go_there_and_come_back_and_outlive_a_power_cut(fresh: PtyPort) -> None:
    data = bytes(range(256)) * 20
    board = open_board(fresh)
    assert board.eval("1 + 1") == 2
    assert board.fs_listdir("/") == [], "the stock boot script formats a blank partition"
    board.fs_mkdir("/lib")
    board.fs_writefile("/lib/data.bin", data)
    assert board.fs_readfile("/lib/data.bin") == data
    board.exec("import sys; sys.modules['left'] = 1")
    board.exit_raw_repl()
    board.enter_raw_repl()  # with a soft reset: a new interpreter, the same files
    assert board.eval("'left' in __import__('sys').modules") is False
    assert [entry.name for entry in board.fs_listdir("/lib")] == ["data.bin"]
    board.close()
    assert isinstance(fresh.device, BenchBoard)
    fresh.device.power_off()
    fresh.device.power_on()
    board = open_board(fresh)
    assert board.fs_readfile("/lib/data.bin") == data
    board.close()
