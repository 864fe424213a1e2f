"""What happened to databases before this one: told at /readyz until somebody has said that he knows."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from gateway.limits import DAMAGES_KEPT_MAX

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.operations import Operations, Reply, Request
    from gateway.registry import By
    from gateway.store import Store

TABLE = """CREATE TABLE IF NOT EXISTS damage (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    report TEXT NOT NULL,
    known_ms INTEGER,              -- when somebody said so
    known_by TEXT
) STRICT"""


class Damage(NamedTuple):
    id: int
    at_ms: int
    report: str
    known_ms: int | None
    known_by: str | None


def record(connection: sqlite3.Connection, at_ms: int, report: str) -> None:
    connection.execute("INSERT INTO damage (at_ms, report) VALUES (?, ?)", (at_ms, report))
    connection.execute("DELETE FROM damage WHERE id <= (SELECT max(id) FROM damage) - ?", (DAMAGES_KEPT_MAX,))


def all_of(connection: sqlite3.Connection) -> list[Damage]:
    """Newest first."""
    rows = connection.execute("SELECT id, at_ms, report, known_ms, known_by FROM damage ORDER BY id DESC")
    return [Damage(*row) for row in rows]


def unknown(connection: sqlite3.Connection) -> list[Damage]:
    """Those of which nobody has said that he knows."""
    return [damage for damage in all_of(connection) if damage.known_ms is None]


def reasons(store: Store) -> list[str]:
    """For /readyz."""
    return [
        f"store: {damage.report}; once somebody knows: tidegate gateway damage --acknowledge"
        for damage in store.read(unknown)
    ]


def acknowledge(connection: sqlite3.Connection, at_ms: int, who: str) -> int:
    """Somebody knows of all there are; how many that was news."""
    return connection.execute(
        "UPDATE damage SET known_ms = ?, known_by = ? WHERE known_ms IS NULL", (at_ms, who)
    ).rowcount


def serve(operations: Operations, store: Store, clock: Clock) -> None:
    """What a person may ask and say of it."""

    async def list_(request: Request, by: By) -> Reply:
        return {"damages": [damage._asdict() for damage in store.read(all_of)]}

    async def acknowledge_(request: Request, by: By) -> Reply:
        now_ms = clock.unix_ms()
        return {"count": await store.write(lambda writer: acknowledge(writer, now_ms, by.who))}

    operations.add("damage.list", list_)
    operations.add("damage.acknowledge", acknowledge_)
