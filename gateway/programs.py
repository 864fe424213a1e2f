"""Which program each node runs, as it told last: board, firmware and release. It outlives the gateway's process.

A hello names all three (SPEC.md section 2.1), an update status the release. While a release is on trial it is the one
that is named; after a rollback the hello of the next start names the one before.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS node_program (
        node INTEGER PRIMARY KEY,
        board TEXT NOT NULL,
        sequence INTEGER NOT NULL,          -- 0: not known, or no release
        at_ms INTEGER NOT NULL,             -- since when it is so
        firmware TEXT NOT NULL DEFAULT ''   -- version; empty: not known
    ) STRICT""",
)
# Of a node type, the releases that most nodes run are counted one by one, the others together.
RELEASES_MAX = 10
_FIRMWARE = re.compile(r"(?P<version>[^+]*)(?:\+r(?P<release>[0-9]{1,10}))?")


class Program(NamedTuple):
    """A row. `release` 0: not known, or it is none; `firmware` "": not known."""

    board: str = ""
    release: int = 0
    firmware: str = ""
    at_ms: int = 0


UNKNOWN = Program()


def split(text: str) -> tuple[str, int]:
    """Version and release of a hello's firmware: 0.1.0+r12. Release 0: it is none."""
    found = _FIRMWARE.fullmatch(text)
    if found is None:
        return text, 0
    return found["version"], int(found["release"] or 0)


def of_node(connection: sqlite3.Connection, node: int) -> Program:
    row = connection.execute(
        "SELECT board, sequence, firmware, at_ms FROM node_program WHERE node = ?", (node,)
    ).fetchone()
    return UNKNOWN if row is None else Program(*row)


def every(connection: sqlite3.Connection) -> dict[int, Program]:
    """Of all nodes that told anything."""
    rows = connection.execute("SELECT node, board, sequence, firmware, at_ms FROM node_program")
    return {row[0]: Program(*row[1:]) for row in rows}


def boards(connection: sqlite3.Connection) -> dict[int, str]:
    return dict(connection.execute("SELECT node, board FROM node_program"))


def of_hello(board: str, firmware: str, at_ms: int) -> Program:
    version, release = split(firmware)
    return Program(board, release, version, at_ms)


def note(connection: sqlite3.Connection, node: int, now: Program) -> None:
    """`at_ms` stays the moment from which on it is so."""
    if now[:3] != of_node(connection, node)[:3]:
        connection.execute(
            "INSERT OR REPLACE INTO node_program (node, board, sequence, firmware, at_ms) VALUES (?, ?, ?, ?, ?)",
            (node, *now),
        )


def counted(known: Mapping[int, Program], types: Mapping[int, str]) -> dict[str, dict[str, int]]:
    """Node type → release → nodes that said to run it; 0: none."""
    found: dict[str, Counter[int]] = {}
    for node, kind in types.items():
        if node in known:
            found.setdefault(kind, Counter())[known[node].release] += 1
    told = {}
    for kind, releases in found.items():
        most = releases.most_common(RELEASES_MAX)
        told[kind] = {str(release): count for release, count in most}
        if others := releases.total() - sum(count for _, count in most):
            told[kind]["other"] = others
    return told
