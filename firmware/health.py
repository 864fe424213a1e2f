"""What a node tells about itself: counters since boot, and the last thing that went wrong, kept over a reset."""

import sys

from protocols.wire.limits import MAX_TRACEBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.settings import Slot

# Keys of the health map (SPEC.md 2.1).
BOOTS = 0
UPTIME_S = 1
RESET_CAUSE = 2
HEAP_FREE = 3
HEAP_FREE_MIN = 4
OUTBOX_RECORDS = 5
OUTBOX_FREE_RECORDS = 6
RECORDS_EVICTED = 7
SENSOR_ERRORS = 8
FRAMES_REFUSED = 9
INTERVAL_S = 11
SETTINGS_VERSION = 12
FRAMES_SENT = 13
FRAMES_RESENT = 14
CLOCK_STEPS = 15
FLASH_ERRORS = 16
REPORT_S = 21
ALARM_REPEAT_S = 22
TRACEBACK = 32

# Tracebacks kept on flash per boot: a fault that alternates must not wear it out.
_TRACEBACKS_MAX = 8


class Health:
    def __init__(self, hal: "Hal", slot: "Slot", boots: int) -> None:
        self._hal = hal
        self._slot = slot
        self.boots = boots
        self.frames_sent = 0
        self.frames_resent = 0
        self.clock_steps = 0
        self.flash_errors = 0
        self.refusals: "dict[str, int]" = {}
        self.heap_free = hal.heap_free()
        self.heap_free_min = self.heap_free
        self.traceback = (slot.load() or b"").decode()
        self._tracebacks = 0

    def refused(self, reason: str) -> None:
        """A frame was refused; the reasons are those of SPEC.md section 5."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def flash_failed(self, exc: Exception) -> None:
        """The state partition did not do what it should; the node goes on without."""
        self.flash_errors += 1
        self._hal.log("flash: %r" % exc)

    def look_at_heap(self) -> None:
        """Once per set: a collection, and what is left after it."""
        self.heap_free = self._hal.heap_free()
        self.heap_free_min = min(self.heap_free_min, self.heap_free)

    def crashed(self, exc: BaseException) -> None:
        """Keep the end of a traceback: it names the error and the innermost lines."""
        try:
            text = _printable(_traceback_of(exc))
        except MemoryError:
            text = "MemoryError"
        if text == self.traceback or self._tracebacks >= _TRACEBACKS_MAX:
            self.traceback = text
            return
        self.traceback = text
        self._tracebacks += 1
        try:
            self._slot.save(text.encode())
        except OSError as error:
            self.flash_failed(error)

    def counters(self) -> "dict[int, int | str]":
        """The part of the health map that is known here."""
        health: "dict[int, int | str]" = {
            BOOTS: self.boots,
            UPTIME_S: self._hal.clock.uptime_s(),
            RESET_CAUSE: self._hal.reset_cause,
            HEAP_FREE: self.heap_free,
            HEAP_FREE_MIN: self.heap_free_min,
            FRAMES_SENT: self.frames_sent,
            FRAMES_RESENT: self.frames_resent,
            CLOCK_STEPS: self.clock_steps,
            FLASH_ERRORS: self.flash_errors,
        }
        if self.traceback:
            health[TRACEBACK] = self.traceback
        return health


if sys.implementation.name == "micropython":
    import io

    def _traceback_of(exc: BaseException) -> str:
        out = io.StringIO()
        sys.print_exception(exc, out)  # type: ignore[attr-defined]
        return str(out.getvalue())

else:
    import traceback

    def _traceback_of(exc: BaseException) -> str:
        return "".join(traceback.format_exception(exc))


def _printable(text: str) -> str:
    """The last MAX_TRACEBACK characters, each of them one byte."""
    out = bytearray(text[-MAX_TRACEBACK:].encode()[-MAX_TRACEBACK:])
    for i, byte in enumerate(out):
        if not 32 <= byte < 127 and byte != 10:
            out[i] = 63
    return out.decode()
