"""Quality control. The recorded flags of ioos-qc (vectors/quality.json) are checked by test_vectors.py, not here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.wire import quality, quality_limits, registry_table, schemas
from protocols.wire.quality import Checker, FlatLine, Limits, RateOfChange, Spike, worst
from protocols.wire.quality_limits import NO_LIMITS

LIMITS = Limits(0, 2000, 500, 1000, 50, 200, 400, 1, 1800, 2700)
HOUR = 3600


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        ((1,), 1),
        ((1, 2), 1),
        ((2, 2), 2),
        ((1, 3), 3),
        ((3, 4, 1), 4),
        ((9, 4), 9),
        ((), 2),
    ],
)
def test_the_worst_flag_wins_and_a_test_that_did_not_run_says_nothing(
    flags: tuple[int, ...], result: int
) -> None:
    assert worst(*flags) == result


@given(st.permutations(schemas.FLAGS))
def test_the_worst_flag_does_not_depend_on_the_order(flags: list[int]) -> None:
    assert worst(*flags) == worst(*sorted(flags))


@pytest.mark.parametrize(
    ("value", "flag"),
    [(None, 9), (-1, 4), (0, 3), (499, 3), (500, 1), (1000, 1), (1001, 3), (2000, 3), (2001, 4)],
)
def test_the_limits_of_a_range_are_inside_it(value: int | None, flag: int) -> None:
    assert quality.gross_range(value, LIMITS) == flag


def test_a_spike_is_told_one_sample_late_and_the_next_one_can_still_be_flagged() -> None:
    checker = Checker(LIMITS)
    assert checker.check(0, 800) == 1
    assert checker.check(900, 890) == 1
    checker.check(1800, 800)
    assert checker.spike_before == 3
    checker.check(2700, 800)
    assert checker.spike_before == 1


def test_a_spike_beside_a_gap_is_not_evaluated() -> None:
    spike = Spike(LIMITS)
    assert [spike.next(value) for value in (800, 1200, None, 1200, 800, None)] == [2, 2, 2, 9, 2, 2]


def test_a_rate_is_judged_by_the_time_that_really_passed() -> None:
    for elapsed_s, flag in ((HOUR, 1), (HOUR - 1, 3), (0, 2), (-5, 2)):
        rate = RateOfChange(LIMITS)
        rate.next(10_000, 600)
        assert rate.next(10_000 + elapsed_s, 1000) == flag


def test_a_rate_is_not_judged_across_a_gap() -> None:
    rate = RateOfChange(LIMITS)
    assert [rate.next(900 * i, value) for i, value in enumerate((600, None, 2000))] == [1, 9, 1]


def test_a_flat_line_is_suspect_then_failed_then_forgiven() -> None:
    flat = FlatLine(LIMITS)
    assert [flat.next(900 * i, value) for i, value in enumerate((5, 7, 7, 7, 7, 7, 8))] == [
        1,
        1,
        1,
        3,
        4,
        4,
        1,
    ]


def test_the_first_reading_after_a_long_gap_is_not_flat() -> None:
    flat = FlatLine(LIMITS)
    flat.next(0, 5)
    flat.next(900, 7)
    for hour in range(1, 24):
        assert flat.next(hour * HOUR, None) == 9
    assert flat.next(24 * HOUR, 6) == 1


def test_a_clock_that_went_back_begins_a_new_stretch() -> None:
    flat = FlatLine(LIMITS)
    assert [flat.next(time_s, 7) for time_s in (100_000, 103_600, 500, 1400, 2300)] == [1, 4, 1, 1, 3]


def flat_by_definition(times: list[int], values: list[int], limits: Limits) -> list[int]:
    """The longest stretch that ends here and has a range below the tolerance, searched from every sample back."""
    flags = []
    for end in range(len(values)):
        start = end
        while (
            start
            and max(values[start - 1 : end + 1]) - min(values[start - 1 : end + 1]) < limits.flat_tolerance
        ):
            start -= 1
        flat_s = times[end] - times[start]
        flags.append(4 if flat_s >= limits.flat_fail_s else 3 if flat_s >= limits.flat_suspect_s else 1)
    return flags


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 12)), max_size=60), st.integers(1, 16))
def test_a_flat_line_is_what_its_definition_says(steps: list[tuple[int, int]], tolerance: int) -> None:
    limits = LIMITS._replace(flat_tolerance=tolerance)
    times, values, time_s = [], [], 0
    for step_s, value in steps:
        time_s += step_s
        times.append(time_s)
        values.append(value)
    flat = FlatLine(limits)
    got = [flat.next(time_s, value) for time_s, value in zip(times, values, strict=True)]
    assert got == flat_by_definition(times, values, limits)


@given(st.lists(st.integers(-40, 40), max_size=200))
def test_the_memory_of_a_flat_line_is_bounded_by_its_tolerance(values: list[int]) -> None:
    flat = FlatLine(LIMITS._replace(flat_tolerance=5))
    for time_s, value in enumerate(values):
        flat.next(time_s, value)
        assert len(flat._values) <= 5


@given(st.lists(st.none() | st.integers(-(2**29), 2**29), max_size=20))
def test_without_limits_everything_measured_is_good(values: list[int | None]) -> None:
    checker = Checker(NO_LIMITS)
    assert [checker.check(60 * i, value) for i, value in enumerate(values)] == [
        9 if v is None else 1 for v in values
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"fail_low": 600}, "fail_low is 600, above suspect_low"),
        ({"suspect_low": 1500}, "suspect_low is 1500, above suspect_high"),
        ({"fail_high": 900}, "suspect_high is 1000, above fail_high"),
        ({"spike_fail": 10}, "spike_suspect is 50, above spike_fail"),
        ({"flat_fail_s": 10}, "flat_suspect_s is 1800, above flat_fail_s"),
        ({"flat_tolerance": 0}, "flat_tolerance is 0"),
        ({"flat_tolerance": 17}, "allowed are 1 to 16"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change: dict[str, int], what: str) -> None:
    with pytest.raises(quality_limits.LimitsError, match=what):
        quality_limits.check(LIMITS._replace(**change))


@pytest.mark.parametrize("schema_id", sorted(registry_table.SCHEMAS))
def test_the_registry_has_sensible_limits_for_every_series(schema_id: int) -> None:
    schema = schemas.schema(schema_id)
    limits = quality_limits.limits_of(schema)
    assert len(limits) == len(schema.series)
    for of_series in limits:
        quality_limits.check(of_series)
