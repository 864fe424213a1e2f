"""A simulated I2C bus with one chip on it, and the time in which both live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.virtual.i2c import I2cBus
from hil_tests.world.sim_hal import LocalClock, SimI2c

if TYPE_CHECKING:
    from boards.virtual.i2c import I2cChip

START_MS = 1_790_000_000_000


class I2cBench:
    def __init__(self, chip: I2cChip | None = None) -> None:
        self._world_ms = START_MS
        self.clock = LocalClock(lambda: self._world_ms)
        self.bus = I2cBus()
        self.i2c = SimI2c(self.clock, self.bus)
        if chip is not None:
            self.bus.attach(chip, self.clock)

    @property
    def t_s(self) -> float:
        """Since the start."""
        return (self.clock.now_ms() - START_MS) / 1000

    def pass_s(self, seconds: float) -> None:
        self.clock.spend(round(seconds * 1000))


def since_start(t_s: float) -> float:
    """World time to the bench's."""
    return t_s - START_MS / 1000
