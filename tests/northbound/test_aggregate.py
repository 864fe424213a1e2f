"""Aggregates: the figures that pandas gives for the same series, by the civil time of Shanghai wherever we run."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway import civil
from protocols.northbound.aggregate import Sample, aggregate, best_source, sample_flag
from protocols.wire.schemas import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN
from tests.northbound import aggregate_series

ZONE = ZoneInfo("Asia/Shanghai")
ORACLE = (
    gzip.decompress(Path(__file__).with_name("aggregate_oracle.txt.gz").read_bytes()).decode().splitlines()
)


@pytest.fixture(params=["UTC", "Asia/Shanghai"])
def _machine_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def ours(number: int) -> list[tuple[str, ...]]:
    """begin, came, valid, minimum, maximum, mean, flag of each period."""
    one = aggregate_series.series(number)
    groups: dict[int, list[Sample]] = {}
    for time_s, value, flag in zip(one.times, one.values, one.flags, strict=True):
        start_ms = civil.period_start_ms(time_s * 1000, one.period_s, ZONE)
        assert start_ms <= time_s * 1000 < civil.period_end_ms(start_ms, one.period_s, ZONE)
        groups.setdefault(start_ms, []).append(Sample(value, flag))
    rows = []
    for start_ms, samples in groups.items():
        found = aggregate(samples)
        mean = found.mean(100)
        figures = ("", "", "") if mean is None else (found.minimum, found.maximum, repr(mean))
        rows.append((civil.text(start_ms, ZONE), found.came, found.valid, *figures, found.flag))
    return [tuple(map(str, row)) for row in rows]


@pytest.mark.usefixtures("_machine_zone")
def test_figures_are_those_of_pandas() -> None:
    assert len(ORACLE) == aggregate_series.COUNT
    periods = 0
    for number, line in enumerate(ORACLE):
        theirs = [tuple(period.split(":")) for period in line.split(" ")]
        mine = ours(number)
        assert [row[:5] + row[6:] for row in mine] == [row[:5] + row[6:] for row in theirs], number
        for one, other in zip(mine, theirs, strict=True):  # numpy's sum of floats may err in its last digit
            assert one[5] == other[5] or float(one[5]) == pytest.approx(float(other[5]), rel=1e-15), number
        periods += len(theirs)
    print(f"series={len(ORACLE)} periods={periods} differences=0")
    assert periods > 2000


def test_a_period_of_which_too_little_counts_has_the_flag_of_most_of_the_rest() -> None:
    def flag(letters: str, expected: int = 0) -> str:
        return aggregate(
            [Sample(None if letter == "B" else 5, letter) for letter in letters], expected=expected
        ).flag

    assert flag("NNNB") == "N"
    assert flag("NNMM") == "M"
    assert flag("NNMD") == "D", "as many of both: the fault is what to look at"
    assert flag("NNMBB") == "B"
    assert flag("NNN", expected=4) == "N"
    assert flag("NN", expected=4) == "B", "the rest never came"
    assert flag("") == "B"
    assert aggregate([Sample(None, "N")]).flag == "B", "a value that is not there does not count"


def test_figures_are_of_the_samples_that_count_only() -> None:
    found = aggregate(
        [Sample(748, "N"), Sample(9999, "T"), Sample(752, "N"), Sample(751, "N"), Sample(None, "B")]
    )
    assert (found.came, found.valid, found.total, found.flag) == (5, 3, 748 + 752 + 751, "B")
    assert (found.minimum, found.maximum, found.mean(100)) == (748, 752, 2251 / 300)
    assert aggregate([Sample(9999, "T")]).mean(100) is None


def test_the_flag_of_a_reading() -> None:
    assert sample_flag(700, GOOD, 0, 1400) == "N"
    assert sample_flag(700, SUSPECT, 0, 1400) == "N"
    assert sample_flag(700, UNKNOWN, 0, 1400) == "N"
    assert sample_flag(1500, FAIL, 0, 1400) == "T"
    assert sample_flag(700, FAIL, 0, 1400) == "D"
    assert sample_flag(None, MISSING, 0, 1400) == "B"
    assert sample_flag(700, GOOD, 0, 1400, maintenance=True) == "M"
    assert sample_flag(None, MISSING, 0, 1400, maintenance=True, calibrating=True) == "C"


def test_two_instruments_are_not_mixed() -> None:
    worse = [Sample(100, "N"), Sample(None, "B")]
    better = [Sample(200, "N"), Sample(210, "N")]
    assert best_source([worse, better]) is better
    assert best_source([better, better[:]]) is better, "of equals the first"
    assert best_source([]) == ()
