"""Boards for the tests: each runs a main.py given as text on real MicroPython."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boards.virtual.supervisor import UartChip, VirtualBoard

MakeBoard = Callable[..., VirtualBoard]
# 2026-09-21T14:13:20Z: worlds of tests do not start at today.
WORLD_START_S = 1_790_000_000.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[MakeBoard]:
    """board(main, uart=chip, **options): a board with that main.py, not switched on yet."""
    made: list[VirtualBoard] = []
    numbers = itertools.count()

    def make(main: str, *, uart: UartChip | None = None, **options: Any) -> VirtualBoard:
        folder = tmp_path / f"board{next(numbers)}"
        firmware = folder / "firmware"
        firmware.mkdir(parents=True)
        (firmware / "main.py").write_text(textwrap.dedent(main))
        one = VirtualBoard(folder, firmware=firmware, **{"world_start_s": WORLD_START_S, **options})
        made.append(one)
        if uart is not None:
            one.attach_uart(1, uart)
        return one

    yield make
    for one in made:
        one.close()


def lines(board: VirtualBoard) -> list[str]:
    """What main.py printed, over all lives, without what the ROM says at each start."""
    text = board.console.decode(errors="replace").replace("\r\n", "\n").split("\n")
    return [line for line in text if line and not line.startswith(("ets ", "rst:"))]
