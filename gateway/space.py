"""When the disk is full: readings wait in their nodes, events still get through.

A file of some megabytes is kept beside the database and means nothing. A commit that fails because the disk is full
gives it back to the file system; from then on no reading is taken in or acknowledged, so that what was given back is
there for events, results and the bookkeeping alone. When there is room again, the file is made first, and readings are
taken after that. Rows that were given up inside the database are room as well (retention.py).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from gateway.batch import Batch
from gateway.clock import Clock
from gateway.limits import SPACE_MARGIN_BYTES
from gateway.store import Store

log = logging.getLogger(__name__)

RESERVE_NAME = "reserve"


def disk_free_bytes(folder: Path) -> int:
    """What an unprivileged process may still write in `folder`."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Space:
    """Watches the disk of one store. `look` is called every few seconds."""

    def __init__(
        self,
        store: Store,
        reserve_bytes: int,
        clock: Clock,
        *,
        free_bytes: Callable[[Path], int] = disk_free_bytes,
    ) -> None:
        self.counters = {"full": 0}
        self.full_since_ms: int | None = None
        self.has_reserve = False
        self._store = store
        self._file = store.path.with_name(RESERVE_NAME)
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._free_bytes = free_bytes
        store.on_undo.append(self._undone)
        self._take_reserve()

    def reason(self) -> str | None:
        """For /readyz; None while there is room."""
        if self.full_since_ms is None:
            return None
        free_mib = self._free_bytes(self._file.parent) / (1 << 20)
        return (
            f"store: the disk is full ({free_mib:.0f} MiB free): readings are not acknowledged and stay in their "
            "nodes, events are kept in the reserve. Make room beside the database; nothing else needs doing."
        )

    def look(self) -> None:
        """Take the reserve when there is room for it; only then are readings taken again."""
        if self.has_reserve and self.full_since_ms is None:
            return
        if self._free_inside() < self._reserve_bytes and not (self.has_reserve or self._take_reserve()):
            if self.full_since_ms is None and self._free_bytes(self._file.parent) < SPACE_MARGIN_BYTES:
                self._is_full()
            return
        if self.full_since_ms is not None:
            seconds = (self._clock.unix_ms() - self.full_since_ms) / 1000
            log.warning("there is room again after %.0f s: readings are taken", seconds)
            self.full_since_ms = None
            self._store.takes_readings = True

    def _undone(self, batch: Batch) -> None:
        if self._store.failing_code == sqlite3.SQLITE_FULL:
            self._is_full()

    def _is_full(self) -> None:
        if self.full_since_ms is None:
            self.full_since_ms = self._clock.unix_ms()
            self.counters["full"] += 1
            log.error(
                "the disk is full: readings are not acknowledged from here on; %s",
                "the reserve is given to events" if self.has_reserve else "there is no reserve left",
            )
        self._store.takes_readings = False
        self.give_reserve()

    def give_reserve(self) -> None:
        with contextlib.suppress(OSError):  # gone, or on a disk that takes nothing at all
            self._file.unlink()
        self.has_reserve = False

    def _free_inside(self) -> int:
        """Bytes of pages that the database holds and does not use."""

        def ask(reader: sqlite3.Connection) -> int:
            (pages,) = reader.execute("PRAGMA freelist_count").fetchone()
            return int(pages) * 4096

        return self._store.read(ask)

    def _take_reserve(self) -> bool:
        """Whether the reserve is there, in full and with blocks behind it."""
        try:
            has = self._file.stat().st_size
        except OSError:
            has = 0
        if self._free_bytes(self._file.parent) + has < self._reserve_bytes + SPACE_MARGIN_BYTES:
            self.has_reserve = False
            return False
        try:
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(handle, min(has, self._reserve_bytes))
                os.posix_fallocate(handle, 0, self._reserve_bytes)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                log.warning("%s: no reserve for a full disk: %s", self._file, error.strerror)
            self.give_reserve()
            return False
        self.has_reserve = True
        return True
