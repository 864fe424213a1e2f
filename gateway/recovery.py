"""Bringing a database up: opening it, setting a corrupt one aside, and reading rows back into records.

A corrupt database does not stop a gateway: it is moved aside with every byte, a new one takes its place, and every row
that can still be read is carried over (salvage.py). What was committed and cannot be read any more is listed as lost.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from gateway import damage, disk, incarnation, schema
from gateway import epoch as epochs
from gateway.clock import Clock
from gateway.errors import DiskError, StoreError
from gateway.fingerprints import of_event, of_reading
from gateway.ledger import NEW
from gateway.records import NO_PIV, Event, Reading
from gateway.salvage import note_roots, roots_noted, salvage
from protocols.wire import readings as codec

if TYPE_CHECKING:
    from gateway.epoch import Epoch
    from gateway.store import Store

P = ParamSpec("P")
T = TypeVar("T")
_CORRUPTION = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


@dataclass
class Opened:
    connection: sqlite3.Connection
    restored: bool = False
    notes: list[str] = field(default_factory=list)


def is_corruption(error: BaseException) -> bool:
    """Whether the database itself is damaged, rather than the disk full or the file locked."""
    if not isinstance(error, sqlite3.Error):
        return False
    is_text_spoilt = str(error).startswith("Could not decode to UTF-8")
    return is_text_spoilt or getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPTION


def is_of_the_disk(error: BaseException) -> bool:
    """Whether the disk or the file on it failed, and not the statement."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return is_corruption(error) or (isinstance(error, sqlite3.Error) and code in _OF_THE_DISK)


def noticed(read: Callable[P, T]) -> Callable[P, T]:
    """A method of the store that reads: damage that it meets is noted before its caller hears of it."""

    @functools.wraps(read)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except sqlite3.DatabaseError as error:
            store: Store = args[0]  # type: ignore[assignment]
            store.notice(error)
            raise

    return guarded


def open_database(path: Path, clock: Clock, extra: Sequence[str], wal_pages: int, cache_kib: int) -> Opened:
    """A usable database at `path`; StoreError when there is none to be had, DiskError when there may be one later."""
    try:
        replacement = _unfinished(path)
        if replacement is None:
            reason = _suspicion(path)
            if reason is None:
                try:
                    return _open(path, extra, wal_pages, cache_kib)
                except sqlite3.Error as error:
                    if not is_corruption(error):
                        raise refused(path, error) from error
                    reason = str(error)
                except (
                    TypeError,
                    ValueError,
                ) as error:  # the schema, or which database this is, is no text any more
                    reason = str(error)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.unix_ms() / 1000))
            replacement = _Replacement(reason, stamp, roots_noted(path))
            _begin(path, replacement)
        return _replace(path, replacement, clock, lambda: _open(path, extra, wal_pages, cache_kib))
    except OSError as error:
        if not disk.is_passing(error):
            raise
        raise DiskError(f"{path}: {error.strerror}") from error


