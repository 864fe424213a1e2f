"""The image of MicroPython that comes in: in order, straight into the place that does not run.

Where it stands is made durable now and then; after a power cut of either side it goes on from there. Whether it is what
was signed is found out when it is all there (replace.py).
"""

from firmware import tried
from firmware.pending import (
    FILLED,
    FILLING,
    ON_TRIAL,
    PAYLOAD_SIZE,
    PHASE,
    PLACES,
    SEQUENCE,
    SIZE,
    SLOT,
    Pending,
)
from protocols.wire import interpreter
from protocols.wire.interpreter import BLOCK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal

# Blocks between two marks: what a power cut costs at most is 64 kB sent again, what the marks cost one write for each.
MARK_BLOCKS = 16


class Filling:
    """``is_full``: all of it is there, and the next start looks at it. ``silent``: what is so by now (pending.py)."""

    def __init__(self, hal: "Hal", silent: int = 0) -> None:
        self._pending = Pending(hal.state_fs)
        self._pending.silent = silent
        f = self._pending.f
        places = hal.places()
        self._places = places if f[PHASE] == FILLING else None
        self._runs = 0
        if f[PHASE] == ON_TRIAL and f[SLOT] >= PLACES:
            self._runs = f[SEQUENCE]
        elif places is not None:
            self._runs = tried.sequence(hal, places)
        self.is_full = f[PHASE] == FILLED
        self._at: int = f[PAYLOAD_SIZE]  # with FILLED, all of it

    def hear(self, command: bytes) -> "bytes | None":
        """Take in a piece; the answer: to a question, at the end of each block, and to what does not follow."""
        found = interpreter.split(command)
        if found is None or self._places is None:
            return self.answer()
        at, data = found
        size = self._pending.f[SIZE]
        if at != self._at or at + len(data) > size:
            return self.answer()
        self._write(memoryview(data))
        if self._at == size:
            self._mark(FILLED)
            self.is_full = True
        elif self._at % BLOCK_BYTES:
            return None
        elif not self._at % (MARK_BLOCKS * BLOCK_BYTES):
            self._mark(FILLING)
        return self.answer()

    def answer(self) -> bytes:
        f = self._pending.f
        is_awaited = f[PHASE] in (FILLING, FILLED)
        return interpreter.answer(f[SEQUENCE] if is_awaited else 0, self._at if is_awaited else 0, self._runs)

    def _write(self, data: memoryview) -> None:
        places = self._places
        if places is None:
            return
        while len(data):
            if not self._at % BLOCK_BYTES:
                places.erase(self._at // BLOCK_BYTES)
            count = min(len(data), BLOCK_BYTES - self._at % BLOCK_BYTES)
            places.write(self._at, bytes(data[:count]))
            self._at += count
            data = data[count:]

    def _mark(self, phase: int) -> None:
        self._pending.f[PAYLOAD_SIZE] = self._at
        self._pending.f[PHASE] = phase
        self._pending.save()
