"""Flashing through a port of the operating system: without root, and the port is free again however it ends."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash_tools import ports
from flash_tools.errors import ChipSilent, FlashToolError
from flash_tools.flashing import Progress, flash_board
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.faults import Faults
from hil_tests.world.esp.haste import hurried
from hil_tests.world.esp.pty_port import PtyPort
from tests.flash_tools.flash_rig import Bench, board_of, content_of

NOBODY = 65534


@pytest.fixture
def chip() -> EspChip:
    return EspChip(board_of().CHIP)


@pytest.fixture
def port(chip: EspChip, tmp_path: Path) -> Iterator[PtyPort]:
    made = PtyPort(chip, tmp_path / "tty")
    yield made
    made.close()


def test_a_port_is_free_again_after_a_board_that_does_not_answer(chip: EspChip, port: PtyPort) -> None:
    chip.faults = Faults(is_silent=True)
    with pytest.raises(ChipSilent):
        flash_board(str(port.path), content_of(board_of()), Progress(), boot_s=0, attempts=1)
    ports.open_port(str(port.path)).close()


def test_a_person_without_root_flashes_a_board_whose_port_is_theirs(chip: EspChip, port: PtyPort) -> None:
    """As with the rule of `tidegate flash doctor --udev`: the port belongs to a user, and that is all it takes."""
    content = content_of(board_of())
    path = port.path.resolve()
    is_root = os.getuid() == 0
    if is_root:
        os.chown(path, NOBODY, NOBODY)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with (
        hurried()
    ):  # what esptool reads of its files it has read, before a user comes who may not see our folders
        Bench(board_of()).flash_it(content)
    child = os.fork()
    if child == 0:
        os._exit(_as_nobody(str(path), content, is_root))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    offset, size = board_of().PARTITIONS["app"]
    assert chip.flash.data[offset : offset + size] == content.app


def _as_nobody(path: str, content: object, is_root: bool) -> int:
    """In a process of its own: what it gave up it does not get back."""
    if is_root:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if os.getuid() == 0:
        return 2
    try:
        flash_board(path, content, Progress(), boot_s=0, attempts=2)  # type: ignore[arg-type]
    except FlashToolError as error:
        os.write(2, str(error).encode())
        return 1
    return 0