def refused(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite said, as an error of ours: worth waiting for, or for a person to mend."""
    now = disk.refusal(path.parent)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if (now is not None and disk.is_passing(now)) or code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskError(f"{path}: {error}" + (f" ({now.strerror})" if now else ""))
    return StoreError(f"{path}: {error}: check the disk, the folder and its owner")


# ---- another database in the place of a damaged one ------------------------------------------------------------------


class _Replacement(NamedTuple):
    """What must be known to go on with it after a kill: noted beside the database before the first file is moved."""

    reason: str
    stamp: str
    roots: dict[str, int]  # where the tables of the damaged one began


def _replace(path: Path, replacement: _Replacement, clock: Clock, make: Callable[[], Opened]) -> Opened:
    """Move the damaged one aside, salvage it into a new one; a kill at any moment, and the next start does it again."""
    aside = incarnation.set_aside(path, replacement.stamp)
    opened = make()
    try:
        salvaged = salvage(opened.connection, aside, replacement.roots, clock.unix_ms())
        note = f"the database was corrupt ({replacement.reason}) and was moved to {aside}; {salvaged.text()}"
        damage.record(opened.connection, clock.unix_ms(), note)
    except sqlite3.Error as error:
        opened.connection.close()
        raise (DiskError if is_of_the_disk(error) else StoreError)(
            f"{path}: {error}: and the database before it was corrupt and is now {aside}"
        ) from error
    trust(path)
    opened.restored = True
    opened.notes = [note]
    return opened


def _begin(path: Path, replacement: _Replacement) -> None:
    note = _replacement_file(path)
    new = note.with_name(note.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(replacement, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, note)
    incarnation.sync_folder(path.parent)


def _unfinished(path: Path) -> _Replacement | None:
    try:
        reason, stamp, roots = json.loads(_replacement_file(path).read_text(encoding="utf-8"))
        return _Replacement(str(reason), str(stamp), {str(name): int(root) for name, root in roots.items()})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def _replacement_file(path: Path) -> Path:
    return path.with_name(path.name + ".replacing")


def suspect(path: Path, reason: str) -> None:
    """Note that this database is damaged: the next start sets it aside, even if it opens."""
    with contextlib.suppress(OSError):  # a disk that takes nothing: it will be found again
        _suspect_file(path).write_text(reason, encoding="utf-8")


def trust(path: Path) -> None:
    """Another database stands there now: what was said of the one before it does not hold."""
    _suspect_file(path).unlink(missing_ok=True)
    _replacement_file(path).unlink(missing_ok=True)


def _suspicion(path: Path) -> str | None:
    try:
        return _suspect_file(path).read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return None


def _suspect_file(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")


def _open(path: Path, extra: Sequence[str], wal_pages: int, cache_kib: int) -> Opened:
    connection = schema.connect(str(path), wal_pages=wal_pages, cache_kib=cache_kib)
    try:
        schema.create(connection, extra)
        found = schema.version(connection)
        if found > schema.SCHEMA_VERSION:
            raise StoreError(
                f"{path}: made by a newer version (schema {found}; this one knows {schema.SCHEMA_VERSION})"
            )
        opened = Opened(connection)
        if incarnation.is_restored(connection, path):
            opened.restored = True
            opened.notes.append(
                "this is not the database the gateway last ran with: nodes are answered once they told what they heard"
            )
            # A log of the database that was replaced may have been folded into this one.
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _corrupt(verdict)
            connection.execute("UPDATE epoch SET dn_hold = 1")
        note_roots(connection, path)
        return opened
    except BaseException:
        connection.close()
        raise


def _corrupt(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


# ---- reading back ----------------------------------------------------------------------------------------------------


def load_epochs(connection: sqlite3.Connection, page_loader: schema.PageLoaders) -> dict[int, Epoch]:
    """Every epoch as it was when its ledger was last written; `replay` does the rest."""
    rows = connection.execute(f"SELECT {epochs.COLUMNS} FROM epoch")
    try:
        return {row[0]: epochs.Epoch.from_row(row, page_loader(row[0])) for row in rows}
    except ValueError as error:
        raise _corrupt(f"an epoch is not what was stored: {error}") from error


def replay(connection: sqlite3.Connection, known: Mapping[int, Epoch]) -> set[int]:
    """Bring the ledgers and replay windows up to the last committed row; ids of the epochs that changed."""
    marks = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'replay_%'"))
    changed = set()
    for table, mark in (("reading", "replay_reading"), ("event", "replay_event")):
        rows = connection.execute(
            f"SELECT id, epoch, seq, piv, print, received_ms FROM {table} WHERE id > ? ORDER BY id",
            (marks.get(mark, 0),),
        )
        for row_id, epoch_id, seq, piv, fingerprint, received_ms in rows:
            epoch = known.get(epoch_id)
            if epoch is None:
                raise _corrupt(f"{table} {row_id} is of no epoch")
            if row_id > (epoch.upto_reading if table == "reading" else epoch.upto_event):
                if piv != NO_PIV:
                    epoch.window.accept(piv)
                    epoch.heard_ms = max(epoch.heard_ms, received_ms)
                if epoch.ledger.offer(seq, fingerprint) == NEW:
                    epoch.ledger.settle(seq)
                if table == "reading":
                    epoch.ledger.highest_set = max(epoch.ledger.highest_set, seq)
                changed.add(epoch_id)
    for epoch_id, first, last in connection.execute(
        "SELECT l.epoch, l.first, l.last FROM lost l JOIN epoch e ON e.id = l.epoch WHERE l.last > e.cum"
    ):
        known[epoch_id].ledger.cover(first, last)
    return changed


def last_ids(connection: sqlite3.Connection) -> tuple[int, int]:
    """Of readings and events. An id that a northbound knows is never given again, whatever became of its row."""
    (readings,) = connection.execute(
        "SELECT max((SELECT coalesce(max(id), 0) FROM reading), coalesce(max(next_reading) - 1, 0)) FROM progress"
    ).fetchone()
    (events,) = connection.execute(
        "SELECT max((SELECT coalesce(max(id), 0) FROM event), coalesce(max(event_cursor), 0)) FROM progress"
    ).fetchone()
    return readings, events


def load_readings(
    connection: sqlite3.Connection, known: Mapping[int, Epoch], first: int, last: int, limit: int
) -> list[Reading]:
    """Committed readings with first <= id <= last, in order."""
    rows = connection.execute(
        "SELECT id, epoch, seq, backlog, received_ms, time, tq, schema, flags, body, print, boot_time FROM reading"
        " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (first, last, limit),
    ).fetchall()
    return decoded(known, rows)


def decoded(known: Mapping[int, Epoch], rows: Iterable[tuple[Any, ...]]) -> list[Reading]:
    """Rows (id, epoch, seq, backlog, received_ms, time, tq, schema, flags, body, print, boot_time) as readings."""
    found = []
    schema_of = codec.schema
    decode = codec.decode
    for row_id, epoch, seq, backlog, received_ms, time_s, tq, schema_id, flags, body, mark, boot_time in rows:
        if of_reading(epoch, seq, body, time_s if boot_time is None else boot_time, schema_id) != mark:
            raise _corrupt(f"reading {row_id} is not what was stored")
        values = decode(schema_of(schema_id), 0, body).rows[0]
        merged = None if flags is None else tuple(flags)
        found.append(
            Reading(
                row_id, known[epoch].ledger, seq, backlog, received_ms, time_s, tq, schema_id, values, merged
            )
        )
    return found


def load_events(
    connection: sqlite3.Connection, known: Mapping[int, Epoch], after: int, limit: int
) -> list[Event]:
    """Committed events and results with id > after, in order."""
    rows = connection.execute(
        "SELECT id, epoch, seq, kind, received_ms, time, tq, code, state, detail, print, boot_time FROM event"
        " WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    found = []
    for row_id, epoch, seq, kind, received_ms, time_s, tq, code, state, detail, mark, boot_time in rows:
        if (
            of_event(epoch, seq, kind, time_s if boot_time is None else boot_time, tq, code, state, detail)
            != mark
        ):
            raise _corrupt(f"event {row_id} is not what was stored")
        found.append(
            Event(
                row_id,
                known[epoch].ledger,
                seq,
                kind,
                received_ms,
                time_s,
                tq,
                code,
                state,
                json.loads(detail),
            )
        )
    return found


def take_from_lost(connection: sqlite3.Connection, epoch_id: int, seq: int) -> None:
    """A record that was listed as lost has come: split the run that lists it."""
    row = connection.execute(
        "SELECT first, last, elsewhere, at_ms FROM lost WHERE epoch = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (epoch_id, seq),
    ).fetchone()
    if row is None or row[1] < seq:
        return
    first, last, elsewhere, at_ms = row
    connection.execute("DELETE FROM lost WHERE epoch = ? AND first = ?", (epoch_id, first))
    parts = [(epoch_id, a, b, elsewhere, at_ms) for a, b in ((first, seq - 1), (seq + 1, last)) if a <= b]
    connection.executemany(
        "INSERT INTO lost (epoch, first, last, elsewhere, at_ms) VALUES (?, ?, ?, ?, ?)", parts
    )
