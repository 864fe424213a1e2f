"""What a lift does, seen from the roof of its car: trips, floors, door cycles, faults, ride. Streaming, in integers.

    lift = Lift(document)                       a table of floors that was kept, or None
    lift.feed(samples, 10, pressure, door_open, somebody, mode)
    lift.gap(ms, pressure)                      samples were lost
    lift.changes()                              alarms and notes, in the words of firmware.watch

Samples are those of an accelerometer at about 100 Hz, x, y, z interleaved, in mg; pressure is in 1/100 Pa, None when
the barometer did not answer. Any mounting will do: the vertical is learned. The parts change for different reasons and
have a file each: lift_motion (when, how fast, how far), lift_floors (where), lift_faults (what is wrong), lift_ride
(how smoothly).

Nothing is allocated while samples come in; a change allocates itself.
"""

from firmware.lift_faults import CODES, FLOORS_LEARNED, TRIP, Faults
from firmware.lift_floors import UNKNOWN, Floors
from firmware.lift_motion import MOVING, STEADY_MS, Motion
from firmware.lift_ride import Ride

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from firmware.alarms import Change

ALARMS = len(CODES)
# Slower than that there is no ride to judge.
_RIDE_UM_S = 300000
# Shorter ones are told only as what is wrong with them.
_TRIP_MM = 800


class Lift:
    """``trips``, ``door_cycles``, ``run_ms``, ``speed_max_mm_s``, ``peak_to_peak_mm_s2`` and ``a95_mm_s2`` are since
    the latest ``begin_summary()``."""

    def __init__(self, document: "bytes | None" = None) -> None:
        self.motion = Motion()
        self.floors = Floors(document)
        self.faults = Faults(self.motion, self.floors)
        self.ride = Ride()
        self._told_floors = self.floors.learned
        self._ride_is_on = False
        self._trip_waits = False
        self._trip_ds = 0  # of the trip that waits
        self._trip_mm_s = 0
        self.begin_summary()

    def begin_summary(self) -> None:
        self.trips = 0
        self.run_ms = 0
        self.speed_max_mm_s = 0
        self.peak_to_peak_mm_s2 = 0
        self.a95_mm_s2 = 0
        self.faults.door_cycles = 0

    def feed(
        self,
        samples: "array[int]",
        count: int,
        pressure: "int | None",
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None:
        """Take a batch of at most 32 samples."""
        sx = sy = sz = at = 0
        for _ in range(count):
            sx += samples[at]
            sy += samples[at + 1]
            sz += samples[at + 2]
            at += 3
        self.feed_sums(count, sx, sy, sz, pressure, door_open, somebody, mode)
        motion = self.motion
        if motion.state == MOVING:
            if motion.steady_ms >= STEADY_MS and not -_RIDE_UM_S < motion.v_um_s < _RIDE_UM_S:
                self._ride_is_on = True
                self.ride.samples(samples, count, motion)
            elif self._ride_is_on:
                self._ride_is_on = False
                self.ride.pause()

    def feed_sums(
        self,
        count: int,
        sx: int,
        sy: int,
        sz: int,
        pressure: "int | None",
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None:
        """Take a batch by its sums: all of it but the ride, which needs the samples themselves."""
        ms = self.motion.feed(count, sx, sy, sz, pressure)
        self._after(ms, door_open, somebody, mode)

    def gap(self, ms: int, pressure: "int | None") -> None:
        """So many milliseconds of samples were lost: no movement, and no proof of rest."""
        self.motion.gap(ms, pressure)
        self._after(ms, self.faults.door_open, False, self.faults.mode)

    def changes(self) -> "list[Change]":
        return self.faults.waiting

    def applied(self, change: "Change") -> None:
        """It is kept."""
        self.faults.waiting.remove(change)

    def learn(self) -> None:
        """Forget the floors and learn them anew."""
        self.floors.forget()
        self._told_floors = False

    def _after(self, ms: int, door_open: bool, somebody: bool, mode: int) -> None:
        motion = self.motion
        faults = self.faults
        faults.update(ms, door_open, somebody, mode)
        if motion.state == MOVING:
            self.run_ms += ms
        if motion.stopped:
            self._stopped()
        if self._trip_waits:
            self._tell_trip()

    def _stopped(self) -> None:
        motion = self.motion
        self._ride_is_on = False
        if self.ride.end():
            self.peak_to_peak_mm_s2 = max(self.peak_to_peak_mm_s2, self.ride.peak_to_peak_mm_s2)
            self.a95_mm_s2 = max(self.a95_mm_s2, self.ride.a95_mm_s2)
            self.faults.ride_ended(self.ride)
        if abs(motion.distance_mm) >= _TRIP_MM:
            self.trips += 1
            self.speed_max_mm_s = max(self.speed_max_mm_s, motion.speed_max_mm_s)
            self._trip_waits = True
            self._trip_ds = motion.told_ms // 100
            self._trip_mm_s = motion.speed_max_mm_s
        self._tell_floors()

    def _tell_trip(self) -> None:
        """Where no floor is known, the door may show one yet."""
        if self.floors.at == UNKNOWN and self.motion.state != MOVING and not self.faults.is_settled:
            return
        self._trip_waits = False
        start = self.faults.from_floor
        if len(self.floors.heights) > self.faults.floors_then and UNKNOWN != self.floors.at <= start:
            start += 1  # the floor that this trip found lies below, and the others have moved up
        self.faults.note(TRIP, [start, self.floors.at, self._trip_ds, self._trip_mm_s])

    def _tell_floors(self) -> None:
        """A table that has stopped growing is told, once."""
        if self.floors.learned != self._told_floors:
            self._told_floors = self.floors.learned
            if self._told_floors:
                self.faults.note(FLOORS_LEARNED, len(self.floors.heights))
