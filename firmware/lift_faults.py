"""The faults of a lift that can be seen from the roof of its car, as a state machine over motion, floors and contacts.

Each is raised once and cleared once. Times are counted in milliseconds of samples, not by a clock. Who is told is in
SPEC.md 2.3; which limits are settings in 2.4.
"""

from firmware.alarms import Change
from firmware.lift_floors import UNKNOWN
from firmware.lift_motion import MOVING, RESTING
from firmware.watch import NOTE_BIT
from protocols.wire.messages import CLEARED, NOTE, RAISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.lift_floors import Floors
    from firmware.lift_motion import Motion
    from firmware.lift_ride import Ride
    from protocols.wire.messages import Detail

# The alarms, by bit, and their event codes (SPEC.md 2.3).
TRAPPED, OUT_OF_ZONE, OVERSPEED, DOOR_OPEN_RUN, LONG_STAY, UNINTENDED = range(6)
DOOR_FAULT, OVERRAN_TOP, OVERRAN_BOTTOM, SERVICE, ROUGH = range(6, 11)
CODES = (13, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42)
TRIP = 32
FLOORS_LEARNED = 43

# Service modes (SPEC.md 2.3, event 41).
NORMAL = 1
INSPECTION = 2

# GB/T 7588.1 has the governor trip at 115 % of the rated speed at the earliest.
_OVERSPEED_PERCENT = 115
_OVERSPEED_MS = 300
# A door may open while the car levels in, slower than this.
_DOOR_RUN_MM_S = 350
_DOOR_RUN_MS = 300
_UNINTENDED_MM = 200
_UNINTENDED_MS = 300
# Stopped between floors: told when the door has stayed shut for so long.
_ZONE_MS = 3000
# Further beyond the last floor there is no shaft: it is a floor that was not learned.
_OVERRUN_MM_MAX = 2000
# A door that opens after a stop does so within this.
_SETTLED_MS = 6000
# A contact that bounces is a door that moves.
_DEBOUNCE_MS = 200
# Openings with the door shut for less than this between them, without a trip.
_CYCLES = 6
_CYCLE_SHUT_MS = 20000
# Somebody is in the car: the sensor said so for this long, with credit for what it misses, and lately.
_SOMEBODY_MS = 8000
_SOMEBODY_MS_MAX = 20000
_LATELY_MS = 15000
# GB/T 10058: A95 at most 0.20 m/s²; three trips, so that dancers in the car call nobody out.
_A95_MAX = 200
_A95_SMOOTH = 180
_ROUGH_TRIPS = 3
_MS_MAX = 1 << 28
# Changes that wait to be kept; a flash that does not take them loses notes of trips first.
_WAITING_MAX = 24


