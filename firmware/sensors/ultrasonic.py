"""An ultrasonic level sensor above the water, on a UART: A02YYUW, DYP-A02 and others that send the same frames.

It sends by itself, several times a second, 9600 8N1: FF, distance in millimetres (high byte first), and the low byte of
the sum of those three. The distance is never FF00h or more, so an FF that begins a frame is none of its other bytes but
the last two; a wrong sum moves on by one byte.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.hal import Uart
    from firmware.sensors import Readings

BAUD_RATE = 9600
# What the sensor can see; nearer than its blind zone and beyond its reach it makes numbers up.
DISTANCE_MIN_MM = 30
DISTANCE_MAX_MM = 4500
# Readings of which the middle one counts, and how long they may take to come.
SAMPLES = 3
_WAIT_MS = 100
_WAITS = 12
_FRAME = 4
_BUFFER = 32


class Ultrasonic:
    """One reading: the level below the sensor in millimetres, when the ground is ``height_mm`` below it."""

    count = 1

    def __init__(self, uart: "Uart", height_mm: int) -> None:
        self._uart = uart
        self._height_mm = height_mm
        self._buffer = bytearray(_BUFFER)
        self._have = 0
        self.errors = 0
        self.garbled = 0

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        readings[0] = None
        self._forget()
        distances: list[int] = []
        for _ in range(_WAITS):
            yield _WAIT_MS
            self._collect(distances)
            if len(distances) >= SAMPLES:
                break
        if not distances:
            self.errors += 1
            return
        distances.sort()
        distance = distances[len(distances) // 2]
        if DISTANCE_MIN_MM <= distance <= DISTANCE_MAX_MM:
            readings[0] = self._height_mm - distance
        else:
            self.errors += 1

    def _forget(self) -> None:
        """What came before anybody asked is old."""
        self._have = 0
        for _ in range(16):
            if not self._uart.any():
                break
            self._uart.readinto(memoryview(self._buffer))

    def _collect(self, distances: "list[int]") -> None:
        if self._uart.any():
            self._have += self._uart.readinto(memoryview(self._buffer)[self._have :])
        at = 0
        buffer = self._buffer
        while self._have - at >= _FRAME:
            if buffer[at] == 0xFF and sum(buffer[at : at + 3]) & 0xFF == buffer[at + 3]:
                distances.append(buffer[at + 1] << 8 | buffer[at + 2])
                at += _FRAME
            else:
                self.garbled += 1
                at += 1
        rest = buffer[at : self._have]
        self._have = len(rest)
        buffer[: self._have] = rest
