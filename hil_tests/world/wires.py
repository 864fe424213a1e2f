"""Connections in memory, for a world with a virtual clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


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


def downward(latency_s: float) -> tuple[asyncio.StreamReader, InOrder]:
    """What a far side says, as its caller reads it: no bytes are the end."""
    reader = asyncio.StreamReader()
    ended: list[bool] = []

    def feed(data: bytes) -> None:
        if ended:
            return
        if data:
            reader.feed_data(data)
        else:
            ended.append(True)
            reader.feed_eof()

    return reader, InOrder(asyncio.get_running_loop(), latency_s, feed)


class Pipe:
    """The caller's way to a far side: what it says is heard while `line` is one of `lines()`."""

    def __init__(self, lines: Callable[[], list[Any]], line: Any, latency_s: float) -> None:
        self._lines = lines
        self._line = line
        self._closed = False
        self._up = InOrder(asyncio.get_running_loop(), latency_s, self._arrive)

    def write(self, data: bytes) -> None:
        self._up.put(data)

    def _arrive(self, data: bytes) -> None:
        if not self._closed and self._line in self._lines():
            self._line.hear(data)

    def close(self) -> None:
        self._closed = True
        if self._line in self._lines():
            self._lines().remove(self._line)
