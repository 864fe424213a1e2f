"""Out of a damaged database into one that was just made: every row that can still be read, and a list of the rest.

Rows are taken from the pages of the old file (sqlite_pages.py). A reading or an event counts only when it matches its
fingerprint: a value that the disk has changed is not delivered. What the ledgers say was committed, and no row shows,
is listed as lost, so that the books balance and nobody waits for it. What was committed after the ledgers were last
written, and is gone, is not known to anybody but its node: the node's own word "I hold nothing below" lists it, as it
does any other gap (store.py). For the gateway's own epochs, which no node speaks for, gaps are listed here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway import fingerprints, twice
from gateway.intervals import Intervals
from gateway.records import OWN_EPOCHS
from gateway.schema import ALL
from gateway.sqlite_pages import Pages, Row, Value

# meta says what this database is, and `seen` is made again from the rows.
_LEFT = ("meta", "seen")
_KINDS = {"INTEGER": int, "TEXT": str, "BLOB": bytes}
# Rows that are written at once.
_CHUNK = 500


@dataclass
class Salvaged:
    """What became of it."""

    rows: dict[str, int] = field(default_factory=dict)
    spoilt: int = 0  # rows that are there and not what they were
    broken: list[str] = field(default_factory=list)  # tables to which not every way is intact
    listed: int = 0  # records listed as lost
    nodeless: int = 0  # records whose epoch is gone: nobody knows whose they are

    def text(self) -> str:
        kept = ", ".join(f"{count} {name}" for name, count in self.rows.items() if count) or "nothing"
        told = f"carried over: {kept}; listed as lost: {self.listed} records"
        if self.broken:
            told += f"; damaged: {', '.join(self.broken)}"
        if self.spoilt or self.nodeless:
            told += f"; {self.spoilt} rows were altered and {self.nodeless} have no owner any more"
        return told


class _Column(NamedTuple):
    name: str
    kind: str
    not_null: bool


class _Table(NamedTuple):
    name: str
    columns: list[_Column]  # as a row on a page has them
    rowid: int | None  # which of them is the row's number, which is not in the row itself

    def values_of(self, row: Row) -> tuple[Value, ...] | None:
        """The row as this table has it; None when it cannot be one."""
        values = list(row.values)
        if (self.rowid is None) != (row.rowid is None) or not 0 < len(values) <= len(self.columns):
            return None
        if self.rowid is not None:
            if values[self.rowid] is not None:
                return None
            values[self.rowid] = row.rowid
        for value, column in zip(values, self.columns, strict=False):
            wanted = _KINDS.get(column.kind)
            if value is None:
                if column.not_null:
                    return None
            elif wanted is not None and not isinstance(value, wanted):
                return None
        return tuple(values) if _is_plausible(self.name, values) else None


def salvage(
    connection: sqlite3.Connection, aside: Path, roots_before: Mapping[str, int], at_ms: int
) -> Salvaged:
    """Fill the new database from the old file. `roots_before`: where its tables began, as noted while it was whole."""
    pages = Pages(aside)
    told = Salvaged()
    roots = {**pages.roots(), **roots_before}
    tables = [_described(connection, name) for name in _names(connection)]
    claimed: set[int] = set()
    for name, root in roots.items():
        found, is_whole = pages.walk(root)
        claimed.update(found)
        if not is_whole:
            told.broken.append(name)
    stray = [n for n in range(1, pages.count + 1) if n not in claimed and pages.is_leaf(n)]
    free = pages.free() if stray else set()
    stray = [number for number in stray if number not in free]
    connection.execute("BEGIN IMMEDIATE")
    for table in tables:
        numbers = pages.walk(roots[table.name])[0] if table.name in roots else []
        may_stray = table.name not in roots or table.name in told.broken
        told.rows[table.name] = _carry(connection, table, pages, numbers, told)
        if may_stray:
            told.rows[table.name] += _carry(connection, table, pages, stray, None)
    twice.restore(connection)
    spoken_for = _own(connection, pages, roots, told)
    _list_gaps(connection, told, at_ms, spoken_for)
    connection.execute("UPDATE epoch SET dn_hold = 1, upto_reading = 0, upto_event = 0")
    connection.execute("COMMIT")
    return told


def _names(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [name for (name,) in rows if name not in _LEFT]


def _described(connection: sqlite3.Connection, name: str) -> _Table:
    rows = connection.execute(f"PRAGMA table_info({name})").fetchall()
    ((has_no_rowid,),) = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE name = ? AND schema = 'main'", (name,)
    )
    key = sorted((row for row in rows if row[5]), key=lambda row: int(row[5]))
    if has_no_rowid:
        rows = key + [row for row in rows if not row[5]]
    columns = [_Column(row[1], row[2], bool(row[3] or row[5])) for row in rows]
    is_number = not has_no_rowid and len(key) == 1 and key[0][2] == "INTEGER"
    return _Table(name, columns, rows.index(key[0]) if is_number else None)


# Values that a row has at least: only epochs have got a column since.
_LEAST = {"reading": 13, "event": 13, "lost": 5}


def _is_plausible(name: str, values: Sequence[Value]) -> bool:
    if len(values) < _LEAST.get(name, 1):
        return False
    if name == "reading":
        time = values[7] if values[8] is None else values[8]
        return fingerprints.of_reading(values[1], values[2], values[12], time, values[10]) == values[4]  # type: ignore[arg-type]
    if name == "event":
        kind, epoch, seq = values[1:4]
        print_, time, boot_time, tq, code, state, detail = values[5], *values[7:]
        said = time if boot_time is None else boot_time
        return fingerprints.of_event(epoch, seq, kind, said, tq, code, state, detail) == print_  # type: ignore[arg-type]
    if name == "lost":
        return values[1] <= values[2] and values[3] in (0, 1)  # type: ignore[operator]
    return True


def _carry(
    connection: sqlite3.Connection, table: _Table, pages: Pages, numbers: list[int], told: Salvaged | None
) -> int:
    """Insert the table's rows on those pages; how many. `told` counts those that are spoilt."""
    carried = 0
    for chunk in _chunks(pages.rows(numbers)):
        for row in chunk:
            values = table.values_of(row)
            if values is None:
                if told is not None:
                    told.spoilt += 1
                continue
            names = ", ".join(column.name for column in table.columns[: len(values)])
            marks = ", ".join("?" * len(values))
            try:
                carried += connection.execute(
                    f"INSERT OR IGNORE INTO {table.name} ({names}) VALUES ({marks})", values
                ).rowcount
            except sqlite3.IntegrityError:
                if told is not None:
                    told.spoilt += 1
    return carried


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _own(connection: sqlite3.Connection, pages: Pages, roots: Mapping[str, int], told: Salvaged) -> set[int]:
    """Epochs whose row is gone, and whose records are not: the index over them tells whose they are. Those found."""
    found: set[int] = set()
    orphans = {
        row[0]: row[1]
        for row in connection.execute(
            "SELECT epoch, min(seq) FROM (SELECT epoch, seq FROM reading UNION ALL SELECT epoch, seq FROM event)"
            " WHERE epoch NOT IN (SELECT id FROM epoch) GROUP BY epoch"
        )
    }
    index = roots.get("sqlite_autoindex_epoch_1")
    for row in pages.rows(pages.walk(index)[0]) if index is not None and orphans else ():
        if len(row.values) == 3 and all(isinstance(value, int) for value in row.values):
            node, number, epoch = row.values
            if epoch in orphans:
                first = orphans.pop(epoch)
                found.add(int(epoch))  # type: ignore[arg-type]
                connection.execute(
                    "INSERT OR IGNORE INTO epoch (id, node, number, opened_ms, first_seq, cum, runs, highest_set,"
                    " highest_piv, window, dn_reserved, dn_hold, upto_reading, upto_event)"
                    " VALUES (?, ?, ?, 0, ?, ?, x'', ?, 0, 0, 0, 1, 0, 0)",
                    (epoch, node, number, first, first - 1, first - 1),
                )
    for table in ("reading", "event", "lost", "retired", "evicted"):
        gone = connection.execute(f"DELETE FROM {table} WHERE epoch NOT IN (SELECT id FROM epoch)").rowcount
        told.nodeless += gone if table in ("reading", "event") else 0
    return found


