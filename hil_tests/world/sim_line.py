"""A serial line in the simulated world: bytes take their time, and some arrive spoiled or not at all.

Both ends are callbacks that take bytes. Within one direction nothing overtakes, as on a wire; what the faults swap,
they swap inside one write.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from boards.virtual.line import LineFaults
from hil_tests.world.sim_world import World

# 115200 baud, 8N1.
_BYTE_S = 10 / 115_200
# What an operating system and a USB bridge add.
_LATENCY_MIN_S = 0.001
_LATENCY_MAX_S = 0.016


class SimLine:
    """One cable. `plugged` False: what is written is lost, as is what is under way."""

    def __init__(self, name: str, world: World, rng: random.Random) -> None:
        self.name = name
        self.faults: LineFaults | None = None
        self.plugged = True
        self.plugged_times = 0  # after the first
        # Whether one write, which is a frame, is lost as a whole; "up" or "down".
        self.loses: Callable[[str], bool] = lambda way: False
        # What takes the bytes at each end; the gateway's is None while no process has the port open.
        self.to_node: Callable[[bytes], None] | None = None
        self.to_gateway: Callable[[bytes], None] | None = None
        # Everything that is written, before faults: (way, bytes).
        self.tap: Callable[[str, bytes], None] = lambda way, data: None
        self._world = world
        self._rng = rng
        self._free_s = {"up": 0.0, "down": 0.0}

    def write(self, way: str, data: bytes, delay_s: float = 0.0) -> None:
        """``way`` is "up" (from the node) or "down"."""
        self.tap(way, data)
        if self.faults is not None:
            data = self.faults.pass_through(data, way)
        begins_s = max(self._free_s[way], self._world.now_s + delay_s)
        self._free_s[way] = begins_s + len(data) * _BYTE_S
        arrives_s = self._free_s[way] + self._rng.uniform(_LATENCY_MIN_S, _LATENCY_MAX_S)
        self._free_s[way] = max(self._free_s[way], arrives_s)
        if self.plugged and data and not self.loses(way):
            times = self.plugged_times
            self._world.at(arrives_s, lambda: self._arrive(way, data, times))

    def _arrive(self, way: str, data: bytes, times: int) -> None:
        take = self.to_gateway if way == "up" else self.to_node
        if take is None or not self.plugged or times != self.plugged_times:
            return
        self._world.note(f"{self.name} {way}", data)
        take(data)

    def unplug(self) -> None:
        self.plugged = False

    def replug(self) -> None:
        self.plugged_times += 1
        self.plugged = True
