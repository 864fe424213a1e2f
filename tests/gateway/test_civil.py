"""Civil time: the same whatever zone this machine is in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from gateway import civil

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(params=["UTC", "Asia/Shanghai", "America/New_York"], autouse=True)
def machine_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_texts_go_both_ways() -> None:
    moment_ms = civil.unix_ms("20261128061700123", SHANGHAI)
    assert moment_ms == 1_795_817_820_123
    assert civil.text(moment_ms, SHANGHAI) == "20261128061700"
    assert civil.text_ms(moment_ms, SHANGHAI) == "20261128061700123"
    with pytest.raises(ValueError, match=r"unconverted|does not match"):
        civil.unix_ms("20261328061700", SHANGHAI)


def test_an_hour_and_a_day_begin_by_the_regulators_clock() -> None:
    moment_ms = civil.unix_ms("20261128061700", SHANGHAI)
    for period_s, begin in ((600, "20261128061000"), (3600, "20261128060000"), (14_400, "20261128040000"),
                            (86_400, "20261128000000")):  # fmt: skip
        assert civil.text(civil.period_start_ms(moment_ms, period_s, SHANGHAI), SHANGHAI) == begin
    last_ms = civil.unix_ms("20261127235959", SHANGHAI)
    assert civil.text(civil.period_start_ms(last_ms, 3600, SHANGHAI), SHANGHAI) == "20261127230000"


def test_every_moment_of_a_year_is_in_the_period_that_begins_before_it() -> None:
    for zone in (SHANGHAI, BERLIN):
        for moment_ms in range(1_790_000_000_000, 1_790_000_000_000 + 366 * 86_400_000, 7_919_000):
            begin_ms = civil.period_start_ms(moment_ms, 3600, zone)
            assert begin_ms <= moment_ms < begin_ms + 2 * 3_600_000
            assert civil.text(begin_ms, zone)[10:] == "0000"
