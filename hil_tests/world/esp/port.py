"""A serial port in this process with a chip at its other end: what `esptool.cmds.detect_chip(port)` takes.

Time passes on a clock of the port: a wait for bytes that can not come ends at once, and each byte costs what it takes
at the baud rate, so that a session can be measured without anybody waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from serial import SerialException
from serial.serialutil import PortNotOpenError, SerialBase

# What a driver keeps of bytes that nobody fetches; a stub's read has at most 256 KiB under way. The oldest go first.
_KEPT_MAX = 1024 * 1024


class Device(Protocol):
    """What is at the other end of a line: a chip, or a board with one."""

    say: Callable[[bytes], None]

    @property
    def baud(self) -> int:
        """Of what it says."""

    @property
    def speaks_by_itself(self) -> bool:
        """Whether bytes may come without the host saying something: then there is something to wait for."""

    def hear(self, data: bytes, baud: int | None = None) -> None: ...
    def set_lines(self, dtr: bool, rts: bool) -> None: ...
    def let_go(self) -> None: ...


def garbled(data: bytes) -> bytes:
    """What a UART at another baud rate makes of it."""
    return bytes(byte ^ 0xA6 for byte in data)


class SerialChip(SerialBase):
    """``held_by``: somebody else has the port open, and keeps it."""

    _dtr_state: bool  # of pyserial's base class
    _rts_state: bool

    def __init__(self, device: Device, name: str = "chip", *, held_by: str = "") -> None:
        self.device = device
        self.held_by = held_by
        self.line_s = 0.0  # what the line and the waiting took
        self.sent = self.received = 0  # bytes, as the host counts
        self._buffer = bytearray()
        self._changed = threading.Condition()
        device.say = self._arrived
        super().__init__()
        # esptool reaches for a file descriptor and its ioctls unless the name is that of a port without one.
        self.port = f"rfc2217://{name}"
        self.open()

    # ---- as pyserial has it --------------------------------------------------------------------------------------

    def open(self) -> None:
        if self.held_by:
            raise SerialException(
                11,
                f"Could not exclusively lock port {self.port}: [Errno 11] Resource temporarily unavailable",
            )
        if self.is_open:
            raise SerialException("Port is already open.")
        self.is_open = True
        self._update_dtr_state()
        self._update_rts_state()

    def close(self) -> None:
        """The kernel drops both lines."""
        if self.is_open:
            self.is_open = False
            self.device.set_lines(False, False)

    def _reconfigure_port(self, force_update: bool = False) -> None:
        """Baud rate and time-outs are looked at when they are needed."""

    def _update_dtr_state(self) -> None:
        self.device.set_lines(self._dtr_state, self._rts_state)

    def _update_rts_state(self) -> None:
        self.device.set_lines(self._dtr_state, self._rts_state)

    def _update_break_state(self) -> None:
        """Nothing here listens to a break."""

    @property
    def cts(self) -> bool:
        return False

    dsr = ri = cd = cts

    @property
    def in_waiting(self) -> int:
        self._must_be_open()
        self.device.let_go()
        with self._changed:
            return len(self._buffer)

    def read(self, size: int = 1, /) -> bytes:
        self._must_be_open()
        self.device.let_go()
        with self._changed:
            if len(self._buffer) < size and self.timeout != 0:
                self._wait_for(size)
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
        self.received += len(data)
        return data

    def _wait_for(self, size: int) -> None:
        if self.device.speaks_by_itself:
            self._changed.wait_for(lambda: len(self._buffer) >= size, self.timeout)
        elif self.timeout is None:
            raise SerialException(
                "nothing will ever come: the chip has nothing to say, and there is no time-out"
            )
        else:
            self.line_s += self.timeout

    def write(self, data: Any, /) -> int:
        self._must_be_open()
        self.device.let_go()
        data = bytes(data)
        self.sent += len(data)
        self.line_s += len(data) * 10 / self.baudrate
        self.device.hear(data, self.baudrate)
        return len(data)

    def flush(self) -> None:
        """It went at once."""

    def reset_input_buffer(self) -> None:
        with self._changed:
            self._buffer.clear()

    def reset_output_buffer(self) -> None:
        """Nothing waits there."""

    def _must_be_open(self) -> None:
        if not self.is_open:
            raise PortNotOpenError

    # ---- the other end -------------------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        if not self.is_open:
            return
        if self.baudrate != self.device.baud:
            data = garbled(data)
        with self._changed:
            self.line_s += len(data) * 10 / self.baudrate
            self._buffer += data
            del self._buffer[:-_KEPT_MAX]
            self._changed.notify_all()
