"""The node's own supply voltage, behind the divider of its board."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.hal import Hal
    from firmware.sensors import Readings

# An ADC of an ESP32 is noisy in the last bits: the middle of a few samples.
SAMPLES = 5


class Supply:
    """One reading, in hundredths of a volt."""

    count = 1

    def __init__(self, hal: "Hal") -> None:
        self._hal = hal
        self.errors = 0

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        readings[0] = None
        samples = []
        try:
            for _ in range(SAMPLES):
                samples.append(self._hal.read_mv("supply"))
        except OSError:
            self.errors += 1
            return
        samples.sort()
        readings[0] = (samples[SAMPLES // 2] + 5) // 10
        yield 0
