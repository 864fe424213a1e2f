"""The tables of the store and how a database is opened. SQL only: what the rows mean to a frame is told in store.py.

Laid out for SD cards. Under load a commit writes the pages it dirties, 4 KiB each, whatever the rows weigh, so the
tables on the hot path are only ever appended to: an index on (node, epoch, seq) would dirty one leaf per node and
multiply the bytes written by ten. What the index would have answered (is this record known, and is it the same?) is
answered by the ledgers (ledger.py), whose durable form is `epoch` and `seen`; they are written once per some ten
thousand frames, and made good from the rows behind `meta.replay_*` after a crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from gateway import damage
from gateway.fingerprints import of_event, of_reading
from gateway.ledger import PageLoader

SCHEMA_VERSION = 4
# (version, table) whose columns that version declares otherwise, with the same names in the same order.
REMADE = ((2, "command"),)  # args: an integer before, JSON since
# (table, column, declaration) that a later version has more, behind those there were.
ADDED = (
    ("epoch", "heard_ms", "INTEGER NOT NULL DEFAULT 0"),  # 3
    ("node_program", "firmware", "TEXT NOT NULL DEFAULT ''"),  # 4
)

# In `retired`: whatever northbound had them, or none. No northbound can have that name.
ALL = "*"

PageLoaders = Callable[[int], PageLoader]

TABLES = (
    # incarnation, schema_version, replay_reading, replay_event: one page.
    """CREATE TABLE IF NOT EXISTS meta (
        key TEXT PRIMARY KEY,
        value ANY
    ) STRICT, WITHOUT ROWID""",
    # One key context of one node, and what we know about the records made in it. id_context is null for an epoch that
    # we only know by name, because records made in it came in through a later one.
    """CREATE TABLE IF NOT EXISTS epoch (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        number INTEGER NOT NULL,
        id_context BLOB,
        previous INTEGER,              -- id of the epoch the node came from, when it said so
        opened_ms INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,    -- lowest seq this epoch can hold
        cum INTEGER NOT NULL,          -- every record up to here is committed or lost
        runs BLOB NOT NULL,            -- committed records above cum (intervals.py)
        highest_set INTEGER NOT NULL,  -- highest seq of readings; a set above it is fresh
        highest_piv INTEGER NOT NULL,  -- replay window, up
        window INTEGER NOT NULL,       -- its bitmap, 63 bits
        dn_reserved INTEGER NOT NULL,  -- downlink PIVs below this may have been used
        dn_hold INTEGER NOT NULL,      -- 1: send nothing until the node told its dn_piv (restored database)
        upto_reading INTEGER NOT NULL, -- rows up to here are in cum, runs, window and seen
        upto_event INTEGER NOT NULL,
        heard_ms INTEGER NOT NULL DEFAULT 0, -- when a frame was opened in it last, as far as upto_… go; 0: never
        UNIQUE (node, number)
    ) STRICT""",
    # Fingerprints of committed records, 64 to a page: finds a record that comes again with other content.
    """CREATE TABLE IF NOT EXISTS seen (
        epoch INTEGER NOT NULL,
        page INTEGER NOT NULL,
        prints BLOB NOT NULL,
        PRIMARY KEY (epoch, page)
    ) STRICT, WITHOUT ROWID""",
    # One set of readings, in the order of arrival. `body` is the single-set code of SPEC-readings.md.
    """CREATE TABLE IF NOT EXISTS reading (
        id INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        piv INTEGER NOT NULL,          -- -1: it came in the channel of another epoch
        print INTEGER NOT NULL,
        backlog INTEGER NOT NULL,      -- 0 lane fresh, 1 lane backlog
        received_ms INTEGER NOT NULL,
        time INTEGER NOT NULL,         -- unix seconds; placed by the gateway when tq is 3
        boot_time INTEGER,             -- what the node said when tq is 3: seconds since its boot
        tq INTEGER NOT NULL,
        schema INTEGER NOT NULL,
        flags BLOB,                    -- merged quality flags, one byte a series; null: all good
        body BLOB NOT NULL
    ) STRICT""",
    # Events (kind 2) and command results (kind 3): one strict cursor covers both.
    """CREATE TABLE IF NOT EXISTS event (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        piv INTEGER NOT NULL,
        print INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        time INTEGER NOT NULL,
        boot_time INTEGER,
        tq INTEGER NOT NULL,
        code INTEGER NOT NULL,         -- event code; of a result: the command id
        state INTEGER NOT NULL,        -- event state; of a result: the outcome
        detail TEXT NOT NULL           -- JSON
    ) STRICT""",
    # Records that will never come: the node holds nothing below, and we never had them.
    """CREATE TABLE IF NOT EXISTS lost (
        epoch INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        elsewhere INTEGER NOT NULL,    -- 1: not lost, but made in the epoch before
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (epoch, first)
    ) STRICT, WITHOUT ROWID""",
    # An id that came twice with different content: somebody's mistake, for a person to look at. Bounded.
    """CREATE TABLE IF NOT EXISTS conflict (
        id INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        piv INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        message BLOB NOT NULL
    ) STRICT""",
    # When each boot of a node was, as well as we know: places records made before its clock was set (tq 3).
    """CREATE TABLE IF NOT EXISTS boot (
        node INTEGER NOT NULL,
        boot INTEGER NOT NULL,         -- modulo 256, as records name it
        boots INTEGER NOT NULL,        -- in full, -1 when only records told of it
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (node, boot)
    ) STRICT, WITHOUT ROWID""",
    # How far a northbound has delivered: events by one cursor, readings by what is still owed.
    """CREATE TABLE IF NOT EXISTS progress (
        northbound TEXT PRIMARY KEY,
        event_cursor INTEGER NOT NULL, -- every event up to here is confirmed
        next_reading INTEGER NOT NULL, -- everything from here on is owed
        owed BLOB NOT NULL             -- what is owed below it (intervals.py)
    ) STRICT, WITHOUT ROWID""",
    # Rows that were removed to make room (retention.py). Northbound '*': all of them; of a name: those that it had.
    """CREATE TABLE IF NOT EXISTS retired (
        northbound TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        records INTEGER NOT NULL,
        highest INTEGER NOT NULL,      -- highest seq among them
        PRIMARY KEY (northbound, epoch)
    ) STRICT, WITHOUT ROWID""",
    # Those of them that this northbound never had: lost to it.
    """CREATE TABLE IF NOT EXISTS evicted (
        northbound TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (northbound, epoch, first)
    ) STRICT, WITHOUT ROWID""",
    damage.TABLE,
)

VIEWS = (
    """CREATE VIEW IF NOT EXISTS reading_view AS
        SELECT r.id, e.node, e.number AS epoch, r.seq,
               CASE r.backlog WHEN 0 THEN 'fresh' ELSE 'backlog' END AS lane,
               r.received_ms, r.time, r.boot_time, r.tq, r.schema, r.flags, r.body
        FROM reading r JOIN epoch e ON e.id = r.epoch""",
    """CREATE VIEW IF NOT EXISTS event_view AS
        SELECT v.id, v.kind, e.node, e.number AS epoch, v.seq, 'event' AS lane,
               v.received_ms, v.time, v.boot_time, v.tq, v.code, v.state, v.detail
        FROM event v JOIN epoch e ON e.id = v.epoch""",
)

READING_COLUMNS = "id, epoch, seq, piv, print, backlog, received_ms, time, boot_time, tq, schema, flags, body"
EVENT_COLUMNS = "id, kind, epoch, seq, piv, print, received_ms, time, boot_time, tq, code, state, detail"


def connect(path: str, *, wal_pages: int, cache_kib: int) -> sqlite3.Connection:
    """The writing connection: WAL, every commit on the disk before it returns, one writer at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # it is being made
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")
    connection.execute(f"PRAGMA journal_size_limit = {2 * wal_pages * 4096}")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def connect_reader(path: str, *, cache_kib: int) -> sqlite3.Connection:
    """A connection that cannot write; in WAL it never waits for the writer."""
    connection = sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA busy_timeout = 1000")
    return connection


