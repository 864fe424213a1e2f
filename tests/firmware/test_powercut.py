"""A power cut at any flash operation, and another in the recovery, breaks no promise of the node's storage.

The sweep runs inside real MicroPython on its own littlefs (powercut_main.py); the cuts are those of cutflash.py. Every
run is a stated seed and share, so a failure is repeated by the command line that the assertion shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from littlefs import LittleFS

from hil_tests.world.cutflash import BLOCK_BYTES, VARIANTS
from tests.firmware.powercut_world import BLOCKS
from tests.firmware.sweeps import ROOT, micropython, sweep

SEED = 20
STEPS = 200
# Of about 27,000 first cuts in one life, each followed by a second one: 1 in 37 in `make test`.
SHARES = 37
SOAK_PROCESSES = 2


def command(
    interpreter: list[str], seed: int, share: int, shares: int, *, steadied: bool = True, only: str = ""
) -> list[str]:
    return [
        *interpreter,
        str(ROOT / "tests/firmware/powercut_main.py"),
        str(ROOT),
        str(seed),
        str(STEPS),
        str(share),
        str(shares),
        "steadied" if steadied else "as_is",
        only or ",".join(VARIANTS),
    ]


def wrong(found: dict[str, int]) -> int:
    return found["lost"] + found["duplicated"] + found["piv_reused"] + found["other"]


def test_cut_power_inside_micropython_breaks_no_promise() -> None:
    """Nothing kept is lost, nothing has two ids, no PIV is used twice, documents are old or new: a seeded sample."""
    found, shown = sweep(command(micropython(), SEED, 7, SHARES))
    assert found["cuts"] > 1200
    assert wrong(found) == 0, shown


def test_cut_power_on_a_minted_partition_breaks_no_promise(tmp_path: Path) -> None:
    """Minting formats for the oldest littlefs there is; the node's own moves it up, and power may fail in that too."""
    flash = LittleFS(
        block_size=BLOCK_BYTES,
        block_count=BLOCKS,
        read_size=32,
        prog_size=32,
        disk_version=0x00020000,
    )
    with flash.open("/identity", "wb") as file:
        file.write(bytes(90))
    image = tmp_path / "state.img"
    image.write_bytes(bytes(flash.context.buffer))
    found, shown = sweep([*command(micropython(), SEED + 2, 5, 301), str(image)])
    assert found["cuts"] > 100
    assert wrong(found) == 0, shown


def test_cut_power_on_cpython_breaks_no_promise() -> None:
    """The same sweep through littlefs-python: what the simulated world runs on keeps the same promises."""
    found, shown = sweep(command([sys.executable], SEED + 1, 3, 301))
    assert found["cuts"] > 100
    assert wrong(found) == 0, shown


def test_the_judge_sees_what_half_programmed_cells_do_to_bare_littlefs() -> None:
    """Why steady.py exists: mounted as it is, a commit that reads well once takes later ones along when it fades."""
    found, shown = sweep(command(micropython(), SEED, 1, 9, steadied=False, only="weak"))
    assert wrong(found) > 0, shown


@pytest.mark.soak
@pytest.mark.parametrize("share", range(SOAK_PROCESSES * 4 + 1))
def test_cut_power_everywhere(share: int) -> None:
    """Every operation of one life in every variant; the shares together are one sweep."""
    shares = SOAK_PROCESSES * 4 + 1
    found, shown = sweep(command(micropython(), SEED, share, shares))
    assert found["cuts"] * shares >= 20_000
    assert wrong(found) == 0, shown
