"""What one transaction of the store writes, statement by statement: a batch as rows.

These run on the event loop, a fraction of a millisecond for a hundred rows; store.py tells why, and has COMMIT done
elsewhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from gateway import epoch as epochs
from gateway import recovery, schema
from gateway.batch import Batch
from gateway.limits import CONFLICTS_KEPT_MAX, SEEN_DELETED

_INSERT_READING = (
    f"INSERT INTO reading ({schema.READING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_EVENT = f"INSERT INTO event ({schema.EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE_PAGES = (
    "DELETE FROM seen WHERE epoch = ? AND page IN"
    " (SELECT page FROM seen WHERE epoch = ? AND page < ? ORDER BY page LIMIT ?)"
)
_PUT_PAGE = "INSERT OR REPLACE INTO seen (epoch, page, prints) VALUES (?, ?, ?)"
_PUT_LOST = "INSERT OR IGNORE INTO lost (epoch, first, last, elsewhere, at_ms) VALUES (?, ?, ?, ?, ?)"
_PUT_PROGRESS = (
    "INSERT OR REPLACE INTO progress (northbound, event_cursor, next_reading, owed) VALUES (?, ?, ?, ?)"
)
_PUT_BOOT = "INSERT OR REPLACE INTO boot (node, boot, boots, at_ms) VALUES (?, ?, ?, ?)"
_PUT_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
_PUT_CONFLICT = "INSERT INTO conflict (epoch, seq, piv, received_ms, message) VALUES (?, ?, ?, ?, ?)"


def execute(connection: sqlite3.Connection, batch: Batch, probe_ms: int | None) -> None:
    """BEGIN, and everything of `batch` but its COMMIT. `probe_ms`: write this too, so that something is written."""
    connection.execute("BEGIN IMMEDIATE")
    if probe_ms is not None:
        connection.execute(_PUT_META, ("probed_ms", probe_ms))
    _records(connection, batch)
    _channels(connection, batch)
    if batch.progress:
        connection.executemany(_PUT_PROGRESS, [(name, *row) for name, row in batch.progress.items()])
    if batch.swept:
        write_ledgers(connection, batch)
    if batch.marks is not None:
        write_marks(connection, batch.marks)
    for work, future in batch.jobs:
        batch.answers.append((future, *_run_job(connection, work)))


def _records(connection: sqlite3.Connection, batch: Batch) -> None:
    """Readings, events, and what is known of those that will never come."""
    if batch.new_epochs:
        connection.executemany(epochs.INSERT, [epoch.new_row() for epoch in batch.new_epochs])
    if batch.reading_rows:
        connection.executemany(_INSERT_READING, batch.reading_rows)
    if batch.event_rows:
        connection.executemany(_INSERT_EVENT, batch.event_rows)
    if batch.lost:
        connection.executemany(_PUT_LOST, batch.lost)
    for epoch_id, seq in batch.found:
        recovery.take_from_lost(connection, epoch_id, seq)
    if batch.conflicts:
        connection.executemany(_PUT_CONFLICT, batch.conflicts)
        connection.execute(
            "DELETE FROM conflict WHERE id <= (SELECT max(id) FROM conflict) - ?", (CONFLICTS_KEPT_MAX,)
        )
    if batch.boots:
        connection.executemany(_PUT_BOOT, [(*key, *entry) for key, entry in batch.boots.items()])


def _channels(connection: sqlite3.Connection, batch: Batch) -> None:
    """Which PIVs were heard, and which may have been used."""
    if batch.windows:
        connection.executemany(epochs.UPDATE_WINDOW, [epoch.window_row() for epoch in batch.windows.values()])
    if batch.reserve:
        bounds = [
            (bound, channel.epoch.dn_hold, channel.epoch.row_id) for channel, bound in batch.reserve.items()
        ]
        connection.executemany("UPDATE epoch SET dn_reserved = ?, dn_hold = ? WHERE id = ?", bounds)


def _run_job(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]
) -> tuple[Any, BaseException | None]:
    """(result, None), or (None, what it raised), which is undone and goes to the caller, who awaits it."""
    connection.execute("SAVEPOINT job")
    try:
        result = work(connection)
    except Exception as error:  # whatever it is belongs to the caller, who awaits it
        if recovery.is_of_the_disk(error):
            raise  # not the caller's fault: nothing of this transaction will be
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return None, error
    connection.execute("RELEASE job")
    return result, None


def write_ledgers(connection: sqlite3.Connection, batch: Batch) -> None:
    """These ledgers hold everything before this batch, and nothing of it."""
    pages = [
        (epoch.row_id, number, epoch.ledger.pages[number].tobytes())
        for epoch in batch.swept
        for number in epoch.ledger.changed_pages
    ]
    connection.executemany(_PUT_PAGE, pages)
    # So many at a time that a store from before there was a bound comes down to it without a long commit.
    old = [
        (
            epoch.row_id,
            epoch.row_id,
            epoch.ledger.first_page,
            SEEN_DELETED + 2 * len(epoch.ledger.changed_pages),
        )
        for epoch in batch.swept
        if epoch.ledger.first_page > 0
    ]
    connection.executemany(_DELETE_PAGES, old)
    connection.executemany(epochs.UPDATE_LEDGER, [epoch.ledger_row(*batch.upto) for epoch in batch.swept])


def write_marks(connection: sqlite3.Connection, upto: tuple[int, int]) -> None:
    """A start need not read the rows up to these ids."""
    connection.executemany(_PUT_META, [("replay_reading", upto[0]), ("replay_event", upto[1])])
