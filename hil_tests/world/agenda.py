"""Clocks for the simulated air where there is no other: a bare one that only counts events, and the world's."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from hil_tests.world.sim_world import Event, World


class Agenda:
    """What happens when, and nothing else. The board clock of the virtual boards is another such clock."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._count = 0
        self._entries: list[tuple[float, int, Callable[[], Any]]] = []

    def now_s(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, function: Callable[[], Any], /) -> None:
        self._count += 1
        heapq.heappush(self._entries, (self._now_s + delay_s, self._count, function))

    def run_until(self, end_s: float) -> None:
        entries = self._entries
        while entries and entries[0][0] <= end_s:
            self._now_s, _, function = heapq.heappop(entries)
            function()
        self._now_s = end_s


class WorldAgenda:
    """The simulated world's time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_s(self) -> float:
        return self._world.now_s

    def call_later(self, delay_s: float, function: Callable[[], Any], /) -> Event:
        return self._world.after(delay_s, function)
