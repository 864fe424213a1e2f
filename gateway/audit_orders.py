"""The books of alarms: each change of each alarm is with a platform of work orders, or waits for it.

    changes    what happened to alarms: raised, acknowledged, escalated, silenced, cleared
    sent       the platform has confirmed it, or need not hear of it (it was over before the platform was there)
    waiting    it has not
    broken     alarms that were not raised exactly once, or are over without a word of it; confirmations of nothing

From the rows alone, as audit.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

_CHANGES = """SELECT count(*), count(*) FILTER (WHERE c.id <= s.change)
    FROM alarm_change c LEFT JOIN order_sent s ON s.northbound = ? AND s.alarm = c.alarm"""
_BROKEN = """SELECT count(*) FROM alarm a LEFT JOIN (
        SELECT alarm, sum(kind = 'raised') AS raised, sum(kind = 'cleared') AS cleared FROM alarm_change GROUP BY alarm
    ) c ON c.alarm = a.id
    WHERE coalesce(c.raised, 0) != 1 OR (a.cleared_ms IS NOT NULL) != (coalesce(c.cleared, 0) > 0)"""
_NEVER_WAS = """SELECT count(*) FROM order_sent s WHERE s.northbound = ? AND s.alarm != 0
    AND s.change > coalesce((SELECT max(id) FROM alarm_change c WHERE c.alarm = s.alarm), 0)"""


class Orders(NamedTuple):
    """Of one platform."""

    northbound: str
    alarms: int
    changes: int
    sent: int
    waiting: int
    broken: int

    @property
    def holds(self) -> bool:
        return self.changes == self.sent + self.waiting and not self.broken

    def line(self) -> str:
        told = " ".join(f"{name}={getattr(self, name)}" for name in self._fields[1:])
        return f"orders {self.northbound}: {told}"


def orders(connection: sqlite3.Connection, northbounds: Sequence[str]) -> list[Orders]:
    """The books of those platforms, and of any that ever confirmed something."""
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'order_sent'").fetchone()
    if there is None:  # a database from before there were alarms
        return []
    known = {name for (name,) in connection.execute("SELECT DISTINCT northbound FROM order_sent")}
    names = sorted({*northbounds, *known})
    if not names:
        return []
    (alarms,) = connection.execute("SELECT count(*) FROM alarm").fetchone()
    (broken,) = connection.execute(_BROKEN).fetchone()
    found = []
    for name in names:
        changes, sent = connection.execute(_CHANGES, (name,)).fetchone()
        waiting = _waiting(connection, name)
        (never_was,) = connection.execute(_NEVER_WAS, (name,)).fetchone()
        found.append(Orders(name, alarms, changes, sent, waiting, broken + never_was))
    return found


def _waiting(connection: sqlite3.Connection, name: str) -> int:
    """As the sender looks for them (northbound/work_orders.py)."""
    query = (
        "SELECT count(*) FROM alarm_change c LEFT JOIN order_sent s ON s.northbound = ? AND s.alarm = c.alarm"
        " WHERE c.id > coalesce(s.change, 0)"
    )
    return int(connection.execute(query, (name,)).fetchone()[0])
