"""What a node tells about itself: counters since boot, and the last thing that went wrong, kept over a reset."""

import sys

from protocols.wire.limits import MAX_TRACEBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.settings import Slot

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
