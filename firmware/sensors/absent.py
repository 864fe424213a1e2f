"""The place of a sensor that this node could have and has not: no reading, and no fault."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.sensors import Readings


class Absent:
    """One reading that never comes."""

    count = 1
    errors = 0
    optional = (0,)

    def measure(self, readings: "Readings") -> "Iterator[int]":
        """See the head of firmware.sensors for the contract."""
        readings[0] = None
        yield 0
