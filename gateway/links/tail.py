"""The latest of a serial line, for whoever watches it live: console text and frames, as they came and went."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gateway import limits

TEXT, UP, DOWN = "text", "up", "down"


class Entry(NamedTuple):
    number: int  # counts from 1, never twice in the life of a port
    at_s: float  # monotonic
    kind: str
    data: bytes | str


class Tail:
    """Bounded: the oldest gives way, and who asks sees by the numbers that it missed something."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._entries: deque[Entry] = deque(maxlen=limits.SERIAL_TAIL_MAX)
        self.last = 0

    def add(self, kind: str, data: bytes | str) -> None:
        self.last += 1
        self._entries.append(Entry(self.last, self._monotonic(), kind, data))

    def now_s(self) -> float:
        """By the clock of the entries."""
        return self._monotonic()

    def since(self, number: int) -> list[Entry]:
        """Those above `number`, in order."""
        return [entry for entry in self._entries if entry.number > number]
