"""Alarms as a pure state machine."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.alarms import (
    FAULT_ON_COUNT,
    HIGH_AMMONIA,
    LOW_DISSOLVED_OXYGEN,
    PH_OUT_OF_RANGE,
    PROBE_FAULT,
    Alarms,
)
from firmware.rules import above, below, outside
from protocols.wire.messages import CLEARED, RAISED
from protocols.wire.readings import FAIL, GOOD, MISSING, SUSPECT

OXYGEN = below(LOW_DISSOLVED_OXYGEN, 0, on=300, off=330, on_count=2, off_count=3)
RULES = (
    OXYGEN,
    above(HIGH_AMMONIA, 1, on=200, off=180),
    outside(PH_OUT_OF_RANGE, 2, low=600, high=900, margin=10),
)
CALM = (800, 50, 750)


def fed(
    alarms: Alarms, *sets: tuple[int | None, ...], flags: tuple[int, ...] = (GOOD,) * 3
) -> list[tuple[int, int, int]]:
    """(code, state, detail) of every change, each applied at once."""
    told = []
    for values in sets:
        for change in alarms.update(values, flags):
            alarms.apply(change)
            told.append((change.code, change.state, change.detail))
    return told


def oxygen(alarms: Alarms, *values: int) -> list[tuple[int, int]]:
    return [(state, detail) for _, state, detail in fed(alarms, *((value, 50, 750) for value in values))]


def test_it_is_raised_after_the_on_delay_and_not_by_a_single_reading() -> None:
    alarms = Alarms(RULES, 3)
    assert oxygen(alarms, 290, 310, 290, 310) == []
    assert oxygen(alarms, 290) == []
    assert oxygen(alarms, 280) == [(RAISED, 280)]
    assert oxygen(alarms, 100, 100) == []


def test_it_is_cleared_behind_the_hysteresis_and_after_the_off_delay() -> None:
    alarms = Alarms(RULES, 3, raised=1)
    assert oxygen(alarms, 310, 320, 329, 335, 340, 320) == [], "between on and off nothing counts"
    assert oxygen(alarms, 330, 331) == []
    assert oxygen(alarms, 332) == [(CLEARED, 332)]


def test_limits_themselves_are_inside() -> None:
    alarms = Alarms(RULES, 3)
    assert fed(alarms, *[(300, 200, 600)] * 5, *[(300, 200, 900)] * 5) == []


def test_both_sides_of_a_range_are_one_alarm() -> None:
    alarms = Alarms(RULES, 3)
    assert fed(alarms, (800, 50, 590), (800, 50, 590)) == [(PH_OUT_OF_RANGE, RAISED, 590)]
    assert fed(alarms, (800, 50, 950), (800, 50, 950)) == []
    assert fed(alarms, (800, 50, 895), (800, 50, 895)) == []
    assert fed(alarms, (800, 50, 889), (800, 50, 889)) == [(PH_OUT_OF_RANGE, CLEARED, 889)]


def test_failed_and_missing_readings_neither_raise_nor_clear_nor_interrupt() -> None:
    alarms = Alarms(RULES, 3)
    oxygen(alarms, 290)
    assert fed(alarms, (100, 50, 750), flags=(FAIL, GOOD, GOOD)) == []
    assert fed(alarms, (None, 50, 750), flags=(MISSING, GOOD, GOOD)) == []
    assert oxygen(alarms, 290) == [(RAISED, 290)]


def test_suspect_readings_count() -> None:
    alarms = Alarms(RULES, 3)
    assert fed(alarms, (290, 50, 750), (290, 50, 750), flags=(SUSPECT, GOOD, GOOD)) == [
        (LOW_DISSOLVED_OXYGEN, RAISED, 290)
    ]


def test_a_probe_is_faulty_after_three_failures_in_a_row_and_well_after_one_reading() -> None:
    alarms = Alarms(RULES, 3)
    broken = (GOOD, MISSING, GOOD)
    assert FAULT_ON_COUNT == 3
    assert fed(alarms, *[(800, None, 750)] * 2, flags=broken) == []
    assert fed(alarms, CALM) == []
    assert fed(alarms, *[(800, None, 750)] * 3, flags=broken) == [(PROBE_FAULT, RAISED, 1)]
    assert fed(alarms, CALM) == [(PROBE_FAULT, CLEARED, 1)]


def test_a_whole_sonde_that_is_silent_is_one_fault() -> None:
    alarms = Alarms(RULES, 3)
    silent = (MISSING,) * 3
    assert fed(alarms, *[(None, None, None)] * 9, flags=silent) == [(PROBE_FAULT, RAISED, 0)]
    assert fed(alarms, CALM) == [(PROBE_FAULT, CLEARED, 0)]


def test_a_change_that_is_not_applied_comes_again() -> None:
    alarms = Alarms(RULES, 3)
    low = (200, 50, 750)
    alarms.update(low, (GOOD,) * 3)
    first = alarms.update(low, (GOOD,) * 3)
    assert [change.state for change in first] == [RAISED]
    assert alarms.raised == 0
    assert [change.state for change in alarms.update(low, (GOOD,) * 3)] == [RAISED]


def test_raised_bits_carry_everything_over_a_reset() -> None:
    alarms = Alarms(RULES, 3)
    fed(alarms, *[(200, 300, 500)] * 2)
    again = Alarms(RULES, 3, alarms.raised)
    assert fed(again, *[(200, 300, 500)] * 5) == []
    assert sorted(code for code, _, _ in fed(again, *[CALM] * 3)) == [1, 2, 3]
    assert again.raised == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1500),
            st.integers(0, 400),
            st.integers(400, 1100),
            st.sampled_from((GOOD, GOOD, GOOD, SUSPECT, FAIL, MISSING)),
        ),
        max_size=60,
    )
)
def test_states_alternate_and_the_bits_say_what_was_told_last(sets: list[tuple[int, int, int, int]]) -> None:
    alarms = Alarms(RULES, 3)
    told: dict[int, int] = {}
    for *values, flag in sets:
        for change in alarms.update(values, (flag, GOOD, flag)):
            assert told.get(change.bit, CLEARED) != change.state
            told[change.bit] = change.state
            alarms.apply(change)
        assert alarms.raised == sum(1 << bit for bit, state in told.items() if state == RAISED)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_hysteresis_width_around_the_limit_raises_once_at_most(seed: int) -> None:
    rng = random.Random(seed)
    alarms = Alarms(RULES, 3)
    noisy = [rng.randint(286, 314) for _ in range(2000)]
    assert len(oxygen(alarms, *noisy)) <= 1
