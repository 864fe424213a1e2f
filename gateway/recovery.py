"""Bringing a database up: opening it, setting a corrupt one aside, and reading rows back into records.

A corrupt database does not stop a gateway: it is moved aside with every byte, a new one takes its place, and what can
still be read of the small tables (nodes, keys, sites, assignments, commands, epochs) is carried over. The epochs come
over with empty ledgers, so the nodes offer again whatever they still hold; rows that were not delivered stay in the
file that was set aside.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import epoch as epochs
from gateway import incarnation, schema
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.records import NO_PIV, Event, Reading
from protocols.wire import readings as codec

if TYPE_CHECKING:
    from gateway.epoch import Epoch

_CORRUPTION = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OF_THE_DISK = (*_CORRUPTION, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
# What can be lived without, or is meaningless without the rows that are gone.
_NOT_CARRIED_OVER = (
    "meta",
    "seen",
    "reading",
    "event",
    "lost",
    "conflict",
    "progress",
    "report_index",
    "report_row",
)


@dataclass
class Opened:
    connection: sqlite3.Connection
    restored: bool = False
    notes: list[str] = field(default_factory=list)


def is_corruption(error: BaseException) -> bool:
    """Whether the database itself is damaged, rather than the disk full or the file locked."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPTION


def is_of_the_disk(error: BaseException) -> bool:
    """Whether the disk or the file on it failed, and not the statement."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK


def open_database(path: Path, clock: Clock, extra: Sequence[str], wal_pages: int, cache_kib: int) -> Opened:
    """A usable database at `path`; StoreError when there is none to be had."""
    try:
        return _open(path, extra, wal_pages, cache_kib)
    except sqlite3.Error as error:
        if not is_corruption(error):
            raise StoreError(f"{path}: {error}: check the disk, the folder and its owner") from error
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.unix_ms() / 1000))
        aside = incarnation.set_aside(path, stamp)
        reason = str(error)
    try:
        opened = _open(path, extra, wal_pages, cache_kib)
        carried = _carry_over(opened.connection, aside)
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: {error}: and the database before it was corrupt and is now {aside}"
        ) from error
    opened.restored = True
    opened.notes = [f"the database was corrupt ({reason}) and was moved to {aside}; carried over: {carried}"]
    return opened


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
        return opened
    except BaseException:
        connection.close()
        raise


def _corrupt(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _carry_over(connection: sqlite3.Connection, aside: Path) -> str:
    """Copy what can be read of the small tables; says which."""
    try:
        connection.execute("ATTACH DATABASE ? AS old", (str(aside),))
    except sqlite3.Error as error:
        return f"nothing ({error})"
    carried = []
    names = [
        name for (name,) in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")
    ]
    for name in names:
        if name in _NOT_CARRIED_OVER or name.startswith("sqlite_"):
            continue
        try:
            both = set(schema.columns(connection, name, "old"))
            shared = ", ".join(column for column in schema.columns(connection, name) if column in both)
            count = connection.execute(
                f"INSERT OR IGNORE INTO main.{name} ({shared}) SELECT {shared} FROM old.{name}"
            ).rowcount
            carried.append(f"{count} {name}")
        except sqlite3.Error:
            carried.append(f"no {name}")
    connection.execute(
        "UPDATE main.epoch SET cum = first_seq - 1, runs = x'', highest_set = first_seq - 1, dn_hold = 1,"
        " upto_reading = 0, upto_event = 0"
    )
    connection.execute("DETACH DATABASE old")
    return ", ".join(carried)


# ---- reading back ----------------------------------------------------------------------------------------------------


def load_epochs(connection: sqlite3.Connection, page_loader: schema.PageLoaders) -> dict[int, Epoch]:
    """Every epoch as it was when its ledger was last written; `replay` does the rest."""
    rows = connection.execute(f"SELECT {epochs.COLUMNS} FROM epoch")
    return {row[0]: epochs.Epoch.from_row(row, page_loader(row[0])) for row in rows}


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
            epoch = known[epoch_id]
            if row_id > (epoch.upto_reading if table == "reading" else epoch.upto_event):
                if piv != NO_PIV:
                    epoch.window.accept(piv)
                    epoch.heard_ms = max(epoch.heard_ms, received_ms)
                epoch.ledger.offer(seq, fingerprint)
                epoch.ledger.settle(seq)
                if table == "reading":
                    epoch.ledger.highest_set = max(epoch.ledger.highest_set, seq)
                changed.add(epoch_id)
    for epoch_id, first, last in connection.execute(
        "SELECT l.epoch, l.first, l.last FROM lost l JOIN epoch e ON e.id = l.epoch WHERE l.last > e.cum"
    ):
        known[epoch_id].ledger.cover(first, last)
    return changed


def load_readings(
    connection: sqlite3.Connection, known: Mapping[int, Epoch], first: int, last: int, limit: int
) -> list[Reading]:
    """Committed readings with first <= id <= last, in order."""
    rows = connection.execute(
        "SELECT id, epoch, seq, backlog, received_ms, time, tq, schema, flags, body FROM reading"
        " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (first, last, limit),
    ).fetchall()
    return decoded(known, rows)


def decoded(known: Mapping[int, Epoch], rows: Iterable[tuple[Any, ...]]) -> list[Reading]:
    """Rows (id, epoch, seq, backlog, received_ms, time, tq, schema, flags, body) as readings."""
    found = []
    schema_of = codec.schema
    decode = codec.decode
    for row_id, epoch, seq, backlog, received_ms, time_s, tq, schema_id, flags, body in rows:
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
        "SELECT id, epoch, seq, kind, received_ms, time, tq, code, state, detail FROM event"
        " WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [
        Event(
            row_id, known[epoch].ledger, seq, kind, received_ms, time_s, tq, code, state, json.loads(detail)
        )
        for row_id, epoch, seq, kind, received_ms, time_s, tq, code, state, detail in rows
    ]


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
