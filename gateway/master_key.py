"""Another master key: every node key is sealed anew, in one transaction, and the file changes hands behind it.

    new key → its own file → all rows re-sealed (one commit) → old file kept aside → new file in its place

Whatever is cut, the same command again finishes it: it finds by the database which of the two keys is in force.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from gateway import keys, schema
from gateway.errors import KeyFileError
from gateway.incarnation import sync_folder
from gateway.keys import Vault


def rotate(database: Path, key_file: Path) -> tuple[int, Path]:
    """Give `database` and `key_file` a new master key; (how many node keys, where the old file is). The caller holds
    the data directory. Raises KeyFileError, sqlite3.Error; then the old key is in force, or the same call finishes it.
    """
    new_file = key_file.with_name(key_file.name + ".new")
    old = Vault(keys.load_file(key_file))
    if not new_file.exists():
        keys.write_file(new_file)
    new = Vault(keys.load_file(new_file))
    count = _seal_anew(database, old, new)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = key_file.with_name(f"{key_file.name}.old-{stamp}")
    os.link(key_file, aside)
    os.replace(new_file, key_file)
    sync_folder(key_file.parent)
    return count, aside


def _seal_anew(database: Path, old: Vault, new: Vault) -> int:
    """Re-seal every row; those that are under the new key already were by a call that was cut."""
    if not database.exists():
        return 0
    connection = schema.connect(str(database), wal_pages=1024, cache_kib=2048)
    with contextlib.closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = connection.execute(
                "SELECT address, sealed_keys FROM node WHERE sealed_keys IS NOT NULL"
            ).fetchall()
            for address, sealed in rows:
                if sealed[1:5] == new.key_id:
                    new.open(address, sealed)
                    continue
                again = new.seal(address, old.open(address, sealed))
                if new.open(address, again) != old.open(address, sealed):
                    raise KeyFileError(
                        f"node {address:04x}: its key did not come out as it went in; nothing was changed."
                    )
                connection.execute("UPDATE node SET sealed_keys = ? WHERE address = ?", (again, address))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
    return len(rows)
