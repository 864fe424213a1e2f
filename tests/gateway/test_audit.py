"""The books of the store are worked out from its rows alone, and do not balance when a row is missing or
doubled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import audit_records, schema
from gateway.audit import Balance, balance, one_line, summary
from gateway.intervals import Intervals

NODE = 0x12


class Books:
    """A database with rows as the store writes them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.db = database
        self.ids = {"reading": 0, "event": 0}

    def epoch(self, row_id: int, *, node: int = NODE, first_seq: int = 1) -> None:
        self._insert("epoch", id=row_id, node=node, number=row_id * 1000, first_seq=first_seq)

    def reading(self, epoch: int, *seqs: int) -> None:
        for seq in seqs:
            self.ids["reading"] += 1
            self._insert("reading", id=self.ids["reading"], epoch=epoch, seq=seq)

    def event(self, epoch: int, *seqs: int) -> None:
        for seq in seqs:
            self.ids["event"] += 1
            self._insert("event", id=self.ids["event"], epoch=epoch, seq=seq)

    def lost(self, epoch: int, first: int, last: int, *, elsewhere: int = 0) -> None:
        self._insert("lost", epoch=epoch, first=first, last=last, elsewhere=elsewhere)

    def progress(self, name: str, event_cursor: int, next_reading: int, *owed: tuple[int, int]) -> None:
        runs = Intervals()
        for first, last in owed:
            runs.add(first, last)
        self._insert(
            "progress",
            northbound=name,
            event_cursor=event_cursor,
            next_reading=next_reading,
            owed=runs.pack(),
        )

    def _insert(self, table: str, **values: object) -> None:
        """Columns that say nothing here are filled with something of their type."""
        for _, name, kind, not_null, default, _ in self.db.execute(f"PRAGMA table_info({table})"):
            if not_null and default is None:
                values.setdefault(name, {"INTEGER": 0, "TEXT": "null", "BLOB": b""}[kind])
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        self.db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(values.values()))

    def row(self, northbound: str = "") -> Balance:
        [row] = [row for row in balance(self.db) if row.northbound == northbound]
        return row


@pytest.fixture
def books() -> Iterator[Books]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    schema.create(database, ())
    made = Books(database)
    made.epoch(1)
    yield made
    database.close()


def test_without_a_northbound_everything_is_queued(books: Books) -> None:
    books.reading(1, 1, 2, 4)
    books.event(1, 3)
    assert books.row() == Balance(NODE, "", 4, 4, 0, 4, 0, 0, 0)
    assert books.row().holds


def test_what_a_northbound_owes_is_queued_and_the_rest_delivered(books: Books) -> None:
    books.reading(1, 1, 2, 3, 4, 5, 6)
    books.event(1, 7, 8, 9)
    books.progress("city", 2, 6, (2, 3))
    row = books.row("city")
    assert (row.delivered, row.queued, row.holds) == (3 + 2, 2 + 1 + 1, True)


def test_a_gap_is_missing_until_it_is_listed_as_lost(books: Books) -> None:
    books.reading(1, 1, 2, 6)
    assert (books.row().produced, books.row().missing, books.row().lost) == (6, 3, 0)
    books.lost(1, 3, 4)
    assert (books.row().missing, books.row().lost) == (1, 2)
    books.lost(1, 5, 5)
    assert (books.row().missing, books.row().lost) == (0, 3)
    assert books.row().holds


def test_records_made_in_the_epoch_before_count_there_once(books: Books) -> None:
    books.reading(1, 1, 2, 3)
    books.epoch(2)
    books.lost(2, 1, 3, elsewhere=1)
    books.reading(2, 4, 5)
    row = books.row()
    assert (row.produced, row.stored, row.missing, row.lost, row.holds) == (5, 5, 0, 0, True)


def test_an_epoch_that_begins_late_is_not_missing_what_came_before(books: Books) -> None:
    books.epoch(2, node=0x13, first_seq=501)
    books.reading(2, 501, 502)
    [row] = [row for row in balance(books.db) if row.node == 0x13]
    assert (row.produced, row.missing, row.holds) == (2, 0, True)


def test_a_record_lost_at_the_end_is_still_produced(books: Books) -> None:
    books.reading(1, 1)
    books.lost(1, 2, 5)
    assert (books.row().produced, books.row().lost, books.row().holds) == (5, 4, True)


def test_a_record_stored_twice_does_not_balance(books: Books) -> None:
    books.reading(1, 1, 2)
    books.event(1, 2)
    assert books.row().copies == 1
    assert not books.row().holds
    assert "copies=1" in books.row().line()


def test_a_record_both_stored_and_lost_does_not_balance(books: Books) -> None:
    books.reading(1, 1, 2, 3)
    books.lost(1, 2, 2)
    assert books.row().missing == -1
    assert not books.row().holds


def test_the_totals_are_those_of_the_northbound_furthest_behind(books: Books) -> None:
    books.reading(1, 1, 2, 3)
    books.progress("city", 0, 4)
    books.progress("county", 0, 2)
    totals = summary(balance(books.db, ["new"]))
    assert [(row["northbound"], row["delivered"]) for row in totals["rows"]] == [
        ("city", 3),
        ("county", 1),
        ("new", 0),
    ]
    assert one_line(totals) == "produced=3 stored=3 delivered=0 queued=3 missing=0 lost=0 copies=0 holds=yes"
    assert summary([])["holds"]


# --- to the record ------------------------------------------------------------------------------


def listed(books: Books) -> list[tuple[str, int, int]]:
    return [(run.what, run.first, run.last) for run in audit_records.runs(books.db)]


def test_every_record_that_is_not_simply_there_is_listed(books: Books) -> None:
    books.reading(1, 2, 3, 7, 7, 8, 8, 12)
    books.event(1, 5)
    books.lost(1, 9, 10)
    books.lost(1, 1, 1, elsewhere=1)
    assert listed(books) == [
        ("in the epoch before", 1, 1),
        ("missing", 4, 4),
        ("missing", 6, 6),
        ("lost", 9, 10),
        ("missing", 11, 11),
        ("twice", 7, 8),
    ]


def test_an_epoch_begins_where_it_says(books: Books) -> None:
    books.epoch(2, first_seq=5)
    books.reading(2, 6)
    assert listed(books) == [("missing", 5, 5)]


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)), st.lists(st.integers(1, 40), max_size=5))
def test_the_list_and_the_books_count_alike(readings: set[int], lost: set[int], again: list[int]) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        schema.create(database, ())
        books = Books(database)
        books.epoch(1)
        lost -= readings
        doubled = [seq for seq in again if seq in readings]
        books.reading(1, *sorted(readings), *doubled)
        for seq in lost:
            books.lost(1, seq, seq)
        (row,) = balance(database)
        found = list(audit_records.runs(database))
        for what, count in (("missing", row.missing), ("lost", row.lost)):
            assert sum(run.size for run in found if run.what == what) == count
        assert sum(run.size for run in found if run.what == "twice") >= len(set(doubled))


def test_a_run_is_told_in_a_line() -> None:
    run = audit_records.Run(1 << 31, 7, "lost", 3, 5, 1_790_000_000_000)
    told = "device level-1 epoch 7: lost 3 to 5 (3), known since 2026-09-21 14:13:20Z"
    assert audit_records.line(run, {1 << 31: "level-1"}) == told
    assert (
        audit_records.line(run._replace(node=0x12, last=3, at_ms=None), {}) == "node 0012 epoch 7: lost 3 (1)"
    )
