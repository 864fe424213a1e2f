"""Puts records into time that were taken before the gateway's own clock was synchronised.

    clock not synchronised: tq 3, time by the clock as it was, and boot_time: seconds on the machine's monotonic clock
    clock synchronised:     time = boot_time + (wall clock - monotonic clock), for all of them, and delivered once more

The monotonic clock begins with the machine and not with the daemon, so kill -9 in between loses nothing; the table
`meta` says which boot of the machine the records are of, and from which rows on. After a power cut nobody knows how
long it was: such records stay as they are. Whatever happens tq stays 3, as with nodes that did not know the time
(boots.py), whose records are placed anew here too: they were placed by the clock as it was.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.boots import Boots
from gateway.clock import TrustedClock
from gateway.errors import StoreError
from gateway.intervals import Intervals
from gateway.limits import RESTAMP_LOOK_S, RESTAMP_ROWS
from gateway.log import Logger
from gateway.records import OWN_EPOCHS
from gateway.store import Store
from protocols.wire.schemas import UNSYNCHRONISED

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_META = "unsynchronised"
# A second is what rounding makes of it.
_SAME_S = 1


class Northbound(Protocol):
    """What northbounds.Northbound offers."""

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        """These readings have other times: they were between the seconds `old`, and are between `new`."""


class _Since(NamedTuple):
    """From these rows on, records of that boot of the machine may have tq 3."""

    boot: str
    reading: int
    event: int


def boot_id() -> str:
    """Names this boot of the machine."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # no Linux, or no /proc: each daemon is then a boot of its own


def since_boot(clock: TrustedClock, at_ms: int, now_ms: int) -> int:
    """What `boot_time` of a record says that was taken at `at_ms` of the wall clock as it is now."""
    return max(0, int(clock.monotonic() - (now_ms - at_ms) / 1000))


class Restamp:
    """One per gateway; `begin` before the first part runs."""

    def __init__(
        self,
        store: Store,
        clock: TrustedClock,
        boots: Boots,
        log: Logger,
        northbounds: Callable[[], Iterable[Northbound]] = tuple,
        *,
        before: Callable[[], None] = lambda: None,
        boot: str | None = None,
    ) -> None:
        """`before` is called before records are placed: what is known of nodes' boots is brought to the clock."""
        self.counters = {"restamped": 0, "never_placed": 0}
        self.on_progress: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._boots = boots
        self._log = log
        self._northbounds = northbounds
        self._before = before
        self._boot = boot_id() if boot is None else boot
        self._since = store.read(_load)
        # Rows before these were taken by a clock that was in order when we looked.
        self._good = store.next_reading, store.next_event
        # A kill may have come between the times and those who deliver them.
        self._tell_all = self._since is not None

    async def begin(self) -> None:
        """Give up what an earlier boot of the machine left, and look."""
        since = self._since
        if since is not None and (since.boot != self._boot or not since.boot):
            ask = "SELECT count(*) FROM reading WHERE id >= ? AND tq = 3 AND boot_time IS NOT NULL"
            (count,) = self._store.read(lambda reader: reader.execute(ask, (since.reading,)).fetchone())
            self.counters["never_placed"] = count
            if count:
                self._log.warning(
                    "never_placed",
                    readings=count,
                    why="the machine was restarted before its clock was synchronised: times stay estimates (tq 3)",
                )
            await self._keep(None)
        await self.look()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            try:
                await self.look()
            except StoreError as error:  # a full disk: again at the next look
                self._log.warning("restamp_waits", error=str(error))
            self.on_progress()
            await asyncio.sleep(RESTAMP_LOOK_S)

    async def look(self) -> None:
        """Open a period without time, or end one."""
        if not self._clock.synchronised():
            if self._since is None:
                await self._keep(_Since(self._boot, *self._good))
            return
        if self._since is not None:
            await self._place(self._since)
            await self._keep(None)
        self._good = self._store.next_reading, self._store.next_event

    async def _keep(self, since: _Since | None) -> None:
        def write(connection: sqlite3.Connection) -> None:
            if since is None:
                connection.execute("DELETE FROM meta WHERE key = ?", (_META,))
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_META, json.dumps(list(since)))
                )

        await self._store.write(write)
        self._since = since

    # ---- the records ---------------------------------------------------------------------------------------------

    async def _place(self, since: _Since) -> None:
        self._before()
        await self._store.write(lambda connection: None)  # what waits is committed, with what tells its time
        upto = self._store.next_reading - 1, self._store.next_event - 1
        begun = self.counters["restamped"]
        for table, first, last in (("event", since.event, upto[1]), ("reading", since.reading, upto[0])):
            while first <= last:
                end = min(last, first + RESTAMP_ROWS - 1)
                await self._place_rows(table, first, end)
                first = end + 1
                since = since._replace(event=first) if table == "event" else since._replace(reading=first)
                await self._keep(since)
                self._tell_all = False
                self.on_progress()
        if count := self.counters["restamped"] - begun:
            self._log.info("restamped", records=count, now_ms=self._clock.unix_ms())

    async def _place_rows(self, table: str, first: int, last: int) -> None:
        rows = self._store.read(lambda reader: _unplaced(reader, table, first, last))
        ahead_ms = self._clock.unix_ms() - self._clock.monotonic() * 1000
        moved = []
        for row_id, node, number, time, boot_time in rows:
            if number >= OWN_EPOCHS:
                placed = int((boot_time * 1000 + 500 + ahead_ms) // 1000)
            else:
                placed = self._boots.placed(node, boot_time)
            if self._tell_all or abs(placed - time) > _SAME_S:
                moved.append((row_id, time, placed))
        if not moved:
            return
        changes = [(placed, row_id) for row_id, _, placed in moved]
        await self._store.write(
            lambda connection: connection.executemany(f"UPDATE {table} SET time = ? WHERE id = ?", changes)
        )
        self.counters["restamped"] += len(moved)
        if table == "reading":
            runs = Intervals()
            for row_id, _, _ in moved:
                runs.add(row_id, row_id)
            old = min(time for _, time, _ in moved), max(time for _, time, _ in moved)
            new = min(changes)[0], max(changes)[0]
            for northbound in self._northbounds():
                await northbound.restamped(runs, old, new)


def _load(reader: sqlite3.Connection) -> _Since | None:
    row = reader.execute("SELECT value FROM meta WHERE key = ?", (_META,)).fetchone()
    return None if row is None else _Since(*json.loads(row[0]))


def _unplaced(
    reader: sqlite3.Connection, table: str, first: int, last: int
) -> list[tuple[int, int, int, int, int]]:
    return reader.execute(
        f"SELECT r.id, e.node, e.number, r.time, r.boot_time FROM {table} r JOIN epoch e ON e.id = r.epoch"
        f" WHERE r.id BETWEEN ? AND ? AND r.tq = {UNSYNCHRONISED} AND r.boot_time IS NOT NULL ORDER BY r.id",
        (first, last),
    ).fetchall()
