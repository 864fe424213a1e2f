"""What is reported to regulators, as rows: one per northbound, site, kind (such as hour data) and begin of its period.

    report_index    which readings are of a site, by time: only of sites that some northbound reports on
    report_row      what is due, and of what was confirmed its digest

A reading makes the rows that it belongs to due, in one transaction with the cursor up to which readings were looked at
(the table `progress`): a kill loses none. A row is `confirmed` up to a reading; one that comes later makes it due
again. So a reading is owed as long as one of its rows is due and was not confirmed up to it: that is how audit.py
counts. Rows of a site that is reported no longer are `aside`, and due again when it is.

The functions here run inside `Store.write` and `Store.read`; SQL only.
"""

from __future__ import annotations

import functools
import heapq
import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway import recovery
from gateway.intervals import Intervals
from gateway.limits import (
    REPORT_GIVE_UP_ROWS,
    REPORT_KEPT_S,
    REPORT_TIDY_ROWS,
    ROW_READINGS_MAX,
)
from gateway.records import Reading

if TYPE_CHECKING:
    from gateway.epoch import Epoch

DUE, CONFIRMED, ASIDE = 0, 1, 2
# The setting of a northbound that says that rows of this site are aside.
_ASIDE_KEY = "aside "

# Given to Store.open as extra_schema.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS report_index (
        site TEXT NOT NULL,
        time INTEGER NOT NULL,
        reading INTEGER NOT NULL,
        PRIMARY KEY (site, time, reading)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS report_row (
        northbound TEXT NOT NULL,
        site TEXT NOT NULL,
        kind TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        state INTEGER NOT NULL,        -- 0 due, 1 confirmed, 2 aside: due when its site is reported again
        late INTEGER NOT NULL,         -- 1: was confirmed before, or began to be due after it should have gone
        due_ms INTEGER NOT NULL,       -- goes when this has come
        newest INTEGER NOT NULL,       -- highest reading that belongs to it
        upto INTEGER NOT NULL,         -- highest reading that was in it when it was confirmed
        sent INTEGER NOT NULL,         -- times it was confirmed
        digest BLOB NOT NULL,          -- of what was confirmed
        PRIMARY KEY (northbound, site, kind, start_ms)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS report_due ON report_row (northbound, late, due_ms) WHERE state = 0",
    # Alarms among the rows: the added reports of SL 651 (33H). No other kind has this name, nor pays for the index.
    "CREATE INDEX IF NOT EXISTS report_due_alarm ON report_row (northbound, due_ms) WHERE state = 0 AND kind = '33'",
    "CREATE INDEX IF NOT EXISTS report_due_of_site ON report_row (site, start_ms) WHERE state = 0",
    # What the far side has set by its own commands, and what else a northbound of rows must not forget.
    """CREATE TABLE IF NOT EXISTS report_setting (
        northbound TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (northbound, key)
    ) STRICT, WITHOUT ROWID""",
)


_NEXT_KIND = (
    "SELECT kind, end_ms - start_ms FROM report_row WHERE northbound = ? AND site = ? AND kind > ?"
    " ORDER BY kind, start_ms LIMIT 1"
)
OWED_STARTS = (
    "SELECT start_ms FROM report_row INDEXED BY report_due_of_site"
    " WHERE state = 0 AND site = ? AND start_ms >= ? AND northbound = ? AND kind = ? ORDER BY start_ms LIMIT ?"
)
# Rows of one site that are given up together: the others' turn comes after them.
_TOGETHER = 64


class Key(NamedTuple):
    site: str
    kind: str
    start_ms: int


class Mark(NamedTuple):
    """A row that a reading belongs to. It goes `grace_ms` after its end."""

    key: Key
    end_ms: int
    grace_ms: int


class Row(NamedTuple):
    """A row that is due."""

    key: Key
    end_ms: int
    late: bool
    due_ms: int
    sent: int
    digest: bytes
    newest: int


_MARK = """INSERT INTO report_row VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, 0, 0, x'')
    ON CONFLICT (northbound, site, kind, start_ms) DO UPDATE SET
        late = CASE WHEN state = 1 AND excluded.newest > upto THEN 1 ELSE late END,
        due_ms = CASE WHEN state = 1 AND excluded.newest > upto THEN max(excluded.due_ms, ?) ELSE due_ms END,
        state = CASE WHEN excluded.newest > upto THEN 0 ELSE state END,
        newest = max(newest, excluded.newest)"""


