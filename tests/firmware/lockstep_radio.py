"""The radio chip of a node in lockstep, its air and a gateway there (sky.py), all on the clock of the lockstep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.virtual.chips.sx1262 import Sx1262
from hil_tests.world.air import Air
from hil_tests.world.propagation import Spot, open_air
from protocols.wire.law import Law
from tests.firmware.sky import AirPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil_tests.world.sim_hal import LocalClock
    from tests.firmware.peer import Peer


class LockstepRadio:
    """``pass_ms`` lets time go by: a chip that is busy is asked again a millisecond later."""

    def __init__(
        self, clock: LocalClock, peer: Peer, radio: tuple[int, int, int, int], pass_ms: Callable[[int], None]
    ) -> None:
        self.agenda = clock
        self.law = Law(radio[0])
        self.air = Air(clock, open_air(), 1)
        self.chip = Sx1262(self.air)
        self.air.place(self.chip, "node", Spot(0.0, 0.0))
        self.chip.connect(clock)
        freqs_hz = [self.law.freq_hz(radio[1] + index) for index in range(radio[2])]
        self.gateway = AirPeer(self, peer, freqs_hz)
        self._pass_ms = pass_ms

    def transfer(self, data: bytes) -> bytes:
        return self.chip.transfer(data)

    def ask(self, what: str) -> bytes:
        if what == "reset":
            self.chip.reset()
            return b""
        if what == "dio1":
            return bytes((self.chip.dio1.level,))
        is_busy = self.chip.is_busy
        if is_busy:
            self._pass_ms(1)
        return bytes((is_busy,))
