"""The watch of a manhole cover: the guard's samples through the state machines of cover.py, and a float switch.

The pose is a document of its own: where the cover lies as it should, and whether the event that tells so is kept. A
node without one learns it as soon as nothing moves; command 7 learns it anew. What time has brought (for how long it
has been tilted) is in the cache over a deep sleep, and begins again when that is lost.
"""

from struct import calcsize, pack, unpack_from

from firmware.alarms import Change
from firmware.cover import Cover, Dwell
from firmware.errors import StorageError
from firmware.guard import PERIOD_MS, Guard
from firmware.modules import forget
from firmware.settings import DISPLACED_DEG, TILT_DEG, TILT_HOLD_S
from firmware.watch import NOTE_BIT
from protocols.wire.messages import CLEARED, NOTE, RAISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.cover import Vector
    from firmware.cover_pose import Learner
    from firmware.hal import Hal
    from firmware.sensors import Readings
    from firmware.settings import Settings
    from firmware.watch import Keep

_POSE = ">hhhB"
_CACHE = "cover"
_POSE_LEARNED = 20
_LEVEL_HIGH = 9
# Bits of the watch: those of cover.py, then the float switch.
_FLOAT = 3
# Waves: the float switch must say the same that long.
_FLOAT_S = 3
# Between two looks while nothing is the matter: what comes too slowly for the guard waits no longer than this.
LOOK_S = 6 * 3600
# A node without a pose learns it that long after its start: whoever switched it on has put it down, and what only a
# start needs is off the heap.
LEARN_AFTER_S = 20
# While the accelerometer's pin is stuck, so that it can not end a sleep.
_STUCK_S = 600
# Samples that led to no pose before learning waits for the next look: a node that was switched on in a van, or has a
# damaged chip, must not be awake until its cell is empty.
_REFUSED_MAX = 120
# A measurement waits that long for a sample.
_TRIES = 4