def mark(
    connection: sqlite3.Connection,
    northbound: str,
    marks: Mapping[Mark, int],
    index: Iterable[tuple[str, int, int]],
    now_ms: int,
    cursor: tuple[int, int],
) -> None:
    """Make rows due for readings (`marks`: the highest id of each), and move the cursor (event, next reading)."""
    connection.executemany("INSERT OR IGNORE INTO report_index VALUES (?, ?, ?)", index)
    mark_rows(connection, northbound, marks, now_ms)
    connection.execute(
        "INSERT OR REPLACE INTO progress (northbound, event_cursor, next_reading, owed) VALUES (?, ?, ?, x'')",
        (northbound, *cursor),
    )


def mark_rows(
    connection: sqlite3.Connection, northbound: str, marks: Mapping[Mark, int], now_ms: int
) -> None:
    """Make rows due. The number of each grows with what belongs to it: its highest reading, its latest check."""
    rows = [_mark_row(northbound, mark, newest, now_ms) for mark, newest in marks.items()]
    connection.executemany(_MARK, rows)


def _mark_row(northbound: str, mark: Mark, newest: int, now_ms: int) -> tuple[object, ...]:
    closes_ms = mark.end_ms + mark.grace_ms
    late = now_ms > closes_ms
    due_ms = now_ms + mark.grace_ms if late else closes_ms
    return northbound, *mark.key, mark.end_ms, int(late), due_ms, newest, now_ms + mark.grace_ms


def unmark(
    connection: sqlite3.Connection, northbound: str, sites: Iterable[str], first: int, last: int,
    times: tuple[int, int],
) -> None:  # fmt: skip
    """Readings `first` to `last`, of these seconds, are moved: what is made of them for these sites is computed again.
    A row that is the same without them is not sent."""
    connection.execute(
        "DELETE FROM report_index WHERE time BETWEEN ? AND ? AND reading BETWEEN ? AND ?"
        " AND time != (SELECT r.time FROM reading r WHERE r.id = report_index.reading)",
        (*times, first, last),
    )
    connection.execute(
        "UPDATE report_row SET state = 0, late = 1, upto = 0 WHERE northbound = ? AND start_ms <= ? AND end_ms > ?"
        " AND site IN (SELECT value FROM json_each(?))",
        (northbound, 1000 * times[1], 1000 * times[0], json.dumps(sorted(sites))),
    )


def due(
    connection: sqlite3.Connection, northbound: str, *, late: bool, since_ms: int, until_ms: int, limit: int,
    without: Iterable[str] = (),
) -> list[Row]:  # fmt: skip
    """Rows due from `since_ms` to before `until_ms`, those due longest first, without those of some sites."""
    rows = connection.execute(
        "SELECT site, kind, start_ms, end_ms, late, due_ms, sent, digest, newest FROM report_row INDEXED BY report_due"
        " WHERE state = 0 AND northbound = ? AND late = ? AND due_ms >= ? AND due_ms < ?"
        " AND site NOT IN (SELECT value FROM json_each(?)) ORDER BY due_ms LIMIT ?",
        (northbound, int(late), since_ms, until_ms, json.dumps(sorted(without)), limit),
    )
    return [_row(row) for row in rows]


def due_alarms(
    connection: sqlite3.Connection, northbound: str, *, until_ms: int, limit: int, without: Iterable[str] = ()
) -> list[Row]:
    """Those of rows due before `until_ms` that are alarms, without those of some sites."""
    rows = connection.execute(
        "SELECT site, kind, start_ms, end_ms, late, due_ms, sent, digest, newest FROM report_row"
        " INDEXED BY report_due_alarm WHERE state = 0 AND kind = '33' AND northbound = ? AND due_ms < ?"
        " AND site NOT IN (SELECT value FROM json_each(?)) ORDER BY due_ms LIMIT ?",
        (northbound, until_ms, json.dumps(sorted(without)), limit),
    )
    return [_row(row) for row in rows]


def _row(row: tuple[Any, ...]) -> Row:
    return Row(Key(*row[:3]), row[3], bool(row[4]), *row[5:])


