"""The node's clock: ticks that wrap, a time of day that is set, kept and told with its quality."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.hal.clock import HOLDOVER_AFTER_S, Clock
from firmware.sampling import Schedule
from protocols.wire.messages import RTC_HOLDOVER, SYNCHRONISED, UNSYNCHRONISED

PERIOD = 1 << 30
TODAY_S = 1_790_000_000


class Chip:
    """Ticks of 30 bits and a calendar clock of an ESP32; `ms` is the truth."""

    def __init__(self, start: int = PERIOD - 60_000) -> None:
        self.ms = 0
        self._start = start
        self._zero_s = -946_684_800
        self.memory = b""

    def ticks_ms(self) -> int:
        return (self._start + self.ms) % PERIOD

    def ticks_diff(self, later: int, earlier: int) -> int:
        return (later - earlier + PERIOD // 2) % PERIOD - PERIOD // 2

    def sleep_ms(self, ms: int) -> None:
        self.ms += ms

    def read_s(self) -> int:
        return self.ms // 1000 - self._zero_s

    def read_ms(self) -> int:
        return self.ms - self._zero_s * 1000

    def write_s(self, seconds: int) -> None:
        self._zero_s = self.ms // 1000 - seconds

    def load(self) -> bytes:
        return self.memory

    def save(self, data: bytes) -> None:
        self.memory = data


def clock_of(chip: Chip) -> Clock:
    return Clock(chip, chip)


def test_before_it_is_set_time_is_seconds_since_boot() -> None:
    chip = Chip()
    clock = clock_of(chip)
    chip.ms = 61_500
    assert clock.now() == (61, UNSYNCHRONISED)
    assert clock.uptime_s() == 61, "a minute and a half after the wrap of the ticks"


@given(st.lists(st.integers(0, PERIOD // 2 - 1), max_size=40))
def test_uptime_is_exact_however_often_the_ticks_wrap(waits_ms: list[int]) -> None:
    chip = Chip()
    clock = clock_of(chip)
    for wait_ms in waits_ms:
        chip.ms += wait_ms
        clock.uptime_s()
    assert clock.uptime_s() == chip.ms // 1000


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 10_000_000))
def test_the_time_of_day_goes_on_to_the_millisecond(at_ms: int, millis: int, later_ms: int) -> None:
    chip = Chip()
    clock = clock_of(chip)
    chip.ms = at_ms
    assert clock.set(TODAY_S, millis) == 0
    chip.ms += later_ms
    expected_ms = TODAY_S * 1000 + millis + later_ms
    assert clock.now()[0] == expected_ms // 1000
    assert clock.ms_until(expected_ms // 1000 + 1) == 1000 - expected_ms % 1000


def test_setting_it_again_tells_by_how_much_it_was_wrong() -> None:
    chip = Chip()
    clock = clock_of(chip)
    clock.set(TODAY_S, 0)
    chip.ms += 10_000
    assert clock.set(TODAY_S + 70, 0) == 60
    assert clock.set(TODAY_S - 5, 0) == -75


def test_a_day_without_being_set_it_is_holdover() -> None:
    chip = Chip()
    clock = clock_of(chip)
    clock.set(TODAY_S, 0)
    assert clock.now()[1] == SYNCHRONISED
    for _ in range(HOLDOVER_AFTER_S // 3600):
        chip.ms += 3_600_000
        clock.uptime_s()
    assert clock.now() == (TODAY_S + HOLDOVER_AFTER_S, RTC_HOLDOVER)
    clock.set(TODAY_S + HOLDOVER_AFTER_S + 3, 0)
    assert clock.now()[1] == SYNCHRONISED


def test_after_a_deep_sleep_it_goes_on_with_the_chips_clock_as_holdover() -> None:
    chip = Chip()
    clock_of(chip).set(TODAY_S, 0)
    chip.ms += 3_600_000
    assert clock_of(chip).now() == (TODAY_S + 3600, RTC_HOLDOVER)


@pytest.mark.parametrize(
    ("late_s", "is_drift"), [(-180, True), (180, True), (86400 * 300, False), (-7200, False)]
)
def test_a_step_of_the_gateways_time_is_no_drift_of_the_sleeps_clock(late_s: int, is_drift: bool) -> None:
    chip = Chip()
    clock = clock_of(chip)
    clock.set(TODAY_S, 0)
    rested = clock.rest()
    chip.ms += 3_600_000
    woken = clock_of(chip)
    woken.resume(rested)
    woken.set(TODAY_S + 3600 + late_s, 0)
    assert woken.knows_rate == is_drift
    assert (woken.asleep_ms(3600) != 3_600_000) == is_drift


@pytest.mark.parametrize("damage", ["gone", "flipped", "short", "foreign"])
def test_without_its_rtc_memory_it_does_not_trust_the_chips_clock(damage: str) -> None:
    chip = Chip()
    clock_of(chip).set(TODAY_S, 0)
    whole = chip.memory
    chip.memory = {
        "gone": b"",
        "flipped": whole[:6] + bytes((whole[6] ^ 1,)) + whole[7:],
        "short": whole[:-1],
        "foreign": b"\xff" * len(whole),
    }[damage]
    assert clock_of(chip).now()[1] == UNSYNCHRONISED


def test_a_chips_clock_that_went_back_is_not_believed() -> None:
    chip = Chip()
    clock_of(chip).set(TODAY_S, 0)
    chip.write_s(TODAY_S - 1)
    assert clock_of(chip).now()[1] == UNSYNCHRONISED


# -- the raster of sets ------------------------------------------------------------------------------------------------


class Raster:
    """A schedule of 15 minutes and the times at which sets were begun."""

    def __init__(self) -> None:
        self.chip = Chip()
        self.clock = clock_of(self.chip)
        self.schedule = Schedule(self.clock)
        self.begun: list[int] = []

    def run(self, seconds: int) -> None:
        end_ms = self.chip.ms + seconds * 1000
        while self.chip.ms < end_ms:
            if self.schedule.is_due():
                self.schedule.begin(900)
                self.begun.append(self.clock.now()[0])
            self.chip.ms = min(end_ms, self.chip.ms + max(1, self.schedule.wait_ms()))

    def set(self, seconds: int) -> None:
        self.clock.set(seconds, 0)
        self.schedule.replan(900)


def test_the_first_set_is_taken_at_once_and_the_next_on_the_raster_once_the_time_is_known() -> None:
    raster = Raster()
    raster.run(3)
    raster.set(TODAY_S)
    raster.run(2000)
    assert raster.begun[0] == 0
    assert [time % 900 for time in raster.begun[1:]] == [0, 0, 0]
    assert raster.begun[1] - TODAY_S < 900


@pytest.mark.parametrize("step_s", [-400, -30, -1, 1, 30, 400])
def test_a_clock_that_is_corrected_takes_no_set_twice_and_misses_none(step_s: int) -> None:
    raster = Raster()
    raster.set(TODAY_S - TODAY_S % 900 - 10)
    raster.run(30)
    raster.begun.clear()
    raster.run(900 + 15)
    raster.set(raster.clock.now()[0] + step_s)
    raster.run(3600)
    gaps = [later - earlier for earlier, later in zip(raster.begun, raster.begun[1:], strict=False)]
    assert all(time % 900 == 0 for time in raster.begun)
    assert gaps == [900] * len(gaps)
    assert len(raster.begun) in (4, 5)


def test_a_shorter_interval_counts_from_now() -> None:
    raster = Raster()
    raster.set(TODAY_S)
    raster.run(1000)
    raster.schedule.replan(60)
    assert raster.schedule.wait_ms() <= 60_000
