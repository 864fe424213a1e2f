"""Speaks SL 651-2014 (HEX/BCD, modes M1 and M2) to one centre over TCP, for one or several stations.

In mode M2 a station sends a report, waits for the centre's frame with its function and serial number, and sends no
other before: several stations of one connection do so side by side. What is not confirmed in time, or is refused
(NAK), is sent again as it was, then offered anew later; when nothing at all is confirmed the connection is made anew.
In mode M1 nothing is confirmed: a report counts when the connection has outlived it by the time-out.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gateway import civil, report_rows
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.limits import SL_QUESTIONS_MAX, SL_SERIALS_RESERVED
from gateway.northbound.rows import OnConfirm
from gateway.northbound.sl651_desk import Answer, SlDesk
from gateway.northbound.sl651_settings import SlSettings
from gateway.northbound.wire import Wire, open_tcp
from gateway.report_rows import Key
from gateway.store import Store
from protocols.northbound import sl651
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Frame, Sl651Error, Splitter
from protocols.northbound.sl651_body import SERIAL_MAX

log = logging.getLogger(__name__)
# A turn of the loop over hostile bytes stays short.
_READ_BYTES = 4096
# Without any sign of a centre that confirms for so many link keeps it is gone.
_KEEPS_MISSED = 3
_TAKEN = (codes.ACK, codes.EOT, codes.ESC)


class Serials:
    """Serial numbers 1 to 65535 that go on after a kill: they are made durable in blocks."""

    def __init__(self, northbound: str, store: Store) -> None:
        self._northbound = northbound
        self._store = store
        kept = store.read(functools.partial(report_rows.settings, northbound=northbound))
        text = kept.get("serial", "")
        self._next = int(text) if text.isdecimal() and len(text) < 12 else 0
        self._kept = self._next

    def take(self) -> int:
        number = self._next % SERIAL_MAX + 1
        self._next += 1
        return number

    @property
    def is_low(self) -> bool:
        """Whether `keep` has something to do."""
        return self._kept - self._next < SL_SERIALS_RESERVED // 2

    async def keep(self) -> None:
        """Those up to the next block count as used from now on."""
        before, self._kept = self._kept, self._next + SL_SERIALS_RESERVED
        write = functools.partial(
            report_rows.keep_setting, northbound=self._northbound, key="serial", value=str(self._kept)
        )
        try:
            await self._store.write(write)
        except StoreError as error:  # a full disk holds up no report: after a kill some numbers come again
            log.warning("%s: serial numbers can not be kept: %s", self._northbound, error)
            self._kept = before


@dataclass
class _Pending:
    """One report on its way, or waiting for the one of its station before it."""

    token: int
    frame: Frame
    fresh: bool = True
    tries: int = 0
    timer: asyncio.TimerHandle | None = None
    sent_at: int = 0  # what had been confirmed when it was sent first

    @property
    def serial(self) -> int:
        return int.from_bytes(self.frame.body[:2], "big")


class SlSession:
    """One connection, ready to send reports."""

    def __init__(
        self, wire: Wire, settings: SlSettings, desk: SlDesk, serials: Serials, on_confirm: OnConfirm, clock: Clock,
        counters: dict[str, int],
    ) -> None:  # fmt: skip
        self.window = settings.window
        self.share = settings.share
        self.mute = False
        self._wire = wire
        self._settings = settings
        self._desk = desk
        self._serials = serials
        self._on_confirm = on_confirm
        self._clock = clock
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[str] = self._loop.create_future()
        self._queues: dict[str, deque[_Pending]] = {}
        self._unacked: deque[tuple[float, int]] = deque()  # mode M1: when it is believed, and its token
        self._outliving: asyncio.TimerHandle | None = None
        self._questions: asyncio.Queue[Frame] = asyncio.Queue(SL_QUESTIONS_MAX)
        self._tokens = 0
        self._acks = 0
        self._silent_keeps = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._read())
        self._start(self._answer())
        if settings.link_keep_s:
            self._start(self._keep_link())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(f"{type(error).__name__}: {error}")

    # ---- reports -------------------------------------------------------------------------------------------------

    def send(self, key: Key, message: bytes, *, resent: bool) -> int:
        """Send a report. One that no frame can carry counts as refused: the others go on."""
        if self._serials.is_low:
            self._start(self._serials.keep())
        self._tokens += 1
        pending = _Pending(
            self._tokens,
            self._frame(int(key.kind, 16), self._settings.stations[key.site], message),
            fresh=not resent,
        )
        try:
            sl651.encode(pending.frame)
        except Sl651Error as error:
            log.error("%s: %s %sH can not be sent: %s", self._settings.name, key.site, key.kind, error)
            self._loop.call_soon(self._on_confirm, pending.token, False)
            return pending.token
        if not self._settings.confirmed:
            self._write(pending.frame)
            self._unacked.append((self._loop.time() + self._settings.timeout_s, pending.token))
            if self._outliving is None:
                self._outliving = self._loop.call_at(self._unacked[0][0], self._outlived)
            return pending.token
        queue = self._queues.setdefault(pending.frame.station, deque())
        # What is fresh overtakes the backlog of its station, but not the report that is under way.
        waiting = sum(one.fresh for one in queue if not one.tries) if pending.fresh else len(queue)
        queue.insert(waiting + bool(queue and pending.fresh), pending)
        if queue[0] is pending:
            self._transmit(pending)
        return pending.token

    def _frame(self, function: int, station: str, message: bytes, end: int = codes.ETX) -> Frame:
        sent = civil.text(self._clock.unix_ms(), self._settings.zone)[2:]
        body = self._serials.take().to_bytes(2, "big") + bytes.fromhex(sent) + message
        return Frame(self._settings.centre, station, self._settings.password, function, body, end)

    def _transmit(self, pending: _Pending) -> None:
        if not pending.tries:
            pending.sent_at = self._acks
        pending.tries += 1
        self._write(pending.frame)
        pending.timer = self._loop.call_later(self._settings.timeout_s, self._overdue, pending)

    def _again(self, pending: _Pending) -> bool:
        """Send it once more, unless that was done often enough."""
        if pending.timer is not None:
            pending.timer.cancel()
        if pending.tries > self._settings.resends:
            return False
        self._counters["repeated"] += 1
        self._transmit(pending)
        return True

    def _overdue(self, pending: _Pending) -> None:
        if self._again(pending):
            return
        if self._acks > pending.sent_at:  # it confirms others
            self._tell_given_up(pending, "not confirmed")
            self._done(pending, taken=False)
        else:
            self.mute = True
            self._end(f"nothing was confirmed, {pending.tries} times {self._settings.timeout_s} s long")

    def _tell_given_up(self, pending: _Pending, what: str) -> None:
        log.warning(
            "%s: serial %d of %s was sent %d times and %s",
            self._settings.name, pending.serial, pending.frame.station, pending.tries, what,
        )  # fmt: skip

    def _outlived(self) -> None:
        """Mode M1: the connection has outlived them, and that is all there is to know."""
        until_s = self._loop.time()
        while self._unacked and self._unacked[0][0] <= until_s:
            self._on_confirm(self._unacked.popleft()[1], True)
        self._outliving = self._loop.call_at(self._unacked[0][0], self._outlived) if self._unacked else None

    def _done(self, pending: _Pending, *, taken: bool) -> None:
        queue = self._queues[pending.frame.station]
        queue.popleft()
        if pending.timer is not None:
            pending.timer.cancel()
        self._acks += taken
        if queue:
            self._transmit(queue[0])
        else:
            del self._queues[pending.frame.station]
        self._on_confirm(pending.token, taken)

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
                self._end("the centre closed the connection")
                return
            for found in splitter.feed(data):
                self._silent_keeps = 0
                if isinstance(found, Sl651Error):
                    self._counters["bad_frames"] += 1
                    self._desk.seldom.warning("bad frame", "%s: a bad frame: %s", self._settings.name, found)
                else:
                    self._take(found)
            await asyncio.sleep(0)

    def _take(self, frame: Frame) -> None:
        if frame.up or frame.centre != self._settings.centre:
            self._counters["foreign_frames"] += 1
        elif frame.end != codes.ENQ:
            self._confirmed(frame)
        elif self._questions.full():
            self._counters["dropped_questions"] += 1
        else:
            self._questions.put_nowait(frame)

    def _confirmed(self, frame: Frame) -> None:
        """By station, function and serial number: the head of its station's queue, or nothing of ours."""
        queue = self._queues.get(frame.station)
        pending = queue[0] if queue else None
        serial = int.from_bytes(frame.body[:2], "big") if len(frame.body) >= 2 else 0
        if pending is None or (frame.function, serial) != (pending.frame.function, pending.serial):
            self._counters["foreign_acks"] += 1  # a second one, of a link keep, or of another connection's
        elif frame.end in _TAKEN:
            self._done(pending, taken=True)
        elif frame.end == codes.NAK:
            self._counters["naks"] += 1
            if not self._again(pending):
                self._tell_given_up(pending, "refused (NAK)")
                self._done(pending, taken=False)

    async def _answer(self) -> None:
        """Questions one after the other, each from the store."""
        while True:
            frame = await self._questions.get()
            for answer in self._desk.answer(frame):
                self._reply(frame, answer)
                await asyncio.sleep(0)

    def _reply(self, frame: Frame, answer: Answer) -> None:
        message, more = answer
        end = codes.ETB if more else codes.ETX
        self._write(self._frame(frame.function, frame.station, message, end))

    # ---- the connection ------------------------------------------------------------------------------------------

    async def _keep_link(self) -> None:
        """A link keep (2FH) of each station: it tells the centre, and routers, that the line is in use."""
        while True:
            await asyncio.sleep(self._settings.link_keep_s)
            self._silent_keeps += self._settings.confirmed and bool(self._queues)
            if self._silent_keeps > _KEEPS_MISSED:
                self._end(f"no sign of the centre for {_KEEPS_MISSED} link keeps")
                return
            for station in self._settings.stations.values():
                self._write(self._frame(codes.LINK_KEEP, station, b""))

    def _write(self, frame: Frame) -> None:
        if not self._gone.done():
            self._wire.writer.write(sl651.encode(frame))

    def _end(self, why: str) -> None:
        if not self._gone.done():
            self._gone.set_result(why)

    async def lost(self) -> str:
        """Why the connection is over, when it is."""
        return await asyncio.shield(self._gone)

    def abort(self) -> None:
        """Forget what is on its way, and close."""
        self._end("closed by us")
        timers = [one.timer for queue in self._queues.values() for one in queue]
        for timer in (self._outliving, *timers):
            if timer is not None:
                timer.cancel()
        self._queues.clear()
        self._unacked.clear()
        for task in self._tasks:
            task.cancel()
        self._wire.writer.close()


class SlSender:
    """Makes sessions."""

    def __init__(
        self, settings: SlSettings, desk: Callable[[], SlDesk], store: Store, clock: Clock,
        open_wire: Callable[[str, int], Awaitable[Wire]] = open_tcp,
    ) -> None:  # fmt: skip
        self.counters = dict.fromkeys(
            ("repeated", "naks", "foreign_acks", "foreign_frames", "bad_frames", "dropped_questions"), 0
        )
        self._settings = settings
        self._desk = desk
        self._clock = clock
        self._open = open_wire
        self._serials = Serials(settings.name, store)

    async def connect(self, on_confirm: OnConfirm) -> SlSession:
        """Connect; raises NorthboundError."""
        if self._serials.is_low:  # not with each attempt: an outage of days would write all the time
            await self._serials.keep()
        wire = await self._open(self._settings.host, self._settings.port)
        return SlSession(
            wire, self._settings, self._desk(), self._serials, on_confirm, self._clock, self.counters
        )
