"""The books of the store: what every node produced is delivered, queued, missing or listed as lost. Nothing
else.

Worked out from the rows alone, by anyone who can read the database file, while the daemon runs or not:
the ledgers that the daemon acknowledges by are checked here, not believed.

    produced  = highest seq known of an epoch, from its first one on, without those made in the epoch before, and
                those that were removed before this northbound was there
    stored    = delivered + queued, for each northbound; what was removed after it was delivered is delivered
    missing   = neither stored nor lost: the node still holds them and will send them
    lost      = listed: no node holds them and we never had them, or there was no room until this northbound had them
    copies    = rows beyond one for a seq: must be 0
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway import report_rows
from gateway.intervals import Intervals
from gateway.schema import ALL

TOTALS = ("produced", "stored", "delivered", "queued", "missing", "lost", "copies")


class Balance(NamedTuple):
    """One node and one northbound; northbound is "" where none is configured and everything stays in the store."""

    node: int
    northbound: str
    produced: int
    stored: int
    delivered: int
    queued: int
    missing: int
    lost: int
    copies: int

    @property
    def holds(self) -> bool:
        """Whether every record produced is accounted for once."""
        accounted = self.delivered + self.queued + self.missing + self.lost
        return self.produced == accounted and self.copies == 0 and min(self[2:]) >= 0

    def line(self, device: str | None = None) -> str:
        """The row as a person reads it; `device`: the name of one that is no node."""
        who = f"device {device}" if device else f"node {self.node:04x}"
        counts = " ".join(f"{key}={getattr(self, key)}" for key in TOTALS)
        return f"{who} {self.northbound or '(no northbound)'}: {counts}"


def balance(connection: sqlite3.Connection, northbounds: Sequence[str] = ()) -> list[Balance]:
    """The books by node and northbound: those in `northbounds`, and any that ever delivered."""
    epochs = _epochs(connection)
    progress = _progress(connection)
    names = sorted({*northbounds, *progress}) or [""]
    rows = []
    for name in names:
        queued = _queued(connection, name, progress.get(name))
        rows += _by_node(epochs, name, queued, _retired(connection, name))
    return rows


class _Epoch(NamedTuple):
    row_id: int
    node: int
    produced: int
    stored: int
    distinct: int
    lost: int


class _Retired(NamedTuple):
    """Rows of one epoch that were removed: all, those that a northbound had had, and those it never had."""

    all: int
    delivered: int
    evicted: int


_NONE_RETIRED = _Retired(0, 0, 0)


def _by_node(
    epochs: list[_Epoch], name: str, queued: dict[int, int], retired: dict[int, _Retired]
) -> list[Balance]:
    sums: dict[int, list[int]] = defaultdict(lambda: [0] * 7)
    for epoch in epochs:
        waiting = queued.get(epoch.row_id, 0)
        gone = retired.get(epoch.row_id, _NONE_RETIRED)
        stored = epoch.stored + gone.delivered
        values = (
            epoch.produced - (gone.all - gone.delivered - gone.evicted),
            stored,
            stored - waiting,
            waiting,
            epoch.produced - epoch.distinct - gone.all - epoch.lost,
            epoch.lost + gone.evicted,
            epoch.stored - epoch.distinct,
        )
        total = sums[epoch.node]
        for index, value in enumerate(values):
            total[index] += value
    return [Balance(node, name, *sums[node]) for node in sorted(sums)]


def _epochs(connection: sqlite3.Connection) -> list[_Epoch]:
    stored = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT epoch, count(*), count(DISTINCT seq), max(seq) FROM "
            "(SELECT epoch, seq FROM reading UNION ALL SELECT epoch, seq FROM event) GROUP BY epoch"
        )
    }
    lost = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT epoch, sum((last - first + 1) * (elsewhere = 0)), sum((last - first + 1) * (elsewhere = "
            "1)), "
            "max(last) FROM lost GROUP BY epoch"
        )
    }
    highest_gone = dict(
        connection.execute("SELECT epoch, highest FROM retired WHERE northbound = ?", (ALL,)).fetchall()
    )
    found = []
    for row_id, node, first_seq in connection.execute(
        "SELECT id, node, first_seq FROM epoch ORDER BY node, id"
    ):
        count, distinct, highest = stored.get(row_id, (0, 0, first_seq - 1))
        gone, elsewhere, last = lost.get(row_id, (0, 0, first_seq - 1))
        produced = max(highest, last, highest_gone.get(row_id, 0)) - first_seq + 1 - elsewhere
        found.append(_Epoch(row_id, node, produced, count, distinct, gone))
    return found


def _retired(connection: sqlite3.Connection, name: str) -> dict[int, _Retired]:
    def of(northbound: str) -> dict[int, int]:
        rows = connection.execute("SELECT epoch, records FROM retired WHERE northbound = ?", (northbound,))
        return dict(rows.fetchall())

    delivered = of(name)
    listed = connection.execute(
        "SELECT epoch, sum(last - first + 1) FROM evicted WHERE northbound = ? GROUP BY epoch", (name,)
    )
    evicted = dict(listed.fetchall())
    return {
        epoch: _Retired(count, delivered.get(epoch, 0), evicted.get(epoch, 0))
        for epoch, count in of(ALL).items()
    }


class _Progress(NamedTuple):
    event_cursor: int
    next_reading: int
    owed: bytes


def _progress(connection: sqlite3.Connection) -> dict[str, _Progress]:
    rows = connection.execute("SELECT northbound, event_cursor, next_reading, owed FROM progress")
    return {row[0]: _Progress(*row[1:]) for row in rows}


def _queued(connection: sqlite3.Connection, name: str, progress: _Progress | None) -> dict[int, int]:
    """How many records of each epoch (by row id) a northbound still owes; all of them when it never delivered.

    A northbound of rows (report_rows.py) owes a reading until every row that it belongs to is confirmed; what belongs
    to none, such as readings of a site that it does not report on, it does not owe.
    """
    cursor, next_reading, owed = progress or _Progress(0, 0, b"")
    counts: dict[int, int] = defaultdict(int)

    def add(query: str, *values: int) -> None:
        for epoch, count in connection.execute(query + " GROUP BY epoch", values):
            counts[epoch] += count

    add("SELECT epoch, count(*) FROM event WHERE id > ?", cursor)
    add("SELECT epoch, count(*) FROM reading WHERE id >= ?", next_reading)
    intervals = Intervals.unpack(owed)
    for start, end in zip(intervals.starts, intervals.ends, strict=True):
        add("SELECT epoch, count(*) FROM reading WHERE id BETWEEN ? AND ?", start, end)
    for epoch, count in report_rows.owed(connection, name, next_reading):
        counts[epoch] += count
    return counts


def summary(rows: Sequence[Balance]) -> dict[str, Any]:
    """Totals and rows for programs; the totals are those of the northbound that is furthest behind."""
    by_northbound: dict[str, list[Balance]] = defaultdict(list)
    for row in rows:
        by_northbound[row.northbound].append(row)
    totals = [[sum(getattr(row, key) for row in group) for key in TOTALS] for group in by_northbound.values()]
    worst = min(totals, key=lambda total: total[TOTALS.index("delivered")], default=[0] * len(TOTALS))
    return {
        **dict(zip(TOTALS, worst, strict=True)),
        "holds": all(row.holds for row in rows),
        "rows": [{**row._asdict(), "node": f"{row.node:04x}", "holds": row.holds} for row in rows],
    }


def one_line(totals: dict[str, Any]) -> str:
    """The totals as a person or a script reads them."""
    return " ".join(f"{key}={totals[key]}" for key in TOTALS) + f" holds={'yes' if totals['holds'] else 'NO'}"
