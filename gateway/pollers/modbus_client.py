"""The one place that knows pymodbus: encodes a request, sends it, waits, decodes the answer.

Of pymodbus 3.16 (read in its source) this keeps the codec and the exchange, and keeps out what a shared bus cannot
have: retries (0), reconnecting by itself (0: the bus does it), closing a connection that other devices share after
a few silent requests (`set_max_no_responses`), opening a port on the event loop (`call_create`), taking any frame
of the right unit id for the answer and throwing away what came with it (`trace_packet`, gate.py), and refusing to
ask for 0 registers.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import serial
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu import bit_message as bits
from pymodbus.pdu import mei_message as mei
from pymodbus.pdu import register_message as registers

from gateway import limits
from gateway.errors import LinkError
from gateway.pollers.modbus_gate import Gate
from gateway.pollers.modbus_ports import (
    SERIAL,
    TCP,
    Place,
    PortSettings,
    PortTransport,
    open_in_thread,
    open_port,
)
from gateway.pollers.modbus_types import (
    ANSWERED,
    BIT_READS,
    IDENTIFY,
    LOST,
    MASK_WRITE,
    OTHER_LENGTH,
    REFUSED,
    SILENT,
    SPOILT,
    UNSENT,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_REGISTER,
    WRITE_REGISTERS,
    Outcome,
    Request,
)

# What the library logs is in our counters, and a dead device would fill the log.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
NEVER = 1 << 30


class _TooLateError(Exception):
    """A write was about to leave after its deadline."""


class _ReadHolding(registers.ReadHoldingRegistersRequest):
    """A read of 0 registers is how some probes are switched on; the library takes it for a mistake."""

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.count)


class _ReadInput(registers.ReadInputRegistersRequest):
    """The same for input registers."""

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.count)


def pdu_of(request: Request) -> ModbusPDU:
    """The library's object for `request`. Raises ValueError for a function that is not ours."""
    unit, address, values = request.unit, request.address, request.values
    match request.function:
        case 1:
            return bits.ReadCoilsRequest(address=address, count=request.quantity, dev_id=unit)
        case 2:
            return bits.ReadDiscreteInputsRequest(address=address, count=request.quantity, dev_id=unit)
        case 3:
            return _ReadHolding(address=address, count=request.quantity, dev_id=unit)
        case 4:
            return _ReadInput(address=address, count=request.quantity, dev_id=unit)
        case function if function == MASK_WRITE:
            return registers.MaskWriteRegisterRequest(address, values[0], values[1], dev_id=unit)
        case function if function == IDENTIFY:
            return mei.ReadDeviceInformationRequest(request.quantity, address, dev_id=unit)
        case function if function == WRITE_COIL:
            return bits.WriteSingleCoilRequest(address=address, bits=[bool(values[0])], dev_id=unit)
        case function if function == WRITE_REGISTER:
            return registers.WriteSingleRegisterRequest(address=address, registers=list(values), dev_id=unit)
        case function if function == WRITE_COILS:
            return bits.WriteMultipleCoilsRequest(
                address=address, bits=[bool(v) for v in values], dev_id=unit
            )
        case function if function == WRITE_REGISTERS:
            return registers.WriteMultipleRegistersRequest(
                address=address, registers=list(values), dev_id=unit
            )
    raise ValueError(f"function {request.function} is not one of 1, 2, 3, 4, 5, 6, 15, 16, 22, 43")


