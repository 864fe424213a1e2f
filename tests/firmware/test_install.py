"""A node whose power is cut at any flash operation of an update runs the old release or the new one, whole.

The sweep runs inside real MicroPython on its own littlefs (install_main.py); the cuts are those of cutflash.py. Every
run is a stated seed and share, so a failure is repeated by the command line that the assertion shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.firmware import install_cases
from tests.firmware.sweeps import micropython, sweep_life

SEED = 7
# Of some 7,500 first cuts of one life, each followed by a second one in what comes after it: 1 in 61 in `make test`.
SHARES = 61
# `make soak`: three lives with other cells and bits and a third of a fourth, in parts that may run beside one another.
SOAK_PARTS = 3
SOAK = [*((seed, part) for seed in (7, 8, 9) for part in range(SOAK_PARTS)), (10, 0)]


def cuts(interpreter: list[str], folder: Path, seed: int, share: int, shares: int, *more: str) -> int:
    return sweep_life(interpreter, "install_main.py", install_cases.write, folder, seed, share, shares, *more)


def test_a_power_cut_in_an_update_leaves_one_release_or_the_other(tmp_path: Path) -> None:
    """First install, delta, crash, not healthy, two in a row: a seeded sample."""
    assert cuts(micropython(), tmp_path, SEED, 5, SHARES) > 200


def test_the_same_on_cpython(tmp_path: Path) -> None:
    assert cuts([sys.executable], tmp_path, SEED + 1, 3, 801) > 15


def test_cells_caught_half_way_in_a_slot_hide_nothing_of_the_other(tmp_path: Path) -> None:
    """Only cuts that leave cells unsteady: a starter that read before it steadied them failed two of some 1,300."""
    assert cuts(micropython(), tmp_path, SEED, 6, 27, "cells") > 100


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "part"), SOAK)
def test_a_power_cut_everywhere_in_updates(seed: int, part: int, tmp_path: Path) -> None:
    """Every operation of a life in every variant, and a second cut in each recovery: 50,292 in all."""
    assert cuts(micropython(), tmp_path, seed, part, SOAK_PARTS) > 5_000
