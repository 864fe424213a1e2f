"""Years of a manhole cover on a cell of 19 Ah, per board: what a virtual run counted times the currents of board.py.

python bench/cover_energy.py [days] [seed]
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hil_tests.world.energy import Use, mah_a_day, years
from tests.world.cover_traffic import Counts, year

# The target (node years on 19 Ah), and the wakes that passing vehicles may cost.
YEARS_MIN = 10
WAKES_BY_TRUCKS_MAX = 5
FLASH_CYCLES = 100_000


def use_of(counts: Counts) -> Use:
    days = counts.days
    return Use(
        counts.wakes / days, counts.awake_s / days, counts.frames / days, counts.bytes_up / counts.frames
    )


def boards() -> list[Any]:
    root = Path(__file__).resolve().parent.parent
    names = sorted(path.parent.name for path in root.glob("boards/*/board.py"))
    return [importlib.import_module(f"boards.{name}.board") for name in names]


def main() -> None:
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    counts = year(seed, days)
    use = use_of(counts)
    print(f"{counts.passes} vehicles in {days} days, seed {seed}: a day has {use.wakes:.1f} wakes")
    print(
        f"({counts.by_pin / days:.2f} of them by vehicles), {use.awake_s:.1f} s awake and {use.frames:.1f} frames."
    )
    print(f"\n{'board':28}{'sleep':>8}{'boots':>8}{'awake':>8}{'radio':>8}  mAh/day   years on 19 Ah")
    for board in boards():
        if board.DEEP_SLEEP_UA is None or (board.RADIO_CHIP is None and board.NAME != "virtual"):
            print(f"{board.NAME:28}  no radio, or its deep sleep is not known")
            continue
        parts = mah_a_day(board, use)
        figures = "".join(f"{parts[name]:8.3f}" for name in ("sleep", "boots", "awake", "radio"))
        print(f"{board.NAME:28}{figures}  {years(board, use):16.1f}   (wanted: {YEARS_MIN})")
    blocks = 128  # of a state partition of 512 kB
    wear = counts.flash_erases / days * 3652 / blocks
    print(
        f"\nflash: {counts.flash_erases / days:.1f} erases a day; in ten years {wear:.0f} a block of {FLASH_CYCLES}"
    )


if __name__ == "__main__":
    main()
