"""A seeded run of bad luck: every fault the simulated world knows, begun and ended at random, several at a time.

The only faults that are kept apart are those which no design survives: a node's flash is erased, and a backup of the
gateway from before that is put back, or was and the node has not yet sent again. What both had is then nowhere. And no
publish is refused one by one: whoever takes what came after a record that he refused gets that one out of order.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.registry import By
from protocols.wire import codes

if TYPE_CHECKING:
    from pathlib import Path

    from hil_tests.sim_rig import SimRig

_BY = By("chaos", "a bad day")
_SONDE_FAULTS = ("silent", "crc", "garbage", "slow", "stuck", "out_of_range", "exception")
_WEIGHTS = {
    "broker_outage": 3,
    "silence": 3,
    "slow_broker": 2,
    "kill": 6,
    "power_cut": 6,
    "reflash": 1,
    "erase": 1,
    "backup": 2,
    "restore": 1,
    "spoilt_line": 4,
    "unplug": 3,
    "command": 3,
    "sonde": 2,
    "unsynchronised": 1,
}
_COMMANDS = (
    (codes.IDENTIFY, 5),
    (codes.REBOOT, None),
    (codes.READ_NOW, None),
    (codes.REPORT_SETTINGS, None),
)


class Chaos:
    """Drives a rig. ``done`` says how often each fault was begun."""

    def __init__(self, rig: SimRig) -> None:
        self.rig = rig
        self.rng = rig.random("chaos")
        self.done = dict.fromkeys(_WEIGHTS, 0)
        self._ends: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._active: set[str] = set()
        self._copy: Path | None = None
        self._was_restored = False

    def run_s(self, seconds: float, pause_s: float) -> None:
        """Let so much time go by with a fault about every `pause_s`; then end them all."""
        rig = self.rig
        end_s = rig.world.now_s + seconds
        while rig.world.now_s < end_s:
            next_s = min(end_s, rig.world.now_s + self.rng.expovariate(1 / pause_s))
            self._pass_until(next_s)
            self._begin(self.rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0])
        while self._ends:
            self._pass_until(self._ends[0][0])

    def _pass_until(self, until_s: float) -> None:
        world = self.rig.world
        while self._ends and self._ends[0][0] <= until_s:
            due_s, _, end = heapq.heappop(self._ends)
            world.run_s(max(0.0, due_s - world.now_s))
            end()
        world.run_s(max(0.0, until_s - world.now_s))

    def _begin(self, fault: str) -> None:
        self.rig.world.note(f"chaos {fault}")
        if getattr(self, f"_{fault}")(self.rng):
            self.done[fault] += 1

    def _for_a_while(
        self, what: str, mean_s: float, begin: Callable[[], None], end: Callable[[], None]
    ) -> bool:
        """Begin something that lasts; False when it is going on already."""
        if what in self._active:
            return False
        self._active.add(what)
        begin()

        def over() -> None:
            self._active.discard(what)
            end()

        due_s = self.rig.world.now_s + self.rng.expovariate(1 / mean_s)
        heapq.heappush(self._ends, (due_s, next(self._count), over))
        return True

    def _node(self) -> str:
        return self.rng.choice(self.rig.nodes)

    # -- the faults: each says whether it happened -----------------------------------------------------------

    def _broker_outage(self, rng: random.Random) -> bool:
        return self._for_a_while("broker", 60, self.rig.stop_broker, self.rig.start_broker)

    def _silence(self, rng: random.Random) -> bool:
        return self._for_a_while("network", 40, self.rig.silence_network, self.rig.restore_network)

    def _slow_broker(self, rng: random.Random) -> bool:
        """Confirmations are held back, then come all at once, in any order and some twice."""
        broker = self.rig.broker
        reverse, twice = rng.random() < 0.5, rng.random() < 0.5
        return self._for_a_while("slow", 4, broker.hold, lambda: broker.release(reverse=reverse, twice=twice))

    def _kill(self, rng: random.Random) -> bool:
        mean_s = rng.choice((0.01, 5, 120))
        return self._for_a_while("gateway", mean_s, self.rig.kill_gateway, self.rig.start_gateway)

    def _power_cut(self, rng: random.Random) -> bool:
        self.rig.power_cut(self._node())
        return True

    def _reflash(self, rng: random.Random) -> bool:
        self.rig.reflash_app(self._node())
        return True

    def _erase(self, rng: random.Random) -> bool:
        if self._was_restored:
            return False
        self.rig.erase_state(self._node())
        self._copy = None
        return True

    def _backup(self, rng: random.Random) -> bool:
        """The gateway is stopped for a copy of its files, as an administrator would."""
        if "gateway" in self._active:
            return False
        self.rig.kill_gateway()
        self._copy = self.rig.backup_gateway()
        self.rig.start_gateway()
        return True

    def _restore(self, rng: random.Random) -> bool:
        if "gateway" in self._active or self._copy is None:
            return False
        self.rig.kill_gateway()
        self.rig.restore_gateway(self._copy)
        self._was_restored = True
        self.rig.start_gateway()
        return True

    def _spoilt_line(self, rng: random.Random) -> bool:
        percent = rng.choice((0.1, 1, 5, 20))
        return self._for_a_while(
            "lines", 60, lambda: self.rig.line_faults(percent), lambda: self.rig.line_faults(0)
        )

    def _unplug(self, rng: random.Random) -> bool:
        node = self._node()
        return self._for_a_while(
            f"cable {node}", 40, lambda: self.rig.unplug(node), lambda: self.rig.replug(node)
        )

    def _command(self, rng: random.Random) -> bool:
        if self.rig.gateway is None:
            return False
        op, args = rng.choice(_COMMANDS)
        address = int(self._node(), 16)
        ttl_s = rng.choice((1, 10, 60))
        self.rig.ask(lambda gateway: gateway.commands.add(address, op, args, ttl_s, _BY))
        return True

    def _sonde(self, rng: random.Random) -> bool:
        node = self._node()
        sonde = self.rig.stations[node].station.sonde
        fault = rng.choice(_SONDE_FAULTS)
        return self._for_a_while(
            f"sonde {node}", 90, lambda: setattr(sonde, "fault", fault), lambda: setattr(sonde, "fault", None)
        )

    def _unsynchronised(self, rng: random.Random) -> bool:
        """The gateway loses its own time: nodes are told none."""

        def set_to(value: bool) -> None:
            self.rig.clock_is_synchronised = value

        return self._for_a_while("clock", 120, lambda: set_to(False), lambda: set_to(True))
