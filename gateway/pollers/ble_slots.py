"""Connection slots: an adapter keeps few connections at once, and makes one at a time.

A slot is held by name and given back on every way out, so that a leak would show as a holder that no device claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import limits


class Slots:
    """So many connections at once, first come first served; `connecting` lets one be made at a time."""

    def __init__(self, count: int = limits.BLE_SLOTS) -> None:
        self.count = count
        self.holders: set[str] = set()
        self.waiting = 0
        self.connecting = asyncio.Lock()
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def hold(self, who: str) -> AsyncIterator[None]:
        """Wait for a slot and keep it for the body."""
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.holders.add(who)
        try:
            yield
        finally:
            self.holders.discard(who)
            self._free.release()

    def must_yield(self, held_s: float) -> bool:
        """Whether a holder shall give up its slot: another waits, and it had its share."""
        return self.waiting > 0 and held_s >= limits.BLE_LEASE_S
