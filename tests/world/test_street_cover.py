"""The street around a manhole cover: what its traffic raises, and how often it wakes the node."""

from __future__ import annotations

import pytest

from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.i2c import I2cBus
from firmware.cover import Cover
from firmware.guard import Guard
from hil_tests.world.sim_hal import LocalClock, SimI2c
from hil_tests.world.street_cover import DAY_S, CoverMotion, RestingLis3dh
from tests.firmware.street import START_MS
from tests.world.cover_traffic import Counts, year

SEED = 20260802
# What the energy model allows (hil_tests/world/energy.py).
WAKES_A_DAY_MAX = 5


def _told(years: list[Counts]) -> str:
    days = sum(one.days for one in years)
    passes = sum(one.passes for one in years)
    by_pin = sum(one.by_pin for one in years)
    return (
        f"truck_passes={passes} node_days={days:.0f} wakes_by_trucks={by_pin} "
        f"a_day={by_pin / days:.3f} all_wakes_a_day={sum(one.wakes for one in years) / days:.1f} "
        f"awake_s_a_day={sum(one.awake_s for one in years) / days:.1f} "
        f"frames_a_day={sum(one.frames for one in years) / days:.1f} "
        f"flash_bytes_a_day={sum(one.flash_bytes for one in years) / days:.0f} "
        f"flash_erases_a_day={sum(one.flash_erases for one in years) / days:.1f} "
        f"false_alarms={sum(one.alarms for one in years)} seed={SEED}"
    )


def _check(years: list[Counts]) -> None:
    told = _told(years)
    print(told)
    assert sum(one.alarms for one in years) == 0, told
    assert all(one.by_pin / one.days <= WAKES_A_DAY_MAX for one in years), told


def test_a_week_of_traffic_raises_nothing_and_hardly_wakes_the_node() -> None:
    _check([year(SEED, 7)])


def test_two_thousand_vehicles_over_the_whole_chip_neither() -> None:
    _check([year(SEED + 1, 4, Lis3dh)])


@pytest.mark.soak
def test_three_years_of_traffic_raise_nothing_and_hardly_wake_the_node() -> None:
    years = [year(SEED + k, 365) for k in range(3)]
    _check(years)
    assert sum(one.passes for one in years) >= 550_000, _told(years)


@pytest.mark.soak
def test_ten_thousand_vehicles_over_the_whole_chip_neither() -> None:
    counts = year(SEED + 3, 20, Lis3dh)
    _check([counts])
    assert counts.passes >= 10_000


def _pulses(chip_type: type[Lis3dh], seed: int) -> list[int]:
    """When the guard's pin goes up in a day of traffic with three openings, released each time."""
    now = [START_MS]
    clock = LocalClock(lambda: now[0])
    motion = CoverMotion(seed, start_s=START_MS / 1000, trucks_a_day=2000)
    for k, angle in enumerate((8, 30, 170)):
        motion.turn(START_MS / 1000 + 20_000 * (k + 1), angle, 40 * k, 2)
        motion.turn(START_MS / 1000 + 20_000 * (k + 1) + 300, 0, 40 * k, 1)
    chip = chip_type(motion.acceleration, steady_until=motion.steady_until, noise=0.0, seed=seed)
    chip._rate_error = 0.0  # drawn by the name of the class
    bus = I2cBus()
    bus.attach(chip, clock)
    guard = Guard(SimI2c(clock, bus))
    cover = Cover((0, 0, 1000))
    guard.arm(cover.pose, True, True, 5)
    seen: list[int] = []
    chip.int1.connect(lambda level: seen.append(now[0]) if level else None)
    while now[0] < START_MS + DAY_S * 1000:
        if chip.int1.level:
            guard.drain()
            guard.arm(cover.pose, False, True, 5)
        due_ms = clock.next_due_ms
        now[0] = max(now[0] + 1, min(due_ms or now[0] + 60_000, now[0] + 60_000))
        clock.run_due()
    return seen


def test_the_resting_chip_raises_its_pin_when_the_whole_one_does() -> None:
    pulses = _pulses(Lis3dh, SEED)
    assert len(pulses) >= 6, "three openings and three closings"
    assert _pulses(RestingLis3dh, SEED) == pulses