class Faults:
    """``update()`` after each batch; ``waiting`` are the changes to be kept, oldest first."""

    def __init__(self, motion: "Motion", floors: "Floors") -> None:
        self._motion = motion
        self._floors = floors
        self.raised = 0
        self.waiting: "list[Change]" = []
        self.trapped_ms = 60000
        self.long_stay_ms = 600000
        self.rated_mm_s = 2500
        self.door_open = False
        self.mode = NORMAL
        self.door_cycles = 0
        self.lost_notes = 0
        self.from_floor = UNKNOWN
        self.floors_then = 0  # how many were known when that was noted
        self._bounce_ms = 0
        self._shut_ms = 0  # the door, since the later of its closing and the stop
        self._rest_ms = _MS_MAX  # since the stop
        self._stay_ms = 0
        self._somebody_ms = 0
        self._seen_ms = _MS_MAX  # ago
        self._over_ms = 0
        self._run_ms = 0
        self._leaving_ms = 0
        self._left_open = False
        self._cycles = 0
        self._rough = 0

    def restore(self, raised: int) -> None:
        """After a reset. A service mode may be over by now: it ends with the first batch that says so."""
        self.raised = raised
        if raised >> SERVICE & 1:
            self.mode = INSPECTION

    # -- a batch --------------------------------------------------------------------------------------------

    def update(self, ms: int, door_open: bool, somebody: bool, mode: int) -> None:
        motion = self._motion
        if mode != self.mode:
            self._set_mode(mode)
        if door_open != self.door_open:
            self._bounce_ms += ms
            if self._bounce_ms >= _DEBOUNCE_MS:
                self._door_turned()
        else:
            self._bounce_ms = 0
        self._follow_presence(ms, somebody)
        if motion.stopped:
            self._stopped()
        if motion.state == RESTING:
            self._rest(ms)
        elif motion.state == MOVING:
            self._run(ms)
        if motion.state != RESTING:
            self._leave(ms)

    def _set_mode(self, mode: int) -> None:
        self.mode = mode
        if mode != NORMAL:
            self.raise_(SERVICE, mode)
        else:
            self.clear(SERVICE, mode)
        self._shut_ms = 0

    def _door_turned(self) -> None:
        self._bounce_ms = 0
        self.door_open = self._motion.door_open = not self.door_open
        if not self.door_open:
            self._shut_ms = 0
            return
        self.door_cycles += 1
        self._cycles = self._cycles + 1 if self._shut_ms < _CYCLE_SHUT_MS else 1
        self._shut_ms = 0
        if self._motion.state != MOVING:
            if not self.raised >> OUT_OF_ZONE & 1 and self.mode == NORMAL:
                self._floors.door_opened()
            self.clear(TRAPPED, self._floors.nearest)
        if self._cycles >= _CYCLES and self.mode == NORMAL:
            self.raise_(DOOR_FAULT, self._cycles)

    def _follow_presence(self, ms: int, somebody: bool) -> None:
        if somebody:
            self._seen_ms = 0
            self._somebody_ms = min(self._somebody_ms + ms, _SOMEBODY_MS_MAX)
        else:
            self._seen_ms = min(self._seen_ms + ms, _MS_MAX)
            self._somebody_ms = max(0, self._somebody_ms - (ms >> 1))

    @property
    def somebody(self) -> bool:
        return self._somebody_ms >= _SOMEBODY_MS and self._seen_ms < _LATELY_MS

    @property
    def is_settled(self) -> bool:
        """Whether a door that would open after the latest stop should have done so."""
        return self._rest_ms >= _SETTLED_MS

    # -- the car stands -------------------------------------------------------------------------------------

    def _stopped(self) -> None:
        motion, floors = self._motion, self._floors
        self.from_floor = floors.at
        self.floors_then = len(floors.heights)
        floors.moved(motion.distance_mm, motion.baro_mm, motion.duration_ms, motion.rough)
        self._shut_ms = self._rest_ms = self._stay_ms = 0
        self._cycles = 1 if self.door_open else 0
        self.clear(OVERSPEED, motion.speed_max_mm_s)
        self.clear(DOOR_OPEN_RUN, 0)
        self.clear(DOOR_FAULT, 0)
        if self.door_open and not self.raised >> UNINTENDED & 1:  # it opened while the car levelled in
            floors.door_opened()
        if floors.at != UNKNOWN:
            self.clear(OUT_OF_ZONE, [floors.at, 0])
            self.clear(UNINTENDED, 0)
            self.clear(OVERRAN_TOP, 0)
            self.clear(OVERRAN_BOTTOM, 0)

    def _rest(self, ms: int) -> None:
        if self._rest_ms < _MS_MAX:
            self._rest_ms += ms
        if self.door_open:
            self._stay_ms += ms
        else:
            if self._shut_ms < _MS_MAX:
                self._shut_ms += ms
            self._stay_ms = self._stay_ms + ms if self.somebody else 0
        if self.mode != NORMAL:
            self._stay_ms = 0
            return
        if self._floors.located and self._floors.at == UNKNOWN and self._rest_ms < 4 * _ZONE_MS:
            self._judge_place()
        if self._shut_ms >= self.trapped_ms and self.somebody:
            self.raise_(TRAPPED, self._floors.nearest)
        elif self._stay_ms >= self.long_stay_ms and not self.raised >> TRAPPED & 1:
            self.raise_(LONG_STAY, self._floors.at)

    def _judge_place(self) -> None:
        """The car stands where no floor is: beyond the last one, or between two."""
        floors = self._floors
        if len(floors.heights) < 2 or self.door_open:
            return
        beyond = floors.off_mm
        if 0 < beyond < _OVERRUN_MM_MAX and floors.nearest == len(floors.heights) - 1:
            self.raise_(OVERRAN_TOP, beyond)
        elif 0 > beyond > -_OVERRUN_MM_MAX and floors.nearest == 0:
            self.raise_(OVERRAN_BOTTOM, -beyond)
        elif self._rest_ms >= _ZONE_MS and 0 < floors.nearest + (beyond > 0) < len(floors.heights):
            self.raise_(OUT_OF_ZONE, [floors.nearest, beyond])

    # -- the car moves --------------------------------------------------------------------------------------

    def _run(self, ms: int) -> None:
        motion = self._motion
        if motion.started:
            self._over_ms = self._run_ms = 0
            self.clear(LONG_STAY, self._floors.at)
        speed = abs(motion.v_um_s) // 1000
        mm_s = speed * self._floors.ratio_q >> 10
        self._over_ms = self._over_ms + ms if mm_s * 100 > self.rated_mm_s * _OVERSPEED_PERCENT else 0
        if self._over_ms >= _OVERSPEED_MS and not motion.rough:
            self.raise_(OVERSPEED, mm_s)
        self._run_ms = self._run_ms + ms if self.door_open and speed > _DOOR_RUN_MM_S else 0
        if self._run_ms >= _DOOR_RUN_MS and self.mode == NORMAL:
            self.raise_(DOOR_OPEN_RUN, speed)

    def _leave(self, ms: int) -> None:
        """Moved away from where it stood, and the door has been open all the time."""
        motion = self._motion
        if motion.duration_ms <= ms:
            self._left_open = self.door_open
            self._leaving_ms = 0
        self._left_open = self._left_open and self.door_open
        if not self._left_open or self.mode != NORMAL:
            return
        distance_mm = abs(motion.x_um) // 1000
        self._leaving_ms = self._leaving_ms + ms if distance_mm >= _UNINTENDED_MM else 0
        if self._leaving_ms >= _UNINTENDED_MS:
            self.raise_(UNINTENDED, distance_mm)

    def ride_ended(self, ride: "Ride") -> None:
        """A trip with figures of its ride."""
        if ride.a95_mm_s2 > _A95_MAX:
            self._rough = min(self._rough + 1, _ROUGH_TRIPS)
        elif ride.a95_mm_s2 < _A95_SMOOTH:
            self._rough = max(self._rough - 1, 0)
        if self._rough == _ROUGH_TRIPS:
            self.raise_(ROUGH, [ride.peak_to_peak_mm_s2, ride.a95_mm_s2])
        elif not self._rough:
            self.clear(ROUGH, [ride.peak_to_peak_mm_s2, ride.a95_mm_s2])

    # -- what there is to tell ------------------------------------------------------------------------------

    def raise_(self, bit: int, detail: "Detail") -> None:
        if not self.raised >> bit & 1:
            self.raised |= 1 << bit
            self._tell(Change(bit, CODES[bit], RAISED, detail))

    def clear(self, bit: int, detail: "Detail") -> None:
        if self.raised >> bit & 1:
            self.raised &= ~(1 << bit)
            self._tell(Change(bit, CODES[bit], CLEARED, detail))

    def note(self, code: int, detail: "Detail") -> None:
        self._tell(Change(NOTE_BIT, code, NOTE, detail))

    def _tell(self, change: Change) -> None:
        if len(self.waiting) >= _WAITING_MAX:
            self.lost_notes += 1
            for at, waits in enumerate(self.waiting):
                if waits.bit == NOTE_BIT:
                    del self.waiting[at]
                    break
        self.waiting.append(change)
