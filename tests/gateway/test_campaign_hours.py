"""Hours of a campaign: over midnight, in nights in which clocks are changed, and while the clock is not in time."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.campaign_plan import Plan, windows
from tests.gateway.campaign_world import PLAN

BERLIN, SHANGHAI = "Europe/Berlin", "Asia/Shanghai"


def plan(zone: str, *hours: str) -> Plan:
    return PLAN._replace(windows=windows(hours), zone=zone)


def at(zone: str, *local: int) -> int:
    """Milliseconds of a moment there."""
    return int(datetime(*local, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        (SHANGHAI, (2027, 3, 27, 12), 7),
        (BERLIN, (2027, 3, 20, 12), 7),
        (BERLIN, (2027, 3, 27, 12), 6),  # the night of 28 March has no hour from 2 to 3
        (BERLIN, (2027, 10, 30, 12), 8),  # that of 31 October has it twice
    ],
)
def test_a_night_is_as_long_as_the_clocks_there_make_it(zone: str, noon: tuple[int, ...], hours: int) -> None:
    night = plan(zone, "22:00-05:00")
    begin = at(zone, *noon)
    is_open = [night.is_open(begin + minute * 60_000) for minute in range(24 * 60)]
    assert is_open.count(True) == hours * 60
    assert is_open.index(True) == 10 * 60


@pytest.mark.parametrize(
    ("zone", "now", "hours", "opens_in_s"),
    [
        (SHANGHAI, (2027, 3, 28, 1), "04:00-05:00", 3 * 3600),
        (BERLIN, (2027, 3, 28, 1), "04:00-05:00", 2 * 3600),
        (BERLIN, (2027, 10, 31, 1), "04:00-05:00", 4 * 3600),
        (BERLIN, (2027, 3, 28, 1), "02:30-03:30", 3600),  # there is no half past two; three o'clock is inside
        (BERLIN, (2027, 3, 28, 1), "02:00-03:00", 24 * 3600),  # none of it that night
        (BERLIN, (2027, 3, 28, 12, 0, 30), "22:00-24:00", 10 * 3600 - 30),
        (BERLIN, (2027, 3, 28, 23, 59, 59), "22:00-05:00", 0),
    ],
)
def test_when_it_goes_on_is_told_in_a_night_of_another_length_too(
    zone: str, now: tuple[int, ...], hours: str, opens_in_s: int
) -> None:
    assert plan(zone, hours).opens_in_s(at(zone, *now)) == opens_in_s


@pytest.mark.parametrize("zone", [SHANGHAI, BERLIN, "Australia/Lord_Howe", "America/St_Johns"])
def test_it_opens_when_it_was_said_and_not_a_second_before(zone: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    first = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    for _ in range(100):
        begin, end = rng.sample(range(0, 1440, 10), 2)
        told = f"{begin // 60:02d}:{begin % 60:02d}-{end // 60:02d}:{end % 60:02d}"
        hours, now_ms = plan(zone, told), (first + rng.randrange(366 * 86_400)) * 1000
        wait_s = hours.opens_in_s(now_ms)
        assert hours.is_open(now_ms + wait_s * 1000), (told, now_ms)
        assert not wait_s or not hours.is_open(now_ms + wait_s * 1000 - 1000), (told, now_ms)
