"""The tables of alarms, and the statements on them. What the rows mean is told in alarms.py."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.limits import ALARMS_KEPT_MAX
from gateway.registry import By, audit

SCHEMA = (
    # Up to where events and readings have been looked at.
    """CREATE TABLE IF NOT EXISTS alarm_cursor (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        event INTEGER NOT NULL,
        reading INTEGER NOT NULL
    ) STRICT""",
    # A state machine for each rule and site (alarm_machine.py).
    """CREATE TABLE IF NOT EXISTS alarm_rule_state (
        rule TEXT NOT NULL,
        site TEXT NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (rule, site)
    ) STRICT, WITHOUT ROWID""",
    # Nodes at which somebody works, and until when at the latest.
    """CREATE TABLE IF NOT EXISTS alarm_maintenance (
        node INTEGER PRIMARY KEY,
        until_s INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS alarm (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        rule TEXT NOT NULL,
        site TEXT NOT NULL,
        area TEXT NOT NULL,
        node INTEGER NOT NULL,         -- node, epoch and seq of the record it began with
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        severity INTEGER NOT NULL,
        detail TEXT NOT NULL,
        raised_ms INTEGER NOT NULL,    -- by the record's time
        noticed_ms INTEGER NOT NULL,   -- by the gateway's
        cleared_ms INTEGER,
        late INTEGER NOT NULL,
        flapping INTEGER NOT NULL,
        tier INTEGER NOT NULL,         -- how far up the area tree it was told
        escalate_ms INTEGER,           -- when it goes further up; null: never
        acknowledged_ms INTEGER,
        acknowledged_by TEXT,
        silent_until_ms INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS alarm_open ON alarm (rule, site) WHERE cleared_ms IS NULL",
    # Rules of a site that a person does not want to hear of for a while.
    """CREATE TABLE IF NOT EXISTS alarm_silence (
        rule TEXT NOT NULL,
        site TEXT NOT NULL,
        until_ms INTEGER NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        PRIMARY KEY (rule, site)
    ) STRICT, WITHOUT ROWID""",
    # What happened to alarms, in order: what work orders follow.
    """CREATE TABLE IF NOT EXISTS alarm_change (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        alarm INTEGER NOT NULL,
        kind TEXT NOT NULL,            -- raised, acknowledged, escalated, silenced, unsilenced, cleared
        at_ms INTEGER NOT NULL,
        tier INTEGER NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS alarm_change_of ON alarm_change (alarm, id)",
    # Of each alarm, the latest change that a northbound has delivered.
    """CREATE TABLE IF NOT EXISTS order_sent (
        northbound TEXT NOT NULL,
        alarm INTEGER NOT NULL,
        change INTEGER NOT NULL,
        PRIMARY KEY (northbound, alarm)
    ) STRICT, WITHOUT ROWID""",
)


class Alarm(NamedTuple):
    """A row of `alarm`."""

    id: int
    rule: str
    site: str
    area: str
    node: int
    epoch: int
    seq: int
    severity: int
    detail: str
    raised_ms: int
    noticed_ms: int
    cleared_ms: int | None
    late: int
    flapping: int
    tier: int
    escalate_ms: int | None
    acknowledged_ms: int | None
    acknowledged_by: str | None
    silent_until_ms: int


class Changed(NamedTuple):
    """A row of `alarm_change`."""

    id: int
    alarm: int
    kind: str
    at_ms: int
    tier: int
    who: str
    why: str


# Changes that no platform hears of.
SILENCED, UNSILENCED = "silenced", "unsilenced"
_WHERE = {"open": "WHERE cleared_ms IS NULL", "closed": "WHERE cleared_ms IS NOT NULL", "all": ""}
COLUMNS = ", ".join(Alarm._fields)


def insert(connection: sqlite3.Connection, alarm: Alarm) -> int:
    """A new alarm; its id. The oldest that are over give way."""
    marks = ", ".join("?" * (len(Alarm._fields) - 1))
    columns = ", ".join(Alarm._fields[1:])
    done = connection.execute(f"INSERT INTO alarm ({columns}) VALUES ({marks})", alarm[1:])
    number = int(done.lastrowid or 0)
    if number > ALARMS_KEPT_MAX:
        _drop(connection, number - ALARMS_KEPT_MAX)
    return number


def _drop(connection: sqlite3.Connection, upto: int) -> None:
    gone = connection.execute(
        "SELECT id FROM alarm WHERE id <= ? AND cleared_ms IS NOT NULL", (upto,)
    ).fetchall()
    for table, key in (("alarm", "id"), ("alarm_change", "alarm"), ("order_sent", "alarm")):
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", gone)


def change(
    connection: sqlite3.Connection, alarm: int, kind: str, at_ms: int, tier: int, who: str = "", why: str = ""
) -> None:
    connection.execute(
        "INSERT INTO alarm_change (alarm, kind, at_ms, tier, who, why) VALUES (?, ?, ?, ?, ?, ?)",
        (alarm, kind, at_ms, tier, who, why),
    )


def update(connection: sqlite3.Connection, alarm: int, **columns: Any) -> None:
    words = ", ".join(f"{column} = ?" for column in columns)
    connection.execute(f"UPDATE alarm SET {words} WHERE id = ?", (*columns.values(), alarm))


def acknowledge(connection: sqlite3.Connection, alarm: Alarm, at_ms: int, by: By) -> None:
    """Somebody deals with it: it goes no further up."""
    update(connection, alarm.id, acknowledged_ms=at_ms, acknowledged_by=by.who, escalate_ms=None)
    change(connection, alarm.id, "acknowledged", at_ms, alarm.tier, by.who, by.why)
    audit(connection, at_ms, by, "alarm.acknowledge", str(alarm.id), alarm.rule)


def get(connection: sqlite3.Connection, number: int) -> Alarm | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM alarm WHERE id = ?", (number,)).fetchone()
    return None if row is None else Alarm(*row)


def silent_until_ms(connection: sqlite3.Connection, rule: str, site: str) -> int:
    row = connection.execute(
        "SELECT until_ms FROM alarm_silence WHERE rule = ? AND site = ?", (rule, site)
    ).fetchone()
    return 0 if row is None else int(row[0])


def opened(connection: sqlite3.Connection) -> list[Alarm]:
    """The newest first."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM alarm WHERE cleared_ms IS NULL ORDER BY id DESC")
    return [Alarm(*row) for row in rows]


def end(connection: sqlite3.Connection, alarm: Alarm, at_ms: int, why: str = "") -> None:
    update(connection, alarm.id, cleared_ms=at_ms, escalate_ms=None)
    change(connection, alarm.id, "cleared", at_ms, alarm.tier, "", why)


def each(connection: sqlite3.Connection) -> Iterator[Alarm]:
    """The newest first."""
    for row in connection.execute(f"SELECT {COLUMNS} FROM alarm ORDER BY id DESC"):
        yield Alarm(*row)


def silence(connection: sqlite3.Connection, alarm: Alarm, now_ms: int, until_ms: int, by: By) -> None:
    """Its rule at its site, for this alarm and those that come until then; an end that is past ends a silence."""
    update(connection, alarm.id, silent_until_ms=until_ms)
    kind = SILENCED if until_ms > now_ms else UNSILENCED
    change(connection, alarm.id, kind, now_ms, alarm.tier, by.who, by.why)
    connection.execute("DELETE FROM alarm_silence WHERE until_ms <= ?", (now_ms,))
    connection.execute(
        "INSERT OR REPLACE INTO alarm_silence (rule, site, until_ms, who, why) VALUES (?, ?, ?, ?, ?)",
        (alarm.rule, alarm.site, until_ms, by.who, by.why),
    )


def latest(connection: sqlite3.Connection, which: str, limit: int) -> list[Alarm]:
    """`which`: open, closed or all; the newest first."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM alarm {_WHERE[which]} ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [Alarm(*row) for row in rows]


def count(connection: sqlite3.Connection, which: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM alarm {_WHERE[which]}").fetchone()[0])


def detail_text(text: str) -> str:
    """["cover_tilted", 40] as cover_tilted 40."""
    try:
        what, detail = json.loads(text)
    except (ValueError, TypeError):
        return ""
    words = " ".join(map(str, detail)) if isinstance(detail, list) else "" if detail is None else str(detail)
    return f"{what} {words}".strip()
