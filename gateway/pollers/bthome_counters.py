"""The counters of sealed BTHome adverts: a recording is told by its counter, after a restart, too.

A counter travels to the disk in the transaction of the set that it came with, so no set is kept twice.
A device that lost its counter (a battery was changed) begins again at 0 and is refused like a recording: a person says
that it may, with `tidegate gateway device-reset NAME --why …`, for nothing on the air can tell the two apart.
"""

from __future__ import annotations

import asyncio
import sqlite3
from enum import Enum

from gateway.batch import Batch
from gateway.errors import RegistryError
from gateway.registry import By, audit
from gateway.store import Store

# Given to Store.open as extra_schema.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS bthome_counter (
        device INTEGER PRIMARY KEY,
        counter INTEGER NOT NULL       -- the highest that was accepted
    ) STRICT""",
)
_PUT = "INSERT OR REPLACE INTO bthome_counter (device, counter) VALUES (?, ?)"


class Verdict(Enum):
    """NEW: believe it. REPEAT: the advert before, once more, as adverts are sent. REPLAY: older; refuse it."""

    NEW = "new"
    REPEAT = "repeat"
    REPLAY = "replay"


class Counters:
    """The highest counter of each device; one per gateway."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._highest: dict[int, int] = dict(store.read(_read))
        # What goes with this batch; one job writes it, whatever joins until it is executed.
        self._batch: Batch | None = None
        self._rows: dict[int, int] = {}

    def take(self, device: int, counter: int) -> Verdict:
        """Judge a counter. A new one is durable with the next transaction, for which the caller's set is the reason."""
        highest = self._highest.get(device, -1)
        if counter == highest:
            return Verdict.REPEAT
        if counter < highest:
            return Verdict.REPLAY
        self._highest[device] = counter
        self._save(device, counter)
        return Verdict.NEW

    def _save(self, device: int, counter: int) -> None:
        if self._batch is not self._store.batch:
            self._batch = self._store.batch
            rows = self._rows = {}
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            done.add_done_callback(lambda future: self._saved(rows, future))
            self._batch.jobs.append((lambda writer: writer.executemany(_PUT, list(rows.items())), done))
        self._rows[device] = counter

    def _saved(self, rows: dict[int, int], future: asyncio.Future[object]) -> None:
        """What a commit that failed had goes with the next one."""
        if not future.cancelled() and future.exception() is not None:
            for device in rows:
                if device in self._highest:
                    self._save(device, self._highest[device])

    async def reset(self, device: int, name: str, now_ms: int, by: By) -> int:
        """Let a device begin again; the counter it had."""
        had = self._highest.get(device)
        if had is None:
            raise RegistryError(f"{name} has sent nothing sealed yet: there is no counter to reset.")

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM bthome_counter WHERE device = ?", (device,))
            audit(connection, now_ms, by, "device.reset", name, f"counter was {had}")

        await self._store.write(work)
        self._highest.pop(device, None)
        return had


def _read(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT device, counter FROM bthome_counter").fetchall()
