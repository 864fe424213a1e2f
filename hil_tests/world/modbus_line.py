"""An RS-485 line or a TCP connection with simulated slaves, on a virtual clock: carries a scheduler's jobs.

Time is counted in characters of the frames that really pass, not with the gateway's arithmetic. What comes late is
kept, and taken for the answer of a later request if it looks like one, as a real line would have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_types import (
    ANSWERED,
    OTHER_LENGTH,
    REFUSED,
    SILENT,
    SPOILT,
    Job,
    Outcome,
    Request,
)
from hil_tests.world.modbus_slave import BIT_FUNCTIONS, REGISTER_FUNCTIONS, Slave, rtu

GAP_CHARACTERS = 3.5


def request_pdu(request: Request) -> bytes:
    """The request as bytes, by the specification."""
    head = bytes([request.function]) + request.address.to_bytes(2, "big")
    if request.function == 5:
        return head + (b"\xff\0" if request.values[0] else b"\0\0")
    if request.function == 6:
        return head + request.values[0].to_bytes(2, "big")
    if request.function == 16:
        data = b"".join(value.to_bytes(2, "big") for value in request.values)
        return head + len(request.values).to_bytes(2, "big") + bytes([len(data)]) + data
    if request.function == 15:
        packed = bytearray(-(-len(request.values) // 8))
        for i, value in enumerate(request.values):
            packed[i // 8] |= value << i % 8
        return head + len(request.values).to_bytes(2, "big") + bytes([len(packed)]) + bytes(packed)
    if request.function == 22:
        return head + b"".join(value.to_bytes(2, "big") for value in request.values)
    if request.function == 43:
        return bytes([43, 14, request.quantity, request.address])
    return head + request.quantity.to_bytes(2, "big")


def answer_length(request: Request) -> int:
    if request.function in REGISTER_FUNCTIONS:
        return 5 + 2 * request.quantity
    if request.function == 22:
        return 10
    return 5 + -(-request.quantity // 8) if request.function in BIT_FUNCTIONS else 8


class Late(NamedTuple):
    """An answer that is still under way."""

    at_s: float
    frame: bytes


class VirtualLine:
    """Slaves behind one master. `character_s` 0 is a network."""

    def __init__(
        self, slaves: Iterable[Slave], baud: int = 9600, bits: int = 11, is_numbered: bool = False
    ) -> None:
        self.slaves = {slave.unit: slave for slave in slaves}
        self.character_s = bits / baud if baud else 0.0
        self.gap_s = GAP_CHARACTERS * self.character_s
        self.busy_s = 0.0
        self.exchanges = 0
        self.taken_late = 0
        self._is_numbered = is_numbered
        self._late: list[Late] = []
        self._ended_s = -1.0

    def carry(self, job: Job, now_s: float) -> tuple[float, Outcome]:
        """Carry `job` out from `now_s` on; when it was over, and what came of it."""
        assert now_s >= self._ended_s + self.gap_s - 1e-9, "the master spoke before 3.5 characters of silence"
        request = job.request
        pdu = request_pdu(request)
        sent_s = now_s + len(rtu(request.unit, pdu)) * self.character_s
        slave = self.slaves.get(request.unit)
        pieces = slave.rtu_pieces(pdu, sent_s) if slave else []
        for piece in pieces:
            at_s = sent_s + self.gap_s + piece.delay_s + len(piece.data) * self.character_s
            self._late.append(Late(at_s, piece.data))
        end_s, outcome = self._hear(request, sent_s, now_s + job.timeout_s)
        self.busy_s += end_s - now_s + self.gap_s
        self.exchanges += 1
        self._ended_s = end_s
        return end_s, outcome

    def _hear(self, request: Request, sent_s: float, until_s: float) -> tuple[float, Outcome]:
        """What the master makes of what it hears between `sent_s` and `until_s`."""
        heard, last_s, spoilt, note = b"", sent_s, False, ""
        for late in sorted(self._late):
            if late.at_s > until_s:
                break
            self._late.remove(late)
            if late.at_s < sent_s:
                continue  # came while nobody waited, and is thrown away before a request
            heard, last_s = heard + late.frame, late.at_s
            outcome = _answer_in(heard, request)
            if outcome is not None:
                return last_s, outcome
            spoilt = True
            note = OTHER_LENGTH if _is_of_other_length(late.frame, request) else ""
        if self._is_numbered:
            self._late.clear()
        return until_s, Outcome(SPOILT if spoilt else SILENT, note=note)


def _is_of_other_length(frame: bytes, request: Request) -> bool:
    """Whether `frame` is a whole answer to such a read, with more or less in it."""
    is_such = frame[:2] == bytes([request.unit, request.function]) and rtu(frame[0], frame[1:-2]) == frame
    return (
        is_such and request.function in (*BIT_FUNCTIONS, *REGISTER_FUNCTIONS) and len(frame) == 5 + frame[2]
    )


def _answer_in(heard: bytes, request: Request) -> Outcome | None:
    """The first thing in `heard` that could be the answer of `request`."""
    for begin in range(len(heard)):
        for size, function in ((answer_length(request), request.function), (5, request.function | 0x80)):
            frame = heard[begin : begin + size]
            if len(frame) < size or frame[0] != request.unit or frame[1] != function:
                continue
            if rtu(frame[0], frame[1:-2]) == frame:
                return _decoded(frame, request)
    return None


def _decoded(frame: bytes, request: Request) -> Outcome:
    if frame[1] & 0x80:
        return Outcome(REFUSED, code=frame[2])
    if request.function in REGISTER_FUNCTIONS:
        data = frame[3:-2]
        return Outcome(
            ANSWERED, tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
        )
    if request.function in BIT_FUNCTIONS:
        return Outcome(ANSWERED, tuple(frame[3 + i // 8] >> i % 8 & 1 for i in range(request.quantity)))
    return Outcome(ANSWERED)


def run(
    scheduler: Scheduler,
    line: VirtualLine,
    until_s: float,
    now_s: float = 0.0,
    each: Callable[[float, Job, Outcome], None] = lambda now_s, job, outcome: None,
    events: Iterable[tuple[float, Callable[[float], None]]] = (),
) -> float:
    """Let `scheduler` work on `line` until `until_s`; `events` are (when, what) of the world."""
    agenda = sorted(events, key=lambda event: event[0])
    while now_s < until_s:
        while agenda and agenda[0][0] <= now_s:
            agenda.pop(0)[1](now_s)
        step = scheduler.next(now_s)
        if not isinstance(step, Job):
            horizon = min(until_s, agenda[0][0] if agenda else until_s)
            now_s = min(max(step.until_s, now_s), max(horizon, now_s + 1e-9))
            continue
        now_s, outcome = line.carry(step, now_s)
        scheduler.done(now_s, step, outcome)
        each(now_s, step, outcome)
    return now_s