def _list_gaps(connection: sqlite3.Connection, told: Salvaged, at_ms: int, spoken_for: set[int]) -> None:
    """Of each epoch: what was committed, by its ledger, and is neither a row, nor listed, nor removed on purpose."""
    there = _seqs(connection)
    lost: dict[int, Intervals] = defaultdict(Intervals)
    for epoch, first, last in connection.execute("SELECT epoch, first, last FROM lost"):
        lost[epoch].add(first, last)
    removed = dict(
        connection.execute("SELECT epoch, records FROM retired WHERE northbound = ?", (ALL,)).fetchall()
    )
    (bound,) = connection.execute(
        "SELECT coalesce((SELECT max(id) FROM reading), 0) + coalesce((SELECT max(id) FROM event), 0)"
    ).fetchone()
    for epoch, number, first_seq, cum, runs in connection.execute(
        "SELECT id, number, first_seq, cum, runs FROM epoch"
    ).fetchall():
        known = _known(first_seq, cum, runs)
        have = there.get(epoch, Intervals())
        if (number >= OWN_EPOCHS or epoch in spoken_for) and have:
            known.add(first_seq, have.ends[-1])
        gaps = Intervals()
        for first, last in known:
            for gap in have.missing(first, last):
                for run in lost[epoch].missing(*gap):
                    gaps.add(*run)
        # Rows leave in the order of their age, so those that were removed are the first ones.
        _forget_first(gaps, removed.get(epoch, 0))
        if gaps.count() > max(bound, 1) * 4 + 100_000:  # no gateway had so many records: the ledger is spoilt
            connection.execute(
                "UPDATE epoch SET cum = first_seq - 1, runs = x'', highest_set = first_seq - 1 WHERE id = ?",
                (epoch,),
            )
            continue
        told.listed += gaps.count()
        connection.executemany(
            "INSERT OR IGNORE INTO lost (epoch, first, last, elsewhere, at_ms) VALUES (?, ?, ?, 0, ?)",
            [(epoch, first, last, at_ms) for first, last in gaps],
        )


