"""How much the gateway can still take while a northbound is away: in bytes, and in hours at the rate of the last day.

What every northbound has had is room as well: it goes before anything undelivered does (retention.py). The bound is
`[store] max_mib`, or the disk where that is smaller; people are told in hours, for an outage is counted in hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.clock import Clock
from gateway.config_store import StoreSection
from gateway.held import Held
from gateway.limits import BUFFER_ERROR_SHARE, BUFFER_OVER_SHARE, GROWTH_PERIOD_S
from gateway.log import Logger
from gateway.retention import Retention
from gateway.store import Store

HOUR_S = 3600
DAY_S = 86_400
# A record and its share of pages and fingerprints, while there are too few of them to measure.
RECORD_BYTES = 150
FEW_RECORDS = 10_000


class Growth:
    """How fast the store takes records in, smoothed over the last day or so."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._since_s = clock.monotonic()
        self._records = self._count()
        self.per_hour: float | None = None

    def look(self) -> None:
        passed_s = self._clock.monotonic() - self._since_s
        if passed_s < GROWTH_PERIOD_S:
            return
        now = self._count()
        rate = (now - self._records) / passed_s * HOUR_S
        share = min(1.0, passed_s / DAY_S)
        self.per_hour = rate if self.per_hour is None else self.per_hour + share * (rate - self.per_hour)
        self._since_s, self._records = self._clock.monotonic(), now

    def _count(self) -> int:
        return self._store.next_reading + self._store.next_event


class Buffer:
    """Of one store. `look` is called every few seconds; `level` is "", "warning" or "error"."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        settings: StoreSection,
        clock: Clock,
        log: Logger,
        holders: Callable[[], Mapping[str, Held]],
        free_bytes: Callable[[Path], int],
    ) -> None:
        self.level = ""
        self._growth = Growth(clock, store)
        self._store = store
        self._retention = retention
        self._settings = settings
        self._log = log
        self._holders = holders
        self._free_bytes = free_bytes

    def look(self) -> None:
        """Tell of a level that is reached, once; it is left when there is clearly more again."""
        self._growth.look()
        warn_hours = self._settings.warn_hours
        left = self.hours_left()
        if not warn_hours or left < 0:
            self.level = ""
            return
        over = BUFFER_OVER_SHARE if self.level else 1.0
        level = "warning" if left < warn_hours * over else ""
        if left < warn_hours * BUFFER_ERROR_SHARE * (over if self.level == "error" else 1.0):
            level = "error"
        if level != self.level:
            tell = {"error": self._log.error, "warning": self._log.warning, "": self._log.info}[level]
            tell("buffer_left", hours=left, warn_hours=warn_hours)
            self.level = level

    def reason(self) -> str | None:
        """For /readyz."""
        if not self.level:
            return None
        return (
            f"store: what is not delivered will be given up in {self.hours_left():g} hours, at the rate of the last "
            "day: mend the northbound that is behind, or raise store.max_mib."
        )

    def bytes_left(self) -> int:
        """What may still come before anything undelivered is given up."""
        settings = self._settings
        used, free_inside = self._retention.used_bytes(), self._retention.free_bytes_inside()
        delivered = round(self._delivered_records() * self._record_bytes())
        by_bound = settings.max_mib * (1 << 20) - used + delivered
        by_disk = self._free_bytes(self._store.path.parent) + free_inside + delivered
        return max(0, min(by_bound, by_disk))

    def hours_left(self) -> float:
        """The same at the rate of the last day; -1 while nobody knows, or nothing comes."""
        rate = self._growth.per_hour
        return round(self.bytes_left() / (self._record_bytes() * rate), 1) if rate else -1.0

    def _record_bytes(self) -> float:
        records = self._retention.records()
        return self._retention.used_bytes() / records if records >= FEW_RECORDS else RECORD_BYTES

    def _delivered_records(self) -> int:
        """Readings that are only kept because there is room; those of the oldest that nobody owes."""
        holders = self._holders()
        if not holders:
            return 0
        first = self._retention.first_reading()
        owed = min(held.owed.starts[0] if held.owed else held.next_reading for held in holders.values())
        return max(0, owed - first)