class Client:
    """One connection or port. `exchange` carries one request at a time and never raises for what the line does."""

    def __init__(
        self,
        place: Place,
        settings: PortSettings = PortSettings(),  # noqa: B008  (immutable)
        *,
        opener: Callable[[str, PortSettings], serial.Serial] = open_port,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self.is_numbered = place.kind == TCP
        self._gate = Gate(is_numbered=self.is_numbered)
        self._opener = opener
        self._client: AsyncModbusSerialClient | AsyncModbusTcpClient | None = None
        self._transport: Any = None
        self._monotonic = monotonic
        self._hand_over: Callable[..., None] = lambda data, addr=None: None
        self._not_after_s = math.inf
        self.left_s = -math.inf  # when the latest request was in the hands of the kernel

    @property
    def is_open(self) -> bool:
        return self._client is not None and self._client.connected

    async def open(self) -> None:
        """Open the port or connection. Raises LinkError."""
        self.close()
        client = self._made()
        client.set_max_no_responses(NEVER)
        client.ctx.max_buffer_size = limits.MODBUS_BUFFER_BYTES_MAX * 4  # what is kept of it: `_packet`
        self._hand_over, client.ctx.low_level_send = client.ctx.low_level_send, self._send
        self._client = client
        if self.place.kind == SERIAL:
            client.ctx.call_create = self._open_port
        if not await client.connect():
            self._client = None
            raise LinkError(
                f"{self.place}: no connection. Is the device on, and is this its address and port?"
            )
        self._transport = client.ctx.transport

    def _made(self) -> AsyncModbusSerialClient | AsyncModbusTcpClient:
        common: dict[str, Any] = {
            "retries": 0,
            "reconnect_delay": 0,
            "timeout": limits.MODBUS_CONNECT_TIMEOUT_S,
            "trace_packet": self._packet,
            "trace_connect": self._connected,
        }
        if self.place.kind == SERIAL:
            return AsyncModbusSerialClient(self.place.path, **common)
        framer = FramerType.SOCKET if self.is_numbered else FramerType.RTU
        return AsyncModbusTcpClient(self.place.host, port=self.place.port, framer=framer, **common)

    async def _open_port(self) -> tuple[PortTransport, asyncio.Protocol]:
        assert self._client is not None
        protocol: Any = self._client.ctx
        port = await open_in_thread(lambda: self._opener(self.place.path, self.settings))
        transport = PortTransport(asyncio.get_running_loop(), protocol, port, self.place.path)
        transport.discard()
        protocol.connection_made(transport)
        return transport, protocol

    def close(self) -> None:
        """Close at once: what has not been sent never will be."""
        client, self._client = self._client, None
        transport, self._transport = self._transport, None
        if transport is not None and self.place.kind != SERIAL and not transport.is_closing():
            _reset_when_closed(transport)
        if client is not None:
            client.close()
        if transport is not None:
            transport.abort()

    def is_same_port(self) -> bool:
        """Whether what is open is still what the address names."""
        return self._transport.is_same_port() if isinstance(self._transport, PortTransport) else True

    # --- one request -----------------------------------------------------------------------------

    async def exchange(self, request: Request, timeout_s: float, not_after_s: float = math.inf) -> Outcome:
        """Send `request`, before `not_after_s` or not at all, and wait for its answer for at most `timeout_s`."""
        client = self._client
        if client is None or not client.connected:
            return Outcome(LOST, note=UNSENT)
        if request.values and self._is_stalled():
            self.counters["stalled"] += 1
            self.close()  # what lies in the kernel would go first, at some time, and this behind it
            return Outcome(LOST, note=UNSENT)
        self._gate.expect(request)
        self._not_after_s = not_after_s
        client.ctx.comm_params.timeout_connect = timeout_s
        try:
            answer = await client.execute(False, pdu_of(request))
        except _TooLateError:
            self.counters["withheld"] += 1
            return Outcome(LOST, note=UNSENT)
        except ConnectionException:
            return Outcome(LOST)
        except ModbusIOException:
            return self._unanswered(request)
        if answer.isError():
            return Outcome(REFUSED, code=answer.exception_code)
        if request.function == IDENTIFY:
            return Outcome(ANSWERED, tuple(self._gate.pdu))
        if request.function in BIT_READS:
            return Outcome(ANSWERED, tuple(int(bit) for bit in answer.bits[: request.quantity]))
        return Outcome(ANSWERED, tuple(answer.registers) if not request.values else ())

    def _unanswered(self, request: Request) -> Outcome:
        if not self.is_open:
            return Outcome(LOST)
        note = self._gate.note
        if note:
            self.counters[note] += 1
        if request.values:
            self._withdraw()
        # Whoever hears only others and noise has not been answered; a broken answer is at least somebody's.
        return Outcome(SPOILT if note in ("crc", "short", OTHER_LENGTH) else SILENT, note=note)

    def _is_stalled(self) -> bool:
        """Whether bytes of an earlier request still wait for the far side of a connection."""
        if self._transport is None or isinstance(self._transport, PortTransport):
            return False
        return _unsent(self._transport) > 0

    def _withdraw(self) -> None:
        """A write that was not answered must not arrive later from a buffer of ours."""
        if isinstance(self._transport, PortTransport):
            self._transport.discard()
        elif self._transport is not None and _unsent(self._transport):
            self.counters["withdrawn"] += 1
            self.close()

    # --- the library's hooks ---------------------------------------------------------------------

    def _packet(self, is_sending: bool, data: bytes) -> bytes:
        if is_sending:
            self._gate.sent(data)
            return data
        kept = data[-limits.MODBUS_BUFFER_BYTES_MAX :]
        if len(kept) < len(data) and self._client is not None:
            # The library would throw away all of it, and with late answers of others the one that is waited for.
            self._client.ctx.recv_buffer = kept
        return self._gate.answer(kept)

    def _send(self, data: bytes, addr: tuple[str, int] | None = None) -> None:
        """The last look at the clock: from here to the kernel nothing else can come in between."""
        if self._monotonic() > self._not_after_s - limits.MODBUS_HAND_OVER_S:
            raise _TooLateError
        self._hand_over(data, addr=addr)
        self.left_s = self._monotonic()

    def _connected(self, is_connected: bool) -> None:
        """A request under way is told at once that its connection is gone; the library would let it time out."""
        if not is_connected and self._client is not None:
            future = self._client.ctx.response_future
            if not future.done():
                future.set_exception(ConnectionException("lost"))


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the far side's kernel has not confirmed: they could still arrive."""
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:
        return waiting
    with contextlib.suppress(OSError):
        waiting += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
    return waiting


def _reset_when_closed(transport: asyncio.Transport) -> None:
    """Close by RST: an orderly close would go on delivering what is in the kernel's buffer."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
