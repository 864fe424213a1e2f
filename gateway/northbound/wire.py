"""A TCP connection to a regulator's platform, or what a simulated world has in its place."""

from __future__ import annotations

import asyncio
import functools
from typing import NamedTuple, Protocol

from gateway.errors import NorthboundError
from gateway.limits import REGULATOR_CONNECT_TIMEOUT_S, REGULATOR_UNREAD_BYTES_MAX


class Writer(Protocol):
    """What of asyncio.StreamWriter is used; a simulated world has its own."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class TcpWriter:
    """Ends the connection when the far side asks and does not read: what waits for it is memory of ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(data)
        waiting = transport.get_write_buffer_size()
        if waiting > REGULATOR_UNREAD_BYTES_MAX:
            self._reader.set_exception(OSError(f"the far side does not read: {waiting} bytes wait for it"))
            transport.abort()

    def close(self) -> None:
        self._writer.close()
        # Nobody waits for bytes that a far side does not read: they are due in the store.
        asyncio.get_running_loop().call_later(
            REGULATOR_CONNECT_TIMEOUT_S, functools.partial(_abort, self._writer.transport)
        )


def _abort(transport: asyncio.WriteTransport) -> None:
    transport.abort()


class Wire(NamedTuple):
    """One connection."""

    reader: asyncio.StreamReader
    writer: Writer


async def open_tcp(host: str, port: int) -> Wire:
    """A TCP connection, in bounded time. Raises NorthboundError."""
    try:
        async with asyncio.timeout(REGULATOR_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            return Wire(reader, TcpWriter(reader, writer))
    except (OSError, TimeoutError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise NorthboundError(f"{host}:{port} can not be reached: {why}") from error
