"""What a person with a terminal on the board sees, through pytest-embedded: the same on a real board's port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boards.virtual.board import RS485_UART
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import VirtualBoard
from flash_tools.mint import mint
from hil_tests.street import app_image
from hil_tests.world.river import River

ADDRESS = 0x0042
# Channel 1, then a flag byte with a kid context and a PIV of one byte (SPEC.md sections 3 and 4).
JOIN_HELLO = b"\x01\x19"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A minted station that is switched off."""
    minted = mint(out=tmp_path, address=ADDRESS, node_type="river")
    with VirtualBoard(tmp_path / "board", app_image=app_image(), state_image=minted.state_image) as one:
        one.attach_uart(RS485_UART, ModbusSonde(YOSEMITECH, River(1).quantities))
        yield one


@pytest.fixture
def port(board: VirtualBoard) -> str:
    """pytest-embedded opens this: the pty that stands for the board's USB port."""
    return str(board.link_path)


@pytest.mark.parametrize("embedded_services", ["serial"], indirect=True)
def test_the_console_says_who_the_node_is_after_each_reset(dut: Any, board: VirtualBoard) -> None:
    """Boot text, then the node's name and reset cause; a reset says so and counts the boot."""
    board.power_on()
    dut.expect("POWERON_RESET", timeout=20)
    dut.expect(r"node 0042, river on virtual, boot 1, reset cause 1, no epoch", timeout=20)
    board.press_reset()
    dut.expect(r"node 0042, river on virtual, boot 2, ", timeout=20)


@pytest.mark.parametrize("embedded_services", ["serial"], indirect=True)
def test_bytes_from_a_terminal_do_not_stop_a_node(dut: Any, board: VirtualBoard) -> None:
    """Ctrl-C and noise on the port are no frames: the node counts them and goes on."""
    board.power_on()
    dut.expect(r"node 0042, river on virtual, boot 1", timeout=20)
    dut.serial.proc.write(b"\x03\x03 hello? \x00\xff\x00\x04\x03")
    # With nobody to answer it, it says hello again and again; two more, since one may have been on its way.
    board.wait_console(JOIN_HELLO, count=board.console.count(JOIN_HELLO) + 2)
    assert board.counts["halted"] == board.counts["reset"] == 0