class CoverWatch:
    """Implements firmware.watch.Watch."""

    bits = 4

    def __init__(self, hal: "Hal", settings: "Settings", keep: "Keep") -> None:
        self._hal = hal
        self._settings = settings
        self._document = keep("pose")
        self._guard = Guard(hal.i2c("sensors"))
        pose, self._is_told = _pose(self._document.load())
        self._cover = Cover(pose)
        self._learner: "Learner | None" = None
        self._learn_at_s = -1
        if pose is None:
            self._learn_at_s = hal.clock.uptime_s() + (0 if hal.wake else LEARN_AFTER_S)
        self._floats = Dwell()
        self._float_raised = False
        self._changes: "list[Change]" = []
        self._looked_at_ms = hal.clock.ticks_ms() - PERIOD_MS
        self._missed = 0  # looks in a row without a sample
        self._is_fresh = False  # whether there was one in this life
        self._storage_errors = 0
        if pose is not None and not self._is_told:
            self._tell(pose)
        self._resume()

    @property
    def errors(self) -> int:
        return self._guard.errors + self._storage_errors

    @property
    def angle_cdeg(self) -> int:
        """Of the cover to its pose; -1 before there was one, -2 when the chip says nothing."""
        return self._cover.angle_cdeg if self._is_fresh and self._missed < _TRIES else -2

    def restore(self, raised: int) -> None:
        self._cover.restore(raised & (1 << _FLOAT) - 1)
        self._float_raised = raised >> _FLOAT & 1 == 1

    def poll(self) -> int:
        clock = self._hal.clock
        left_ms = PERIOD_MS - clock.ticks_diff(clock.ticks_ms(), self._looked_at_ms)
        if left_ms > 0:
            return left_ms
        self._looked_at_ms = clock.ticks_ms()
        self._look(clock.uptime_s())
        return PERIOD_MS

    def changes(self) -> "list[Change]":
        return self._changes + self._cover.changes

    def applied(self, change: "Change") -> None:
        if not self._changes:
            self._cover.applied(change)
            return
        del self._changes[0]
        if change.bit == _FLOAT:
            self._float_raised = change.state == RAISED
        elif self._cover.pose is not None:
            self._is_told = True
            self._keep(self._cover.pose)

    def learn(self) -> str:
        if not self._is_fresh or self._missed >= _TRIES:
            return "the accelerometer does not answer"
        self._learn_at_s = self._hal.clock.uptime_s()
        return ""

    # -- over a deep sleep -----------------------------------------------------------------------------------

    def wait_s(self) -> int:
        now_s = self._hal.clock.uptime_s()
        waits = [LOOK_S]
        if self._learn_at_s >= 0 and not self._missed:
            waits.append(max(1, self._learn_at_s - now_s))
        for wait_s in (self._cover.wait_s(now_s), self._floats.left_s(now_s, _FLOAT_S)):
            if wait_s >= 0:
                waits.append(wait_s)
        if self._is_stuck():
            waits.append(_STUCK_S)
        return min(waits)

    def wake_pins(self) -> "tuple[str, ...]":
        cover = self._cover
        self._hal.cache.save(_CACHE, cover.pack())
        is_well = not cover.raised and 0 <= cover.angle_cdeg < self._settings[DISPLACED_DEG] * 100
        self._guard.arm(cover.pose, is_well, cover.is_steady, self._settings[DISPLACED_DEG])
        # A pin that is high already would end the sleep at once: a float that is up, a dead chip, a shorted wire.
        # And before there is a pose, moving means nothing: it may be on its way to its place.
        pins = () if self._is_stuck() or cover.pose is None else ("motion",)
        return pins if self._float() else pins + ("float",)

    def _resume(self) -> None:
        cache = self._hal.cache
        kept = cache.load(_CACHE)
        if kept:
            cache.save(_CACHE, b"")
            if self._hal.wake:
                self._cover.unpack(kept)

    # -- looking ---------------------------------------------------------------------------------------------

    def _look(self, now_s: int) -> None:
        settings = self._settings
        self._cover.limits(settings[TILT_DEG], settings[TILT_HOLD_S], settings[DISPLACED_DEG])
        count = self._guard.drain()
        self._missed = 0 if count else min(self._missed + 1, _TRIES)
        self._is_fresh = self._is_fresh or count > 0
        at_s = now_s - count
        for index in range(count):
            sample = self._guard.sample(index)
            at_s += 1
            if now_s >= self._learn_at_s:
                self._learn(now_s, sample)
            self._cover.feed(at_s, sample)
        self._look_at_float(now_s)

    def _learn(self, now_s: int, sample: "Vector") -> None:
        if self._learn_at_s < 0:
            return
        if self._learner is None:
            self._learner = _learner()
        pose = self._learner.feed(sample)
        if pose is None:
            if self._learner.refused >= _REFUSED_MAX:
                self._learner = None
                self._learn_at_s = now_s + LOOK_S
                forget("firmware.cover_pose")
            return
        self._is_told = False
        if self._keep(pose):
            self._learner = None
            self._learn_at_s = -1
            forget("firmware.cover_pose")
            self._cover.learned(pose)
            self._tell(pose)

    def _keep(self, pose: "Vector") -> bool:
        try:
            self._document.save(pack(_POSE, pose[0], pose[1], pose[2], self._is_told))
        except (StorageError, OSError):
            self._storage_errors += 1
            return False
        return True

    def _tell(self, pose: "Vector") -> None:
        self._changes.append(Change(NOTE_BIT, _POSE_LEARNED, NOTE, list(pose)))

    def _is_stuck(self) -> bool:
        """Whether the accelerometer's pin stays high whatever it is told."""
        for _ in range(2):  # it may just have seen something
            if not self._hal.read_pin("motion"):
                return False
            self._guard.release()
        return self._hal.read_pin("motion") == 1

    def _float(self) -> int:
        return self._hal.read_pin("float")

    def _look_at_float(self, now_s: int) -> None:
        """Raised when the switch has been up for a while, cleared when it has been down for as long."""
        is_up = self._float() == 1
        turned = is_up != self._float_raised
        self._floats.look(now_s, turned, not turned)
        if self._floats.has_held(now_s, _FLOAT_S, 2) and not self._changes:
            self._floats.end()
            self._changes.append(Change(_FLOAT, _LEVEL_HIGH, RAISED if is_up else CLEARED, None))


class Tilt:
    """The angle of the cover as a reading, in tenths of a degree."""

    count = 1
    errors = 0
    optional: "tuple[int, ...]" = ()

    def __init__(self, watch: "CoverWatch") -> None:
        self._watch = watch

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        for _ in range(_TRIES):
            if self._watch.angle_cdeg >= 0:
                break
            yield PERIOD_MS
        angle = self._watch.angle_cdeg
        # Without a pose there is no angle, which is no fault: it may be on its way to its place for days.
        self.optional = (0,) if angle == -1 and self._watch._cover.pose is None else ()
        readings[0] = None if angle < 0 else (angle + 5) // 10


def _learner() -> "Learner":
    from firmware.cover_pose import Learner

    return Learner()


def _pose(kept: "bytes | None") -> "tuple[Vector | None, bool]":
    """(pose, whether its event is kept); None when there is none."""
    if kept is None or len(kept) < calcsize(_POSE):  # another release may have added to it
        return None, False
    x, y, z, told = unpack_from(_POSE, kept)
    return (x, y, z), told != 0
