"""How often somebody may do something: buckets that fill again with time."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Rates:
    """One bucket per key: `burst` at once, then one every `period_s`. Full buckets are forgotten, so few are kept."""

    def __init__(self, burst: int, period_s: float, now_s: Callable[[], float]) -> None:
        self._burst = burst
        self._period_s = period_s
        self._now_s = now_s
        # When a bucket will be full again.
        self._full_s: dict[Hashable, float] = {}

    def wait_s(self, key: Hashable) -> float:
        """Take one; 0.0. When there is none: the seconds until there is."""
        now_s = self._now_s()
        full_s = max(self._full_s.get(key, 0.0), now_s)
        wait_s = full_s + self._period_s - now_s - self._burst * self._period_s
        if wait_s > 1e-9:
            return wait_s
        if len(self._full_s) >= 1000:
            self._full_s = {other: at_s for other, at_s in self._full_s.items() if at_s > now_s}
        self._full_s[key] = full_s + self._period_s
        return 0.0
