"""Is this the database we last ran with? A side file remembers.

A restored backup has forgotten which downlink PIVs were used since, and using one twice breaks the seal (SPEC.md 3.1),
so the gateway must know. Every start gives the database a new random name, kept in it and in the side file:

    side file := {last, next}      then      database := next      then      side file := {next, next}

so a kill between any two steps leaves a database whose name the side file knows. A database put back under a
running side file has an older name. When the folder is put back as a whole, the names agree, but the file is not the
inode that the database remembers (a copy has another one). What neither finds is a machine put back as a whole image:
SECURITY.md says what to do then.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

_SUFFIX = ".run"


def side_file(database: Path) -> Path:
    return database.with_name(database.name + _SUFFIX)


def is_restored(connection: sqlite3.Connection, database: Path) -> bool:
    """Whether the database is another one than the gateway last ran with. A new database never is."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'incarnation'").fetchone()
    if row is None:
        # Made just now. With a side file beside it, there was another one here before: its nodes, if they are enrolled
        # again, have heard PIVs that we know nothing of.
        return side_file(database).exists()
    inode = connection.execute("SELECT value FROM meta WHERE key = 'inode'").fetchone()
    if inode is not None and inode[0] != os.stat(database).st_ino:
        return True
    try:
        names = json.loads(side_file(database).read_text())
        return row[0] not in (names["last"], names["next"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def begin(connection: sqlite3.Connection, database: Path, name: str) -> None:
    """Give the database a new name, so that every older copy of it is recognised from now on."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'incarnation'").fetchone()
    last = name if row is None else row[0]
    _write(database, {"last": last, "next": name})
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('incarnation', ?)", (name,))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('inode', ?)", (os.stat(database).st_ino,))
    connection.execute("COMMIT")
    _write(database, {"last": name, "next": name})


def set_aside(database: Path, stamp: str) -> Path:
    """Move a database that cannot be read out of the way, with its log; the bytes are kept for salvage."""
    target = database.with_name(f"{database.name}.corrupt-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{suffix}", f"{target}{suffix}")
    _sync_folder(database.parent)
    return target


def _write(database: Path, names: dict[str, str]) -> None:
    path = side_file(database)
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(names, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
