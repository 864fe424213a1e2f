"""Somebody works at the station (command 6 of SPEC.md 2.2): alarms wait until it is over, and it ends by itself.

It is kept with the alarms, as how long it was to last and when that is over by the wall clock. After a reset it ends
when it was to end, as soon as the clock knows the time; if it never does, or did not when it began, it begins anew with
the reset: it then lasts too long rather than calling people out for a technician's bucket.
"""

from struct import pack, unpack_from

from protocols.wire.messages import UNSYNCHRONISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.alarms import Change
    from firmware.hal.clock import Clock

KEPT_BYTES = 8


class Maintenance:
    """``seconds`` it lasts, 0 for none; ``held``: by bit, the latest change of each alarm of a watch meanwhile."""

    def __init__(self, clock: "Clock", kept: bytes) -> None:
        self._clock = clock
        self.held: "dict[int, Change]" = {}
        self.seconds, self._until = unpack_from(">II", kept)
        self._ends_s = clock.uptime_s() + self.seconds
        self.clock_set()

    def clock_set(self) -> None:
        """The clock may know the time now: what began before a reset ends when it was to end."""
        time, tq = self._clock.now()
        if self._until and tq != UNSYNCHRONISED:
            self._ends_s = self._clock.uptime_s() + max(0, min(self._until - time, self.seconds))
            self._until = 0

    def packed(self, seconds: int) -> bytes:
        """What to keep for one that begins now and lasts so long."""
        time, tq = self._clock.now()
        return pack(">II", seconds, 0 if tq == UNSYNCHRONISED else time + seconds)

    def begin(self, seconds: int) -> None:
        self.seconds = seconds
        self._until = 0
        self._ends_s = self._clock.uptime_s() + seconds

    def rest(self) -> int:
        """What resume() needs after a deep sleep that begins now."""
        return self._ends_s

    def resume(self, ends_s: int) -> None:
        """After a deep sleep: uptime went on, so it ends when it was to end, though nobody may know the time."""
        self._ends_s = ends_s
        self._until = 0

    def left_s(self) -> int:
        return max(0, self._ends_s - self._clock.uptime_s()) if self.seconds else 0

    def is_over(self) -> bool:
        return self.seconds > 0 and self._clock.uptime_s() >= self._ends_s
