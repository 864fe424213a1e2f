"""Rate of change and flat line of devices: the node's tests, and what is different on purpose."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.device_quality import RATE_OVER_S, Trend, limits_of
from gateway.devices import Quantity, quantities
from gateway.profile_library import Library
from gateway.profiles import Profile
from protocols.wire import quality
from protocols.wire.quality import Limits
from tests.gateway.device_desk import device_desk, on_a_loop

LIMITS = Limits(None, None, None, None, None, None, 200, 2, 3600, 7200)
SAMPLES = st.lists(
    st.tuples(st.integers(RATE_OVER_S, 5000), st.one_of(st.none(), st.integers(-300, 300))), max_size=40
)


@given(SAMPLES)
def test_samples_ten_minutes_apart_are_flagged_as_a_node_flags_its_own(
    samples: list[tuple[int, int | None]],
) -> None:
    trend, rate, flat = Trend(LIMITS), quality.RateOfChange(LIMITS), quality.FlatLine(LIMITS)
    now_s = 0
    for step_s, value in samples:
        now_s += step_s
        expected = quality.worst(rate.next(now_s, value), flat.next(now_s, value))
        assert trend.next(now_s, value) == expected


@given(st.lists(st.integers(0, 3), min_size=2, max_size=2000))
def test_noise_of_a_few_steps_read_each_second_is_no_rate(noise: list[int]) -> None:
    """200 steps an hour are 33 in ten minutes."""
    trend = Trend(LIMITS._replace(flat_tolerance=None))
    assert {trend.next(second, 1000 + step) for second, step in enumerate(noise)} == {1}


def test_a_step_is_found_at_once_however_often_it_is_read() -> None:
    trend = Trend(LIMITS._replace(flat_tolerance=None))
    flags = [trend.next(second, 0 if second < 900 else 50) for second in range(3000)]
    assert flags.index(3) == 900
    assert flags[-1] == 1  # what stays is the new normal


def quantity(**point: object) -> Quantity:
    head = {"title": "t", "vendor": "v", "model": "m", "sources": ["s"], "checked": "c"}
    made = {
        "measurand": "ph",
        "unit": "[pH]",
        "function": "input",
        "address": 0,
        "type": "u16",
        "scale": 0.01,
        **point,
    }
    (one,) = quantities(Profile.model_validate({**head, "modbus": {"point": [made]}})).values()
    return one


def test_limits_are_in_steps_of_the_point() -> None:
    assert limits_of(quantity()).rate_per_h == 100
    assert limits_of(quantity(decimals=3)).rate_per_h == 1000
    assert limits_of(quantity(decimals=3)).flat_tolerance == 10
    assert limits_of(quantity(decimals=1, scale=0.1)).rate_per_h == 10


def test_a_coarse_device_is_not_taken_for_stuck() -> None:
    assert limits_of(quantity(scale=0.1)).flat_tolerance is None
    assert limits_of(quantity(scale=0.01)).flat_tolerance == 1
    assert limits_of(quantity(type="f32", scale=1)).flat_tolerance == 1
    assert limits_of(quantity(trend=False)).rate_per_h is None


def test_limits_of_every_shipped_point_make_sense() -> None:
    tested = 0
    for name in (library := Library()).names():
        for one in quantities(library.get(name)).values():
            limits = limits_of(one)
            tested += limits.rate_per_h is not None
            if limits.flat_tolerance is not None:
                assert limits.flat_suspect_s is not None
                assert 1 <= limits.flat_tolerance <= 16
    assert tested > 10


@on_a_loop
async def test_flags_of_the_trend_join_the_others_and_values_stay(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        device = desk.devices.get("level-1")
        levels = [100.0, 100.4, 250.0, 600.0, None, 250.0]
        for level in levels:
            desk.clock.pass_s(900)
            desk.clock.now_ms += 86_400_000  # steps of the wall clock are no rate
            desk.accept.accept(device, {"level": level})
        for _ in range(9):
            desk.clock.pass_s(12 * 3600)
            desk.accept.accept(device, {"level": 250.0})
        await desk.store.write(lambda connection: None)
        sets = desk.store.readings(0, 100, 100)
        assert [one.values[0] for one in sets[:6]] == [1000, 1004, 2500, 6000, None, 2500]
        flags = [1 if one.flags is None else one.flags[0] for one in sets]
        assert flags[:6] == [1, 1, 3, 4, 9, 1]
        # 48 hours of the same level are suspect, 96 a failure
        assert flags[6:] == [1, 1, 1, 3, 3, 3, 3, 4, 4]


@on_a_loop
async def test_a_device_can_be_spared_the_tests(tmp_path: Path) -> None:
    with device_desk(tmp_path, trend=False) as desk:
        for level in (0.0, 400.0):
            desk.clock.pass_s(60)
            desk.accept.accept(desk.devices.get("level-1"), {"level": level})
        await desk.store.write(lambda connection: None)
        assert [one.flags for one in desk.store.readings(0, 9, 9)] == [None, None]