def _known(first_seq: int, cum: int, runs: bytes) -> Intervals:
    try:
        known = Intervals.unpack(runs)
    except ValueError:
        known = Intervals()
    if cum >= first_seq:
        known.add(first_seq, cum)
    return known


def _forget_first(gaps: Intervals, count: int) -> None:
    while count > 0 and gaps:
        first, last = gaps.starts[0], gaps.ends[0]
        taken = min(count, last - first + 1)
        gaps.remove(first, first + taken - 1)
        count -= taken


def _seqs(connection: sqlite3.Connection) -> dict[int, Intervals]:
    there: dict[int, Intervals] = defaultdict(Intervals)
    rows: Iterable[tuple[int, int]] = connection.execute(
        "SELECT epoch, seq FROM (SELECT epoch, seq FROM reading UNION ALL SELECT epoch, seq FROM event)"
        " ORDER BY epoch, seq"
    )
    for epoch, seq in rows:
        there[epoch].add(seq, seq)
    return there


# ---- where tables begin ----------------------------------------------------------------------------------------


def note_roots(connection: sqlite3.Connection, database: Path) -> None:
    """Keep beside the database where its tables begin, for when its first page is spoilt."""
    rows = connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0 ORDER BY name")
    text = json.dumps(dict(rows.fetchall()))
    file = _roots_file(database)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def roots_noted(database: Path) -> dict[str, int]:
    try:
        noted = json.loads(_roots_file(database).read_text(encoding="utf-8"))
        return {str(name): int(root) for name, root in noted.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _roots_file(database: Path) -> Path:
    return database.with_name(database.name + ".roots")