def create(connection: sqlite3.Connection, extra: Sequence[str]) -> None:
    """Make what is missing, and bring what an older version made up to this one, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    before = _version_there(connection)
    old = _set_old_tables_aside(connection)
    for statement in (*TABLES, *extra, *VIEWS):
        connection.execute(statement)
    for table in old:
        connection.execute(f"INSERT INTO {table} SELECT * FROM {table}_old")
        connection.execute(f"DROP TABLE {table}_old")
    for table, column, declaration in ADDED:
        there = columns(connection, table)
        if there and column not in there:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
    if before < 4:
        _fingerprint_anew(connection)
    connection.execute(
        "INSERT INTO meta VALUES ('schema_version', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
        (SCHEMA_VERSION,),
    )
    connection.execute("COMMIT")


def _version_there(connection: sqlite3.Connection) -> int:
    """What made it; this version, when it is being made."""
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone()
    return SCHEMA_VERSION if there is None else version(connection)


def _fingerprint_anew(connection: sqlite3.Connection) -> None:
    """Since 4 a fingerprint covers epoch and seq. The ledgers take theirs from the rows when the store is loaded."""
    for name, function, count in (("of_reading", of_reading, 5), ("of_event", of_event, 8)):
        connection.create_function(name, count, function, deterministic=True)
    time = "coalesce(boot_time, time)"
    connection.execute(f"UPDATE reading SET print = of_reading(epoch, seq, body, {time}, schema)")
    connection.execute(
        f"UPDATE event SET print = of_event(epoch, seq, kind, {time}, tq, code, state, detail)"
    )
    connection.execute("DELETE FROM seen")
    connection.execute("DELETE FROM meta WHERE key LIKE 'replay_%'")
    connection.execute("UPDATE epoch SET upto_reading = 0, upto_event = 0")


def _set_old_tables_aside(connection: sqlite3.Connection) -> list[str]:
    """Rename the tables whose columns a later version declares otherwise; their rows go into the new ones."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    found = _version_there(connection)
    old = [table for since, table in REMADE if found < since and table in there]
    for table in old:
        indexes = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL",
            (table,),
        ).fetchall()
        for (index,) in indexes:
            connection.execute(f"DROP INDEX {index}")  # the new table wants its name
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_old")
    return old


def columns(connection: sqlite3.Connection, table: str, database: str = "main") -> list[str]:
    """The columns of a table, in their order."""
    return [row[1] for row in connection.execute(f"PRAGMA {database}.table_info({table})")]


def version(connection: sqlite3.Connection) -> int:
    """The schema version the database was made with."""
    (found,) = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return int(found)