def confirm(
    connection: sqlite3.Connection,
    northbound: str,
    confirmed: Iterable[tuple[Key, int, bytes, int]],
    now_ms: int,
    again_ms: int,
) -> None:
    """These rows arrived: (key, highest reading in it, digest, whether it was sent 0 or 1). A row with a later reading
    stays due, as late."""
    connection.executemany(
        "UPDATE report_row SET upto = ?1, digest = ?2, sent = sent + ?3,"
        " state = newest <= ?1, late = 1, due_ms = CASE WHEN newest <= ?1 THEN due_ms ELSE ?4 END"
        " WHERE northbound = ?5 AND site = ?6 AND kind = ?7 AND start_ms = ?8",
        [(upto, digest, sent, now_ms + again_ms, northbound, *key) for key, upto, digest, sent in confirmed],
    )


def supersede(
    connection: sqlite3.Connection, northbound: str, sites: Iterable[str], kind: str, before_ms: int
) -> int:
    """Forget rows of a kind of which only the newest is wanted; how many. By site, for the key begins so."""
    return connection.executemany(
        "DELETE FROM report_row WHERE northbound = ? AND site = ? AND kind = ? AND (due_ms < ? OR state = 1)",
        [(northbound, site, kind, before_ms) for site in sites],
    ).rowcount


def follow(connection: sqlite3.Connection, northbound: str, sites: Iterable[str]) -> dict[str, int]:
    """Rows wait for their sites to be reported: what was done with how many."""
    return {
        "no longer are put aside": withdraw(connection, northbound, sites),
        "again are due again": give_back(connection, northbound, sites),
    }


def withdraw(connection: sqlite3.Connection, northbound: str, sites: Iterable[str]) -> int:
    """Put aside what is due for sites that are reported no longer; how many rows."""
    next_site = "SELECT min(site) FROM report_row WHERE northbound = ? AND site > ?"
    kept, gone, site = set(sites), [], ""
    while True:  # from site to site by the key: there are more rows than anybody wants to look at
        (found,) = connection.execute(next_site, (northbound, site)).fetchone()
        if found is None:
            break
        site = str(found)
        if site not in kept:
            gone.append((northbound, site))
    if not gone:
        return 0
    aside = 0
    for _, site in gone:
        rows = connection.execute(
            "UPDATE report_row SET state = 2 WHERE northbound = ? AND site = ? AND state = 0",
            (northbound, site),
        ).rowcount
        if rows:
            aside += rows
            keep_setting(connection, northbound, _ASIDE_KEY + site, "")
    return aside


def give_back(connection: sqlite3.Connection, northbound: str, sites: Iterable[str]) -> int:
    """What is aside for these sites is due again; how many rows."""
    rows = 0
    for site in set(sites_aside(connection, northbound)) & set(sites):
        rows += connection.execute(
            "UPDATE report_row SET state = 0 WHERE northbound = ? AND site = ? AND state = 2",
            (northbound, site),
        ).rowcount
        connection.execute(
            "DELETE FROM report_setting WHERE northbound = ? AND key = ?", (northbound, _ASIDE_KEY + site)
        )
    return rows


def sites_aside(connection: sqlite3.Connection, northbound: str) -> list[str]:
    kept = settings(connection, northbound)
    return sorted(key.removeprefix(_ASIDE_KEY) for key in kept if key.startswith(_ASIDE_KEY))


