"""The radio of a simulated station: the chip of the virtual board, on the station's time and in the world's air.

A station runs ahead of the world while a step waits. What its chip does later is put on the world's clock, which the
air has too, so that packets of a thousand stations come in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from boards.virtual.i2c import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.virtual.chips.sx1262 import Sx1262
    from hil_tests.world.air import AirClock

_US_PER_BYTE = 1  # 8 MHz
_US_PER_TRANSFER = 20
_US_PER_LOOK = 5
_TICKS_US = (1 << 30) - 1


class LocalTime(Protocol):
    """What of hil_tests/world/sim_hal.py's LocalClock is needed here."""

    def now_ms(self) -> int: ...
    def spend(self, ms: int) -> None: ...
    @property
    def ahead_ms(self) -> int: ...


class _Timer:
    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def due(self) -> None:
        if self._function is not None:
            self._function()

    def cancel(self) -> None:
        self._function = None


class SimRadio:
    """Implements firmware.hal.RadioPort, and is the chip's clock (boards.virtual.i2c.Timers)."""

    chip = "sx1262"
    dio2_switches = True
    dbm_max = 22

    def __init__(self, chip: Sx1262, local: LocalTime, world: AirClock, tcxo_mv: int | None) -> None:
        self.tcxo_mv = tcxo_mv
        self._chip = chip
        self._local = local
        self._world = world
        self._spent_us = 0  # below a millisecond, which is what the station's clock counts in
        chip.connect(self)

    # -- RadioPort -------------------------------------------------------------------------------------------

    def transfer(self, data: bytearray) -> None:
        data[:] = self._chip.transfer(bytes(data))
        self._spend(_US_PER_TRANSFER + len(data) * _US_PER_BYTE)

    def is_busy(self) -> bool:
        self._spend(_US_PER_LOOK)
        return self._chip.is_busy

    def is_raised(self) -> bool:
        return bool(self._chip.dio1.level)

    def reset(self) -> None:
        self._local.spend(1)
        self._chip.reset()

    def switch(self, is_receiving: bool) -> None:
        pass

    def ticks_us(self) -> int:
        return (self._local.now_ms() * 1000 + self._spent_us) & _TICKS_US

    def _spend(self, us: int) -> None:
        self._spent_us += us
        if self._spent_us >= 1000:
            ms, self._spent_us = divmod(self._spent_us, 1000)
            self._local.spend(ms)

    # -- Timers ----------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self._world.now_s() + self._ahead_s()

    def call_later(self, delay_s: float, function: Callable[[], None], /) -> Timer:
        timer = _Timer(function)
        self._world.call_later(self._ahead_s() + delay_s, timer.due)
        return timer

    def power(self, is_on: bool) -> None:
        self._chip.power(is_on)

    def _ahead_s(self) -> float:
        return self._local.ahead_ms / 1000 + self._spent_us / 1e6
