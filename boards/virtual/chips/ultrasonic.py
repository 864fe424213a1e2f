"""An ultrasonic distance sensor that sends four bytes by itself, a few times a second (A02YYUW and its family)."""

import random
from collections.abc import Callable

from boards.virtual.uart import Line

FAULTS = ("silent", "crc", "garbage", "frozen", "out_of_range")
_PERIOD_S = 0.15
_OUT_OF_RANGE_MM = 0


class Ultrasonic:
    """``distance(t)``: millimetres at world time t."""

    def __init__(self, distance: Callable[[float], float], *, seed: int = 0, noise_mm: float = 1.5) -> None:
        self.fault: str | None = None
        self.frames = 0
        self._distance = distance
        self._noise_mm = noise_mm
        self._random = random.Random(f"{seed} ultrasonic")
        self._stuck_mm: int | None = None
        self._line: Line | None = None

    def connect(self, line: Line) -> None:
        self._line = line
        line.call_later(_PERIOD_S, self._send)

    def receive(self, data: bytes) -> None:
        """Its receive line only chooses a mode."""

    def _send(self) -> None:
        line = self._line
        if line is None:
            return
        line.call_later(_PERIOD_S, self._send)
        if self.fault == "silent" or line.baudrate != 9600:
            return
        self.frames += 1
        line.send(self._frame(line.now_s()))

    def _frame(self, now_s: float) -> bytes:
        fault = self.fault
        if fault == "garbage":
            return self._random.randbytes(self._random.randint(1, 12))
        mm = self._millimetres(now_s)
        frame = bytes((0xFF, mm >> 8, mm & 0xFF))
        total = sum(frame) & 0xFF
        return frame + bytes((total ^ 1 << self._random.randrange(8) if fault == "crc" else total,))

    def _millimetres(self, now_s: float) -> int:
        if self.fault == "out_of_range":
            return _OUT_OF_RANGE_MM
        if self.fault != "frozen":
            self._stuck_mm = None
        if self._stuck_mm is None:
            felt = self._distance(now_s) + self._random.gauss(0.0, self._noise_mm)
            self._stuck_mm = max(0, min(0xFEFF, round(felt)))
        return self._stuck_mm