def tidy(connection: sqlite3.Connection, northbound: str, sites: Iterable[str], now_ms: int) -> None:
    """Forget what is old of these sites: confirmed rows, and which readings there were. What is due keeps its readings.

    The digest of an old row is no loss: it would only be sent once more.
    """
    before_ms = now_ms - REPORT_KEPT_S * 1000
    for site in sites:
        connection.execute(
            "DELETE FROM report_row WHERE northbound = ?1 AND site = ?2 AND (kind, start_ms) IN (SELECT kind, start_ms"
            " FROM report_row WHERE northbound = ?1 AND site = ?2 AND state IN (1, 2) AND end_ms < ?3 LIMIT ?4)",
            (northbound, site, before_ms, REPORT_TIDY_ROWS),
        )
        (oldest_ms,) = connection.execute(  # of any northbound: they share the index
            "SELECT coalesce(min(start_ms), ?1) FROM report_row WHERE site = ?2 AND state = 0",
            (before_ms, site),
        ).fetchone()
        connection.execute(
            "DELETE FROM report_index WHERE site = ?1 AND time < ?2 AND time < coalesce("
            "(SELECT time FROM report_index WHERE site = ?1 ORDER BY time LIMIT 1 OFFSET ?3), ?2)",
            (site, min(before_ms, oldest_ms) // 1000, REPORT_TIDY_ROWS),
        )


def give_up(connection: sqlite3.Connection, northbound: str, sites: Iterable[str], beyond: int) -> int:
    """Forget rows due beyond the bound, some each time: of the shortest periods first, the oldest of these first (some
    of one site together); how many."""
    left = min(beyond, REPORT_GIVE_UP_ROWS)
    gone = 0
    for kind in _kinds(connection, northbound, sites):
        if gone >= left:
            break
        starts_of = functools.partial(_owed_starts, connection, northbound, kind)
        oldest = [(start_ms, site) for site in sites for start_ms in starts_of(site, 0, 1)]
        heapq.heapify(oldest)
        while oldest and gone < left:
            from_ms, site = heapq.heappop(oldest)
            starts = starts_of(site, from_ms, min(_TOGETHER, left - gone))
            connection.executemany(
                "DELETE FROM report_row WHERE northbound = ? AND site = ? AND kind = ? AND start_ms = ?",
                [(northbound, site, kind, start_ms) for start_ms in starts],
            )
            gone += len(starts)
            for start_ms in starts_of(site, from_ms, 1):
                heapq.heappush(oldest, (start_ms, site))
    return gone


def _kinds(connection: sqlite3.Connection, northbound: str, sites: Iterable[str]) -> list[str]:
    """Those that there are rows of, by the length of their periods."""
    periods: dict[str, int] = {}
    for site in sites:
        kind = ""
        while (row := connection.execute(_NEXT_KIND, (northbound, site, kind)).fetchone()) is not None:
            kind = row[0]
            periods.setdefault(kind, row[1])
    return sorted(periods, key=lambda kind: (periods[kind], kind))


def _owed_starts(
    connection: sqlite3.Connection, northbound: str, kind: str, site: str, from_ms: int, limit: int
) -> list[int]:
    return [row[0] for row in connection.execute(OWED_STARTS, (site, from_ms, northbound, kind, limit))]


def count(connection: sqlite3.Connection, northbound: str, until_ms: int, most: int = -1) -> int:
    """Rows that are due by then; counted are no more than about `most`."""
    return int(
        sum(
            connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM report_row INDEXED BY report_due"
                " WHERE state = 0 AND northbound = ? AND late = ? AND due_ms < ? LIMIT ?)",
                (northbound, late, until_ms, most),
            ).fetchone()[0]
            for late in (0, 1)
        )
    )


def oldest_ms(connection: sqlite3.Connection, northbound: str, until_ms: int) -> int | None:
    """Since when the row is due that waits longest; None when none is due by then."""
    found = [
        connection.execute(
            "SELECT min(due_ms) FROM report_row INDEXED BY report_due"
            " WHERE state = 0 AND northbound = ? AND late = ? AND due_ms < ?",
            (northbound, late, until_ms),
        ).fetchone()[0]
        for late in (0, 1)
    ]
    return min((value for value in found if value is not None), default=None)


def next_due_ms(connection: sqlite3.Connection, northbound: str, now_ms: int) -> int | None:
    """When the next row becomes due, from now on; None when none will."""
    found = [
        connection.execute(
            "SELECT min(due_ms) FROM report_row INDEXED BY report_due"
            " WHERE state = 0 AND northbound = ? AND late = ? AND due_ms >= ?",
            (northbound, late, now_ms),
        ).fetchone()[0]
        for late in (0, 1)
    ]
    return min((value for value in found if value is not None), default=None)


