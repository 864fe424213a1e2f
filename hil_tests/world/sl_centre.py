"""A hydrological centre that speaks SL 651: follows the standard, keeps reports by their key, and can misbehave.

    centre = SlCentre()
    await centre.serve()                        a real port, or
    sender(open_wire=centre.open_wire)          a wire in memory, for a virtual clock

`rows` is what a centre would have: one report per (station, function, time of observation), the last one that came.
`arrivals` is everything that came, in order. What it does wrong is switched by the attributes of `Faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.errors import NorthboundError
from gateway.northbound.wire import Wire
from hil_tests.world.wires import Pipe, downward
from protocols.northbound import sl651, sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Frame, Sl651Error, Splitter
from protocols.northbound.sl651_body import Body, Element

RowKey = tuple[str, str, str]  # station, function, time of observation
# The centre's own time of sending; nothing in a station depends on it.
_SENT = "260101000000"


class Arrival(NamedTuple):
    """One report as it came."""

    key: RowKey
    serial: int
    elements: dict[int, Element]
    at_s: float  # of the loop

    def number(self, element: int) -> float | None:
        """The number of one of its elements."""
        found = self.elements[element]
        return sl651_body.number(found.data, found.definition & 7)


@dataclass
class Faults:
    """What it does otherwise than the standard has it."""

    refuses: bool = False  # connections
    mute: bool = False  # takes reports and confirms none
    deaf: bool = False  # neither
    mute_for: Callable[[Arrival], bool] = lambda arrival: False
    naks: int = 0  # refuses so many of the next reports
    nak_for: Callable[[Arrival], bool] = lambda arrival: False
    ack_after_s: float = 0.0
    shuffles: bool = False  # confirms in another order than it got them
    acks: int = 1  # how often it confirms each
    ack_end: int = codes.ESC
    wrong_serial: bool = False
    wrong_station: bool = False
    spoilt_acks: int = 0  # so many of its next answers have a bad check sum
    cut_bytes: int = 0  # sends in pieces of so many bytes
    ends_after: int = 0  # reports, then it breaks the connection, once
    noise: bytes = b""  # before each frame


class Line:
    """One connection, the centre's end."""

    def __init__(self, centre: SlCentre, say: Callable[[bytes], None], hang_up: Callable[[], None]) -> None:
        self.say = say
        self.hang_up = hang_up
        self._centre = centre
        self._splitter = Splitter()

    def hear(self, data: bytes) -> None:
        """Bytes of the station."""
        for found in self._splitter.feed(data):
            if isinstance(found, Sl651Error):
                self._centre.bad_frames.append(str(found))
            else:
                self._centre.take(self, found)


