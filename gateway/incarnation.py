"""Is this the database we last ran with? A side file remembers.

A restored backup has forgotten which downlink PIVs were used since, and using one twice breaks the seal (SPEC.md 3.1),
so the gateway must know. Every start gives the database a new random name, kept in it and in the side file:

    side file := {last, next}      then      database := next      then      side file := {next, next}

so a kill between any two steps leaves a database whose name the side file knows. A database put back under a
running side file has an older name. When the folder is put back as a whole, the names agree, but the file is not the
one that the database remembers: a copy was born at another time. (Its inode number alone would not tell: file systems
give the number of a file just removed to the next one made.) What neither finds is a machine put back as a whole
image: SECURITY.md says what to do then.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sqlite3
import struct
from pathlib import Path

from gateway.limits import ASIDES_KEPT_MAX

_SUFFIX = ".run"
# linux/stat.h: struct statx, and its member stx_btime.
_AT_FDCWD = -100
_STATX_BYTES = 256
_STATX_BTIME = 0x800
_STATX_BTIME_AT = 80


def side_file(database: Path) -> Path:
    return database.with_name(database.name + _SUFFIX)


def is_restored(connection: sqlite3.Connection, database: Path) -> bool:
    """Whether the database is another one than the gateway last ran with. A new database never is."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'incarnation'").fetchone()
    if row is None:
        # Made just now. With a side file beside it, there was another one here before: its nodes, if they are enrolled
        # again, have heard PIVs that we know nothing of.
        return side_file(database).exists()
    file = connection.execute("SELECT value FROM meta WHERE key = 'file'").fetchone()
    if file is not None and file[0] != _name_of_file(database):
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
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('file', ?)", (_name_of_file(database),))
    connection.execute("COMMIT")
    _write(database, {"last": name, "next": name})


def set_aside(database: Path, stamp: str) -> Path:
    """Move a database that cannot be read out of the way, with its log; the bytes are kept for salvage.

    Done before and cut short, what stands in its place is one that was not finished: it goes.
    """
    target = database.with_name(f"{database.name}.corrupt-{stamp}")
    if target.exists():  # the database itself is moved last
        for suffix in ("-wal", "-shm", ""):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{suffix}", f"{target}{suffix}")
    asides = sorted(
        path for path in database.parent.glob(f"{database.name}.corrupt-*") if path.name.endswith("Z")
    )
    for old in asides[:-ASIDES_KEPT_MAX]:
        for suffix in ("-wal", "-shm", ""):
            Path(f"{old}{suffix}").unlink(missing_ok=True)
    sync_folder(database.parent)
    return target


def _name_of_file(database: Path) -> str:
    """What no copy of a file shares with it: inode number and, where the file system keeps it, time of birth."""
    return f"{os.stat(database).st_ino} {_born_ns(database)}"


def _born_ns(database: Path) -> int:
    """statx(2), which os.stat does not offer. 0 where there is none, or the file system does not know."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        failed = ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(database), 0, _STATX_BTIME, buffer)
    except (OSError, AttributeError):
        return 0
    (mask,) = struct.unpack_from("=I", buffer)
    if failed or not mask & _STATX_BTIME:
        return 0
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _STATX_BTIME_AT)
    return int(seconds * 1_000_000_000 + nanoseconds)


def _write(database: Path, names: dict[str, str]) -> None:
    path = side_file(database)
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(names, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in `folder` last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
