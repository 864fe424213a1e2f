"""What leaves the database again, and in which order: nothing undelivered goes while there is room.

    delivered readings older than keep_days        so that the file does not grow for ever
    and when the database holds max_mib, until it is below:
      1 delivered readings     oldest first
      2 delivered events       but for those that say how a node is now
      3 undelivered backlog    of a node that had been away
      4 undelivered readings
      5 undelivered events     when nothing else is left

Each step is a job of a few milliseconds in a group commit of the store (its statements run on the loop); the rows, and
what the books say of them, change in one transaction. `retired` counts what was delivered before it went, by northbound
and epoch; `evicted` lists what was not, seq by seq: audit.py balances with both. The pages that become free are used
again, and given back to the disk a few at a time when they are many.

The newest row of each table stays, for the next id follows from it, and so do rows that no ledger holds yet (store.py).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from gateway.clock import TrustedClock
from gateway.config_store import StoreSection
from gateway.held import NOTHING, Held
from gateway.intervals import Intervals
from gateway.limits import (
    RETENTION_PERIOD_S,
    RETENTION_ROWS,
    RETENTION_SCAN_ROWS,
    RETENTION_STEP_PAUSE_S,
    VACUUM_KEEP_BYTES,
    VACUUM_PAGES,
)
from gateway.records import KIND_EVENT
from gateway.schema import ALL
from gateway.store import Store
from protocols.wire import codes

log = logging.getLogger(__name__)

PAGE_BYTES = 4096
DAY_MS = 86_400_000
# Events that say how a node is now: silence.py and marks.py read them back.
_MARKS = f"code IN ({codes.IN_MAINTENANCE}, {codes.CALIBRATED})"
_STATE = f"(kind = {KIND_EVENT} AND (code < {codes.URGENT_CODES} OR {_MARKS}))"
_COUNT = """INSERT INTO retired (northbound, epoch, records, highest) VALUES (?, ?, ?, ?)
    ON CONFLICT (northbound, epoch) DO UPDATE
    SET records = records + excluded.records, highest = max(highest, excluded.highest)"""
_JOIN = "UPDATE evicted SET last = ? WHERE northbound = ? AND epoch = ? AND last = ? AND first <= last"
_LIST = "INSERT OR REPLACE INTO evicted (northbound, epoch, first, last, at_ms) VALUES (?, ?, ?, ?, ?)"


_Row = tuple[int, int, int]  # id, epoch, seq


class Retention:
    """Keeps one store within its bounds. `run` is a part of the daemon."""

    def __init__(
        self,
        store: Store,
        clock: TrustedClock,
        settings: StoreSection,
        holders: Callable[[], Mapping[str, Held]],
    ) -> None:
        self.counters = {"retired": 0, "evicted": 0, "vacuumed_pages": 0}
        self.longest_ms = 0.0
        self.is_short_of_space: Callable[[], bool] = lambda: False
        self.on_evicted: Callable[[Intervals], None] = lambda runs: None
        self.on_progress: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._settings = settings
        self._holders = holders
        self._looked_for_backlog_to = 0

    async def run(self) -> None:
        """For ever: a step at a time while there is something to do."""
        while True:
            self.on_progress()
            worked = self._store.failing is None and await self.step()
            await asyncio.sleep(RETENTION_STEP_PAUSE_S if worked else RETENTION_PERIOD_S)

    def used_bytes(self) -> int:
        """Pages in use, whatever the file's size."""
        pages, free = self._store.read(_pages)
        return (pages - free) * PAGE_BYTES

    def free_bytes_inside(self) -> int:
        """Pages that are not in use: room, on a disk that has none."""
        return self._store.read(_pages)[1] * PAGE_BYTES

    def first_reading(self) -> int:
        """The id of the oldest one there is, or of the next."""
        (first,) = self._store.read(lambda db: db.execute("SELECT min(id) FROM reading").fetchone())
        return self._store.next_reading if first is None else int(first)

    def records(self) -> int:
        """About how many there are."""
        (first,) = self._store.read(lambda db: db.execute("SELECT min(id) FROM event").fetchone())
        events = 0 if first is None else self._store.next_event - int(first)
        return self._store.next_reading - self.first_reading() + events

    async def step(self) -> bool:
        """One short piece of work; whether there was any."""
        over = self.used_bytes() > self._settings.max_mib * (1 << 20)
        holders = dict(self._holders()) or {"": NOTHING}
        if not all(held.known for held in holders.values()):
            return False
        if over or self.is_short_of_space():
            rows, table = self._delivered("reading", holders, None), "reading"
            if not rows:
                rows, table = self._delivered("event", holders, None), "event"
            if not rows and over:
                rows, table = self._undelivered()
            if rows:
                await self._store.write(lambda writer: self._remove(writer, table, rows, holders))
                return True
            self._store.want_sweep = True
            return False
        if self._clock.synchronised():
            days = max(self._settings.keep_days, *(held.keep_days for held in holders.values()))
            before_ms = self._clock.unix_ms() - days * DAY_MS
            rows = self._delivered("reading", holders, before_ms)
            if rows:
                await self._store.write(lambda writer: self._remove(writer, "reading", rows, holders))
                return True
        return await self._vacuum()

    # ---- choosing ------------------------------------------------------------------------------------------------

    def _bound(self, table: str) -> int:
        """Rows up to here may go."""
        newest = self._store.last_reading if table == "reading" else self._store.last_event
        return min(newest - 1, self._store.swept_to[table == "event"])

    def _delivered(self, table: str, holders: Mapping[str, Held], before_ms: int | None) -> list[_Row]:
        """The oldest rows that everybody has had; with `before_ms`, only such as were received before that."""
        last = self._bound(table)
        if table == "event":
            last = min(last, *(held.event_cursor for held in holders.values()))
            query = f"SELECT id, epoch, seq FROM event WHERE id <= ? AND NOT {_STATE} ORDER BY id LIMIT ?"
            return self._rows(query, last, RETENTION_ROWS)
        owed = Intervals()
        for held in holders.values():
            for run in held.owed:
                owed.add(*run)
            last = min(last, held.next_reading - 1)
        first = self._store.read(_first_reading)
        for start, end in owed.missing(first, last) if first else ():
            rows = self._store.read(_readings_between(start, end))
            found = rows if before_ms is None else list(takewhile(lambda row: row[3] < before_ms, rows))
            if found or before_ms is not None:
                return [row[:3] for row in found]
        return []

    def _undelivered(self) -> tuple[list[_Row], str]:
        """What goes first of that which somebody still owes: backlog, then readings, then events."""
        last = self._bound("reading")
        query = (
            "SELECT id, epoch, seq FROM reading WHERE id > ? AND id <= ? AND backlog = 1 ORDER BY id LIMIT ?"
        )
        while self._looked_for_backlog_to < last:
            # A scan that finds nothing shall be no stall either.
            scan_to = min(last, self._looked_for_backlog_to + RETENTION_SCAN_ROWS)
            rows = self._rows(query, self._looked_for_backlog_to, scan_to, RETENTION_ROWS)
            if rows:
                self._looked_for_backlog_to = rows[-1][0]
                return rows, "reading"
            self._looked_for_backlog_to = scan_to
        rows = self._rows(
            "SELECT id, epoch, seq FROM reading WHERE id <= ? ORDER BY id LIMIT ?", last, RETENTION_ROWS
        )
        if rows:
            return rows, "reading"
        query = f"SELECT id, epoch, seq FROM event WHERE id <= ? AND NOT {_STATE} ORDER BY id LIMIT ?"
        return self._rows(query, self._bound("event"), RETENTION_ROWS), "event"

    def _rows(self, query: str, *values: int) -> list[_Row]:
        return self._store.read(lambda reader: reader.execute(query, values).fetchall())

    # ---- removing ------------------------------------------------------------------------------------------------

    def _remove(
        self, writer: sqlite3.Connection, table: str, rows: Sequence[_Row], holders: Mapping[str, Held]
    ) -> None:
        """Delete, and write into the books what that meant for each northbound."""
        began_s = time.perf_counter()
        writer.executemany(f"DELETE FROM {table} WHERE id = ?", [row[:1] for row in rows])
        _count(writer, ALL, rows)
        was_owed = Intervals()
        for name, held in holders.items():
            owed = [row for row in rows if held.owes(table, row[0])]
            _count(writer, name, [row for row in rows if not held.owes(table, row[0])])
            _list(writer, name, owed, self._clock.unix_ms())
            for row_id, _, _ in owed if table == "reading" else ():
                was_owed.add(row_id, row_id)
            self.counters["evicted"] += len(owed)
        self.counters["retired"] += len(rows)
        if was_owed:
            self.on_evicted(was_owed)
        self._took(began_s)

    async def _vacuum(self) -> bool:
        """Give pages back to the disk when many are free. A database made without that ability keeps them for later."""
        pages, free = self._store.read(_pages)
        if free * PAGE_BYTES <= max(VACUUM_KEEP_BYTES, pages * PAGE_BYTES // 8):
            return False
        if self._store.read(lambda reader: reader.execute("PRAGMA auto_vacuum").fetchone())[0] != 2:
            return False

        def work(writer: sqlite3.Connection) -> None:
            began_s = time.perf_counter()
            writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            self._took(began_s)

        await self._store.write(work)
        self.counters["vacuumed_pages"] += VACUUM_PAGES
        return True

    def _took(self, began_s: float) -> None:
        self.longest_ms = max(self.longest_ms, (time.perf_counter() - began_s) * 1000)


def _pages(reader: sqlite3.Connection) -> tuple[int, int]:
    (pages,) = reader.execute("PRAGMA page_count").fetchone()
    (free,) = reader.execute("PRAGMA freelist_count").fetchone()
    return pages, free


def _readings_between(
    first: int, last: int
) -> Callable[[sqlite3.Connection], list[tuple[int, int, int, int]]]:
    query = "SELECT id, epoch, seq, received_ms FROM reading WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
    return lambda reader: reader.execute(query, (first, last, RETENTION_ROWS)).fetchall()


def _first_reading(reader: sqlite3.Connection) -> int:
    (first,) = reader.execute("SELECT coalesce(min(id), 0) FROM reading").fetchone()
    return int(first)


def _count(writer: sqlite3.Connection, name: str, rows: Sequence[_Row]) -> None:
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for _, epoch, seq in rows:
        count = counts[epoch]
        count[0] += 1
        count[1] = max(count[1], seq)
    writer.executemany(_COUNT, [(name, epoch, *count) for epoch, count in counts.items()])


def _list(writer: sqlite3.Connection, name: str, rows: Sequence[_Row], at_ms: int) -> None:
    runs: dict[int, Intervals] = defaultdict(Intervals)
    for _, epoch, seq in rows:
        runs[epoch].add(seq, seq)
    for epoch, seqs in runs.items():
        for first, last in seqs:
            if writer.execute(_JOIN, (last, name, epoch, first - 1)).rowcount == 0:
                writer.execute(_LIST, (name, epoch, first, last, at_ms))
