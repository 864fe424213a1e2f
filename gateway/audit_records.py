"""The books to the record: which ones are missing, listed as lost, or there twice. From the rows alone, as audit.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from gateway.asking import date_of

MISSING, LOST, ELSEWHERE, TWICE = "missing", "lost", "in the epoch before", "twice"


class Run(NamedTuple):
    """Records of one epoch, first to last, that are not simply there; `at_ms`: since when that is known."""

    node: int
    epoch: int
    what: str
    first: int
    last: int
    at_ms: int | None = None

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def names(connection: sqlite3.Connection) -> dict[int, str]:
    """What the devices are called, by address; nodes go by theirs."""
    return dict(connection.execute("SELECT address, name FROM device"))


def line(run: Run, devices: dict[int, str]) -> str:
    """A run as a person reads it."""
    who = f"device {devices[run.node]}" if run.node in devices else f"node {run.node:04x}"
    seqs = f"{run.first}" if run.first == run.last else f"{run.first} to {run.last}"
    since = f", known since {date_of(run.at_ms)}" if run.at_ms else ""
    return f"{who} epoch {run.epoch}: {run.what} {seqs} ({run.size}){since}"


# Everything that is known of records, in their order. Sorted once for all epochs: there is no index to go by
# (schema.py), and a look at the tables for each of ten thousand nodes would take hours. SQLite sorts in files.
_KNOWN = """SELECT e.id, e.node, e.number, e.first_seq, k.first, k.last, k.elsewhere, k.at_ms FROM (
        SELECT epoch, seq AS first, seq AS last, NULL AS elsewhere, NULL AS at_ms FROM reading
        UNION ALL SELECT epoch, seq, seq, NULL, NULL FROM event
        UNION ALL SELECT epoch, first, last, elsewhere, at_ms FROM lost
    ) k JOIN epoch e ON e.id = k.epoch ORDER BY e.node, e.id, k.first"""
_Known = tuple[int, int, int, int, int, int, int | None, int | None]


def runs(connection: sqlite3.Connection) -> Iterator[Run]:
    """Every run, by node and epoch, in the order of seq."""
    rows: Iterator[_Known] = iter(connection.execute(_KNOWN))
    for _, of_epoch in groupby(rows, itemgetter(0)):
        yield from _of_epoch(of_epoch)


def _of_epoch(rows: Iterator[_Known]) -> Iterator[Run]:
    """One pass over what is there and what is listed, by seq: what lies between two of them is missing."""
    expected = node = number = 0
    twice: list[int] = []
    for _, node, number, first_seq, first, last, elsewhere, at_ms in rows:
        expected = expected or first_seq
        if first > expected:
            yield Run(node, number, MISSING, expected, first - 1)
        if at_ms is not None:
            yield Run(node, number, ELSEWHERE if elsewhere else LOST, first, last, at_ms)
        elif first < expected:
            twice.append(first)
        expected = max(expected, last + 1)
    for _, group in groupby(enumerate(twice), lambda pair: pair[1] - pair[0]):
        seqs = [*map(itemgetter(1), group)]
        yield Run(node, number, TWICE, seqs[0], seqs[-1])
