"""A whole elevator monitor on CPython: register-level chips on its bus, its own clock, its gateway's end."""

from __future__ import annotations

from typing import Any

import pytest

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from firmware.alarms import PROBE_FAULT
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from protocols.wire import codes
from protocols.wire.messages import CLEARED, NOTE, RAISED, Command, Event, Ping, Readings, Result, Settings
from protocols.wire.readings import MISSING
from tests.firmware.street import Street

HEIGHTS_M = (0.0, 4.5, 7.5, 10.45)
TRAPPED, TRIP, OUT_OF_ZONE, OVERSPEED, FLOORS_LEARNED = 13, 32, 33, 34, 43
# Keys of SPEC.md 2.4.
TRAPPED_S, RATED_SPEED_MM_S = 10, 11


class Lift(Street):
    """A lift of four floors; its car stands at the lowest, its door shut."""

    def __init__(self, interval_s: int = 600, floor: int = 0) -> None:
        super().__init__(node_type="lift", powered=False, settings={0: interval_s, 1: interval_s, 2: 86400})
        self.shaft = Shaft(HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2), floor)
        self.accelerometer = Lis3dh(self.shaft.acceleration, seed=5)
        self.barometer = Bmp390(self.shaft.air, seed=5)
        self.station.attach(self.accelerometer)
        self.station.attach(self.barometer)
        self.station.set_pin("door", 1)
        self.station.power_on()
        self.run(15)

    @property
    def now_s(self) -> float:
        return self.now_ms / 1000

    @property
    def floors(self) -> Any:
        return self.node.watch.lift.floors

    def ride(self, floor: int, door: bool = True) -> None:
        end_s = self.shaft.ride(self.now_s + 0.5, floor)
        self.run(end_s - self.now_s + 2)
        if door:
            self.serve()

    def serve(self) -> None:
        self.station.set_pin("door", 0)
        self.run(4)
        self.station.set_pin("door", 1)
        self.run(2)

    def commission(self) -> None:
        self.serve()
        for floor in (1, 2, 3, 2, 1, 0, 3, 0):
            self.ride(floor)

    def told(self, code: int) -> list[Event]:
        return [event for event in self.peer.of(Event) if event.code == code]

    def trips(self) -> list[Any]:
        return [list(event.detail[:2]) for event in self.told(TRIP)]


def test_every_trip_reaches_the_gateway_with_its_floors_and_the_table_is_told() -> None:
    lift = Lift()
    lift.commission()
    lift.run(10)
    assert lift.trips() == [[0, 1], [1, 2], [2, 3], [3, 2], [2, 1], [1, 0], [0, 3], [3, 0]]
    assert [(event.state, event.detail) for event in lift.told(FLOORS_LEARNED)] == [(NOTE, 4)]
    speed_mm_s = lift.told(TRIP)[-1].detail[3]
    assert speed_mm_s == pytest.approx(1600, rel=0.03)
    heights = [height - lift.floors.heights[0] for height in lift.floors.heights]
    assert heights == pytest.approx([1000 * height for height in HEIGHTS_M], abs=150)
    assert lift.node.watch.errors == 0


def test_somebody_trapped_between_two_floors_is_told_within_two_minutes_and_over_a_power_cut() -> None:
    lift = Lift()
    lift.commission()
    lift.station.set_pin("presence", 1)
    stood_s = lift.shaft.stop_on_the_way(lift.now_s + 0.5, 3, 5.9)
    lift.run(40)
    assert lift.told(TRAPPED) == []
    while not lift.told(TRAPPED) and lift.now_s < stood_s + 200:
        lift.run(1)
    assert 60 <= lift.now_s - stood_s <= 120
    assert [event.state for event in lift.told(OUT_OF_ZONE)] == [RAISED]

    lift.station.power_cut()
    lift.run(5)
    lift.station.power_on()
    lift.run(100)
    assert [event.state for event in lift.told(TRAPPED)] == [RAISED], "it is still the same alarm"
    lift.station.set_pin("door", 0)
    lift.run(5)
    assert [event.state for event in lift.told(TRAPPED)] == [RAISED, CLEARED]


