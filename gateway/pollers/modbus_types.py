"""The words of the Modbus poller: points, devices, requests and what came of them. Plain tuples, no behaviour.

Addresses are those on the wire, from 0. What a profile calls 40001 has become function 3, address 0 before it
gets here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

READ_COILS = 1
READ_DISCRETE = 2
READ_HOLDING = 3
READ_INPUT = 4
WRITE_COIL = 5
WRITE_REGISTER = 6
WRITE_COILS = 15
WRITE_REGISTERS = 16
# With MEI type 14; `address` is the object, `quantity` the code, and the answer's PDU are its values.
IDENTIFY = 43
MASK_WRITE = 22  # `values` are the AND mask and the OR mask

BIT_READS = (READ_COILS, READ_DISCRETE)
READS = (READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT)
# What reads back what a write wrote.
READ_BACK = {
    WRITE_COIL: READ_COILS,
    WRITE_COILS: READ_COILS,
    WRITE_REGISTER: READ_HOLDING,
    WRITE_REGISTERS: READ_HOLDING,
    MASK_WRITE: READ_HOLDING,
}

# Of one request, by the application protocol specification V1.1b3.
REGISTERS_READ_MAX = 125
BITS_READ_MAX = 2000
REGISTERS_WRITE_MAX = 123
BITS_WRITE_MAX = 1968

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
ACKNOWLEDGE = 5  # taken, and will take its time
GATEWAY_CODES = (10, 11)  # a gateway says for a device that it cannot be reached
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, not done yet",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}


class Span(NamedTuple):
    """Registers (or bits) from `address` on."""

    address: int
    quantity: int

    @property
    def end(self) -> int:
        return self.address + self.quantity

    def holds(self, other: Span) -> bool:
        return self.address <= other.address and other.end <= self.end


class Request(NamedTuple):
    """One request on the wire. `quantity` is 0 in a read that some probes take for a switch."""

    unit: int
    function: int
    address: int
    quantity: int
    values: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """What an answer shows of its request: two requests of one shape are answered alike."""
        return (self.unit, self.function, self.quantity if self.function in READS else self.address)


class Point(NamedTuple):
    """Something to read every `period_s`, at most `deadline_s` after it is due."""

    key: str
    function: int
    address: int
    quantity: int
    period_s: float
    deadline_s: float

    @property
    def span(self) -> Span:
        return Span(self.address, self.quantity)


class Device(NamedTuple):
    """One unit id on a bus, with its peculiarities."""

    name: str
    unit: int
    points: tuple[Point, ...]
    timeout_s: float = 0.5  # from the end of the request to the first byte of the answer
    turnaround_s: float = 0.02  # what it usually takes; only to weigh a hole against another request
    registers_max: int = REGISTERS_READ_MAX
    bits_max: int = BITS_READ_MAX
    gap_s: float = 0.0  # it wants to be left alone for so long between two requests
    warm_up_s: float = 0.0  # after `start`
    hole_max: int = REGISTERS_READ_MAX  # unwanted registers between two points of one read
    start: tuple[Request, ...] = ()  # before a measurement, when it is not measuring
    stop: tuple[Request, ...] = ()  # when no measurement is due for a while; empty: it is left on


class Outcome(NamedTuple):
    """What came of a request: `values` when answered, `code` when refused."""

    kind: str
    values: tuple[int, ...] = ()
    code: int = 0
    note: str = ""


ANSWERED = "answered"
REFUSED = "refused"  # an exception response
SILENT = "silent"  # nothing came in time
SPOILT = "spoilt"  # bytes came, but no intact answer
LOST = "lost"  # the port or the connection went away meanwhile; says nothing of the device

# Notes on an outcome that change what is made of it.
UNSENT = "unsent"  # with LOST: nothing of the request left
OTHER_LENGTH = (
    "other_length"  # with SPOILT: an intact answer of the right device, shorter or longer than asked for
)


class Job(NamedTuple):
    """What the bus shall carry next. `points` are indices into the device's points."""

    kind: str  # read, probe, start, stop, look, write, read_back
    device: int
    request: Request
    timeout_s: float  # for the whole exchange
    points: tuple[int, ...] = ()
    not_after_s: float = math.inf  # when it may leave at the latest: a write that is late does harm


class Wait(NamedTuple):
    """Nothing to send before `until_s`, unless a write comes."""

    until_s: float


# How a write ended.
DONE = "done"  # and read back
DIFFERS = "differs"  # the device took it, and reads back something else
DECLINED = "refused"  # an exception response
EXPIRED = "expired"  # never sent
UNKNOWN = "unknown"  # sent, and nobody can tell what came of it


class Write(NamedTuple):
    """Something to be written before `expires_s`, or not at all. `on_done(result, detail)` is called once.

    `mask`, one number a register: only these bits are meant. The others are looked at first and written as they were;
    with the function MASK_WRITE the device itself leaves them alone.
    """

    device: str
    function: int
    address: int
    values: tuple[int, ...]
    expires_s: float
    on_done: Callable[[str, str], None]
    read_back: bool = True
    mask: tuple[int, ...] = ()
