"""The store: the only place where southbound and northbound meet, and the only one that may say "it is safe now".

Frames are gathered into a batch and committed together: one transaction, one sync. Nothing is acknowledged, published
or answered from a batch before its COMMIT returned; when it fails, the batch is forgotten as a whole and the nodes send
again.

    ingest → batch (in memory) → [statements, on the loop] → [COMMIT, in the executor] → on_commit(batch)

Why the statements run on the event loop and only the COMMIT, which waits for the disk, in a thread: Python's sqlite3
gives up the interpreter lock at each step of a statement, and a busy loop takes it for up to 5 ms each time; 100 rows
inserted by a thread beside a busy loop took 180 ms, and 0.4 ms on the loop itself.

Prior art: group commit as in every database since 1985; the ledgers' lazy durable form is a checkpoint plus redo log,
where the redo log is the rows themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gateway import disk, incarnation, recovery, schema, statements
from gateway.batch import Batch
from gateway.clock import Clock
from gateway.epoch import Epoch
from gateway.errors import DiskError, StoreError
from gateway.intervals import Intervals
from gateway.ledger import Ledger
from gateway.limits import SWEEP_EPOCHS_PER_COMMIT, SWEEP_ROWS
from gateway.records import Event, Reading
from gateway.store_settings import StoreSettings

__all__ = ["Store", "StoreSettings"]

T = TypeVar("T")
log = logging.getLogger(__name__)

# A commit that failed (a full disk, mostly) is tried again after this, whether or not frames come.
_RETRY_MS = 1000

_GET_PAGE = "SELECT prints FROM seen WHERE epoch = ? AND page = ?"


class Store:
    """One database. Made by `open`; used on one event loop."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        clock: Clock,
        settings: StoreSettings,
        executor: Executor | None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.settings = settings
        self.restored = False
        self.notes: list[str] = []
        self.failing: str | None = None
        self.failing_code = 0  # SQLite's, while `failing`
        self.takes_readings = True  # not while the disk is full (space.py)
        self.want_sweep = False
        self.corrupt = False
        self.counters = dict.fromkeys(
            ("commits", "commit_failures", "readings", "events", "copies", "conflicts", "lost", "sweeps"), 0
        )
        self.batch = Batch()
        self.epochs: dict[int, Epoch] = {}
        self.next_reading = 1
        self.next_event = 1
        self.last_reading = 0
        self.last_event = 0  # committed; an id may be skipped when a commit fails
        # Called on the loop after each commit, in this order; the first one sends the acks.
        self.on_commit: list[Callable[[Batch], None]] = []
        self.on_corrupt: Callable[[], None] = lambda: None
        # Called after a commit that failed: nothing of the batch happened.
        self.on_undo: list[Callable[[Batch], None]] = []
        self._connection = connection
        self._reader = schema.connect_reader(str(path), cache_kib=settings.cache_kib // 2)
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._owns_executor = executor is None
        self._next_epoch = 1
        self._in_flight: tuple[Batch, Future[Any]] | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._progress: dict[str, tuple[int, int, bytes]] = {}
        self._dirty: dict[int, Epoch] = {}
        self._sweep: list[Epoch] = []
        self._sweep_from = (0, 0)
        self._swept_to = (0, 0)
        self._marks: tuple[int, int] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        extra_schema: Sequence[str] = (),
        settings: StoreSettings | None = None,
        executor: Executor | None = None,
    ) -> Store:
        """Open or make the database, set a corrupt one aside, and bring the ledgers up to the last commit."""
        settings = settings or StoreSettings()
        for may_try_again in (True, False):
            opened = recovery.open_database(
                path, clock, extra_schema, settings.wal_mib * 256, settings.cache_kib
            )
            store = cls(opened.connection, path, clock, settings, executor)
            store.notes, store.restored = opened.notes, opened.restored
            try:
                incarnation.begin(opened.connection, path, random_bytes(16).hex())
                store._load()
                return store
            except sqlite3.DatabaseError as error:
                store.notice(error)  # then the next try salvages it
                store._let_go()
                if not (store.corrupt and may_try_again):
                    raise recovery.refused(path, error) from error
            except OSError as error:
                store._let_go()
                if disk.is_passing(error):
                    raise DiskError(f"{path}: {error.strerror}") from error
                raise
        raise AssertionError("unreachable")

    # ---- writing: what ingest and everybody else puts into the next transaction ----------------------------------

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside the next group commit; its result, once that is on the disk.

        `work` runs on the loop in a savepoint of its own: when it raises, only its own changes are undone.
        """
        if self._closed:
            raise StoreError("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.batch.jobs.append((work, future))
        self.schedule()
        return await future

    def schedule(self) -> None:
        """Something was put into the batch: see that it is committed soon."""
        if self._in_flight is not None:
            return  # what has come meanwhile goes when that one is done
        if self.batch.frames() < self.settings.batch_frames:
            self._arm(self.settings.linger_ms)
        elif self.failing is None:
            self._commit()
        else:  # what is kept for another try must not be tried with each set that comes
            self._arm(_RETRY_MS)

    def probe(self) -> None:
        """Commits fail: try one, though nothing waits, so that a disk which works again is known to."""
        if self.failing is not None and self._in_flight is None:
            self._arm(0)

    def save_progress(self, northbound: str, event_cursor: int, next_reading: int, owed: bytes) -> None:
        """How far a northbound has delivered: travels with the next commit, or alone when none comes."""
        self._progress[northbound] = (event_cursor, next_reading, owed)
        if self._in_flight is None:
            self._arm(self.settings.progress_linger_ms)

    def notice(self, error: BaseException) -> None:
        """When it is damage of the database: this store has no future, and the next start salvages what it can."""
        if not self.corrupt and recovery.is_corruption(error):
            self.corrupt = True
            log.error("the database is damaged: %s; it will be set aside and salvaged", error)
            recovery.suspect(self.path, str(error))
            self.on_corrupt()

    @property
    def swept_to(self) -> tuple[int, int]:
        """Readings and events up to these ids are in the durable ledgers: a start reads them no more."""
        return self._swept_to

    def depth(self) -> int:
        """Frames and sets taken in and not committed."""
        return self.batch.frames() + (self.settings.batch_frames if self._in_flight is not None else 0)

    def add_epoch(
        self, node: int, number: int, id_context: bytes | None, previous: int | None, first_seq: int
    ) -> Epoch:
        """A new epoch, durable with the next commit, which the caller schedules; `on_undo` tells when that failed."""
        row_id = self._next_epoch
        self._next_epoch += 1
        ledger = Ledger(row_id, node, number, first_seq, self._page_loader(row_id))
        epoch = Epoch(ledger, id_context, previous, self.clock.unix_ms())
        epoch.upto_reading = self.next_reading - 1
        epoch.upto_event = self.next_event - 1
        self.epochs[row_id] = epoch
        self.batch.new_epochs.append(epoch)
        return epoch

    # ---- reading -------------------------------------------------------------------------------------------------

    @recovery.noticed
    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a read-only connection, at once: for short reads of what is committed."""
        return work(self._reader)

    @recovery.noticed
    def progress(self, northbound: str) -> tuple[int, int, Intervals]:
        """(event cursor, next reading, what is owed below it); a northbound we do not know is owed everything."""
        row = self._reader.execute(
            "SELECT event_cursor, next_reading, owed FROM progress WHERE northbound = ?", (northbound,)
        ).fetchone()
        if row is None:
            return 0, 1, Intervals()
        return row[0], row[1], Intervals.unpack(row[2])

    @recovery.noticed
    def readings(self, first: int, last: int, limit: int) -> list[Reading]:
        """Committed readings with first <= id <= last, in order."""
        return recovery.load_readings(self._reader, self.epochs, first, last, limit)

    @recovery.noticed
    def events(self, after: int, limit: int) -> list[Event]:
        """Committed events and results with id > after, in order."""
        return recovery.load_events(self._reader, self.epochs, after, limit)

    @recovery.noticed
    def count_events(self, after: int) -> int:
        """How many committed events have id > after."""
        if after >= self.last_event:
            return 0
        (count,) = self._reader.execute("SELECT count(*) FROM event WHERE id > ?", (after,)).fetchone()
        return int(count)

    @recovery.noticed
    def oldest_received_ms(self, reading: int | None, after_event: int) -> int | None:
        """When the first of these was received: readings from that id on, events after that id."""
        queries = []
        if reading is not None:
            queries.append(("SELECT received_ms FROM reading WHERE id >= ? ORDER BY id LIMIT 1", reading))
        if after_event < self.last_event:
            queries.append(("SELECT received_ms FROM event WHERE id > ? ORDER BY id LIMIT 1", after_event))
        rows = [self._reader.execute(query, (key,)).fetchone() for query, key in queries]
        return min((row[0] for row in rows if row is not None), default=None)

    # ---- the transaction -----------------------------------------------------------------------------------------

    def _arm(self, delay_ms: int) -> None:
        """Commit in so long, or earlier when that was agreed already."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_ms / 1000
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._commit)

    def _commit(self) -> None:
        """Close the batch, run its statements, and leave the COMMIT to the executor."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self.batch = self.batch, Batch()
        self._close(batch)
        try:
            self._execute(batch)
        except sqlite3.Error as error:
            self._finished(batch, error)
            return
        loop = asyncio.get_running_loop()
        commit = self._executor.submit(self._connection.execute, "COMMIT")
        self._in_flight = batch, commit
        commit.add_done_callback(lambda done: _call(loop, self._committed, batch, done))

    def _execute(self, batch: Batch) -> None:
        # While commits fail: something to write, for a transaction that writes nothing would succeed on any disk.
        probe_ms = None if self.failing is None else self.clock.unix_ms()
        statements.execute(self._connection, batch, probe_ms)

    def _committed(self, batch: Batch, commit: Future[Any]) -> None:
        if self._in_flight is not None and self._in_flight[0] is batch:  # close() may have been here first
            self._in_flight = None
            self._finished(batch, commit.exception())

    def _close(self, batch: Batch) -> None:
        """Everything that is decided when no further frame joins the batch."""
        batch.upto = (self.next_reading - 1 - len(batch.readings), self.next_event - 1 - len(batch.events))
        if batch.oldest:
            self._list_lost(batch)
        now_ms = self.clock.unix_ms()
        for ledger, gone in batch.dropped.items():
            batch.lost += [(ledger.row_id, *run, 0, now_ms) for run in gone]
        batch.progress, self._progress = self._progress, {}
        batch.marks, self._marks = self._marks, None
        unswept = sum(batch.upto) - sum(self._swept_to)
        if not self._sweep and (unswept > SWEEP_ROWS or (self.want_sweep and unswept)):
            self.want_sweep = False
            self._begin_sweep(batch.upto)
        batch.swept = self._sweep[-SWEEP_EPOCHS_PER_COMMIT:]

    def _list_lost(self, batch: Batch) -> None:
        """What the nodes hold no longer and we neither have nor are about to have: runs, however many records."""
        now_ms = self.clock.unix_ms()
        arriving: dict[Ledger, Intervals] = {}
        for record in batch.records():
            if record.ledger in batch.oldest:
                arriving.setdefault(record.ledger, Intervals()).add(record.seq, record.seq)
        for ledger, oldest in batch.oldest.items():
            before = self._before(ledger)
            for first, last in ledger.gaps_below(oldest, arriving.get(ledger, Intervals())):
                gone = Intervals()
                gone.add(first, last)
                for known_first, known_last in before:
                    if known_first <= last and known_last >= first:
                        elsewhere = max(first, known_first), min(last, known_last)
                        gone.remove(*elsewhere)
                        batch.lost.append((ledger.row_id, *elsewhere, 1, now_ms))
                batch.lost += [(ledger.row_id, *run, 0, now_ms) for run in gone]

    def _before(self, ledger: Ledger) -> list[tuple[int, int]]:
        """The records of the epoch before: a node that changes its epoch goes on counting."""
        previous = self.epochs[ledger.row_id].previous
        if previous is None or previous not in self.epochs:
            return []
        before = self.epochs[previous].ledger
        return [(before.first_seq, before.cum), *before.runs]

    def _finished(self, batch: Batch, error: BaseException | None) -> None:
        if error is None:
            self._settle(batch)
        else:
            self._undo(batch, error)
        if self.batch.frames() >= self.settings.batch_frames and error is None:
            self._commit()
        elif not self.batch.is_empty() or self._sweep or self._marks is not None:
            self._arm(self.settings.linger_ms if error is None else _RETRY_MS)
        elif self._progress:
            self._arm(self.settings.progress_linger_ms)

    def _settle(self, batch: Batch) -> None:
        """The batch is on the disk: only now does anybody hear of it."""
        self.failing, self.failing_code = None, 0
        for epoch in batch.swept:
            epoch.ledger.changed_pages.clear()
            epoch.ledger.drop_clean_pages()
            self._dirty.pop(epoch.row_id, None)
        if batch.swept:
            del self._sweep[-len(batch.swept) :]
            if not self._sweep:
                self._end_sweep()
        dirty = self._dirty
        owners = self.epochs
        for reading in batch.readings:
            ledger = reading[1]
            ledger.settle(reading[2])
            dirty[ledger.row_id] = owners[ledger.row_id]
        for event in batch.events:
            event.ledger.settle(event.seq)
            dirty[event.ledger.row_id] = owners[event.ledger.row_id]
        for row_id, first, last, _, _ in batch.lost:
            owners[row_id].ledger.cover(first, last)
        for channel, bound in batch.reserve.items():
            channel.reserved(bound)
        if batch.readings:
            self.last_reading = batch.readings[-1].id
        if batch.events:
            self.last_event = batch.events[-1].id
        self._count(batch)
        for future, result, error in batch.answers:
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
        for listener in self.on_commit:
            listener(batch)

    def _undo(self, batch: Batch, error: BaseException) -> None:
        """Nothing of the batch happened, and nobody is told that it did: the nodes send again."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as also:
            log.error("rollback failed: %s", also)
        self.failing = str(error)
        self.failing_code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        self.notice(error)
        self.counters["commit_failures"] += 1
        log.error("commit of %d frames failed: %s; nothing of it is acknowledged", batch.frames(), error)
        for record in batch.records():
            record.ledger.withdraw(record.seq)
        self._progress = {**batch.progress, **self._progress}
        self._marks = self._marks or batch.marks
        self._undo_epochs(batch)
        for channel in batch.reserve:
            channel.not_reserved()
        for listener in self.on_undo:
            listener(batch)
        kind = DiskError if recovery.is_of_the_disk(error) and not self.corrupt else StoreError
        failure = kind(f"the store could not commit: {error}")
        for _, future in batch.jobs:
            if not future.done():
                future.set_exception(failure)

    def _undo_epochs(self, batch: Batch) -> None:
        """They do not exist, but for those that records wait for behind this batch: these go with the next one."""
        for ledger, runs in batch.dropped.items():
            known = self.batch.dropped.setdefault(ledger, Intervals())
            for run in runs:
                known.add(*run)
        waiting = {record.ledger.row_id for record in self.batch.records()}
        waiting |= {ledger.row_id for ledger in self.batch.dropped}
        kept = [epoch for epoch in batch.new_epochs if epoch.row_id in waiting]
        self.batch.new_epochs[:0] = kept
        batch.new_epochs = [epoch for epoch in batch.new_epochs if epoch.row_id not in waiting]
        for epoch in batch.new_epochs:
            self.epochs.pop(epoch.row_id, None)
            self.batch.windows.pop(epoch.row_id, None)
        gone = {epoch.ledger for epoch in batch.new_epochs}
        self.batch.oldest = {ledger: seq for ledger, seq in self.batch.oldest.items() if ledger not in gone}

    def _count(self, batch: Batch) -> None:
        counters = self.counters
        counters["commits"] += 1
        counters["readings"] += len(batch.readings)
        counters["events"] += len(batch.events)
        counters["conflicts"] += len(batch.conflicts)
        counters["lost"] += sum(
            last - first + 1 for _, first, last, elsewhere, _ in batch.lost if not elsewhere
        )

    # ---- the ledgers' durable form -------------------------------------------------------------------------------

    def _begin_sweep(self, upto: tuple[int, int]) -> None:
        """Write every ledger that changed, some with each commit; then the next start has less to read."""
        self._sweep_from = upto
        # Sorted, and taken from the end: neighbours share pages of the `epoch` table.
        self._sweep = [self._dirty[row_id] for row_id in sorted(self._dirty)]
        if not self._sweep:
            self._end_sweep()

    def _end_sweep(self) -> None:
        self._swept_to = self._sweep_from
        self.counters["sweeps"] += 1
        self._marks = self._swept_to

    # ---- start and stop ------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Ledgers and windows as of the last commit."""
        connection = self._connection
        self.epochs = recovery.load_epochs(connection, self._page_loader)
        self._dirty = {row_id: self.epochs[row_id] for row_id in recovery.replay(connection, self.epochs)}
        self._next_epoch = max(self.epochs, default=0) + 1
        last_reading, last_event = recovery.last_ids(connection)
        self.next_reading = last_reading + 1
        self.next_event = last_event + 1
        self.last_reading = last_reading
        self.last_event = last_event
        marks = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'replay_%'"))
        self._swept_to = marks.get("replay_reading", 0), marks.get("replay_event", 0)

    def close(self) -> None:
        """Commit what is waiting, write every ledger, and let go of the file. Nobody is told of it any more."""
        if self._closed:
            return
        self._closed = True
        self.on_commit.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._in_flight is not None:
            batch, commit = self._in_flight
            self._in_flight = None
            error = commit.exception()  # waits for it
            if error is None:
                self._settle(batch)
            else:
                self._undo(batch, error)
        self._flush()
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        if self._owns_executor:
            self._executor.shutdown()
        self._reader.close()
        self._connection.close()

    def _flush(self) -> None:
        batch, self.batch = self.batch, Batch()
        self._sweep = []
        self._close(batch)
        try:
            self._execute(batch)
            self._connection.execute("COMMIT")
            self._settle(batch)
            last = Batch(upto=(self.next_reading - 1, self.next_event - 1), swept=list(self._dirty.values()))
            self._connection.execute("BEGIN IMMEDIATE")
            statements.write_ledgers(self._connection, last)
            statements.write_marks(self._connection, last.upto)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(batch, error)

    def _page_loader(self, row_id: int) -> Callable[[int], bytes | None]:
        def load(page: int) -> bytes | None:
            row = self.read(lambda reader: reader.execute(_GET_PAGE, (row_id, page)).fetchone())
            return None if row is None else row[0]

        return load


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """From the executor's thread into the loop; a loop that is closed has nobody left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
