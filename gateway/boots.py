"""Places records that a node made before its clock was set: they carry seconds since a boot, and which boot (tq 3).

A boot's start is never later than "received minus uptime", for every frame that tells an uptime: a hello (uptime 0 or
a little more), a status, and each tq 3 record itself. The smallest of those is kept, per boot, durably. A record of a
boot of which nothing else is known is placed as if it were made when it came; its tq stays 3, so nobody takes it for a
measured time. Times are those of the gateway's clock.
"""

from __future__ import annotations

import sqlite3

from gateway.store import Store
from protocols.wire.messages import Hello, Status, split_unsynced

_UNKNOWN = -1
# Health keys of a status.
_BOOTS = 0
_UPTIME_S = 1


class Boots:
    """When each boot of each node was."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # node: {boot modulo 256: (boots in full, start_ms)}
        self._known: dict[int, dict[int, tuple[int, int]]] = {}
        # (node, boot) of which something was heard since this process began.
        self._heard: set[tuple[int, int]] = set()

    def clock_jumped(self, by_ms: int) -> None:
        """What was learned by the clock as it was, in its new time: else one hour on a wrong clock would move all."""
        for node, boot in self._heard:
            full, start_ms = self._known[node][boot]
            entry = self._known[node][boot] = (full, start_ms + by_ms)
            self._store.batch.boots[node, boot] = entry

    def hear_hello(self, node: int, hello: Hello, received_ms: int) -> None:
        """A node says hello when it has booted, or later: it booted no later than now."""
        self._hear(node, hello.boots & 0xFF, hello.boots, received_ms)

    def hear_status(self, node: int, status: Status, received_ms: int) -> None:
        """A status tells its uptime, and often which boot that is."""
        boots = status.health.get(_BOOTS)
        uptime_s = status.health.get(_UPTIME_S)
        if status.tq == 3:
            boot, uptime_s = split_unsynced(status.time)
            self._hear(
                node, boot, boots if isinstance(boots, int) else _UNKNOWN, received_ms - uptime_s * 1000
            )
        elif isinstance(boots, int) and isinstance(uptime_s, int):
            self._hear(node, boots & 0xFF, boots, received_ms - uptime_s * 1000)

    def place(self, node: int, time: int, received_ms: int) -> int:
        """Unix seconds of a record with tq 3."""
        boot, since_boot_s = split_unsynced(time)
        start_ms = self._hear(node, boot, _UNKNOWN, received_ms - since_boot_s * 1000)
        return start_ms // 1000 + since_boot_s

    def placed(self, node: int, time: int) -> int:
        """The same of a record that was placed before, by what is known now."""
        boot, since_boot_s = split_unsynced(time)
        known = self._of(node)
        return known[boot][1] // 1000 + since_boot_s if boot in known else -1

    def _of(self, node: int) -> dict[int, tuple[int, int]]:
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._store.read(lambda reader: _load(reader, node))
        return known

    def _hear(self, node: int, boot: int, boots: int, start_ms: int) -> int:
        known = self._of(node)
        full, best_ms = known.get(boot, (_UNKNOWN, start_ms))
        if boots != _UNKNOWN and full not in (_UNKNOWN, boots):
            best_ms = start_ms  # the same number, 256 boots later
        self._heard.add((node, boot))
        entry = (full if boots == _UNKNOWN else boots, min(best_ms, start_ms))
        if known.get(boot) != entry:
            known[boot] = entry
            self._store.batch.boots[node, boot] = entry
        return entry[1]


def _load(reader: sqlite3.Connection, node: int) -> dict[int, tuple[int, int]]:
    rows = reader.execute("SELECT boot, boots, at_ms FROM boot WHERE node = ?", (node,))
    return {boot: (boots, at_ms) for boot, boots, at_ms in rows}
