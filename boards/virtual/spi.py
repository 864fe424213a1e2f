"""A radio chip on the SPI of a virtual board: bytes, and the lines beside them."""

from collections.abc import Callable
from typing import Protocol

from boards.virtual import board as constants
from boards.virtual.chips.registers import Signal
from boards.virtual.i2c import Timers


class RadioChip(Protocol):
    """What can be soldered to the radio's pins. On a virtual board it is called on the hub's thread only."""

    dio1: Signal

    def connect(self, timers: Timers, /) -> None: ...
    def power(self, is_on: bool) -> None: ...
    def reset(self) -> None: ...
    @property
    def is_busy(self) -> bool: ...
    def select(self) -> None: ...
    def exchange(self, mosi: bytes) -> bytes: ...
    def deselect(self) -> None: ...


class RadioLines:
    """The pins of the board that end at the chip; there may be none."""

    def __init__(self) -> None:
        self._chip: RadioChip | None = None
        self._is_reset = False

    def attach(self, chip: RadioChip, timers: Timers, drive: Callable[[int], None], is_on: bool) -> None:
        self._chip = chip
        chip.connect(timers)
        chip.power(is_on)
        chip.dio1.connect(drive)

    @property
    def is_attached(self) -> bool:
        return self._chip is not None

    def power(self, is_on: bool) -> None:
        if self._chip is not None:
            self._chip.power(is_on)

    def let_go(self) -> None:
        """The node's life ended: its outputs float, and NSS has a pull-up."""
        if self._chip is not None:
            self._chip.deselect()

    def set(self, pin: int, level: int) -> None:
        """The node drives a pin."""
        if self._chip is None:
            return
        if pin == constants.RADIO_NSS_PIN:
            if level:
                self._chip.deselect()
            else:
                self._chip.select()
        elif pin == constants.RADIO_RST_PIN:
            if level and self._is_reset:
                self._chip.reset()
            self._is_reset = not level

    def level(self, pin: int) -> int | None:
        """Of a pin that the chip answers for at every look; None: it is another's."""
        if self._chip is None or pin != constants.RADIO_BUSY_PIN:
            return None
        return int(self._chip.is_busy)

    def exchange(self, number: int, mode: int, mosi: bytes) -> bytes:
        if self._chip is None or number != constants.RADIO_SPI or mode != 0:
            return bytes(len(mosi))  # nobody drives MISO
        return self._chip.exchange(mosi)
