"""How many rows of a northbound are due, and which readings they are made of: exact while they are few.

Of many (a regulator that is away for weeks) a look takes seconds. Then it is taken site by site with pauses, when
somebody has asked, and what was found the last time is told meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection

from gateway import report_rows
from gateway.clock import Clock
from gateway.intervals import Intervals
from gateway.limits import ROW_HELD_S, ROWS_COUNTED_MAX
from gateway.store import Store

# Between two sites: others have their turn.
_PAUSE_S = 0.02
_EVER_MS = 1 << 53
# A look that took long is good for so many times as long: what is owed for weeks does not change in a minute.
_SHARE = 20


class Books:
    """Of one northbound. `next_reading` is up to where readings were looked at."""

    def __init__(
        self, name: str, store: Store, sites: Callable[[], Collection[str]], next_reading: Callable[[], int],
        clock: Clock,
    ) -> None:  # fmt: skip
        self._name = name
        self._store = store
        self._sites = sites
        self._next_reading = next_reading
        self._clock = clock
        self._wanted = asyncio.Event()
        self._held: Intervals | None = None
        self._held_to = 0
        self._looked_s = 0.0
        self._good_for_s = ROW_HELD_S
        self._count: int | None = None

    async def run(self) -> None:
        """Look when somebody has asked, and not more often than an answer is good for."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._look()

    async def _look(self) -> None:
        held_to, held, count, began_s = self._next_reading(), Intervals(), 0, self._clock.monotonic()
        for site in sorted(self._sites()):
            now_ms = self._clock.unix_ms()
            ask = functools.partial(
                report_rows.held_of_site, northbound=self._name, site=site, until_ms=now_ms
            )
            due, runs = self._store.read(ask)
            count += due
            for run in runs:
                held.add(*run)
            await asyncio.sleep(_PAUSE_S)
        self._held_to, self._held, self._count = held_to, held, count
        self._looked_s = self._clock.monotonic()
        self._good_for_s = max(ROW_HELD_S, _SHARE * (self._looked_s - began_s))

    def count(self, now_ms: int) -> int:
        """Rows that are due by then."""
        found = self._few(now_ms)
        if found is not None:
            return found
        if self._is_old():
            self._wanted.set()
        return ROWS_COUNTED_MAX if self._count is None else max(self._count, ROWS_COUNTED_MAX)

    def gone(self, rows: int) -> int:
        """So many were given up: they do not count until the next look finds the same."""
        if self._count is not None:
            self._count -= rows
        return rows

    def held(self) -> tuple[int, Intervals, bool]:
        """(readings from here on, and these, must stay in the store, whether that is known yet). A few seconds old."""
        if self._held is None or self._is_old():
            if self._few(_EVER_MS) is None:
                self._wanted.set()
            else:
                self._held = self._store.read(functools.partial(report_rows.held, northbound=self._name))
                self._held_to, self._looked_s = self._next_reading(), self._clock.monotonic()
                self._good_for_s = ROW_HELD_S
        return self._held_to, self._held or Intervals(), self._held is not None

    def _few(self, until_ms: int) -> int | None:
        """How many there are, None when they are many."""
        ask = functools.partial(
            report_rows.count, northbound=self._name, until_ms=until_ms, most=ROWS_COUNTED_MAX
        )
        found = self._store.read(ask)
        return found if found < ROWS_COUNTED_MAX else None

    def _is_old(self) -> bool:
        return self._clock.monotonic() - self._looked_s > self._good_for_s
