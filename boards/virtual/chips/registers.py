"""What chips on an I2C bus have in common: outputs that drive a pin, and the ways in which they fail."""

import random
from collections.abc import Callable, Sequence

from boards.virtual.i2c import Timers

# absent: not soldered, or without power. flaky: every other transaction is not acknowledged. hangs: holds the bus.
# garbage: every byte is random. frozen: the measured values stay, everything else works (for the chip to implement).
FAULTS = ("absent", "flaky", "hangs", "garbage", "frozen")


class Signal:
    """An output of a chip. Whoever is connected hears of every change."""

    def __init__(self) -> None:
        self.level = 0
        self._listeners: list[Callable[[int], None]] = []

    def connect(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)
        listener(self.level)

    def set(self, level: int) -> None:
        if level != self.level:
            self.level = level
            for listener in self._listeners:
                listener(level)


class RegisterChip:
    """A chip whose registers are read and written one byte each, by `_get` and `_set` of what derives from it.

    ``fault`` may be set at any time; ``script`` is a list of (from_s, to_s, fault) in world time.
    """

    def __init__(
        self, address: int, *, seed: int = 0, script: Sequence[tuple[float, float, str]] = ()
    ) -> None:
        self.address = address
        self.script = [(start_s, end_s, _known(fault)) for start_s, end_s, fault in script]
        self.random = random.Random(f"{seed} {type(self).__name__}")
        self._fault: str | None = None
        self._timers: Timers | None = None
        self._turn = 0

    @property
    def fault(self) -> str | None:
        if self._fault is None and self.script:
            now_s = self.now_s()
            return next((fault for start_s, end_s, fault in self.script if start_s <= now_s < end_s), None)
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = None if fault is None else _known(fault)

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            raise RuntimeError("the chip is on no bus: board.attach_i2c(bus, chip) first")
        return self._timers

    def now_s(self) -> float:
        return self.timers.now_s()

    # ---- the bus -------------------------------------------------------------------------------------------------

    def connect(self, timers: Timers) -> None:
        self._timers = timers
        self._power_on()

    def holds_bus(self) -> bool:
        return self.fault == "hangs"

    def read(self, register: int, count: int) -> bytes | None:
        if not self._acknowledges():
            return None
        if self.fault == "garbage":
            return self.random.randbytes(count)
        return self._read(register, count)

    def write(self, register: int, data: bytes) -> bool:
        if not self._acknowledges():
            return False
        if data and self.fault != "garbage":
            self._write(register, data)
        return True

    def _acknowledges(self) -> bool:
        fault = self.fault
        if fault == "flaky":
            self._turn ^= 1
            return not self._turn
        return fault != "absent"

    # ---- the chip ------------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        raise NotImplementedError

    def _read(self, register: int, count: int) -> bytes:
        raise NotImplementedError

    def _write(self, register: int, data: bytes) -> None:
        raise NotImplementedError


def _known(fault: str) -> str:
    if fault not in FAULTS:
        raise ValueError(f"no fault {fault!r} of a chip; there are {', '.join(FAULTS)}")
    return fault
