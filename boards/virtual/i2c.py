"""An I2C bus with register-level chips on it, at the level of transactions; the virtual board and the simulated one."""

from collections.abc import Callable
from typing import Protocol

# What a transaction comes to when it is neither bytes nor the number of bytes written.
NOBODY, HANGS = -1, -2
HZ = 400_000


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """The board's clock, as chips see it."""

    def now_s(self) -> float: ...
    def call_later(self, delay_s: float, function: Callable[[], None], /) -> Timer: ...


class I2cChip(Protocol):
    address: int

    def connect(self, timers: Timers) -> None: ...
    def holds_bus(self) -> bool:
        """It pulls a line down and lets nobody talk."""

    def read(self, register: int, count: int) -> bytes | None:
        """None: not acknowledged."""

    def write(self, register: int, data: bytes) -> bool:
        """Whether it was acknowledged. No data: the register was only pointed at, or not even that (-1)."""


class I2cBus:
    """``hangs``: a line is shorted, whatever is connected."""

    def __init__(self) -> None:
        self.hangs = False
        self.transactions = 0
        self._chips: dict[int, I2cChip] = {}

    def attach(self, chip: I2cChip, timers: Timers) -> None:
        if chip.address in self._chips:
            raise ValueError(
                f"address {chip.address:#04x} of this bus is taken; strap one of the chips to another"
            )
        self._chips[chip.address] = chip
        chip.connect(timers)

    def read(self, address: int, register: int, count: int) -> bytes | int:
        self.transactions += 1
        if self._is_held():
            return HANGS
        chip = self._chips.get(address)
        data = None if chip is None else chip.read(register, count)
        return NOBODY if data is None else data

    def write(self, address: int, register: int, data: bytes = b"") -> int:
        self.transactions += 1
        if self._is_held():
            return HANGS
        chip = self._chips.get(address)
        return 0 if chip is not None and chip.write(register, data) else NOBODY

    def _is_held(self) -> bool:
        return self.hangs or any(chip.holds_bus() for chip in self._chips.values())


def on_wire_s(count: int) -> float:
    """Time of a transaction of ``count`` bytes, addresses included: nine clocks a byte and three for conditions."""
    return (9 * count + 3) / HZ
