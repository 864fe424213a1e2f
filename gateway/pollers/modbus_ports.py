"""Where a bus is: addresses such as serial:/dev/ttyUSB0, tcp:10.0.0.7:502, rtu-tcp:10.0.0.7:4001, and serial ports."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import re
import termios
from collections.abc import Callable
from typing import NamedTuple

import serial
from serial import serialposix
from serial.rs485 import RS485Settings

from gateway import limits
from gateway.errors import LinkError
from gateway.pollers.modbus_time import Line
from gateway.serial_problem import serial_problem

SERIAL, TCP, RTU_TCP = "serial", "tcp", "rtu-tcp"
KINDS = (SERIAL, TCP, RTU_TCP)
PORT_DEFAULT = 502
_NETWORK = re.compile(r"^(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s/:@]{1,253})(:(?P<port>\d{1,5}))?$")
ALLOWED = "serial:/dev/serial/by-id/…, tcp:host:502 or rtu-tcp:host:port"


class Place(NamedTuple):
    """A bus address, taken apart."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"serial:{self.path}" if self.kind == SERIAL else f"{self.kind}:{self.host}:{self.port}"


class PortSettings(NamedTuple):
    """How a serial bus speaks."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    is_rs485: bool = False  # the kernel switches the direction by RTS
    rts_sending: bool = True  # the level of RTS meanwhile

    @property
    def line(self) -> Line:
        return Line(self.baud, self.parity, self.stop_bits)


def parse(address: str) -> Place:
    """Take a bus address apart. Raises ValueError that says what is allowed."""
    kind, colon, rest = address.partition(":")
    if not colon or kind not in KINDS:
        hint = " Did you mean serial:" + address + "?" if address.startswith("/") else ""
        raise ValueError(f'"{address}" is no bus address. Allowed is {ALLOWED}.{hint}')
    if kind == SERIAL:
        if not rest:
            raise ValueError(f'"{address}" names no port. Allowed is {ALLOWED}.')
        return Place(kind, path=rest)
    found = _NETWORK.match(rest)
    if found is None or not 0 < int(found["port"] or PORT_DEFAULT) < 65536:
        raise ValueError(f'"{address}" names no host and port. Allowed is {ALLOWED}.')
    if kind == RTU_TCP and not found["port"]:
        raise ValueError(
            f'"{address}" needs a port: serial servers have none in common. Allowed is {ALLOWED}.'
        )
    return Place(kind, host=found["host"].strip("[]"), port=int(found["port"] or PORT_DEFAULT))


def open_port(path: str, settings: PortSettings) -> serial.Serial:
    """Open a serial port for this process alone. Raises LinkError that says why not and what to do."""
    try:
        port = serial.Serial(
            path,
            settings.baud,
            parity=settings.parity,
            stopbits=settings.stop_bits,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )
    except (OSError, ValueError, termios.error) as exc:
        wanted = f"{settings.baud} baud, parity {settings.parity}, {settings.stop_bits} stop bits"
        raise LinkError(serial_problem(path, exc, wanted)) from exc
    if settings.is_rs485:
        try:
            _switch_direction(port, settings.rts_sending)
        except (OSError, ValueError) as exc:
            port.close()
            raise LinkError(
                f"{path}: its driver cannot switch an RS-485 transceiver. Remove rs485 = true: USB adapters and "
                "most transceivers switch by themselves."
            ) from exc
    return port


def _switch_direction(port: serial.Serial, rts_sending: bool) -> None:
    """Have the kernel switch a transceiver (TIOCSRS485); its delays stay as they were set up. ValueError: it does not.

    Some drivers take the order and ignore it, and say so only in what they hand back.
    """
    port.rs485_mode = RS485Settings(rts_level_for_tx=rts_sending, rts_level_for_rx=not rts_sending)
    held = array.array("i", bytes(32))
    fcntl.ioctl(port.fileno(), serialposix.TIOCGRS485, held)
    level = serialposix.SER_RS485_RTS_ON_SEND
    if not held[0] & serialposix.SER_RS485_ENABLED or bool(held[0] & level) != rts_sending:
        raise ValueError("not taken over")


class PortTransport(asyncio.Transport):
    """An open serial port on the event loop, as an asyncio transport. `protocol` hears of a lost port at once."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, port: serial.Serial, path: str
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._port = port
        self._path = path
        self._fd = port.fileno()
        self._out = b""
        os.set_blocking(self._fd, False)
        loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        was_empty = not self._out
        self._out += bytes(data)
        if was_empty:
            self._writable()

    def unsent(self) -> int:
        """Bytes that have not left, as far as the kernel tells."""
        with contextlib.suppress(OSError):
            return len(self._out) + int(self._port.out_waiting)
        return len(self._out)

    def discard(self) -> None:
        """Throw away what has not left yet, and what came meanwhile."""
        self._out = b""
        self._loop.remove_writer(self._fd)
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self._fd, termios.TCIOFLUSH)

    def is_same_port(self) -> bool:
        """Whether the path still names the port that is open: USB renumbers without a hang-up."""
        try:
            return os.stat(self._path).st_rdev == os.fstat(self._fd).st_rdev
        except OSError:
            return False

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        close_port(self._port, fd)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._fd < 0

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, limits.MODBUS_BUFFER_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as exc:  # EIO: the device behind the tty is gone
            self._lose(exc)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._lose(OSError(errno.EIO, "unplugged: end of file"))

    def _writable(self) -> None:
        try:
            count = os.write(self._fd, self._out)
        except BlockingIOError:
            count = 0
        except OSError as exc:
            self._lose(exc)
            return
        self._out = self._out[count:]
        if self._out:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    def _lose(self, exc: OSError) -> None:
        protocol = self._protocol
        self.close()
        self._loop.call_soon(protocol.connection_lost, exc)


def close_port(port: serial.Serial, fd: int) -> None:
    """Close without waiting for bytes that a hung device will never take."""
    with contextlib.suppress(OSError, termios.error):
        termios.tcflush(fd, termios.TCIOFLUSH)
    with contextlib.suppress(OSError, termios.error):
        port.close()


async def open_in_thread(opener: Callable[[], serial.Serial]) -> serial.Serial:
    """Open in a thread: a hung USB device answers its driver after seconds, and other parts go on."""
    opening = asyncio.ensure_future(asyncio.to_thread(opener))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[serial.Serial]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        port = opening.result()
        close_port(port, port.fileno())
