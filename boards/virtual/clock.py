"""The clock of one virtual board: real time plus what was skipped, and timers on it.

Everything that a board and its chips do is timed on this clock. A board that is sped up (`time_scale`) or sleeps
skips ahead; timers that fall due on the way run in order, each at its own moment, before the skip returns.
"""

import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    __slots__ = ("cancelled", "due_s", "function")

    def __init__(self, due_s: float, function: Callable[[], None]) -> None:
        self.due_s = due_s
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class BoardClock:
    def __init__(self, start_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._zero_s = start_s - monotonic()
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()

    def now_s(self) -> float:
        return self._zero_s + self._monotonic()

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        timer = Timer(self.now_s() + max(0.0, delay_s), function)
        heapq.heappush(self._queue, (timer.due_s, next(self._count), timer))
        return timer

    def due_in_s(self) -> float | None:
        """Real seconds until the next timer; None when there is none."""
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        return max(0.0, self._queue[0][0] - self.now_s()) if self._queue else None

    def run_due(self) -> None:
        self._run_until(self.now_s())

    def skip(self, seconds: float) -> None:
        target_s = self.now_s() + seconds
        self._run_until(target_s)
        self._leap_to(target_s)

    def skip_to_next(self, at_most_s: float) -> float:
        """Skip to the next timer and run it, at most ``at_most_s`` ahead; how far it went."""
        due_s = self.due_in_s()
        seconds = at_most_s if due_s is None else min(at_most_s, due_s)
        self.skip(seconds)
        return seconds

    def _leap_to(self, target_s: float) -> None:
        self._zero_s += max(0.0, target_s - self.now_s())

    def _run_until(self, target_s: float) -> None:
        while self._queue and self._queue[0][0] <= target_s:
            due_s, _, timer = heapq.heappop(self._queue)
            if not timer.cancelled:
                self._leap_to(due_s)
                timer.function()
