"""Delivers rows of reports to one far side, at least once, whatever fails; the same for every regulator's protocol.

    store ──commit──▶ look: which rows does a reading belong to?    (rows due and cursor in one transaction)
                          │  a row goes `grace` after its end
    report_row ──due──▶ computed from the store ──▶ session ──confirmed──▶ report_row

A row is computed when it is sent, from what is in the store by then; the far side confirms it by its token, and then
the table says up to which reading it is confirmed. A reading that comes later makes it due again. `resent` is told of
a row that was confirmed before, that became due while no session was up, or whose first reading came after it should
have gone. Kinds of which only the newest is wanted (real-time data beside minute data) are `volatile`: what could not
go is dropped.

Fresh rows go first, then alarms among what is owed, then backlog, then what is late; a quarter of the window is kept
free for fresh ones, and a site whose rows are not confirmed holds no more than its share. Everything that is owed is in
the table: memory holds the rows in flight and those that the far side refused a moment ago.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway import report_rows
from gateway.batch import Batch
from gateway.clock import Clock
from gateway.errors import NorthboundError, StoreError
from gateway.intervals import Intervals
from gateway.limits import (
    RECONNECT_MAX_S,
    RECONNECT_MIN_S,
    REPORT_ROWS_MAX,
    REPORT_TIDY_S,
    REPORT_TIDY_SITES,
    ROW_AGAIN_S,
    ROW_CHUNK,
    ROW_IDLE_S,
    ROW_LOOK_S,
    ROW_REFUSED_MAX_S,
    ROW_REFUSED_S,
    ROWS_AHEAD,
    ROWS_BUSY_MAX,
    ROWS_PER_TURN,
    ROWS_REFUSED_MAX,
    ROWS_REWIND_S,
)
from gateway.northbound.row_books import Books
from gateway.records import Reading
from gateway.report_rows import Key, Mark, Row
from gateway.store import Store

log = logging.getLogger(__name__)
# A store that can not commit (a full disk) is asked again after this.
_RETRY_S = 1.0
_FOR_EVER_MS = 1 << 53
_COUNTED = (
    "delivered", "refused", "sessions", "attempts", "resent", "unplaced", "superseded", "given_up", "incomplete",
)  # fmt: skip


class Place(Protocol):
    @property
    def site(self) -> str: ...


class Report(Protocol):
    """What a kind of northbound makes of readings. Changes at run time (an interval) hold for readings from then on."""

    @property
    def sites(self) -> Collection[str]:
        """Those that are reported."""

    @property
    def volatile(self) -> Collection[str]:
        """Kinds of which only the newest row is wanted."""

    def marks(self, site: str, reading: Reading) -> Sequence[Mark]:
        """The rows that a reading of that site belongs to; its time is known."""

    def message(self, key: Key, end_ms: int, readings: Sequence[Reading]) -> bytes | None:
        """What the row says, without what differs from one sending to the next; None when it says nothing."""


# (token, whether the far side took it). A token that was confirmed before is ignored.
OnConfirm = Callable[[int, bool], None]


class Session(Protocol):
    """One connection."""

    window: int  # how many may be unconfirmed
    share: int  # how many of one site among owed ones; twice as many with what is fresh
    mute: bool  # it ended because nothing was confirmed any more

    def send(self, key: Key, message: bytes, *, resent: bool) -> int:
        """Send a row; a token by which it will be confirmed, unique among those in flight. Raises NorthboundError."""

    async def lost(self) -> str:
        """Wait until the connection is gone, or confirms nothing any more; says why."""

    def abort(self) -> None:
        """End the connection at once."""


class Sender(Protocol):
    async def connect(self, on_confirm: OnConfirm) -> Session:
        """A session that is ready to send, in bounded time. Raises NorthboundError."""


@dataclass(frozen=True, slots=True)
class _Sent:
    row: Row
    digest: bytes


class RowsRunner:
    """One northbound of rows. `run` is supervised by the daemon."""

    def __init__(
        self, name: str, store: Store, report: Report, sender: Sender, places: Callable[[int, int], Place],
        clock: Clock, rng: random.Random,
    ) -> None:  # fmt: skip
        self.name = name
        self.counters = dict.fromkeys(_COUNTED, 0)
        self._store = store
        self._report = report
        self._sender = sender
        self._places = places
        self._clock = clock
        self._rng = rng
        self._event_cursor, self._next_reading, _ = store.progress(name)
        self._session: Session | None = None
        self.why_not = ""  # connected: what the platform or the way to it said last
        self._began_ms = _FOR_EVER_MS
        self._in_flight: dict[int, _Sent] = {}
        self._under_way: Counter[str] = Counter()  # in flight, by site
        self._confirmed: list[_Sent] = []
        self._refused_until: dict[Key, float] = {}
        self._untidied: list[str] = []
        self._refusals: dict[Key, int] = {}
        self._delivered_at: dict[Key, int] = {}
        # In flight, or confirmed and not yet written: the table still has them as due.
        self._busy: dict[Key, bool] = {}
        self._ahead: deque[Row] = deque()
        self._idle_from_ms = [0, 0]  # rows due before then are busy: those in time, those that are late
        self._rewind_s = 0.0
        self._passed_over: set[str] = set()  # sites of which a row that was read ahead was left out
        self._committed = asyncio.Event()
        self._answered = asyncio.Event()
        self._due = asyncio.Event()
        self._books = Books(name, store, lambda: report.sites, lambda: self._next_reading, clock)
        store.on_commit.append(self._on_commit)

    # ---- the story -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at readings, deliver rows, note what arrived: three tasks that only share the table."""
        await self._withdraw()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            group.create_task(self._settle())
            group.create_task(self._tidy())
            group.create_task(self._books.run())
            group.create_task(self._deliver())

    async def _deliver(self) -> None:
        """Connect, deliver until the session ends, and again, for ever."""
        pause_s = RECONNECT_MIN_S
        told = ""
        while True:
            delivered = self.counters["delivered"]
            try:
                why = await self._one_session()
            except (NorthboundError, StoreError) as error:
                why = str(error)
            if self.counters["delivered"] > delivered:
                pause_s, told = RECONNECT_MIN_S, ""
            self.why_not = why
            if why != told:  # an outage is one line in the log, not one a second
                told = why
                log.warning("%s: %s; trying again until it works", self.name, why)
            await asyncio.sleep(pause_s * (0.5 + 0.5 * self._rng.random()))
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _one_session(self) -> str:
        """Why it ended."""
        session = await self._sender.connect(self._on_confirm)
        try:
            self.counters["sessions"] += 1
            self._began_ms = self._clock.unix_ms()
            await self._store.write(self._drop_superseded)
            self._session = session
            log.debug("%s: connected, %d rows are due", self.name, self.status()["backlog"])
            return await self._watch(session)
        finally:
            session.abort()
            self._end(mute=session.mute)

    async def _watch(self, session: Session) -> str:
        lost = asyncio.ensure_future(session.lost())
        waiting = asyncio.ensure_future(self._due.wait())
        try:
            while True:
                self._due.clear()
                if self._pump(session):
                    self._due.set()
                done, _ = await asyncio.wait(
                    {lost, waiting}, timeout=self._idle_s(), return_when=asyncio.FIRST_COMPLETED
                )
                if lost in done:
                    return lost.result()
                if waiting in done:
                    waiting = asyncio.ensure_future(self._due.wait())
        finally:
            lost.cancel()
            waiting.cancel()

    def _idle_s(self) -> float:
        """Until the next row is due. One that is due already waits for room, which is told by an event."""
        now_ms = self._clock.unix_ms()
        next_ms = self._store.read(lambda connection: report_rows.next_due_ms(connection, self.name, now_ms))
        return ROW_IDLE_S if next_ms is None else min(ROW_IDLE_S, (next_ms - now_ms + 1) / 1000)

    def _end(self, *, mute: bool) -> None:
        """What was not confirmed is still due in the table."""
        self._session = None
        self._ahead.clear()
        self._began_ms = _FOR_EVER_MS
        for sent in self._in_flight.values():
            self._busy.pop(sent.row.key, None)
            if mute:
                self._unheard(sent.row.key)
        self._in_flight.clear()
        self._under_way.clear()
        self._rewind()

    # ---- what comes in -------------------------------------------------------------------------------------------

    def _on_commit(self, batch: Batch) -> None:
        if batch.readings:
            self._committed.set()

    async def _look(self) -> None:
        """Make rows due for what was committed since the cursor."""
        while True:
            self._committed.clear()
            while self._next_reading <= self._store.last_reading:
                try:
                    await self._look_at(self._store.last_reading)
                except StoreError as error:
                    log.warning("%s: %s", self.name, error)
                    await asyncio.sleep(_RETRY_S)
            await self._committed.wait()
            await asyncio.sleep(ROW_LOOK_S)

    async def _look_at(self, last: int) -> None:
        readings = self._store.readings(self._next_reading, last, ROW_CHUNK)
        following = readings[-1].id + 1 if len(readings) == ROW_CHUNK else last + 1
        index, wanted = self._rows_of(readings)
        now_ms = self._clock.unix_ms()
        events = self._store.last_event  # none of ours: what is reported are readings
        write = functools.partial(
            report_rows.mark, northbound=self.name, marks=wanted, index=index, now_ms=now_ms,
            cursor=(events, following),
        )  # fmt: skip
        await self._store.write(write)
        self._next_reading, self._event_cursor = following, events
        self._ahead.clear()
        self._due.set()

    def _rows_of(self, readings: Sequence[Reading]) -> tuple[list[tuple[str, int, int]], dict[Mark, int]]:
        """Which readings are of our sites, and the rows that they make due."""
        marks: dict[Mark, int] = {}
        index = []
        for reading in readings:
            site = self._places(reading.ledger.node, reading.received_ms).site
            if site not in self._report.sites:
                continue
            if reading.time < 0:  # nobody knows when it was
                self.counters["unplaced"] += 1
                continue
            index.append((site, reading.time, reading.id))
            marks.update(dict.fromkeys(self._report.marks(site, reading), reading.id))
        now_ms = self._clock.unix_ms()
        volatile = self._report.volatile
        wanted = {
            mark: newest for mark, newest in marks.items()
            if mark.key.kind not in volatile or now_ms <= mark.end_ms + mark.grace_ms
        }  # fmt: skip
        return index, wanted

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        """These readings have other times: the rows they were in and those they are in now are computed again."""
        moved = [
            reading for first, last in rows for reading in self._store.readings(first, last, last - first + 1)
            if reading.id < self._next_reading
        ]  # fmt: skip
        if not moved:
            return
        index, wanted = self._rows_of(moved)

        def write(connection: sqlite3.Connection) -> None:
            for times in (old, new):
                report_rows.unmark(
                    connection, self.name, self._report.sites, moved[0].id, moved[-1].id, times
                )
            report_rows.mark_rows(connection, self.name, wanted, self._clock.unix_ms())
            connection.executemany("INSERT OR IGNORE INTO report_index VALUES (?, ?, ?)", index)

        await self._store.write(write)
        self._ahead.clear()
        self._due.set()

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _pump(self, session: Session) -> bool:
        """Fill the window, some rows a turn; whether there may be more to send at once."""
        now_ms = self._clock.unix_ms()
        now_s = self._clock.monotonic()
        for key in [key for key, until_s in self._refused_until.items() if until_s <= now_s]:
            del self._refused_until[key]
        try:
            rows = self._next_rows(session, now_ms)
            for row in rows:
                if (
                    self._under_way[row.key.site] < 2 * session.share
                ):  # else another of these has taken its place
                    self._send(session, row)
        except NorthboundError as error:
            log.warning("%s: %s", self.name, error)
            session.abort()
            return False
        return len(rows) == ROWS_PER_TURN

    def _next_rows(self, session: Session, now_ms: int) -> list[Row]:
        """Fresh rows as far as the window goes, others as far as three quarters of it."""
        window = session.window
        busy_max = window + ROWS_BUSY_MAX
        room = min(window - len(self._in_flight), ROWS_PER_TURN, busy_max - len(self._busy))
        fresh = functools.partial(
            report_rows.due, northbound=self.name, late=False, since_ms=self._began_ms, until_ms=now_ms
        )
        found = self._free_rows(fresh, room, self._full(2 * session.share))
        room = min(room, window - window // 4 - len(self._in_flight))
        return found + self._backlog_rows(
            room - len(found), now_ms, {row.key for row in found}, session.share
        )

    def _full(self, share: int) -> set[str]:
        """Sites that have so many under way. They are asked for none: theirs may be the oldest, and without end."""
        return {site for site, number in self._under_way.items() if number >= share}

    def _backlog_rows(self, room: int, now_ms: int, taken: Collection[Key], share: int) -> list[Row]:
        """Of those that were read ahead. A reading that has come for such a row since makes it due again when it is
        confirmed."""
        full = self._full(share)
        found = self._from_ahead(room, taken, full)
        if len(found) < room:
            self._read_ahead(now_ms, full)
            found += self._from_ahead(room - len(found), {*taken, *(row.key for row in found)}, full)
        return found

    def _from_ahead(self, room: int, taken: Collection[Key], full: Collection[str]) -> list[Row]:
        found: list[Row] = []
        while self._ahead and len(found) < room:
            row = self._ahead.popleft()
            if row.key.site in full:
                self._passed_over.add(row.key.site)  # its later rows too: it keeps its order
            elif row.key.site not in self._passed_over and row.key not in taken and self._is_free(row):
                found.append(row)
        return found

    def _read_ahead(self, now_ms: int, full: Collection[str]) -> None:
        """Alarms, what is owed from before, or what is late: what there is first."""
        self._passed_over.clear()
        alarms = functools.partial(report_rows.due_alarms, northbound=self.name, until_ms=now_ms)
        self._ahead.extend(self._free_rows(alarms, ROWS_AHEAD, full))
        for late, until_ms in ((False, min(self._began_ms, now_ms)), (True, now_ms)):
            if not self._ahead:
                self._ahead.extend(self._owed_rows(late, until_ms, full))

    def _owed_rows(self, late: bool, until_ms: int, full: Collection[str]) -> list[Row]:
        """The next ones, behind those that are busy: of these there may be tens of thousands."""
        if self._clock.monotonic() >= self._rewind_s:  # what has become due before them since
            self._rewind()
        limit = ROWS_AHEAD
        while True:
            ask = functools.partial(
                report_rows.due, northbound=self.name, late=late, since_ms=self._idle_from_ms[late],
                until_ms=until_ms, limit=limit, without=full,
            )  # fmt: skip
            rows = self._store.read(ask)
            if rows and not full:  # else rows that were left out may lie before it
                idle = next((row for row in rows if row.key not in self._busy), rows[-1])
                self._idle_from_ms[late] = idle.due_ms
            free = [row for row in rows if self._is_free(row)]
            if free or len(rows) < limit:
                return free
            limit *= 2

    def _rewind(self) -> None:
        self._idle_from_ms = [0, 0]
        self._rewind_s = self._clock.monotonic() + ROWS_REWIND_S

    def _free_rows(self, ask: Callable[..., list[Row]], room: int, full: Collection[str]) -> list[Row]:
        """Rows that are due and neither in flight nor just refused, of sites that have room."""
        if room <= 0:
            return []
        limit = room + len(self._busy) + len(self._refused_until)
        rows = self._store.read(functools.partial(ask, limit=limit, without=full))
        return [row for row in rows if self._is_free(row)][:room]

    def _is_free(self, row: Row) -> bool:
        return row.key not in self._busy and row.key not in self._refused_until

    def _send(self, session: Session, row: Row) -> None:
        if row.sent and self._is_incomplete(row):  # better what was told before than the mean of a part
            self.counters["incomplete"] += 1
            self._busy[row.key] = True
            self._note(_Sent(row, row.digest))
            return
        message = self._report.message(row.key, row.end_ms, self.readings(row.key, row.end_ms, row.newest))
        digest = b"" if message is None else hashlib.blake2b(message, digest_size=8).digest()
        sent = _Sent(row, digest)
        self._busy[row.key] = True
        if message is None or (row.sent and digest == row.digest):  # nothing (new) to say
            self._note(sent)
            return
        resent = row.late or row.sent > 0 or row.due_ms < self._began_ms
        self.counters["resent"] += resent
        self.counters["attempts"] += 1
        try:
            self._in_flight[session.send(row.key, message, resent=resent)] = sent
            self._under_way[row.key.site] += 1
        except NorthboundError:
            del self._busy[row.key]
            self._rewind()
            raise

    def _is_incomplete(self, row: Row) -> bool:
        """Whether readings of its period have left the store since."""
        ask = functools.partial(
            report_rows.gone, site=row.key.site, start_ms=row.key.start_ms, end_ms=row.end_ms,
            upto=row.newest,
        )  # fmt: skip
        return self._store.read(ask) > 0

    def readings(self, key: Key, end_ms: int, upto: int | None = None) -> list[Reading]:
        """What the store has for a row up to a reading, or up to the last one that was looked at."""
        ask = functools.partial(
            report_rows.readings, known=self._store.epochs, site=key.site, start_ms=key.start_ms, end_ms=end_ms,
            upto=self._next_reading - 1 if upto is None else upto,
        )  # fmt: skip
        return self._store.read(ask)

    # ---- what comes back -----------------------------------------------------------------------------------------

    def _on_confirm(self, token: int, taken: bool) -> None:
        sent = self._in_flight.pop(token, None)
        if sent is None:
            return
        self._under_way[sent.row.key.site] -= 1
        if taken:
            self.counters["delivered"] += 1
            self._refusals.pop(sent.row.key, None)
            self._delivered_at.pop(sent.row.key, None)
            self._note(sent)
        else:
            self._refuse(sent.row.key)
        self._due.set()  # there is room

    def _refuse(self, key: Key) -> None:
        """Still due, and offered again after a pause; the others go on."""
        self.counters["refused"] += 1
        self._busy.pop(key, None)
        self._rewind()
        self._pause(key)
        if len(self._refused_until) > ROWS_REFUSED_MAX and self._session is not None:
            log.warning("%s: %d rows were refused", self.name, len(self._refused_until))
            self._session.abort()

    def _unheard(self, key: Key) -> None:
        """A session ended over it. When others were confirmed since that began, it is this row and not the far side."""
        if self._delivered_at.setdefault(key, self.counters["delivered"]) < self.counters["delivered"]:
            self._pause(key)

    def _pause(self, key: Key) -> None:
        """Each time longer: such a row costs a time-out, or even the session."""
        if len(self._refusals) > ROWS_REFUSED_MAX:
            self._refusals.clear()
            self._delivered_at.clear()
        times = self._refusals[key] = self._refusals.get(key, 0) + 1
        pause_s = min(ROW_REFUSED_S * 2 ** (times - 1), ROW_REFUSED_MAX_S)
        self._refused_until[key] = self._clock.monotonic() + pause_s

    def _note(self, sent: _Sent) -> None:
        self._confirmed.append(sent)
        self._answered.set()

    async def _settle(self) -> None:
        """Write what arrived. A kill before that sends it once more, with the mark."""
        while True:
            await self._answered.wait()
            self._answered.clear()
            batch = list(self._confirmed)
            try:
                await self._store.write(functools.partial(self._write_confirmed, batch=batch))
            except StoreError as error:
                log.warning("%s: %s", self.name, error)
                self._answered.set()
                await asyncio.sleep(_RETRY_S)
                continue
            del self._confirmed[: len(batch)]
            for sent in batch:
                self._busy.pop(sent.row.key, None)
            done = {sent.row.key for sent in batch}
            self._ahead = deque(row for row in self._ahead if row.key not in done)
            self._due.set()

    def _write_confirmed(self, connection: sqlite3.Connection, batch: list[_Sent]) -> None:
        rows = [(sent.row.key, sent.row.newest, sent.digest, int(bool(sent.digest))) for sent in batch]
        report_rows.confirm(connection, self.name, rows, self._clock.unix_ms(), int(ROW_AGAIN_S * 1000))

    # ---- housekeeping --------------------------------------------------------------------------------------------

    async def _withdraw(self) -> None:
        """Rows of sites that the configuration names no longer wait until it does again."""
        follow = functools.partial(report_rows.follow, northbound=self.name, sites=self._report.sites)
        for told, rows in (await self._store.write(follow)).items():
            if rows:
                log.warning("%s: %d rows of sites that are reported %s", self.name, rows, told)

    async def _tidy(self) -> None:
        while True:
            try:
                await self._store.write(self._tidy_now)
                for site in self._sites_to_tidy():  # a commit for each: nobody waits for all of them
                    await self._store.write(functools.partial(self._tidy_site, site=site))
            except StoreError as error:
                log.warning("%s: %s", self.name, error)
            await asyncio.sleep(REPORT_TIDY_S)

    def _tidy_now(self, connection: sqlite3.Connection) -> None:
        self._drop_superseded(connection)
        beyond = self._books.count(self._clock.unix_ms()) - REPORT_ROWS_MAX  # as of the last look
        if beyond > 0:
            gone = report_rows.give_up(connection, self.name, self._report.sites, beyond)
            self.counters["given_up"] += self._books.gone(gone)

    def _sites_to_tidy(self) -> list[str]:
        """Some each time: their confirmed rows are looked through."""
        if not self._untidied:
            aside = self._store.read(functools.partial(report_rows.sites_aside, northbound=self.name))
            self._untidied = sorted({*self._report.sites, *aside})
        return [self._untidied.pop() for _ in range(min(REPORT_TIDY_SITES, len(self._untidied)))]

    def _tidy_site(self, connection: sqlite3.Connection, site: str) -> None:
        report_rows.tidy(connection, self.name, [site], self._clock.unix_ms())

    def _drop_superseded(self, connection: sqlite3.Connection) -> None:
        before_ms = min(self._began_ms, self._clock.unix_ms())
        for kind in self._report.volatile:
            gone = report_rows.supersede(connection, self.name, self._report.sites, kind, before_ms)
            self.counters["superseded"] += gone

    def close(self) -> None:
        """`run` has ended for good: hear of no further commit."""
        self._store.on_commit.remove(self._on_commit)

    # ---- for who makes room in the store --------------------------------------------------------------------------

    def held(self) -> tuple[int, int, Intervals, int, bool]:
        """What must stay in the store, as Held has it: readings that rows due are made of, as far as is known."""
        held_to, owed, known = self._books.held()
        return self._event_cursor, held_to, owed, 0, known

    # ---- for people ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """How the delivery is doing, in rows."""
        now_ms = self._clock.unix_ms()
        read = self._store.read
        return {
            **self.counters,
            "connected": self._session is not None,
            "backlog": self._books.count(now_ms),
            "in_flight": len(self._in_flight),
            "event_cursor": self._event_cursor,
            "oldest_undelivered_ms": read(
                lambda connection: report_rows.oldest_ms(connection, self.name, now_ms)
            ),
        }
