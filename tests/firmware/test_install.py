"""A node whose power is cut at any flash operation of an update runs the old release or the new one, whole.

The sweep runs inside real MicroPython on its own littlefs (install_main.py); the cuts are those of cutflash.py. Every
run is a stated seed and share, so a failure is repeated by the command line that the assertion shows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware import install_cases
from tests.firmware.test_powercut import micropython

ROOT = Path(__file__).parents[2]
SEED = 7
# Of some 7,500 first cuts of one life, each followed by a second one in what comes after it: 1 in 61 in `make test`.
SHARES = 61
# `make soak`: four lives with other cells and bits, in three parts each, which may run beside one another.
SOAK_SEEDS = (7, 8, 9, 10)
SOAK_PARTS = 3


def sweep(
    interpreter: list[str], folder: Path, seed: int, share: int, shares: int, kind: str = ""
) -> tuple[dict[str, int], str]:
    life = folder / "life.json"
    install_cases.write(life)
    words = [*interpreter, str(ROOT / "tests/firmware/install_main.py"), str(ROOT), str(life)]
    words += [str(seed), str(share), str(shares), *([kind] if kind else [])]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    output = done.stdout + done.stderr
    line = next((text for text in output.splitlines() if text.startswith("cuts=")), "")
    assert line, f"the sweep did not end:\n{output[-2000:]}"
    shown = f"{' '.join(words)}\n{done.stdout}"
    print(shown)
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}, shown


def test_a_power_cut_in_an_update_leaves_one_release_or_the_other(tmp_path: Path) -> None:
    """First install, delta, crash, not healthy, two in a row: a seeded sample."""
    found, shown = sweep(micropython(), tmp_path, SEED, 5, SHARES)
    assert found["cuts"] > 200
    assert found["wrong"] == 0, shown


def test_the_same_on_cpython(tmp_path: Path) -> None:
    found, shown = sweep([sys.executable], tmp_path, SEED + 1, 3, 801)
    assert found["cuts"] > 15
    assert found["wrong"] == 0, shown


def test_cells_caught_half_way_in_a_slot_hide_nothing_of_the_other(tmp_path: Path) -> None:
    """Only cuts that leave cells unsteady: a starter that read before it steadied them failed two of some 1,300."""
    found, shown = sweep(micropython(), tmp_path, SEED, 6, 27, "cells")
    assert found["cuts"] > 100
    assert found["wrong"] == 0, shown


@pytest.mark.soak
@pytest.mark.parametrize("part", range(SOAK_PARTS))
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_a_power_cut_everywhere_in_updates(seed: int, part: int, tmp_path: Path) -> None:
    """Every operation of a life in every variant, and a second cut in each recovery: 60,000 in all."""
    found, shown = sweep(micropython(), tmp_path, seed, part, SOAK_PARTS)
    assert found["cuts"] > 5_000
    assert found["wrong"] == 0, shown
