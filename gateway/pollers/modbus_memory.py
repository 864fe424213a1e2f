"""What devices refused to read in one piece, kept over restarts: each range is found out once, not once a start.

A row is of one device with one profile: another profile, or another unit at the same name, begins with nothing known.
What a kill takes is found out again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence

from gateway.devices import Device
from gateway.pollers.modbus_types import Span
from gateway.store import Store

# Given to Store.open as extra_schema.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS modbus_refused (
        device INTEGER PRIMARY KEY,
        profile BLOB NOT NULL,         -- digest of the profile and the unit that it was learned with
        ranges TEXT NOT NULL           -- JSON: {function: [[address, quantity], …]}
    ) STRICT""",
)
Ranges = dict[int, list[Span]]


class Memory:
    """One per gateway."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[int, tuple[bytes, str]] = {row[0]: row[1:] for row in store.read(_read)}
        self._writing: set[asyncio.Task[None]] = set()

    def recall(self, device: Device) -> Ranges:
        """What this device is known to refuse."""
        digest, ranges = self._rows.get(device.address, (b"", "{}"))
        if digest != _digest(device):
            return {}
        held: dict[str, list[list[int]]] = json.loads(ranges)
        return {int(function): [Span(*pair) for pair in pairs] for function, pairs in held.items()}

    def keep(self, device: Device, refused: Mapping[int, Sequence[Span]]) -> None:
        """Keep what is known now instead of what was."""
        ranges = json.dumps(
            {function: [[*span] for span in spans] for function, spans in refused.items() if spans}
        )
        row = _digest(device), ranges
        if self._rows.get(device.address) == row:
            return
        self._rows[device.address] = row

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO modbus_refused VALUES (?, ?, ?)", (device.address, *row)
            )

        writing = asyncio.ensure_future(self._store.write(work))
        self._writing.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # a disk that refuses is told by the store; this is found out again


def _digest(device: Device) -> bytes:
    told = f"{device.section.unit}\0{device.profile.model_dump_json()}"
    return hashlib.sha256(told.encode()).digest()[:16]


def _read(connection: sqlite3.Connection) -> list[tuple[int, bytes, str]]:
    return connection.execute("SELECT device, profile, ranges FROM modbus_refused").fetchall()
