"""Series of readings for the aggregates: what make_aggregate_oracle.py asks pandas, and what ours must then answer."""

from __future__ import annotations

import random
from typing import NamedTuple

COUNT = 240
# (period in seconds, pandas offset).
PERIODS = ((60, "1min"), (600, "10min"), (3600, "1h"), (14_400, "4h"), (86_400, "1D"))
# Shanghai has had no summer time since 1991: of 1988 the hours and days that are not as long as others.
STARTS = (1_790_006_400, 1_795_800_000, 577_900_000, 590_200_000)


class Series(NamedTuple):
    times: list[int]
    values: list[int | None]
    flags: str  # one letter a sample
    period_s: int
    offset: str


def series(number: int) -> Series:
    """The one of that number: always the same."""
    rng = random.Random(f"aggregate {number}")
    period_s, offset = PERIODS[number % len(PERIODS)]
    step_s = rng.choice((10, 60, 300, 900)) if period_s <= 600 else rng.choice((300, 900, 3600))
    time_s = STARTS[number // len(PERIODS) % len(STARTS)] + rng.randrange(86_400)
    times: list[int] = []
    values: list[int | None] = []
    flags = ""
    value = rng.randrange(-500, 2000)
    bad = rng.random() * 0.6
    for _ in range(rng.randrange(1, 160)):
        time_s += step_s if rng.random() < 0.9 else rng.randrange(1, 40 * step_s)
        value += rng.randrange(-30, 31)
        flag = "N" if rng.random() > bad else rng.choice("MDCTBBD")
        times.append(time_s)
        values.append(None if flag == "B" else value)
        flags += flag
    return Series(times, values, flags, period_s, offset)
