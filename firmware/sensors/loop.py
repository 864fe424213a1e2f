"""A transmitter on a 4-20 mA loop: pressure, level, gas, whatever its maker has put between the two.

NAMUR NE 43 says what the currents outside mean: below 3.6 mA the wire is broken or the transmitter has no supply, above
21 mA it reports a fault of its own or the loop is shorted. Between those and the ends of the scale it still measures.
"""

from firmware.hal import LOOP_SHUNT_OHM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.hal import Hal
    from firmware.sensors import Readings

SAMPLES = 5
BROKEN_BELOW_UA = 3600
FAILED_ABOVE_UA = 21000
_ZERO_UA = 4000
_SPAN_UA = 16000

# Loop.fault
NO_FAULT = 0
BROKEN_WIRE = 1
OVER_RANGE = 2
NO_ADC = 3


class Loop:
    """One reading: ``low`` at 4 mA and ``high`` at 20 mA, in scaled integers of the measurand."""

    count = 1

    def __init__(self, hal: "Hal", low: int, high: int) -> None:
        self._hal = hal
        self._low = low
        self._span = high - low
        self.fault = NO_FAULT
        self.errors = 0

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        readings[0] = None
        samples = []
        try:
            for _ in range(SAMPLES):
                samples.append(self._hal.read_mv("loop"))
        except OSError:
            self.fault = NO_ADC
            self.errors += 1
            return
        samples.sort()
        current_ua = samples[SAMPLES // 2] * 1000 // LOOP_SHUNT_OHM
        if current_ua < BROKEN_BELOW_UA:
            self.fault = BROKEN_WIRE
        elif current_ua > FAILED_ABOVE_UA:
            self.fault = OVER_RANGE
        else:
            self.fault = NO_FAULT
        if self.fault:
            self.errors += 1
            return
        readings[0] = self._low + ((current_ua - _ZERO_UA) * self._span + _SPAN_UA // 2) // _SPAN_UA
        yield 0
