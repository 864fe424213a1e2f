"""A building with one lift, and the car that carries the node: what it does becomes samples, and a truth.

The detectors are fed as the node feeds them: batches of ten samples, one pressure each, the contacts. Whatever moves
(trips, doors, people) is sampled at full rate; a car in which nobody moves is fed batch by batch as sums of ten samples
(lift_sensors.py says how). No time is skipped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hil_tests.world.lift_profile import DT_S, LiftDrive, settling
from hil_tests.world.lift_sensors import BATCH, G_M_S2, Accelerometer, Air, Vibration

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Sequence

    from firmware.alarms import Change

NORMAL = 1
INSPECTION = 2
_MG = 1000 / G_M_S2


class Detector(Protocol):
    """What is fed: a firmware.lift.Lift, or whatever records."""

    def feed(
        self,
        samples: array[int],
        count: int,
        pressure: int | None,
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None: ...
    def feed_sums(
        self,
        count: int,
        sx: int,
        sy: int,
        sz: int,
        pressure: int | None,
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None: ...
    def changes(self) -> Sequence[Change]: ...
    def applied(self, change: Change) -> None: ...


@dataclass(frozen=True, slots=True)
class Building:
    heights_m: tuple[float, ...]
    drive: LiftDrive
    rails_mg: float

    @property
    def floors(self) -> int:
        return len(self.heights_m)


def building(rng: random.Random, floors: int, speed_m_s: float) -> Building:
    """Storeys of about 3 m, a lobby of 4.5 m, each a few centimetres off; some have a mezzanine or plant room."""
    heights = [0.0]
    lobby = 0 if floors < 6 or rng.random() < 0.5 else rng.randrange(1, 3)
    for floor in range(floors - 1):
        storey = 4.5 if floor == lobby else rng.choice((2.8, 3.0, 3.0, 3.0, 3.3)) + rng.uniform(-0.05, 0.05)
        if rng.random() < 0.04:
            storey += rng.uniform(0.6, 2.5)
        heights.append(heights[-1] + storey)
    drive = LiftDrive(
        speed_m_s,
        rng.uniform(0.6, 1.1) if speed_m_s < 2.5 else rng.uniform(0.8, 1.2),
        rng.uniform(0.7, 1.5),
        creeps=speed_m_s <= 1.0 and rng.random() < 0.5,
        brake_m_s2=rng.uniform(2.0, 4.5),
    )
    return Building(tuple(heights), drive, rng.uniform(1.0, 4.0))


@dataclass(frozen=True, slots=True)
class Trip:
    """``is_short``: so short that it may be told as a trip, or only as what is wrong with it."""

    start_s: float
    end_s: float
    from_floor: int
    to_floor: int  # where it ends out of a floor, -1
    is_short: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """``code`` must be raised in [at_s, until_s]; ``also`` may be. A code of 0: nothing may be raised but ``also``."""

    name: str
    code: int
    at_s: float
    until_s: float
    also: frozenset[int]


@dataclass(slots=True)
class Truth:
    trips: list[Trip] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    full_rate_s: float = 0.0
    total_s: float = 0.0


class Presence:
    """A presence sensor: it loses people who stand still for a while, holds on to who has left, and sees ghosts."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._people = 0
        self.state = False
        self.until_s = 0.0

    def at(self, t_s: float, people: int) -> bool:
        if people != self._people:
            if people and not self._people:
                self.state, self.until_s = True, t_s + self._rng.uniform(5, 60)
            elif not people:
                self.state, self.until_s = True, t_s + self._rng.uniform(1, 8)
            self._people = people
        while t_s >= self.until_s:
            self.state = not self.state
            if self._people:
                self.until_s += self._rng.uniform(5, 60) if self.state else self._rng.uniform(1, 10)
            else:
                self.until_s += self._rng.uniform(0.5, 2) if self.state else self._rng.expovariate(1 / 3000)
        return self.state


