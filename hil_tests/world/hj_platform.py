"""An environmental platform that speaks HJ 212: follows the standard, keeps rows by their key, and can misbehave.

    platform = HjPlatform()
    await platform.serve()                      a real port, or
    sender(open_wire=platform.open_wire)        a wire in memory, for a virtual clock

`rows` is what a regulator would have: one row per (MN, CN, DataTime), the last one that came. `arrivals` is everything
that came, in order. What it does wrong is switched by the attributes of `Faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.errors import NorthboundError
from gateway.northbound.wire import Wire
from hil_tests.world.wires import Pipe, downward
from protocols.northbound import hj212, hj1404
from protocols.northbound.hj212 import Frame, Hj212Error, Joiner, Splitter
from protocols.northbound.hj212_sm4 import Sealer, cipher_of

RowKey = tuple[str, str, str]
DATA = (hj212.REAL_TIME, hj212.MINUTE, hj212.HOUR, hj212.DAY, *hj1404.BY_CN)


class Arrival(NamedTuple):
    """One data message as it came."""

    key: RowKey
    qn: str
    items: dict[str, str]
    resent: bool
    at_s: float  # of the loop


@dataclass
class Faults:
    """What it does otherwise than the standard has it."""

    refuses: bool = False  # connections
    mute: bool = False  # takes rows and confirms none
    deaf: bool = False  # neither
    mute_for: Callable[[Arrival], bool] = lambda arrival: False
    ack_after_s: float = 0.0
    shuffles: bool = False  # confirms in another order than it got them
    acks: int = 1  # how often it confirms each
    one_ack: bool = False  # to all packets of a message together, and without their number
    wrong_qn: bool = False
    wrong_mn: bool = False
    spoilt_acks: int = 0  # so many of its next answers have a bad check sum
    cut_bytes: int = 0  # sends in pieces of so many bytes
    ends_after: int = 0  # rows, then it breaks the connection, once
    noise: bytes = b""  # before each frame


class Line:
    """One connection, the platform's end."""

    def __init__(
        self, platform: HjPlatform, say: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        self.say = say
        self.hang_up = hang_up
        self.mns: set[str] = set()
        self._platform = platform
        self._splitter = Splitter()
        self._joiner = Joiner(64)

    def hear(self, data: bytes) -> None:
        """Bytes of the station."""
        for found in self._splitter.feed(data):
            if isinstance(found, Hj212Error):
                self._platform.bad_frames.append(str(found))
            elif (packet := self._platform.opened(found)) is not None:
                self._platform.take(self, packet, self._joiner.take(packet))


@dataclass
class HjPlatform:
    """``latency_s``: one way, of the wire in memory."""

    latency_s: float = 0.02
    password: str = "123456"
    sealer: Sealer | None = None  # what it encrypts with, and takes nothing readable any more
    faults: Faults = field(default_factory=Faults)
    rows: dict[RowKey, Arrival] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    answers: list[Frame] = field(default_factory=list)  # to what it asked
    heartbeats: list[Frame] = field(default_factory=list)
    bad_frames: list[str] = field(default_factory=list)
    connections: int = 0
    packets: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[Line] = field(default_factory=list)
    _server: asyncio.Server | None = None

    # ---- connections ---------------------------------------------------------------------------------------------

    async def open_wire(self, host: str, port: int) -> Wire:
        """A connection in memory, as gateway/northbound/hj212.py wants one."""
        await asyncio.sleep(self.latency_s)
        if self.faults.refuses:
            raise NorthboundError(f"{host}:{port} can not be reached: refused")
        reader, down = downward(self.latency_s)
        line = Line(self, down.put, lambda: down.put(b""))
        self.lines.append(line)
        self.connections += 1
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
        self.lines.append(line)
        self.connections += 1
        while data := await reader.read(65_536):
            line.hear(data)
        if line in self.lines:
            self.lines.remove(line)
        writer.close()

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

    def opened(self, packet: Frame) -> Frame | None:
        """What a packet says; None when that is not to be read, or was to be read by everybody."""
        if self.sealer is None:
            return packet
        if packet.area and cipher_of(packet.area) is None:
            self.bad_frames.append(f"not encrypted: {packet.cn} {packet.area:.40}")
            return None
        try:
            return self.sealer.open(packet)
        except Hj212Error as error:
            self.bad_frames.append(str(error))
            return None

    def take(self, line: Line, packet: Frame, whole: Frame | None) -> None:
        """One packet, and the message when it was the last one of it."""
        if self.faults.deaf:
            return
        line.mns.add(packet.mn)
        if packet.cn == hj212.HEARTBEAT:
            self.heartbeats.append(packet)
            self._answer(line, packet, hj212.NOTICE_ACK)
        elif packet.cn in DATA and packet.wants_ack:
            self.packets += 1
            arrival = None if whole is None else self._keep(whole)
            if self.faults.one_ack and whole is None:
                return
            if self.faults.one_ack:
                packet = packet._replace(pnum=0, pno=0)
            if not (self.faults.mute or (arrival is not None and self.faults.mute_for(arrival))):
                self._answer(line, packet, hj212.DATA_ACK)
            if self.faults.ends_after and len(self.arrivals) >= self.faults.ends_after:
                self.faults.ends_after = 0
                self.break_lines()
        else:
            self.answers.append(packet if whole is None else whole)

    def _keep(self, frame: Frame) -> Arrival:
        items = hj212.items_of(frame.area)
        resent = items.pop("RF", "0") == "1"
        key = frame.mn, frame.cn, items.pop("DataTime")
        arrival = Arrival(key, frame.qn, items, resent, asyncio.get_running_loop().time())
        self.arrivals.append(arrival)
        self.rows[key] = arrival
        self.arrived.set()
        return arrival

    # ---- what it says --------------------------------------------------------------------------------------------

    def _answer(self, line: Line, packet: Frame, cn: str) -> None:
        answer = hj212.data_ack(packet, cn)._replace(pnum=packet.pnum, pno=packet.pno)
        if self.faults.wrong_qn:
            answer = answer._replace(qn=f"{int(answer.qn) - 10**9:017d}")
        if self.faults.wrong_mn:
            answer = answer._replace(mn="X" + answer.mn[1:])
        data = hj212.encode(answer)
        if self.faults.spoilt_acks:
            self.faults.spoilt_acks -= 1
            data = data[:-6] + b"0000\r\n"
        after_s = self.faults.ack_after_s
        if self.faults.shuffles:
            after_s += (9 - int(packet.qn[-1])) * 0.3
        for _ in range(self.faults.acks):
            if after_s:
                asyncio.get_running_loop().call_later(after_s, self._say, line, data)
            else:
                self._say(line, data)

    def _say(self, line: Line, data: bytes) -> None:
        if line not in self.lines:
            return
        data = self.faults.noise + data
        size = self.faults.cut_bytes or len(data)
        for at in range(0, len(data), size):
            line.say(data[at : at + size])

    def ask(self, cn: str, mn: str, qn: str, area: str = "", *, wants_ack: bool = True, pw: str = "") -> None:
        """Ask a station something; what it answers comes into `answers`."""
        request = Frame(qn, "21", cn, pw or self.password, mn, hj212.VERSION_2017, wants_ack, area)
        if self.sealer is not None:
            request = self.sealer.seal(request)
        for line in self.lines:
            self._say(line, hj212.encode(request))

    def answers_to(self, qn: str) -> list[tuple[str, str]]:
        """(CN, data area) of every answer to that QN."""
        return [(frame.cn, frame.area) for frame in self.answers if frame.qn == qn]
