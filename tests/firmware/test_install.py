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
# Of some 7,800 first cuts of one life, each followed by a second one in what comes after it: 1 in 61 in `make test`.
SHARES = 61


def sweep(
    interpreter: list[str], folder: Path, seed: int, share: int, shares: int
) -> tuple[dict[str, int], str]:
    life = folder / "life.json"
    install_cases.write(life)
    words = [*interpreter, str(ROOT / "tests/firmware/install_main.py"), str(ROOT), str(life)]
    words += [str(seed), str(share), str(shares)]
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


@pytest.mark.soak
def test_a_power_cut_everywhere_in_updates(tmp_path: Path) -> None:
    """Every operation of one life in every variant, and a second cut in each recovery."""
    found, shown = sweep(micropython(), tmp_path, SEED, 0, 1)
    assert found["cuts"] > 15_000
    assert found["wrong"] == 0, shown
