"""What the outbox costs a node in heap and in wear, measured inside MicroPython with the node's heap."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.firmware.sweeps import ROOT, micropython

KILOBYTE = 1024
FLASH_CYCLES = 100_000
STATE_BLOCKS = 128


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    flash = tmp_path_factory.mktemp("flash") / "state"
    program = Path(__file__).with_name("mpy_storage_budget.py")
    done = subprocess.run(
        [micropython()[0], "-X", "heapsize=160k", str(program), str(ROOT), str(flash)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", done.stdout)}


def test_the_outbox_fits_the_heap_of_a_node_and_does_not_grow_with_its_backlog(cost: dict[str, int]) -> None:
    """One block, its index, and ten bytes per segment."""
    assert cost["heap_new_bytes"] < 16 * KILOBYTE
    assert cost["heap_full_bytes"] < cost["heap_new_bytes"] + 4 * KILOBYTE
    assert cost["evicted"] > 0


def test_a_week_of_keeping_and_acknowledging_leaves_the_heap_as_it_was(cost: dict[str, int]) -> None:
    assert cost["heap_growth_week_bytes"] < KILOBYTE


def test_the_flash_outlives_the_node_ten_times(cost: dict[str, int]) -> None:
    """littlefs spreads erases over the partition: a day of 96 sets, for a hundred years."""
    erases_per_block = cost["day_erases"] / STATE_BLOCKS * 365 * 100
    assert erases_per_block < FLASH_CYCLES


def test_an_alarm_behind_weeks_of_readings_is_found_by_reading_one_segment(cost: dict[str, int]) -> None:
    assert cost["backlog"] > 4000
    assert cost["alarm_read_bytes"] < 24 * KILOBYTE  # the folder, and one block


def test_a_start_reads_headers_and_finds_everything_again(cost: dict[str, int]) -> None:
    assert cost["same"] == 1
    assert cost["start_read_bytes"] < 64 * 24 * KILOBYTE  # littlefs walks the folder for every file it opens
