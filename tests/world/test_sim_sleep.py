"""Deep sleep of a simulated station: what ends it, what the next life finds, and that nothing is polled meanwhile."""

from __future__ import annotations

import pytest

from firmware.hal import CAUSE_DEEP_SLEEP, CAUSE_POWER_ON, WAKE_PIN, WAKE_TIMER
from hil_tests.world.sim_hal import SimStation
from tests.firmware.street import CALM, IDENTITY

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000


class Sleeper:
    """A station whose steps put it to sleep."""

    def __init__(self, ms: int, pins: tuple[str, ...], drift: float = 0.0) -> None:
        self.now_ms = START_MS
        self.station = SimStation(
            IDENTITY, now_ms=lambda: self.now_ms, water=lambda _: CALM, sleep_drift=drift
        )
        self.station.on_start = lambda node: setattr(
            node, "step", lambda: self.station.hal and self.station.hal.deep_sleep(ms, pins)
        )
        self.station.power_on()
        assert self.station.hal is not None
        assert self.station.hal.reset_cause == CAUSE_POWER_ON
        self.station.hal.clock.set(START_MS // 1000, 0)
        self.station.hal.cache.save("pose", b"level")
        self.now_ms += self.station.step()

    def until_awake(self) -> int:
        """Steps it takes."""
        for count in range(1, 100):
            wait_ms = self.station.step()
            if self.station.hal is not None:
                return count
            self.now_ms += wait_ms
        raise AssertionError("slept through a hundred steps")


@pytest.mark.parametrize("drift", [0.0, 0.05, -0.05])
def test_the_timer_ends_it_as_late_as_the_oscillator_is_slow(drift: float) -> None:
    sleeper = Sleeper(DAY_MS, (), drift)
    assert sleeper.until_awake() == 2
    hal = sleeper.station.hal
    assert hal is not None
    assert (hal.reset_cause, hal.wake, hal.cache.load("pose")) == (CAUSE_DEEP_SLEEP, WAKE_TIMER, b"level")
    assert sleeper.now_ms - START_MS == round(DAY_MS * (1 + drift))
    assert hal.clock.now()[0] - START_MS // 1000 == 86_400, "it believes it slept as long as it was told"


def test_a_pulse_on_a_named_pin_ends_it_and_no_other() -> None:
    sleeper = Sleeper(DAY_MS, ("motion",))
    station = sleeper.station
    station.clock.call_later(50.0, lambda: station.set_pin("door", 1))
    station.clock.call_later(100.0, lambda: station.set_pin("motion", 1))
    station.clock.call_later(100.0, lambda: station.set_pin("motion", 0))
    assert sleeper.until_awake() <= 4, "one step per event"
    assert station.hal is not None
    assert station.hal.wake == WAKE_PIN
    assert sleeper.now_ms == START_MS + 100_000


def test_a_pin_that_is_high_already_ends_it_at_once() -> None:
    sleeper = Sleeper(0, ("float",))
    sleeper.station.set_pin("float", 1)
    sleeper.until_awake()
    before_ms = sleeper.now_ms
    assert sleeper.until_awake() == 2, "one step to fall asleep, one to wake"
    assert sleeper.now_ms == before_ms


def test_nothing_but_power_ends_a_sleep_without_a_source() -> None:
    sleeper = Sleeper(0, ())
    assert sleeper.station.step() == DAY_MS
    sleeper.station.power_cut()
    sleeper.station.power_on()
    assert sleeper.station.hal is not None
    assert sleeper.station.hal.cache.load("pose") is None
