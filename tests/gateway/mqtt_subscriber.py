"""A subscriber for tests: MQTT 3.1.1 over a plain socket, QoS 0; whatever a topic filter brings, retained or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple


class Got(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


class Subscriber:
    """`async with Subscriber(port, "#") as far: await far.until(lambda: …)`; `got` has what came."""

    def __init__(self, port: int, *filters: str) -> None:
        self._port = port
        self._filters = filters
        self.got: list[Got] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Subscriber:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(_packet(0x10, _text("MQTT") + bytes((4, 2, 0, 0)) + _text("")))
        await self._read()
        for filter in self._filters:
            self._writer.write(_packet(0x82, b"\0\1" + _text(filter) + b"\0"))
            while (await self._read())[0] != 0x90:
                pass
        self._task = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.transport.abort()

    def topics(self) -> list[str]:
        return [got.topic for got in self.got]

    def last(self, topic: str) -> bytes | None:
        """What came last under a topic."""
        return next((got.payload for got in reversed(self.got) if got.topic == topic), None)

    async def until(self, topic: str, payload: bytes | None = None) -> bytes:
        """Wait until that came; the time-out only ends a test that has failed."""

        async def wait() -> bytes:
            while True:
                for got in self.got:
                    if got.topic == topic and payload in (None, got.payload):
                        return got.payload
                self._news.clear()
                await self._news.wait()

        return await asyncio.wait_for(wait(), 20)

    async def reached(self, what: Callable[[], object]) -> None:
        """Let the loop turn until that holds; the test around it has the time-out."""
        while not what():  # noqa: ASYNC110  (a count, without an event of its own)
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> tuple[int, bytes]:
        head = (await self._reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = await self._reader.readexactly(length)
        if head & 0xF0 == 0x30:
            end = 2 + int.from_bytes(body[:2], "big")
            self.got.append(Got(body[2:end].decode(), body[end:], bool(head & 1)))
            self._news.set()
        return head & 0xF0, body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(head: int, body: bytes) -> bytes:
    size, length = b"", len(body)
    while True:
        length, byte = divmod(length, 128)
        size += bytes((byte | (0x80 if length else 0),))
        if not length:
            return bytes((head,)) + size + body
