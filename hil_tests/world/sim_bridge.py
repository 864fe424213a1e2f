"""A bridge in the simulated world: the firmware's own files between an antenna in the air and a line to the gateway.

    bridge = SimBridge(identity, state_image, world, line, chip, air_clock, seed)
    bridge.power_on()
    bridge.power_off()          what it was given to send is forgotten, and its counter begins anew

It is stepped when a board would find something to do: it has heard or sent, there are bytes on its line, or a packet
waits for its moment. A board looks all the time; what it would see so is at most its look's pause old, as it is here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from firmware.bridge import Bridge
from firmware.hal import CAUSE_POWER_ON
from hil_tests.world.flash import Flash
from hil_tests.world.sim_hal import SimHal, SimReset, SimStation

if TYPE_CHECKING:
    from boards.virtual.chips.sx1262 import Sx1262
    from hil_tests.world.air import AirClock
    from hil_tests.world.sim_line import SimLine
    from hil_tests.world.sim_world import Event, World
    from protocols.wire.identity import Identity

_LOOK_S = 0.002  # firmware/bridge.py
# Its microseconds wrap after 17 minutes, and a receiver is asked whether it still listens.
_AT_LATEST_S = 10.0
_PPM_MAX = 20.0


class SimBridge:
    def __init__(
        self,
        identity: Identity,
        state_image: bytes,
        world: World,
        line: SimLine,
        chip: Sx1262,
        air_clock: AirClock,
        seed: str,
    ) -> None:
        self.line = line
        self.chip = chip
        self.starts = 0
        self._world = world
        self._rng = random.Random(f"{seed} bridge")
        self._board = SimStation(
            identity,
            now_ms=world.unix_ms,
            water=lambda _: {},
            ppm=self._rng.uniform(-_PPM_MAX, _PPM_MAX),
            flash=Flash(image=state_image),
        )
        self._board.attach_radio(chip, air_clock)
        self._board.to_gateway = self._write
        self._hal: SimHal | None = None
        self._bridge: Bridge | None = None
        self._next: Event | None = None
        line.to_node = self._hear
        chip.dio1.connect(self._raised)
        self._power(False)

    @property
    def log(self) -> list[str]:
        """The latest lines of its console."""
        return self._board.log

    @property
    def bridge(self) -> Bridge:
        """The firmware, while it has power."""
        if self._bridge is None:
            raise RuntimeError(f"bridge {self.line.name} has no power")
        return self._bridge

    def power_on(self) -> None:
        self._power(True)
        self._start()

    def power_off(self) -> None:
        self._power(False)
        self._hal = self._bridge = None

    def _power(self, is_on: bool) -> None:
        self.chip.power(is_on)
        if is_on:
            self._board.rtc.lose_power()

    def _start(self) -> None:
        self.starts += 1
        self._hal = SimHal(self._board, CAUSE_POWER_ON)
        self._bridge = Bridge(self._hal)
        self._bridge.begin()
        self._wake(0.0)

    # -- running ---------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self.line.write("up", data, self._board.clock.ahead_ms / 1000)

    def _hear(self, data: bytes) -> None:
        if self._hal is not None:
            self._hal.link.pending += data
            self._wake(0.0)

    def _raised(self, level: int) -> None:
        if level and self._bridge is not None:
            self._wake(self._rng.uniform(0, _LOOK_S))

    def _wake(self, after_s: float) -> None:
        due_s = self._world.now_s + self._board.clock.ahead_ms / 1000 + after_s
        if self._next is not None:
            if self._next.due_s <= due_s:
                return
            self._next.cancel()
        self._next = self._world.at(due_s, self._step)

    def _step(self) -> None:
        self._next = None
        if self._bridge is None:
            return
        try:
            wait_ms = self._bridge.step()
        except SimReset:
            self._start()
            return
        self._wake(_AT_LATEST_S if self._bridge.is_idle else wait_ms / 1000)