@dataclass
class SlCentre:
    """``latency_s``: one way, of the wire in memory."""

    latency_s: float = 0.02
    password: str = "03E8"
    faults: Faults = field(default_factory=Faults)
    rows: dict[RowKey, Arrival] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    answers: list[Frame] = field(default_factory=list)  # to what it asked
    link_keeps: list[Frame] = field(default_factory=list)
    bad_frames: list[str] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0  # reports of one station that it had not yet answered
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[Line] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    # ---- connections ---------------------------------------------------------------------------------------------

    async def open_wire(self, host: str, port: int) -> Wire:
        """A connection in memory, as gateway/northbound/sl651.py wants one."""
        await asyncio.sleep(self.latency_s)
        if self.faults.refuses:
            raise NorthboundError(f"{host}:{port} can not be reached: refused")
        reader, down = downward(self.latency_s)
        line = Line(self, down.put, lambda: down.put(b""))
        self._begin(line)
        return Wire(reader, Pipe(lambda: self.lines, line, self.latency_s))

    async def serve(self, port: int = 0) -> int:
        """A real port on loopback; which one."""
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuses:
            writer.close()
            return
        line = Line(self, writer.write, writer.close)
        self._begin(line)
        while data := await reader.read(65_536):
            line.hear(data)
        if line in self.lines:
            self.lines.remove(line)
        writer.close()

    def _begin(self, line: Line) -> None:
        self.lines.append(line)
        self.connections += 1
        self._open.clear()

    async def close(self) -> None:
        self.break_lines()
        if self._server is not None:
            self._server.close()

    def break_lines(self) -> None:
        """Every connection ends."""
        lines, self.lines = self.lines, []
        for line in lines:
            line.hang_up()

    # ---- what it hears -------------------------------------------------------------------------------------------

    def take(self, line: Line, frame: Frame) -> None:
        """One frame of a station."""
        if self.faults.deaf:
            return
        if not frame.up or frame.password != self.password:
            self.bad_frames.append(f"not for us: {frame}")
        elif frame.function == codes.LINK_KEEP:
            self.link_keeps.append(frame)
        elif frame.function in sl651_body.REPORTS:
            self._take_report(line, frame)
        else:
            self.answers.append(frame)

    def _take_report(self, line: Line, frame: Frame) -> None:
        try:
            body = sl651_body.decode(frame)
        except Sl651Error as error:
            self.bad_frames.append(str(error))
            return
        self._open[frame.station] = self._open.get(frame.station, 0) + 1
        self.most_at_once = max(self.most_at_once, self._open[frame.station])
        arrival = self._arrival(frame, body)
        self.arrived.set()
        if self.faults.naks or self.faults.nak_for(arrival):
            self.faults.naks = max(0, self.faults.naks - 1)
            self._answer(line, frame, codes.NAK)
        else:
            self.arrivals.append(arrival)
            self.rows[arrival.key] = arrival
            if not (self.faults.mute or self.faults.mute_for(arrival)):
                self._answer(line, frame, self.faults.ack_end)
        if self.faults.ends_after and len(self.arrivals) >= self.faults.ends_after:
            self.faults.ends_after = 0
            self.break_lines()

    @staticmethod
    def _arrival(frame: Frame, body: Body) -> Arrival:
        (group,) = body.groups
        assert body.station == frame.station
        key = frame.station, f"{frame.function:02X}", group.observed
        elements = {element.id: element for element in group.elements if isinstance(element, Element)}
        return Arrival(key, body.serial, elements, asyncio.get_running_loop().time())

    # ---- what it says --------------------------------------------------------------------------------------------

    def _answer(self, line: Line, frame: Frame, end: int) -> None:
        answer = sl651_body.confirmation(frame, end, _SENT)
        if self.faults.wrong_serial:
            answer = answer._replace(body=bytes([answer.body[0] ^ 0x40]) + answer.body[1:])
        if self.faults.wrong_station:
            answer = answer._replace(station="0099999999")
        data = sl651.encode(answer)
        if self.faults.spoilt_acks:
            self.faults.spoilt_acks -= 1
            data = data[:-2] + bytes([data[-2] ^ 1, data[-1]])
        after_s = self.faults.ack_after_s
        if self.faults.shuffles:
            after_s += (9 - answer.body[1] % 10) * 0.3  # by its serial number
        for _ in range(self.faults.acks):
            if after_s:
                asyncio.get_running_loop().call_later(after_s, self._confirm, line, frame, data)
            else:
                self._confirm(line, frame, data)

    def _confirm(self, line: Line, frame: Frame, data: bytes) -> None:
        self._open[frame.station] = 0
        self._say(line, data)

    def _say(self, line: Line, data: bytes) -> None:
        if line not in self.lines:
            return
        data = self.faults.noise + data
        size = self.faults.cut_bytes or len(data)
        for at in range(0, len(data), size):
            line.say(data[at : at + size])

    def ask(
        self, function: int, station: str, rest: bytes = b"", *, password: str = "", sent: str = _SENT
    ) -> None:
        """Ask a station something; what it answers comes into `answers`."""
        body = sl651_body.encode(Body(1, sent, rest=rest))
        frame = Frame(1, station, password or self.password, function, body, codes.ENQ, up=False)
        for line in self.lines:
            self._say(line, sl651.encode(frame))
