"""Alarms of a river station that no single reading raises: the class of the water, and a suspected discharge."""

from __future__ import annotations

import itertools

import pytest

from firmware.river_water import AMMONIA_AT_MOST, OXYGEN_AT_LEAST, class_of, derive
from protocols.measurands import water_class
from protocols.wire.messages import CLEARED, RAISED, Event
from protocols.wire.readings import FAIL, GOOD
from tests.firmware.street import CALM, Street

DISCHARGE, CLASS_WORSE, TARGET_CLASS = 14, 15, 13
CLEAN = {**CALM, "dissolved_oxygen": 9.0, "ammonia_nitrogen": 0.4}


def station(target: int = 3) -> Street:
    street = Street(settings={0: 900, 1: 60, 2: 86400, TARGET_CLASS: target})
    street.water.update(CLEAN)
    street.run(2000)
    return street


def told(street: Street, code: int) -> list[tuple[int, object]]:
    return [(event.state, event.detail) for event in street.peer.of(Event) if event.code == code]


def near(limits: tuple[int, ...]) -> list[int]:
    return [limit + step for limit in limits for step in (-1, 0, 1)]


def test_the_node_judges_by_the_tables_of_the_standard_at_every_limit() -> None:
    ph = (599, 600, 601, 899, 900, 901)
    for one, oxygen, ammonia in itertools.product(ph, near(OXYGEN_AT_LEAST), near(AMMONIA_AT_MOST)):
        values = {"ph": one / 100, "dissolved_oxygen": oxygen / 100, "ammonia_nitrogen": ammonia / 100}
        assert class_of(one, oxygen, ammonia, 0) == water_class(values).grade, values
    assert class_of(None, None, None, 0) == 0
    assert class_of(700, None, 100, 0) == 3


def test_water_worse_than_its_target_is_told_after_three_sets_and_cleared_after_three() -> None:
    street = station()
    street.water["ammonia_nitrogen"] = 1.8
    street.run(1900)
    assert told(street, CLASS_WORSE) == []
    street.run(900)
    assert told(street, CLASS_WORSE) == [(RAISED, 5)]
    street.water["ammonia_nitrogen"] = 0.98
    street.run(9000)
    assert told(street, CLASS_WORSE) == [(RAISED, 5)], "within the margin of class III: it may go to and fro"
    street.water["ammonia_nitrogen"] = 0.8
    street.run(2900)
    assert told(street, CLASS_WORSE) == [(RAISED, 5), (CLEARED, 3)]


def test_the_target_is_a_setting() -> None:
    street = station(target=5)
    street.water["ammonia_nitrogen"] = 1.8
    street.run(7200)
    assert told(street, CLASS_WORSE) == []
    strict = station(target=1)
    strict.run(3600)
    assert told(strict, CLASS_WORSE) == [(RAISED, 2)]


def test_conductivity_and_turbidity_that_step_together_are_a_suspected_discharge() -> None:
    street = station()
    street.water.update(conductivity=1258 * 1.6, turbidity=600.0)
    street.run(1000)
    ((state, step),) = told(street, DISCHARGE)
    assert state == RAISED
    assert step == pytest.approx(60, abs=2)
    street.run(5 * 900)
    assert [state for state, _ in told(street, DISCHARGE)] == [RAISED, CLEARED]


@pytest.mark.parametrize(
    "water",
    [{"conductivity": 2000.0}, {"turbidity": 600.0}, {"conductivity": 1500.0, "turbidity": 600.0}],
)
def test_one_of_them_alone_or_a_small_step_is_none(water: dict[str, float]) -> None:
    street = station()
    street.water.update(water)
    street.run(3600)
    assert told(street, DISCHARGE) == []


def test_rain_takes_hours_and_is_no_discharge() -> None:
    street = station()
    for _ in range(20):
        street.water["conductivity"] *= 0.93
        street.water["turbidity"] *= 1.2
        street.run(900)
    assert street.water["conductivity"] < 300
    assert told(street, DISCHARGE) == []


def test_failed_probes_say_nothing_and_the_memory_is_bounded() -> None:
    memory: list[object] = []
    good = (1500, 780, 900, 600, 300, 250, 40, 1000)
    flags = [GOOD] * 8
    for time_s in range(0, 20_000, 10):
        assert derive(memory, time_s, good, flags) == (2, 0)
        assert len(memory) <= 17
    failed = (FAIL, FAIL, FAIL, FAIL, GOOD, GOOD, FAIL, GOOD)
    assert derive(memory, 20_000, good, failed) == (None, None)
