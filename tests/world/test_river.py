"""The seeded river: the same water for the same seed and time, with the grammar of a real one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.world.river import PROBES, Fault, River, saturation_mg_l

START_S = 1_790_000_000 - 1_790_000_000 % 86400
HOUR_S = 3600
RANGES = {
    "water_temperature": (-0.5, 36),
    "ph": (6, 9),
    "dissolved_oxygen": (0, 16),
    "conductivity": (200, 900),
    "turbidity": (0, 1000),
    "orp": (-300, 400),
    "ammonia_nitrogen": (0, 4),
    "level": (0, 1000),
    "supply_voltage": (11, 15),
}


@given(st.integers(0, 100), st.floats(1.6e9, 2.0e9))
def test_every_value_is_one_a_probe_can_show_at_its_resolution(seed: int, t_s: float) -> None:
    shown = River(seed).quantities(t_s)
    assert shown.keys() == PROBES.keys() == RANGES.keys()
    for name, value in shown.items():
        low, high = RANGES[name]
        assert low <= value <= high, name
        steps = value / PROBES[name][1]
        assert math.isclose(steps, round(steps), abs_tol=1e-6), name


def test_the_same_seed_and_time_is_the_same_water_whatever_was_asked_before() -> None:
    times = [START_S + 900 * n for n in range(50)]
    forward = [River(5).quantities(t_s) for t_s in times]
    river = River(5)
    backward = [river.quantities(t_s) for t_s in reversed(times)]
    assert forward == backward[::-1]
    assert [River(6).quantities(t_s) for t_s in times] != forward


def _rain_day(river: River) -> float:
    """The start of a heavy shower after which no other falls for two days."""
    for day in range(START_S // 86400, START_S // 86400 + 2000):
        rains = river.rains(day)
        near = [rain for other in (-4, -3, -2, -1, 1, 2) for rain in river.rains(day + other)]
        if len(rains) == 1 and rains[0].depth_mm > 25 and not near:
            return rains[0].start_s
    raise AssertionError("no such day in the river's first 2000")


def test_rain_raises_level_and_turbidity_dilutes_salts_and_all_of_it_passes() -> None:
    river = River(1)
    rain_s = _rain_day(river)
    before, flush, peak, after = (river.truth(rain_s + hours * HOUR_S) for hours in (0, 2.5, 9, 47))
    assert flush["turbidity"] > before["turbidity"] + 100
    assert peak["level"] > before["level"] + 60
    assert peak["conductivity"] < 0.8 * before["conductivity"]
    assert flush["ammonia_nitrogen"] > before["ammonia_nitrogen"] + 0.3
    assert flush["turbidity"] > peak["turbidity"], "the flush is over before the flood"
    assert after["level"] < (before["level"] + peak["level"]) / 2


def test_oxygen_and_ph_peak_in_the_afternoon_and_summer_is_warmer_than_winter() -> None:
    river = River(2)
    days = [START_S - 8 * HOUR_S + day * 86400 for day in range(60)]
    for name in ("dissolved_oxygen", "ph"):
        afternoon = sum(river.truth(day + 15 * HOUR_S)[name] for day in days)
        night = sum(river.truth(day + 4 * HOUR_S)[name] for day in days)
        assert afternoon > night
    july, january = 1_783_000_000, 1_768_000_000
    assert river.truth(july)["water_temperature"] > river.truth(january)["water_temperature"] + 10


def test_saturation_follows_the_published_table() -> None:
    table = {0: 14.621, 5: 12.771, 10: 11.288, 15: 10.084, 20: 9.092, 25: 8.263, 30: 7.559, 35: 6.949}
    for temperature, mg_l in table.items():
        assert saturation_mg_l(temperature) == pytest.approx(mg_l, abs=0.001)


def test_each_fault_touches_its_probe_during_its_time_and_nothing_else() -> None:
    span = (START_S + 10 * HOUR_S, START_S + 20 * HOUR_S)
    faults = [
        Fault("ph", "stuck", *span),
        Fault("turbidity", "offset", *span, size=50),
        Fault("conductivity", "drift", *span, size=240),
        Fault("level", "missing", *span),
        Fault("orp", "spike", *span, size=900),
    ]
    clean, faulty = River(3), River(3, faults)
    times = [START_S + 900 * n for n in range(30 * 4)]
    inside = [t_s for t_s in times if span[0] <= t_s < span[1]]
    for t_s in set(times) - set(inside):
        assert clean.quantities(t_s) == faulty.quantities(t_s)
    spikes = 0
    for t_s in inside:
        good, bad = clean.quantities(t_s), faulty.quantities(t_s)
        assert "level" not in bad
        assert bad["ph"] == clean.quantities(span[0])["ph"]
        assert bad["turbidity"] == pytest.approx(good["turbidity"] + 50)
        assert bad["conductivity"] == pytest.approx(good["conductivity"] + 240 * (t_s - span[0]) / 86400)
        assert bad["water_temperature"] == good["water_temperature"]
        spikes += bad["orp"] > good["orp"] + 800
    assert 1 <= spikes <= 15


def test_a_fault_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="no fault 'tired'; there are offset, drift"):
        Fault("ph", "tired", 0, 1)
    with pytest.raises(ValueError, match="no measurand 'mood'"):
        Fault("mood", "stuck", 0, 1)
