"""The world's time for a far side without a world: that of the event loop it runs on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class LoopTime:
    """What is due at once happens in order."""

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def at(self, due_s: float, action: Callable[[], None]) -> object:
        heapq.heappush(self._events, (due_s, next(self._count), action))
        return asyncio.get_running_loop().call_at(due_s, self._next)

    def _next(self) -> None:
        heapq.heappop(self._events)[2]()

    def note(self, what: str, data: bytes = b"") -> None:
        """There is no diary."""