class Car:
    """Drives one lift through its day. ``told`` is what the detector said, with the time it said it."""

    def __init__(self, where: Building, seed: str, detector: Detector) -> None:
        self.rng = random.Random(seed)
        self.building = where
        self.detector = detector
        self.accelerometer = Accelerometer(self.rng)
        self.air = Air(self.rng)
        self.vibration = Vibration(self.rng)
        self.presence = Presence(self.rng)
        self.truth = Truth()
        self.told: list[tuple[float, Change]] = []
        self.on_change: Callable[[float, Change], None] = lambda t_s, change: None
        self.t_s = 0.0
        self.floor = 0
        self.height_m = 0.0
        self.door_open = False
        self.people = 0
        self.mode = NORMAL
        self.rails_mg = where.rails_mg
        self._door_pa = 0.0
        self._next_step_s = self.rng.expovariate(1 / 4000)

    # -- doing nothing ---------------------------------------------------------------------------------------

    def rest(self, seconds: float) -> None:
        """Nobody moves."""
        batches = round(seconds * 10)
        self.accelerometer.shuffle()
        self.air.shuffle()
        while batches > 0:
            count = min(batches, 20)
            self._rest(count)
            batches -= count

    def _rest(self, count: int) -> None:
        self._air_conditioning()
        self.accelerometer.drift_to(self.air.warmth_mg(self.t_s))
        somebody = self.presence.at(self.t_s, self.people)
        detector, air = self.detector, self.air
        feed, next_sums, read = detector.feed_sums, self.accelerometer.next_sums, air.read
        weather = air.weather_pa(self.t_s)
        slope = (air.weather_pa(self.t_s + count / 10) - weather) / count
        door_open, mode, height_m = self.door_open, self.mode, self.height_m
        for _ in range(count):
            sx, sy, sz = next_sums()
            weather += slope
            feed(BATCH, sx, sy, sz, read(weather, height_m), door_open, somebody, mode)
            self.t_s += 0.1
            if detector.changes():
                self._collect()

    def _air_conditioning(self) -> None:
        """Steps of up to 30 Pa, every hour or so."""
        if self.t_s >= self._next_step_s:
            self._next_step_s = self.t_s + self.rng.expovariate(1 / 4000)
            self.air.step_pa = self._door_pa + self.rng.uniform(-30, 30)

    # -- moving ----------------------------------------------------------------------------------------------

    def act(self, seconds: float, amplitude_mg: float, freq_hz: float = 1.9) -> None:
        """People walk, jump, or the door operator works, while the car stands."""
        count = round(seconds * 10) * BATCH
        self._full_rate(self.vibration.people(count, amplitude_mg, freq_hz), [0.0] * count)

    def move(
        self,
        accelerations: list[float],
        *,
        people_mg: float = 0.0,
        doors: Sequence[tuple[float, bool]] = (),
        settle: float = 0.12,
    ) -> None:
        """Accelerate like this, m/s²; ``doors``: (seconds after the start, open)."""
        wanted = accelerations + settling(settle)
        wanted += [0.0] * (-len(wanted) % BATCH)
        vibration = self.vibration.rails(len(wanted), self.rails_mg)
        moving = len(accelerations)
        vibration[moving:] = [0.0] * (len(wanted) - moving)
        if people_mg:
            steps = self.vibration.people(len(wanted), people_mg, self.rng.uniform(1.5, 2.5))
            vibration = [a + b for a, b in zip(vibration, steps, strict=True)]
        self._full_rate(vibration, wanted, doors)

    def _full_rate(
        self, vibration_mg: list[float], accelerations: list[float], doors: Sequence[tuple[float, bool]] = ()
    ) -> None:
        self._air_conditioning()
        self.accelerometer.drift_to(self.air.warmth_mg(self.t_s))
        vertical = [v + a * _MG for v, a in zip(vibration_mg, accelerations, strict=True)]
        samples = self.accelerometer.samples(vertical)
        waiting = sorted(doors)
        began_s = self.t_s
        v = 0.0
        for at in range(0, len(vertical), BATCH):
            for a in accelerations[at : at + BATCH]:
                self.height_m += v * DT_S + a * DT_S * DT_S / 2
                v += a * DT_S
            while waiting and self.t_s - began_s >= waiting[0][0]:
                self.set_door(waiting.pop(0)[1])
            pressure = self.air.read(self.air.weather_pa(self.t_s), self.height_m)
            self.detector.feed(
                samples[3 * at : 3 * (at + BATCH)],
                BATCH,
                pressure,
                self.door_open,
                self.presence.at(self.t_s, self.people),
                self.mode,
            )
            self.t_s += 0.1
            if self.detector.changes():
                self._collect()
        self.truth.full_rate_s += self.t_s - began_s

    def set_door(self, is_open: bool) -> None:
        """The contact, and the air that comes through the gap."""
        if is_open != self.door_open:
            self.door_open = is_open
            step = self.rng.uniform(-30, 30) if is_open else -self._door_pa
            self._door_pa = step if is_open else 0.0
            self.air.step_pa += step

    def _collect(self) -> None:
        for change in tuple(self.detector.changes()):
            self.told.append((self.t_s, change))
            self.on_change(self.t_s, change)
            self.detector.applied(change)
