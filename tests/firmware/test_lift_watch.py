"""The watch of an elevator monitor on fake sensors that play a recorded truth: gaps, failures, what it keeps."""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING, Any

import pytest

from firmware.errors import StorageError
from firmware.lift_faults import NORMAL
from firmware.lift_faults import SERVICE as SERVICE_BIT
from firmware.lift_watch import LiftWatch, Summary
from firmware.settings import LONG_STAY_S, RATED_SPEED_MM_S, TRAPPED_S
from tests.firmware.lift_play import BATCH, BODY_BYTES, SUMS
from tests.firmware.test_lift_truth import data, truth

if TYPE_CHECKING:
    from array import array

TRIP, TRAPPED, SERVICE, FLOORS_LEARNED = 32, 13, 41, 43
# Batches of the truth: the ride through all floors is over by then, and the first journey.
LEARNED = 2090


def batches() -> list[tuple[list[int], int, int]]:
    """(x y z …, pressure, contacts) per batch; the sums of a car at rest spread over its samples."""
    found, at, all_of_it = [], 0, data()
    while at < len(all_of_it):
        kind, contacts, pressure = unpack_from("<BBi", all_of_it, at)
        at += 6
        if kind == SUMS:
            sums = unpack_from("<3h", all_of_it, at)
            samples = [(total + k) // BATCH for k in range(BATCH) for total in sums]
        else:
            samples = list(unpack_from("<30h", all_of_it, at))
        at += BODY_BYTES[kind]
        found.append((samples, pressure, contacts))
    return found


class Car:
    """Clock, sensors and contacts: the hal as far as the watch needs it."""

    def __init__(self, ms_per_batch: int = 100) -> None:
        self.batches = batches()
        self.at = 0
        self.ms_per_batch = ms_per_batch
        self.now_ms = 0
        self.errors = self.overruns = 0
        self.temperature = 2000
        self.is_dead = self.is_airless = False
        self.service = 0

    def ticks_ms(self) -> int:
        return self.now_ms

    def ticks_diff(self, later: int, earlier: int) -> int:
        return later - earlier

    def drain(self, samples: array[int]) -> int:
        if self.is_dead:
            self.errors += 1
            return 0
        for k, value in enumerate(self.batches[self.at][0]):
            samples[k] = value
        return BATCH

    def pressure(self) -> int | None:
        if self.is_airless:
            self.errors += 1
            return None
        return self.batches[self.at][1]

    @property
    def clock(self) -> Car:
        return self

    def read_pin(self, name: str) -> int:
        contacts = self.batches[self.at][2]
        return {"door": 1 - (contacts & 1), "presence": contacts >> 1 & 1, "float": self.service}[name]


class Slot:
    """A document in memory, which can refuse."""

    def __init__(self) -> None:
        self.kept: bytes | None = None
        self.saves = 0
        self.is_full = False

    def load(self) -> bytes | None:
        return self.kept

    def save(self, data: bytes) -> None:
        if self.is_full:
            raise StorageError("full")
        self.kept = data
        self.saves += 1


class Rig:
    def __init__(self, ms_per_batch: int = 100) -> None:
        self.car = Car(ms_per_batch)
        self.slot = Slot()
        self.settings = {TRAPPED_S: 60, RATED_SPEED_MM_S: truth()["rated_mm_s"], LONG_STAY_S: 600}
        self.told: list[tuple[int, Any]] = []
        self.start()

    def start(self, raised: int = 0) -> None:
        car: Any = self.car
        settings: Any = self.settings
        self.watch = LiftWatch(car, car, car, settings, self.slot)
        self.watch.restore(raised)

    def run(self, until: int) -> None:
        """Let the watch look at every batch up to that one."""
        car = self.car
        until = min(until, len(car.batches))
        while car.at < until:
            car.now_ms += car.ms_per_batch
            self.watch.poll()
            car.at += 1
            self.take()

    def skip(self, count: int) -> None:
        """The node was busy for so long: the FIFO kept the newest samples only."""
        self.car.at += count
        self.car.now_ms += count * self.car.ms_per_batch

    def take(self) -> None:
        for change in tuple(self.watch.changes()):
            self.told.append((self.car.at, change))
            self.watch.applied(change)

    def codes(self) -> list[int]:
        return [change.code for _, change in self.told]


def test_it_tells_what_the_detectors_tell() -> None:
    rig = Rig()
    rig.run(1 << 30)
    wanted = [[bit, code, state] for _, bit, code, state, _ in truth()["told"]]
    assert [[change.bit, change.code, change.state] for _, change in rig.told] == wanted
    assert rig.watch.errors == 0
    assert rig.slot.kept is not None


def test_a_lost_stretch_of_samples_is_a_gap_and_no_movement() -> None:
    """Ten times two seconds while the car stands between two floors."""
    rig = Rig()
    rig.run(2300)
    before = rig.codes().count(TRIP)
    for _ in range(10):
        rig.skip(20)
        rig.run(rig.car.at + 3)
    assert rig.watch.gaps == 10
    assert rig.watch.errors == 10
    assert rig.codes().count(TRIP) == before


def test_a_trip_that_happened_while_nobody_looked_is_found_by_the_barometer() -> None:
    """And the floor after it is right, although the accelerometer never saw the way there."""
    rig = Rig()
    rig.run(LEARNED)
    start_s, end_s, _, to_floor = next(trip for trip in truth()["trips"] if trip[0] * 10 > LEARNED + 1900)
    rig.run(int(start_s * 10) - 3)
    rig.skip(int((end_s - start_s) * 10) + 6)
    before = len(rig.told)
    rig.run(rig.car.at + 100)
    trips = [change.detail for _, change in rig.told[before:] if change.code == TRIP]
    assert trips[0][1] == to_floor


def test_an_accelerometer_that_is_silent_says_nothing_of_the_car() -> None:
    rig = Rig()
    rig.run(LEARNED)
    before = len(rig.told)
    rig.car.is_dead = True
    rig.run(LEARNED + 100)
    readings: list[int | None] = [0] * 9
    list(Summary(rig.watch).measure(readings))
    assert readings == [None] * 8 + [200]
    assert rig.watch.errors >= 90
    assert len(rig.told) == before


def test_without_a_barometer_trips_and_floors_are_found_all_the_same() -> None:
    rig = Rig()
    rig.car.is_airless = True
    rig.run(1 << 30)
    trips = [(change.detail[0], change.detail[1]) for _, change in rig.told if change.code == TRIP]
    assert trips[:6] == [(0, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 0)]
    assert {33, 13, 34, 37, 35} <= set(rig.codes())


@pytest.mark.parametrize("ms_per_batch", [95, 104])
def test_an_accelerometer_whose_clock_is_off_is_measured(ms_per_batch: int) -> None:
    rig = Rig(ms_per_batch)
    rig.run(1500)
    assert rig.watch._period_us == pytest.approx(ms_per_batch * 100, rel=0.005)
    assert rig.watch.gaps == 0


def test_the_summary_is_of_the_time_since_the_one_before() -> None:
    rig = Rig()
    summary = Summary(rig.watch)
    readings: list[int | None] = [None] * 9
    rig.run(LEARNED)
    list(summary.measure(readings))
    floor, position, speed, trips, cycles, run_s, _, _, temperature = readings
    assert (floor, position, trips, temperature) == (1, pytest.approx(447, abs=5), 7, 200)
    assert speed == pytest.approx(149, abs=3)
    assert cycles is not None
    assert cycles >= 8
    assert run_s == pytest.approx(sum(end - start for start, end, *_ in truth()["trips"][:7]), abs=12)
    list(summary.measure(readings))
    assert readings[2:6] == [0, 0, 0, 0]
    assert readings[0] == 1


def test_floors_are_kept_once_found_and_not_with_every_stop() -> None:
    rig = Rig()
    rig.run(LEARNED)
    assert rig.slot.saves <= 4 + 2, "four floors, and what was refined with them"
    assert rig.slot.kept is not None
    assert rig.slot.kept[1] == 4


def test_a_flash_that_takes_nothing_is_counted_asked_again_later_and_stops_nothing() -> None:
    rig = Rig()
    rig.slot.is_full = True
    rig.run(LEARNED)
    assert 2 <= rig.watch.storage_errors <= 5, "once a minute"
    assert rig.codes().count(TRIP) == 7
    rig.slot.is_full = False
    rig.run(LEARNED + 700)
    assert rig.slot.kept is not None


def test_after_a_reset_the_floors_are_known_and_the_place_is_found_by_riding() -> None:
    """Told as -1 until one floor is left that fits; then as before."""
    rig = Rig()
    rig.run(1410)
    assert rig.slot.kept is not None
    heights = list(rig.watch.lift.floors.heights)
    rig.start()
    assert rig.watch.lift.floors.heights == pytest.approx(heights, abs=60)
    assert not rig.watch.lift.floors.located
    rig.run(1 << 30)
    assert rig.watch.lift.floors.located
    assert rig.watch.lift.floors.at == truth()["trips"][-1][3]
    assert len(rig.watch.lift.floors.heights) == 4


def test_alarms_that_were_raised_before_a_reset_are_raised_and_end_when_they_end() -> None:
    rig = Rig()
    rig.run(3000)
    assert TRAPPED in rig.codes()
    rig.start(raised=rig.watch.lift.faults.raised)
    rig.told.clear()
    rig.run(4000)
    assert [(c.code, c.state) for _, c in rig.told if c.code == TRAPPED] == [(TRAPPED, 0)], "the door opened"


def test_learning_forgets_the_floors_and_tells_when_they_are_there_again() -> None:
    rig = Rig()
    rig.run(300)
    assert rig.watch.learn() == ""
    assert rig.watch.lift.floors.heights == []
    rig.run(1 << 30)
    learned = [change.detail for _, change in rig.told if change.code == FLOORS_LEARNED]
    assert learned == [4]


def test_learning_is_refused_while_the_car_moves() -> None:
    rig = Rig()
    rig.run(int(truth()["trips"][0][0] * 10) + 25)
    assert "learn while it stands" in rig.watch.learn()


def test_nobody_is_trapped_while_the_lift_is_in_service() -> None:
    rig = Rig()
    rig.run(2150)
    rig.car.service = 1
    rig.run(3600)
    assert TRAPPED not in rig.codes()
    assert 33 not in rig.codes()
    rig.car.service = 0
    rig.run(3620)
    assert [(c.code, c.state, c.detail) for _, c in rig.told if c.code == SERVICE] == [
        (SERVICE, 1, 2),
        (SERVICE, 0, NORMAL),
    ]


def test_a_service_mode_that_ended_while_the_power_was_off_ends() -> None:
    rig = Rig()
    rig.start(raised=1 << SERVICE_BIT)
    rig.run(20)
    assert [(c.code, c.state) for _, c in rig.told] == [(SERVICE, 0)]


def test_a_service_mode_that_goes_on_after_a_reset_is_told_once() -> None:
    rig = Rig()
    rig.car.service = 1
    rig.start(raised=1 << SERVICE_BIT)
    rig.run(20)
    assert [c for _, c in rig.told if c.code == SERVICE] == []


def test_trapped_comes_after_the_time_that_is_set() -> None:
    rig = Rig()
    rig.settings[TRAPPED_S] = 90
    rig.run(4000)
    stood_s = next(at_s for name, _, at_s, _ in truth()["faults"] if name == "trapped_between_floors")
    raised = [at / 10 - stood_s for at, change in rig.told if change.code == TRAPPED and change.state == 1]
    assert 90 <= raised[0] <= 150


def test_a_step_between_two_looks_costs_nothing() -> None:
    """The node steps whenever a byte arrives: the watch then says how long it still wants to sleep."""
    rig = Rig()
    rig.run(50)
    rig.car.now_ms += 30
    assert rig.watch.poll() == 70
