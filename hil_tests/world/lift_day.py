"""A lift's day: traffic by the hour, what people do to a car, and faults from a script.

    day = LiftDay(Car(building(rng, 12, 1.75), "7 car", Lift()))
    day.commission()                     a technician rides to every floor
    day.run(86400, ["trapped", …])       the faults, spread over the day

Everything random comes from the car's seed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hil_tests.world.lift_car import INSPECTION, NORMAL, Car, Fault, Trip
from hil_tests.world.lift_profile import DT_S, LiftDrive, distance_of, emergency, profile

if TYPE_CHECKING:
    from collections.abc import Callable

# Journeys per hour, by the hour: an office and the flats above it.
JOURNEYS = (2, 1, 1, 1, 2, 4, 9, 18, 22, 14, 10, 11, 18, 16, 10, 9, 11, 18, 22, 16, 11, 8, 6, 3)
TRAPPED, OUT_OF_ZONE, OVERSPEED, DOOR_OPEN_RUN, LONG_STAY, UNINTENDED = 13, 33, 34, 35, 36, 37
DOOR_FAULT, OVERRAN_TOP, OVERRAN_BOTTOM, SERVICE, ROUGH = 38, 39, 40, 41, 42
# A movement shorter than that is told as what is wrong with it; whether it is a trip as well is nobody's business.
TRIP_M = 1.0


class LiftDay:
    def __init__(self, car: Car, trapped_s: int = 60, long_stay_s: int = 600) -> None:
        self.car = car
        self.rng = car.rng
        self.trapped_s = trapped_s
        self.long_stay_s = long_stay_s
        self.script: dict[str, Callable[[], None]] = {
            "trapped_between_floors": self.trapped_between_floors,
            "trapped_at_floor": self.trapped_at_floor,
            "trapped_in_service": self.trapped_in_service,
            "stopped_out_of_zone": self.stopped_out_of_zone,
            "overspeed": self.overspeed,
            "door_open_run": self.door_open_run,
            "unintended_movement": self.unintended_movement,
            "long_stay": self.long_stay,
            "door_cycling": self.door_cycling,
            "overran_top": lambda: self.overran(top=True),
            "overran_bottom": lambda: self.overran(top=False),
            "rough_ride": self.rough_ride,
        }

    # -- a day -----------------------------------------------------------------------------------------------

    def commission(self) -> None:
        """Up and down through every floor, each door opened; the car stands at the lowest, and rests before."""
        self.car.rest(20)
        self.serve(0)
        for floor in [*range(1, self.car.building.floors), *range(self.car.building.floors - 2, -1, -1)]:
            self.go(floor)
            self.serve(0)

    def run(self, seconds: float, faults: list[str] | None = None) -> None:
        car = self.car
        end_s = car.t_s + seconds
        names = list(faults or ())
        self.rng.shuffle(names)
        # Away from the ends, so that what a fault entails fits.
        times = [car.t_s + seconds * (k + 0.5) / max(1, len(names)) * 0.95 for k in range(len(names))]
        idle_s = 0.0
        while car.t_s < end_s:
            hour = int(car.t_s / 3600) % 24
            wait_s = min(self.rng.expovariate(JOURNEYS[hour] / 3600), end_s - car.t_s)
            if times and car.t_s + wait_s >= times[0]:
                times.pop(0)
                self.script[names.pop()]()
                continue
            idle_s = wait_s
            if idle_s > 400 and car.floor and self.rng.random() < 0.7:
                car.rest(300)
                self.go(0)  # parks in the lobby, its door shut
                wait_s = max(0.0, wait_s - 330)
            car.rest(wait_s)
            if car.t_s < end_s:
                self.journey()
        car.truth.total_s = car.t_s

    def journey(self) -> None:
        """Somebody calls, boards, rides, perhaps with a stop in between."""
        floors = self.car.building.floors
        # Half of all journeys begin or end in the lobby.
        from_floor = 0 if self.rng.random() < 0.35 else self.rng.randrange(floors)
        to_floor = 0 if from_floor and self.rng.random() < 0.5 else self.rng.randrange(floors)
        if to_floor == from_floor:
            to_floor = (from_floor + 1) % floors
        self.go(from_floor)
        self.serve(self.rng.choice((1, 1, 1, 2, 3, 6)))
        if abs(to_floor - from_floor) > 2 and self.rng.random() < 0.3:
            low, high = sorted((from_floor, to_floor))
            self.go(self.rng.randrange(low + 1, high))
            self.serve(self.car.people + 1)
        self.go(to_floor)
        self.serve(0)

    def serve(self, people: int) -> None:
        """Door open, people walk, some dawdle or hop, door shut; the car may level anew meanwhile."""
        car, rng = self.car, self.rng
        self.open_door()
        if rng.random() < 0.9:
            car.act(rng.uniform(0.8, 4), rng.uniform(2, 14), rng.uniform(1.5, 2.4))
        car.people = people
        if rng.random() < 0.1:
            self.relevel()
        car.rest(rng.uniform(0.5, 3))
        if rng.random() < 0.03:
            car.act(rng.uniform(1, 3), rng.uniform(30, 60), rng.uniform(1.8, 2.6))  # children
        self.close_door()
        for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 1, 2))):  # somebody puts a foot in
            self.open_door()
            car.rest(rng.uniform(1, 3))
            self.close_door()
        car.rest(rng.uniform(0.4, 2.0))

    def open_door(self) -> None:
        if not self.car.door_open:
            self.car.set_door(True)
            self.car.act(self.rng.uniform(1.5, 3), self.rng.uniform(1, 5), 6.0)

    def close_door(self) -> None:
        if self.car.door_open:
            self.car.act(self.rng.uniform(1.8, 3), self.rng.uniform(1, 5), 5.0)
            self.car.set_door(False)

    def relevel(self) -> None:
        """The ropes stretch as people get in: 10 to 20 mm back to the floor, with the door open."""
        drive = LiftDrive(0.05, 0.15, 0.5)
        self.car.move(profile(self.rng.choice((-1, 1)) * self.rng.uniform(0.01, 0.02), drive), settle=0.03)
        self.car.height_m = self.car.building.heights_m[self.car.floor]

    def go(self, floor: int, drive: LiftDrive | None = None) -> None:
        """A trip to a floor, its door opening while the last centimetres are levelled now and then."""
        car, rng = self.car, self.rng
        if floor == car.floor:
            return
        drive = drive or car.building.drive
        accelerations = profile(car.building.heights_m[floor] - car.height_m, drive)
        doors = []
        if rng.random() < 0.2 and abs(floor - car.floor) and car.people:
            doors = [(_slower_than(accelerations, 0.25), True)]
        people_mg = 0.0
        if car.people and rng.random() < 0.4:
            people_mg = rng.uniform(1, 8)
            if rng.random() < 0.02:
                people_mg = rng.uniform(15, 35)
        began_s, from_floor = car.t_s, car.floor
        car.move(accelerations, people_mg=people_mg, doors=doors)
        self._arrived(began_s, from_floor, floor, len(accelerations))

    def _arrived(
        self, began_s: float, from_floor: int, to_floor: int, samples: int, is_short: bool = False
    ) -> None:
        car = self.car
        car.truth.trips.append(Trip(began_s, began_s + samples * DT_S, from_floor, to_floor, is_short))
        if to_floor >= 0:
            car.floor = to_floor
            car.height_m = car.building.heights_m[to_floor]

    # -- faults ----------------------------------------------------------------------------------------------

    def _fault(self, name: str, code: int, began_s: float, *also: int) -> None:
        self.car.truth.faults.append(Fault(name, code, began_s, self.car.t_s, frozenset(also)))

    def _at_rest(self) -> None:
        self.car.people = 0
        self.close_door()
        self.car.rest(20)

    def _far(self) -> int:
        """The last floor that is further away."""
        floors = self.car.building.floors
        return 0 if 2 * self.car.floor >= floors else floors - 1

    def _stop_between(self) -> float:
        """The safety circuit opens on the way; returns when the car stood, at least 0.7 m from any floor."""
        car, rng = self.car, self.rng
        heights = car.building.heights_m
        to_floor = self._far()
        low, high = sorted((car.floor, to_floor))
        below = rng.randrange(low, high)
        place_m = rng.uniform(heights[below] + 0.9, heights[below + 1] - 0.9)
        distance_m = heights[to_floor] - car.height_m
        began_s, from_floor = car.t_s, car.floor
        accelerations = emergency(distance_m, car.building.drive, abs(place_m - car.height_m))
        car.move(accelerations, settle=0.4)
        self._arrived(began_s, from_floor, -1, len(accelerations))
        return began_s + len(accelerations) * DT_S

    def _recover(self) -> None:
        """Slowly to the nearest floor, where the door opens."""
        car = self.car
        heights = car.building.heights_m
        floor = min(range(len(heights)), key=lambda f: abs(heights[f] - car.height_m))
        began_s = car.t_s
        accelerations = profile(heights[floor] - car.height_m, LiftDrive(0.3, 0.3, 0.6))
        car.move(accelerations)
        self._arrived(began_s, -1, floor, len(accelerations), abs(distance_of(accelerations)[0]) < TRIP_M)
        self.serve(0)

    def trapped_between_floors(self) -> None:
        self._at_rest()
        self.serve(self.rng.choice((1, 2, 4)))
        stood_s = self._stop_between()
        self.car.act(3, 10)
        self.car.rest(self.rng.uniform(130, 200))
        self._fault("trapped_between_floors", TRAPPED, stood_s, OUT_OF_ZONE)
        self._fault("stopped_out_of_zone", OUT_OF_ZONE, stood_s, TRAPPED)
        self._recover()

    def trapped_at_floor(self) -> None:
        """The door does not open where the car has stopped."""
        self._at_rest()
        self.serve(2)
        self.go_shut()
        stood_s = self.car.truth.trips[-1].end_s
        self.car.rest(self.rng.uniform(130, 180))
        self._fault("trapped_at_floor", TRAPPED, stood_s)
        self.serve(0)

    def go_shut(self) -> None:
        """To another floor, the door shut all the way."""
        people, self.car.people = self.car.people, 0
        self.go((self.car.floor + 1) % self.car.building.floors)
        self.car.people = people

    def trapped_in_service(self) -> None:
        """A technician between two floors in inspection mode: no trap."""
        self._at_rest()
        began_s = self.car.t_s
        self.serve(1)
        self.car.mode = INSPECTION
        self.car.rest(5)
        self._stop_between()
        self.car.rest(200)
        self._fault("service", SERVICE, began_s)
        self._recover_in_service()

    def _recover_in_service(self) -> None:
        self._recover()
        self.car.rest(5)
        self.car.mode = NORMAL
        self.car.rest(5)

    def stopped_out_of_zone(self) -> None:
        self._at_rest()
        stood_s = self._stop_between()
        self.car.rest(30)
        self._fault("stopped_out_of_zone", OUT_OF_ZONE, stood_s)
        self._recover()

    def overspeed(self) -> None:
        """A quarter faster than it should, where the shaft is long enough; else the governor would not know either."""
        self._at_rest()
        drive = self.car.building.drive
        factor = self.rng.uniform(1.22, 1.4)
        fast = LiftDrive(drive.speed_m_s * factor, max(1.0, drive.acceleration_m_s2), drive.jerk_m_s3)
        to_floor = self._far()
        began_s = self.car.t_s
        self.go(to_floor, fast)
        self.car.rest(2)
        self._fault("overspeed", OVERSPEED, began_s)
        self.serve(0)

    def door_open_run(self) -> None:
        """The door's contact opens while the car runs, and closes before the stop."""
        self._at_rest()
        car = self.car
        to_floor = self._far()
        accelerations = profile(car.building.heights_m[to_floor] - car.height_m, car.building.drive)
        total_s = len(accelerations) * DT_S
        began_s, from_floor = car.t_s, car.floor
        car.move(accelerations, doors=[(total_s * 0.35, True), (total_s * 0.35 + 1.2, False)])
        self._arrived(began_s, from_floor, to_floor, len(accelerations))
        self._fault("door_open_run", DOOR_OPEN_RUN, began_s)
        self.serve(0)

    def unintended_movement(self) -> None:
        """The brake slips while the door is open; the car is held after half a metre or more."""
        self._at_rest()
        car = self.car
        self.open_door()
        car.rest(3)
        # Towards the middle, so that it is no overrun.
        up = car.floor < car.building.floors // 2 or car.floor == 0
        distance_m = (1 if up else -1) * self.rng.uniform(0.45, 1.0)
        began_s = car.t_s
        drive = LiftDrive(self.rng.uniform(0.25, 0.7), self.rng.uniform(0.2, 0.8), 1.5)
        accelerations = profile(distance_m, drive)
        car.move(accelerations, settle=0.3)
        self._arrived(began_s, car.floor, -1, len(accelerations), abs(distance_m) < TRIP_M)
        car.rest(4)
        self.close_door()
        car.rest(10)
        self._fault("unintended_movement", UNINTENDED, began_s, DOOR_OPEN_RUN, OUT_OF_ZONE)
        self._recover()

    def long_stay(self) -> None:
        """A trolley stands in the door."""
        self._at_rest()
        self.open_door()
        began_s = self.car.t_s
        self.car.rest(self.long_stay_s + 60)
        self._fault("long_stay", LONG_STAY, began_s)
        self.serve(0)

    def door_cycling(self) -> None:
        """Something small lies in the sill: the door closes, opens, closes, opens."""
        self._at_rest()
        began_s = self.car.t_s
        for _ in range(9):
            self.open_door()
            self.car.rest(self.rng.uniform(1, 3))
            self.close_door()
            self.car.rest(self.rng.uniform(0.5, 2))
        self._fault("door_cycling", DOOR_FAULT, began_s)
        self.car.rest(30)

    def overran(self, *, top: bool) -> None:
        """Past the last floor, and held by the buffer or the limit switch; from at most eight floors away.

        After a trip of a minute the noise of the accelerometer hides half a metre.
        """
        self._at_rest()
        car = self.car
        last = car.building.floors - 1 if top else 0
        near = max(0, last - 8) if top else min(8, car.building.floors - 1)
        if car.floor == last or abs(car.floor - last) > 8:
            self.go(near)
            self.serve(0)
            self._at_rest()
        beyond_m = self.rng.uniform(0.5, 1.2) * (1 if top else -1)
        began_s, from_floor = car.t_s, car.floor
        accelerations = profile(car.building.heights_m[last] + beyond_m - car.height_m, car.building.drive)
        car.move(accelerations, settle=0.6)
        self._arrived(began_s, from_floor, -1, len(accelerations))
        car.rest(15)
        self._fault(
            "overran_top" if top else "overran_bottom", OVERRAN_TOP if top else OVERRAN_BOTTOM, began_s
        )
        self._recover()

    def rough_ride(self) -> None:
        """A damaged guide shoe, on every trip until it is mended."""
        self._at_rest()
        car = self.car
        began_s = car.t_s
        smooth, car.rails_mg = car.rails_mg, 22.0
        ends = (0, car.building.floors - 1)
        for _ in range(6):
            self.go(ends[0] if car.floor == ends[1] else ends[1])
            self.serve(0)
        car.rails_mg = smooth
        for _ in range(6):
            self.go(ends[0] if car.floor == ends[1] else ends[1])
            self.serve(0)
        self._fault("rough_ride", ROUGH, began_s)


def _slower_than(accelerations: list[float], speed_m_s: float) -> float:
    """Seconds after the start from which on the car only levels in."""
    v = 0.0
    last = 0
    for k, a in enumerate(accelerations):
        v += a * DT_S
        if abs(v) > speed_m_s:
            last = k
    return math.ceil(last * DT_S * 10) / 10 + 0.1
