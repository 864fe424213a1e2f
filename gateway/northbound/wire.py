"""A TCP connection to a regulator's platform, or what a simulated world has in its place."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from gateway.errors import NorthboundError
from gateway.limits import REGULATOR_CONNECT_TIMEOUT_S


class Writer(Protocol):
    """What of asyncio.StreamWriter is used; a simulated world has its own."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Wire(NamedTuple):
    """One connection."""

    reader: asyncio.StreamReader
    writer: Writer


async def open_tcp(host: str, port: int) -> Wire:
    """A TCP connection, in bounded time. Raises NorthboundError."""
    try:
        async with asyncio.timeout(REGULATOR_CONNECT_TIMEOUT_S):
            return Wire(*await asyncio.open_connection(host, port))
    except (OSError, TimeoutError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise NorthboundError(f"{host}:{port} can not be reached: {why}") from error
