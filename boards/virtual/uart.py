"""A serial line seen from the chip at its end; the virtual board and the simulated one give it."""

from collections.abc import Callable
from typing import Protocol

from boards.virtual.i2c import Timer


class Line(Protocol):
    baudrate: int
    char_s: float

    def now_s(self) -> float: ...
    def call_later(self, delay_s: float, function: Callable[[], None], /) -> Timer: ...
    def send(self, data: bytes) -> None: ...


class UartChip(Protocol):
    """What can be attached to a UART. On a virtual board it is called on the hub's thread only."""

    def connect(self, line: Line, /) -> None: ...

    def receive(self, data: bytes) -> None:
        """Bytes the node sent, all at once; on a real wire the last one arrives len(data) * line.char_s later."""
