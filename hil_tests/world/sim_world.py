"""The simulated world's one clock: events outside of the gateway, and the gateway's event loop between them.

Nodes, lines and the broker are plain callbacks on one heap. The gateway is a process of its own: it has its own
`VirtualLoop`, which runs up to the next event of the world and no further. So a gateway can be killed like a process:
its loop is simply never run again.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable

from hil_tests.world.clock import WORLD_START_S, VirtualLoop


class Event:
    """A callback at a moment. `cancel` keeps it from happening."""

    __slots__ = ("action", "due_s")

    def __init__(self, due_s: float, action: Callable[[], None]) -> None:
        self.due_s = due_s
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class World:
    """Time, what happens when, and a diary of all of it that two runs with one seed share to the byte."""

    def __init__(self, start_s: int = WORLD_START_S) -> None:
        self.start_s = start_s
        self.loop: VirtualLoop | None = None
        self._now_s = 0.0
        self._in_loop = False
        self._events: list[tuple[float, int, Event]] = []
        self._count = itertools.count()
        self._digest = hashlib.sha256()
        self.entries = 0

    # -- time ------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Seconds since the world began; while the gateway runs, its loop's time is the world's."""
        # Asked a thousand times as often as anything happens.
        return self.loop.now_s if self._in_loop and self.loop is not None else self._now_s

    def unix_ms(self) -> int:
        return self.start_s * 1000 + round(self.now_s * 1000)

    def at(self, due_s: float, action: Callable[[], None]) -> Event:
        """Let `action` happen then, or as soon as may be when that has passed."""
        event = Event(max(due_s, self.now_s), action)
        heapq.heappush(self._events, (event.due_s, next(self._count), event))
        if self._in_loop and self.loop is not None:
            self.loop.call_at(event.due_s, self.loop.stop)  # the loop must not run past it
        return event

    def after(self, delay_s: float, action: Callable[[], None]) -> Event:
        return self.at(self.now_s + delay_s, action)

    def run_s(self, seconds: float) -> None:
        """Let so much time go by."""
        end_s = self._now_s + seconds
        while True:
            due_s = min(end_s, self._events[0][0]) if self._events else end_s
            self._run_loop(due_s)
            if self._now_s < due_s:
                continue  # the gateway made something happen earlier
            while self._events and self._events[0][0] <= self._now_s:
                action = heapq.heappop(self._events)[2].action
                if action is not None:
                    action()
            if self._now_s >= end_s:
                return

    def _run_loop(self, due_s: float) -> None:
        loop = self.loop
        if loop is None:
            self._now_s = due_s
            return
        if loop.is_idle_until(due_s):
            self._now_s = loop.now_s = due_s
            return
        timer = loop.call_at(due_s, loop.stop)
        self._in_loop = True
        try:
            loop.run_forever()
        finally:
            self._in_loop = False
        timer.cancel()
        self._now_s = min(max(loop.time(), self._now_s), due_s)
        if self._now_s > due_s - 1e-9:  # sums of floats
            self._now_s = loop.now_s = due_s

    # -- the diary -------------------------------------------------------------------------------------------

    def note(self, what: str, data: bytes = b"") -> None:
        """Enter something that happened."""
        self.entries += 1
        self._digest.update(b"%d %s %d " % (round(self.now_s * 1e6), what.encode(), len(data)) + data)

    @property
    def digest(self) -> str:
        """Everything that was entered so far, in 16 hex digits."""
        return self._digest.hexdigest()[:16]
