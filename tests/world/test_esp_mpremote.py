"""The real mpremote can not tell a bench board at its prompt from a board with stock MicroPython."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mpremote.transport_serial import SerialTransport

from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.kinds import KINDS
from hil_tests.world.esp.nor import NorFlash
from hil_tests.world.esp.pty_port import PtyPort


@pytest.fixture
def port(tmp_path: Path) -> Iterator[PtyPort]:
    """A board with MicroPython as downloaded, and nothing else in its flash."""
    kind = KINDS["esp32"]
    flash = NorFlash(4 << 20, b"\xff" * kind.bootloader_at + image.release("esp32"))
    board = BenchBoard(tmp_path / "board", EspChip("esp32", flash=flash))
    made = PtyPort(board, tmp_path / "tty")
    yield made
    made.close()
    board.close()


def open_board(port: PtyPort) -> SerialTransport:
    assert isinstance(port.device, BenchBoard)
    port.device.wait_for_prompt()
    # mpremote reads a pty fast only by its own name.
    transport = SerialTransport(str(port.path.resolve()), timeout=5)
    transport.enter_raw_repl()
    return transport


def test_files_go_there_and_come_back_and_outlive_a_power_cut(port: PtyPort) -> None:
    data = bytes(range(256)) * 20
    board = open_board(port)
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
    assert isinstance(port.device, BenchBoard)
    port.device.power_off()
    port.device.power_on()
    board = open_board(port)
    assert board.fs_readfile("/lib/data.bin") == data
    board.close()
