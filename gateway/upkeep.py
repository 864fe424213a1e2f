"""What keeps a daemon going for years: it looks at its disk, its clock and the size of its database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.clock import TrustedClock
from gateway.clock_watch import ClockWatch
from gateway.config_store import StoreSection
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.limits import DISK_GIVE_UP_S, GROWTH_PERIOD_S, UPKEEP_PERIOD_S
from gateway.log import Logger
from gateway.northbounds import Northbound
from gateway.retention import Retention
from gateway.space import Space, disk_free_bytes
from gateway.store import Store

HOUR_S = 3600
DAY_S = 86_400
# A record and its share of pages and fingerprints, for the estimate of hours.
RECORD_BYTES = 150


class Growth:
    """How fast the store takes records in, smoothed over the last day or so."""

    def __init__(self, clock: TrustedClock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._since_s = clock.monotonic()
        self._records = self._count()
        self._per_hour: float | None = None

    def look(self) -> None:
        passed_s = self._clock.monotonic() - self._since_s
        if passed_s < GROWTH_PERIOD_S:
            return
        now = self._count()
        rate = (now - self._records) / passed_s * HOUR_S
        share = min(1.0, passed_s / DAY_S)
        self._per_hour = rate if self._per_hour is None else self._per_hour + share * (rate - self._per_hour)
        self._since_s, self._records = self._clock.monotonic(), now

    def hours_for(self, room_bytes: int) -> float:
        """For how long so much room will do; -1 while nobody knows."""
        if not self._per_hour:
            return -1.0
        return round(room_bytes / (RECORD_BYTES * self._per_hour), 1)

    def _count(self) -> int:
        return self._store.next_reading + self._store.next_event


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
        self._growth = Growth(clock, store)
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
        self._growth.look()

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
        reason = self.space.reason()
        return [] if reason is None else [reason]

    def picture(self) -> dict[str, float]:
        """For /metrics and status, beside the store's own counters."""
        left = min(self.retention.buffer_bytes_left(), self._free_bytes(self._store.path.parent))
        return {
            **self.retention.counters,
            "disk_full_times": self.space.counters["full"],
            "disk_full": float(self.space.full_since_ms is not None),
            "reserve": float(self.space.has_reserve),
            "used_bytes": self.retention.used_bytes(),
            "buffer_left_bytes": left,
            "buffer_left_hours": self._growth.hours_for(left),
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