def readings(
    connection: sqlite3.Connection, known: Mapping[int, Epoch], site: str, start_ms: int, end_ms: int, upto: int
) -> list[Reading]:  # fmt: skip
    """The readings of a site in a period, by time, without those that came after `upto`."""
    rows = connection.execute(
        "SELECT r.id, r.epoch, r.seq, r.backlog, r.received_ms, r.time, r.tq, r.schema, r.flags, r.body,"
        " r.print, r.boot_time FROM report_index i JOIN reading r ON r.id = i.reading"
        " WHERE i.site = ? AND i.time >= ? AND i.time < ? AND i.reading <= ? ORDER BY i.time, i.reading LIMIT ?",
        (site, -(-start_ms // 1000), -(-end_ms // 1000), upto, ROW_READINGS_MAX),
    )
    return recovery.decoded(known, rows)


def gone(connection: sqlite3.Connection, site: str, start_ms: int, end_ms: int, upto: int) -> int:
    """How many readings of a period there were that are in the store no more."""
    (count,) = connection.execute(
        "SELECT count(*) FROM report_index i WHERE i.site = ? AND i.time >= ? AND i.time < ? AND i.reading <= ?"
        " AND NOT EXISTS (SELECT 1 FROM reading r WHERE r.id = i.reading)",
        (site, -(-start_ms // 1000), -(-end_ms // 1000), upto),
    ).fetchone()
    return int(count)


def held(connection: sqlite3.Connection, northbound: str) -> Intervals:
    """The readings that rows due are made of: they must stay."""
    rows = connection.execute(
        "SELECT DISTINCT i.reading FROM report_row w INDEXED BY report_due JOIN report_index i ON i.site = w.site"
        " AND i.time >= (w.start_ms + 999) / 1000 AND i.time < (w.end_ms + 999) / 1000"
        " WHERE w.northbound = ? AND w.late IN (0, 1) AND w.state = 0 ORDER BY i.reading",
        (northbound,),
    )
    found = Intervals()
    for (reading,) in rows:
        found.add(reading, reading)
    return found


def held_of_site(
    connection: sqlite3.Connection, northbound: str, site: str, until_ms: int
) -> tuple[int, list[tuple[int, int]]]:
    """Of one site: how many rows are due by then, and the readings that rows due are made of, as runs."""
    (due,) = connection.execute(
        "SELECT count(*) FROM report_row INDEXED BY report_due_of_site"
        " WHERE site = ? AND state = 0 AND northbound = ? AND due_ms < ?",
        (site, northbound, until_ms),
    ).fetchone()
    runs = connection.execute(
        "SELECT min(reading), max(reading) FROM (SELECT reading, reading - row_number() OVER (ORDER BY reading) AS run"
        " FROM (SELECT DISTINCT i.reading AS reading FROM report_row w INDEXED BY report_due_of_site"
        " JOIN report_index i ON i.site = w.site"
        " AND i.time >= (w.start_ms + 999) / 1000 AND i.time < (w.end_ms + 999) / 1000"
        " WHERE w.site = ? AND w.state = 0 AND w.northbound = ?)) GROUP BY run ORDER BY run",
        (site, northbound),
    )
    return int(due), runs.fetchall()


def settings(connection: sqlite3.Connection, northbound: str) -> dict[str, str]:
    """What was kept for a northbound."""
    rows = connection.execute("SELECT key, value FROM report_setting WHERE northbound = ?", (northbound,))
    return dict(rows.fetchall())


def keep_setting(connection: sqlite3.Connection, northbound: str, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO report_setting VALUES (?, ?, ?)", (northbound, key, value))


# A reading is owed while a row that it belongs to is due and was not confirmed up to it.
_OWED = """SELECT r.epoch, count(DISTINCT r.id) FROM report_row w
    JOIN report_index i ON i.site = w.site AND i.reading > w.upto AND i.reading < ?2
        AND i.time >= (w.start_ms + 999) / 1000 AND i.time < (w.end_ms + 999) / 1000
    JOIN reading r ON r.id = i.reading
    WHERE w.northbound = ?1 AND {} GROUP BY r.epoch"""
OWED = _OWED.format("w.state = 0")
_OWED_ASIDE = _OWED.format("w.site = ?3 AND w.state = 2")


def owed(connection: sqlite3.Connection, northbound: str, next_reading: int) -> list[tuple[int, int]]:
    """(epoch, readings below `next_reading` that wait in rows, and in those that are aside): for audit.py, which may
    meet an older database."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'report_setting'").fetchone() is None:
        return []
    found: list[tuple[int, int]] = connection.execute(OWED, (northbound, next_reading)).fetchall()
    for site in sites_aside(connection, northbound):
        found += connection.execute(_OWED_ASIDE, (northbound, next_reading, site)).fetchall()
    return found
