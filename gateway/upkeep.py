"""What keeps a daemon going for years: it looks at its disk, its clock and the size of its database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.buffer import Buffer
from gateway.clock import TrustedClock
from gateway.clock_watch import ClockWatch
from gateway.config_store import StoreSection
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.limits import DISK_GIVE_UP_S, UPKEEP_PERIOD_S
from gateway.log import Logger
from gateway.northbounds import Northbound
from gateway.retention import Retention
from gateway.space import Space, disk_free_bytes
from gateway.store import Store


class Upkeep:
    """One per gateway. `names` are the northbounds of the config, those that are paused too."""

    def __init__(
        self,
        store: Store,
        clock: TrustedClock,
        settings: StoreSection,
        log: Logger,
        names: Callable[[], list[str]],
        northbounds: Callable[[], Mapping[str, Northbound]],
        *,
        free_bytes: Callable[[Path], int] = disk_free_bytes,
    ) -> None:
        self.clock_watch = ClockWatch(clock, log)
        self.space = Space(store, settings.reserve_mib * (1 << 20), clock, free_bytes=free_bytes)
        self.retention = Retention(store, clock, settings, self._holders)
        self.retention.is_short_of_space = lambda: self.space.full_since_ms is not None
        self.retention.on_evicted = self._evicted
        self.on_progress: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._names = names
        self._northbounds = northbounds
        self._free_bytes = free_bytes
        self.buffer = Buffer(store, self.retention, settings, clock, log, self._holders, free_bytes)
        # Told when commits fail and fail: the files of the database are better opened anew.
        self.on_hopeless: Callable[[str], None] = lambda why: None
        self._failing_since_s: float | None = None

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            self.on_progress()
            await asyncio.sleep(UPKEEP_PERIOD_S)

    def look(self) -> None:
        self.clock_watch.look()
        self.space.look()
        self._store.probe()
        self._look_for_hope()
        self.buffer.look()

    def _look_for_hope(self) -> None:
        """A full disk gets room; what else refuses may be a file system that is gone under open files."""
        if self._store.failing is None or self._store.failing_code == sqlite3.SQLITE_FULL:
            self._failing_since_s = None
            return
        if self._failing_since_s is None:
            self._failing_since_s = self._clock.monotonic()
        for_s = self._clock.monotonic() - self._failing_since_s
        if for_s >= DISK_GIVE_UP_S:
            self.on_hopeless(f"the disk has refused for {for_s:.0f} s: {self._store.failing}")

    def reasons(self) -> list[str]:
        """Why the gateway is not ready, as far as its disk goes."""
        return [reason for reason in (self.space.reason(), self.buffer.reason()) if reason]

    def picture(self) -> dict[str, float]:
        """For /metrics and status, beside the store's own counters."""
        return {
            **self.retention.counters,
            "disk_full_times": self.space.counters["full"],
            "disk_full": float(self.space.full_since_ms is not None),
            "reserve": float(self.space.has_reserve),
            "used_bytes": self.retention.used_bytes(),
            "buffer_left_bytes": self.buffer.bytes_left(),
            "buffer_left_hours": self.buffer.hours_left(),
            "retention_longest_ms": round(self.retention.longest_ms, 3),
            "clock_jumps": self.clock_watch.jumps,
        }

    def _holders(self) -> dict[str, Held]:
        there = self._northbounds()
        held = {}
        for name in self._names():
            northbound = there.get(name)
            held[name] = Held(*self._store.progress(name)) if northbound is None else northbound.held()
        return held

    def _evicted(self, runs: Intervals) -> None:
        for northbound in self._northbounds().values():
            northbound.evicted(runs)
