"""Small tables that a gateway cannot do without are kept twice, on different pages: one that is spoilt costs nothing.

The copy is kept by triggers, in the transaction of the change itself; salvage.py takes what is missing from it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

_SUFFIX = "_twice"
# Table: its key.
_KEYS = {"node": ("address",), "site": ("site",), "assignment": ("node", "from_ms")}


def schema(tables: Sequence[str]) -> tuple[str, ...]:
    """CREATE statements, for each of `tables` (CREATE statements too) that is to be kept twice."""
    made = []
    for name, key in _KEYS.items():
        (original,) = [text for text in tables if f"EXISTS {name} (" in text]
        copy = name + _SUFFIX
        made.append(original.replace(f"EXISTS {name} (", f"EXISTS {copy} ("))
        same = " AND ".join(f"{column} = old.{column}" for column in key)
        take = " AND ".join(f"{column} = new.{column}" for column in key)
        keep = f"INSERT OR REPLACE INTO {copy} SELECT * FROM {name} WHERE {take};"
        drop = f"DELETE FROM {copy} WHERE {same};"
        for when, what in (("INSERT", keep), ("UPDATE", drop + " " + keep), ("DELETE", drop)):
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {copy}_{when.lower()} AFTER {when} ON {name} BEGIN {what} END"
            )
        # Rows of a database that was made before there were copies.
        made.append(f"INSERT OR IGNORE INTO {copy} SELECT * FROM {name}")
    return tuple(made)


def restore(connection: sqlite3.Connection) -> None:
    """Put back what the copies have and the tables have not."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name in _KEYS:
        if {name, name + _SUFFIX} <= there:
            connection.execute(f"INSERT OR IGNORE INTO {name} SELECT * FROM {name}{_SUFFIX}")
