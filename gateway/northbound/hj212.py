"""Speaks HJ 212-2017, HJ 212-2025 or HJ 1404-2024 to one platform over TCP, for one or several stations.

A row goes as one frame or several, with a QN of its own; the platform's 9014 with that QN confirms it. What it does not
confirm in time is sent again as it was, then offered anew later; when it confirms nothing at all the connection is made
anew. Between the rows the platform may ask for things (hj212_commands.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway import civil
from gateway.clock import Clock
from gateway.limits import HJ_PACKETS_SETTLE_S, HJ_REQUESTS_MAX
from gateway.northbound.hj212_commands import REFUSED, Desk
from gateway.northbound.hj212_report import Told
from gateway.northbound.hj212_settings import Hj212Settings
from gateway.northbound.rows import OnConfirm
from gateway.northbound.shares import station_share, unacked_window
from gateway.northbound.wire import Wire, open_tcp
from gateway.report_rows import Key
from protocols.northbound import hj212
from protocols.northbound.hj212 import AREA_MAX, Frame, Group, Hj212Error, Splitter
from protocols.northbound.sm4 import Sm4Error

log = logging.getLogger(__name__)
_READ_BYTES = 65_536
# Without any sign of the platform for so many heartbeats it is gone.
_HEARTBEATS_MISSED = 3


@dataclass
class _Pending:
    """One row on its way."""

    token: int
    data: bytes
    packets: int
    tries: int = 0
    acks: set[int] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None
    sent_at: int = 0  # what had been confirmed when it was sent first


class Hj212Session:
    """One connection, ready to send rows."""

    def __init__(
        self, wire: Wire, settings: Hj212Settings, told: Told, desk: Desk, on_confirm: OnConfirm, clock: Clock,
        counters: dict[str, int],
    ) -> None:  # fmt: skip
        self.window = settings.in_flight if settings.wants_ack else unacked_window(told.timeout_s)
        self.share = station_share(self.window, len(settings.report.stations))
        self.mute = False
        self._wire = wire
        self._settings = settings
        self._told = told
        self._desk = desk
        self._on_confirm = on_confirm
        self._clock = clock
        self._counters = counters
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[str] = self._loop.create_future()
        self._last_qn_ms = 0
        self._tokens = 0
        self._acks = 0
        self._silent_beats = 0
        self._requests: set[asyncio.Task[None]] = set()
        self._tasks = [self._loop.create_task(self._read())]
        if settings.heartbeat_s:
            self._tasks.append(self._loop.create_task(self._beat()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    # ---- rows ----------------------------------------------------------------------------------------------------

    def send(self, key: Key, message: bytes, *, resent: bool) -> int:
        """Send a row. One that no frame can carry counts as refused: the others go on."""
        self._tokens += 1
        token = self._tokens
        mn = self._settings.report.stations[key.site]
        frame = self._frame(key.kind, mn)
        try:
            marked = resent and self._settings.mark_resent
            packets = hj212.split_area(frame, message.decode(), resent=marked, area_max=self._area_max(frame))
            data = self._encode(packets)
        except (Hj212Error, Sm4Error) as error:
            log.error("%s: %s %s can not be sent: %s", self._settings.name, key.site, key.kind, error)
            self._loop.call_soon(self._on_confirm, token, False)
            return token
        pending = _Pending(token, data, len(packets), sent_at=self._acks)
        self._pending[frame.qn, mn] = pending
        self._transmit(frame.qn, mn, pending)
        return token

    def _area_max(self, frame: Frame) -> int:
        sealer = self._settings.sealer
        return AREA_MAX if sealer is None else sealer.text_max(frame)

    def _encode(self, packets: Sequence[Frame]) -> bytes:
        sealer = self._settings.sealer
        return b"".join(hj212.encode(one if sealer is None else sealer.seal(one)) for one in packets)

    def _frame(self, cn: str, mn: str) -> Frame:
        settings = self._settings
        return Frame(self._qn(), settings.st, cn, settings.password, mn, settings.version, settings.wants_ack)

    def _qn(self) -> str:
        """Never the same twice in a connection, also within one millisecond."""
        self._last_qn_ms = max(self._last_qn_ms + 1, self._clock.unix_ms())
        return civil.text_ms(self._last_qn_ms, self._settings.report.zone)

    def _transmit(self, qn: str, mn: str, pending: _Pending) -> None:
        pending.tries += 1
        self._write(pending.data)
        if not self._settings.wants_ack:
            pending.data = b""  # it never goes again
        pending.timer = self._loop.call_later(self._told.timeout_s, self._overdue, qn, mn)

    def _overdue(self, qn: str, mn: str) -> None:
        pending = self._pending[qn, mn]
        if not self._settings.wants_ack:  # the connection has outlived it: that is all there is to know
            self._done(qn, mn, taken=True)
        elif pending.tries <= self._told.resends:
            self._counters["repeated"] += 1
            self._transmit(qn, mn, pending)
        elif self._acks > pending.sent_at:  # it confirms others
            log.warning(
                "%s: QN %s of %s was sent %d times and not confirmed",
                self._settings.name,
                qn,
                mn,
                pending.tries,
            )
            self._done(qn, mn, taken=False)
        else:
            self.mute = True
            self._end(f"nothing was confirmed, {pending.tries} times {self._told.timeout_s} s long")

    def _done(self, qn: str, mn: str, *, taken: bool) -> None:
        pending = self._pending.pop((qn, mn))
        if pending.timer is not None:
            pending.timer.cancel()
        self._acks += taken
        self._on_confirm(pending.token, taken)

    def _acked(self, frame: Frame) -> None:
        """A message of several packets is confirmed by as many answers, or by one after which no other comes."""
        pending = self._pending.get((frame.qn, frame.mn))
        if pending is None or frame.pno > pending.packets:
            self._counters["foreign_acks"] += (
                1  # a second one, of another connection's, or of a packet never sent
            )
            return
        pending.acks.add(frame.pno or -len(pending.acks) - 1)
        if len(pending.acks) >= pending.packets:
            self._done(frame.qn, frame.mn, taken=True)
        elif not frame.pnum and pending.timer is not None:
            pending.timer.cancel()
            pending.timer = self._loop.call_later(HJ_PACKETS_SETTLE_S, self._settled, frame.qn, frame.mn)

    def _settled(self, qn: str, mn: str) -> None:
        self._done(qn, mn, taken=True)

    # ---- what comes in -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        splitter = Splitter()
        while True:
            try:
                data = await self._wire.reader.read(_READ_BYTES)
            except OSError as error:
                self._end(f"connection lost: {error.strerror or error}")
                return
            if not data:
                self._end("the platform closed the connection")
                return
            for found in splitter.feed(data):
                if isinstance(found, Hj212Error):
                    self._tell_bad(found)
                else:
                    self._take(found)

    def _tell_bad(self, error: Hj212Error) -> None:
        self._counters["bad_frames"] += 1
        self._desk.seldom.warning("bad frame", "%s: a bad frame: %s", self._settings.name, error)

    def _take(self, frame: Frame) -> None:
        self._silent_beats = 0
        if self._settings.sealer is not None:
            try:
                frame = self._settings.sealer.open(frame)
            except Hj212Error as error:
                self._tell_bad(error)
                return
        if frame.cn == hj212.DATA_ACK:
            self._acked(frame)
        elif frame.cn not in (hj212.NOTICE_ACK, hj212.REQUEST_ACK, hj212.EXECUTED, hj212.HEARTBEAT):
            self._request(frame)

    def _request(self, frame: Frame) -> None:
        if len(self._requests) >= HJ_REQUESTS_MAX:
            self._reply(hj212.request_ack(frame, REFUSED), ())
            return
        task = self._loop.create_task(self._desk.answer(frame, self._reply))
        self._requests.add(task)
        task.add_done_callback(self._request_done)

    def _request_done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(f"a request could not be answered: {error}")

    def _reply(self, frame: Frame, groups: Sequence[Group]) -> None:
        try:
            packets = hj212.split(frame, groups, self._area_max(frame)) if groups else [frame]
            self._write(self._encode(packets))
        except (Hj212Error, Sm4Error) as error:  # a request whose QN or PW no answer can carry
            told = "%s: no answer can be sent to %s: %s"
            self._desk.seldom.warning("unanswerable", told, self._settings.name, frame.cn, error)

    # ---- the connection ------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """A heartbeat of each station."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            self._silent_beats += 1
            if self._silent_beats > _HEARTBEATS_MISSED:
                self._end(f"no sign of the platform for {_HEARTBEATS_MISSED} heartbeats")
                return
            for mn in self._settings.report.stations.values():
                self._write(hj212.encode(self._frame(hj212.HEARTBEAT, mn)._replace(wants_ack=True)))

    def _write(self, data: bytes) -> None:
        if not self._gone.done():
            self._wire.writer.write(data)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(f"{type(error).__name__}: {error}")

    def _end(self, why: str) -> None:
        if not self._gone.done():
            self._gone.set_result(why)

    async def lost(self) -> str:
        """Why the connection is over, when it is."""
        return await asyncio.shield(self._gone)

    def abort(self) -> None:
        """Forget what is on its way, and close."""
        self._end("closed by us")
        for pending in self._pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self._pending.clear()
        for task in (*self._tasks, *self._requests):
            task.cancel()
        self._wire.writer.close()


class Hj212Sender:
    """Makes sessions."""

    def __init__(
        self, settings: Hj212Settings, told: Told, desk: Callable[[], Desk], clock: Clock,
        open_wire: Callable[[str, int], Awaitable[Wire]] = open_tcp,
    ) -> None:  # fmt: skip
        self.counters = dict.fromkeys(("repeated", "foreign_acks", "bad_frames"), 0)
        self._settings = settings
        self._told = told
        self._desk = desk
        self._clock = clock
        self._open = open_wire

    async def connect(self, on_confirm: OnConfirm) -> Hj212Session:
        """Connect; raises NorthboundError."""
        wire = await self._open(self._settings.host, self._settings.port)
        return Hj212Session(
            wire, self._settings, self._told, self._desk(), on_confirm, self._clock, self.counters
        )
