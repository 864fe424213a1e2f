"""Simulated Modbus devices for real: an RTU line on a pseudo-terminal, and TCP endpoints on loopback.

Each runs on the caller's event loop. A line takes its character times when it is told a baud rate, so that what is
measured on it is what a cable would show.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios
import tty
from collections.abc import Iterable
from pathlib import Path

from hil_tests.world.modbus_slave import Piece, Slave, crc16

WRITE_MANY = (15, 16)
REQUEST_MAX = 260


def request_length(frame: bytes) -> int:
    """Bytes of the RTU request that `frame` begins; 0 while that cannot be told."""
    if len(frame) < 2:
        return 0
    if frame[1] in WRITE_MANY:
        return 9 + frame[6] if len(frame) > 6 else 0
    return {43: 7, 22: 10}.get(frame[1], 8)


class PtyStreet:
    """Slaves on one RS-485 line. `path` is a link to the tty, so that it can be unplugged and plugged in again.

    `is_strict`: what is sent at another speed, or with parity, is not understood.
    """

    def __init__(
        self,
        path: Path,
        slaves: Iterable[Slave],
        baud: int = 0,
        bits: int = 11,
        *,
        echoes: bool = False,
        is_strict: bool = False,
    ) -> None:
        self.path = path
        self.slaves = {slave.unit: slave for slave in slaves}
        self.garbled = 0
        self._character_s = bits / baud if baud else 0.0
        self._speed = getattr(termios, f"B{baud}") if is_strict else None
        self._echoes = echoes
        self._fd = self._tty_fd = -1
        self._heard = b""
        self._pending: set[asyncio.TimerHandle] = set()

    def plug(self) -> None:
        """A new tty, with a new number."""
        # The tty is kept open here, too: one that nobody has open is readable all the time, for its end.
        self._fd, self._tty_fd = pty.openpty()
        tty.setraw(self._tty_fd)
        os.set_blocking(self._fd, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._tty_fd))
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def unplug(self) -> None:
        """Pull the cable."""
        loop = asyncio.get_running_loop()
        for handle in self._pending:
            handle.cancel()
        self._pending.clear()
        loop.remove_reader(self._fd)
        os.close(self._fd)
        os.close(self._tty_fd)
        self._fd = self._tty_fd = -1
        self._heard = b""
        self.path.unlink(missing_ok=True)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        if self._speed is not None and not self._is_understood():
            return
        if self._echoes:
            self._send(data)
        self._heard += data
        while (size := request_length(self._heard)) and len(self._heard) >= size:
            frame, self._heard = self._heard[:size], self._heard[size:]
            if crc16(frame[:-2]) == frame[-2:]:
                self._serve(frame)
            else:
                self.garbled += 1
                self._heard = b""
        self._heard = self._heard[-REQUEST_MAX:]

    def _is_understood(self) -> bool:
        """Whether the far end of the tty is set as this line is."""
        _in, _out, control, _local, speed, *_rest = termios.tcgetattr(self._fd)
        return bool(speed == self._speed and not control & termios.PARENB)

    def _serve(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        slave = self.slaves.get(frame[0])
        if slave is None:
            return
        for piece in slave.rtu_pieces(frame[1:-2], loop.time()):
            at_s = piece.delay_s + (len(frame) + len(piece.data)) * self._character_s
            self._pending.add(loop.call_later(at_s, self._send, piece.data))
        self._pending = {handle for handle in self._pending if handle.when() > loop.time()}

    def _send(self, data: bytes) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._fd, data)


class TcpStreet:
    """Slaves behind one TCP port: a device of its own, or a gateway to several. `is_rtu`: RTU frames on TCP."""

    def __init__(self, slaves: Iterable[Slave], *, is_rtu: bool = False) -> None:
        self.slaves = {slave.unit: slave for slave in slaves}
        self.port = 0
        self.connections = 0
        self.is_deaf = False  # takes bytes and does nothing: half open
        self.is_full = False  # takes connections and ends them
        self.deadly: set[int] = set()  # units of which each request makes it end the connection
        self.queue_s = 0.0  # a serial server that answers in order, each answer so much later
        self._is_rtu = is_rtu
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and reset what is open."""
        if self._server is not None:
            self._server.close()
        self.drop()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_full:
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        if self._is_rtu:
            frame = await reader.readexactly(7)
            frame += await reader.readexactly(request_length(frame) - 7)
            slave = self.slaves.get(frame[0])
            pieces = slave.rtu_pieces(frame[1:-2], loop.time()) if slave else []
        else:
            head = await reader.readexactly(7)
            pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
            slave = self.slaves.get(head[6])
            if head[6] in self.deadly:
                raise ConnectionResetError
            number = int.from_bytes(head[:2], "big")
            pieces = slave.tcp_pieces(number, pdu, loop.time()) if slave else []
        if not self.is_deaf:
            self._answer(writer, pieces, slave)

    def _answer(self, writer: asyncio.StreamWriter, pieces: list[Piece], slave: Slave | None) -> None:
        loop = asyncio.get_running_loop()
        for piece in pieces:
            if piece.delay_s + self.queue_s:
                loop.call_later(piece.delay_s + self.queue_s, _write, writer, piece.data)
            else:
                _write(writer, piece.data)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
