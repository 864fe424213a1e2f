"""Connections in memory, for a world with a virtual clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class InOrder:
    """Bytes under way: timers of one moment come in any order, bytes of a connection do not."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, latency_s: float, arrive: Callable[[bytes], None]
    ) -> None:
        self._loop = loop
        self._latency_s = latency_s
        self._arrive = arrive
        self._under_way: deque[bytes] = deque()

    def put(self, data: bytes) -> None:
        self._under_way.append(data)
        self._loop.call_later(self._latency_s, self._next)

    def _next(self) -> None:
        self._arrive(self._under_way.popleft())