def test_nobody_is_trapped_while_the_inspection_switch_is_on() -> None:
    lift = Lift()
    lift.commission()
    lift.station.set_pin("float", 1)
    lift.station.set_pin("presence", 1)
    lift.shaft.stop_on_the_way(lift.now_s + 0.5, 3, 5.9)
    lift.run(200)
    assert lift.told(TRAPPED) == lift.told(OUT_OF_ZONE) == []
    assert [(event.state, event.detail) for event in lift.told(41)] == [(RAISED, 2)]


def test_floors_are_known_after_a_power_cut_and_the_place_once_a_ride_shows_it() -> None:
    lift = Lift()
    lift.commission()
    lift.station.power_cut()
    lift.station.power_on()
    lift.run(5)
    assert len(lift.floors.heights) == 4
    assert not lift.floors.located
    lift.ride(1)
    assert lift.floors.at == 1, "only one ride of four and a half metres begins anywhere"
    lift.ride(3)
    assert lift.trips()[-1] == [1, 3]


def test_the_rated_speed_that_is_set_is_the_one_that_counts() -> None:
    lift = Lift()
    lift.commission()
    assert lift.told(OVERSPEED) == []
    lift.say(Ping(1))
    lift.say(Settings(lift.peer.latest_piv, 1, {RATED_SPEED_MM_S: 1250}))
    lift.ride(3)
    assert [event.state for event in lift.told(OVERSPEED)] == [RAISED, CLEARED]


def test_the_command_to_learn_forgets_the_floors() -> None:
    lift = Lift()
    lift.commission()
    lift.say(Ping(1))
    lift.say(Command(lift.peer.latest_piv, 7, 60, codes.LEARN, None))
    assert [result.outcome for result in lift.peer.of(Result)] == [0]
    assert lift.floors.heights == []
    lift.commission()
    lift.run(5)
    assert [event.detail for event in lift.told(FLOORS_LEARNED)] == [4, 4]


def test_sets_sum_up_what_happened_since_the_one_before() -> None:
    lift = Lift(interval_s=60)
    lift.commission()
    lift.run(150)
    assert lift.peer.of(Readings)
    rows = [content[3] for content in lift.peer.records.values() if content[0] == 8]
    assert sum(row[3] for row in rows) == 8, "trips"
    assert sum(row[4] for row in rows) == 9, "openings of the door"
    assert sum(row[5] for row in rows) == pytest.approx(50, abs=15), "seconds in motion"
    assert max(row[2] for row in rows) == pytest.approx(160, rel=0.03), "cm/s"
    floor, position, speed, *_, temperature = rows[-1]
    assert (floor, speed) == (0, 0)
    assert position == pytest.approx(0, abs=3)
    assert temperature == pytest.approx(210, abs=2)


def test_a_lift_that_does_not_know_its_floors_yet_has_no_fault() -> None:
    """Nobody is called out for a car that has not moved since the monitor was fitted."""
    lift = Lift(interval_s=60)
    lift.run(10 * 60)
    assert len([record for record in lift.peer.records.values() if record[0] == 8]) >= 8
    assert lift.told(PROBE_FAULT) == []


def test_an_accelerometer_that_is_gone_is_missing_readings_and_then_a_fault_and_nothing_else() -> None:
    lift = Lift(interval_s=60)
    lift.commission()
    events = len(lift.peer.of(Event))
    lift.accelerometer.fault = "absent"
    lift.run(4 * 60)
    flags = [content[4] for content in lift.peer.records.values() if content[0] == 8]
    assert list(flags[-1][:8]) == [MISSING] * 8
    assert flags[-1][8] != MISSING, "the barometer is well"
    codes_after = {event.code for event in lift.peer.of(Event)[events:]}
    assert codes_after == {PROBE_FAULT}
    assert lift.node.watch.errors > 100


def test_a_node_that_was_busy_for_two_seconds_counts_a_gap_and_tells_no_trip() -> None:
    lift = Lift()
    lift.commission()
    trips = len(lift.trips())
    lift.now_ms += 2000
    lift.run(10)
    assert lift.node.watch.gaps == 1
    assert lift.accelerometer is not None
    assert lift.node.watch._accelerometer.overruns == 1
    assert len(lift.trips()) == trips


def test_a_trip_that_finds_a_floor_below_says_where_it_began_in_the_new_count() -> None:
    """The monitor was fitted one floor up: what was 0 is 1 as soon as the floor below is known."""
    lift = Lift(floor=1)
    lift.serve()
    lift.ride(0)
    assert lift.trips()[-1] == [1, 0]
