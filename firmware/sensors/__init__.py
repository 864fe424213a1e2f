"""Sensor drivers. README.md has the recipe for a new one.

A sensor is an object with

    count                 how many readings it gives
    measure(readings)     a generator: fills readings[0:count] with scaled integers, None where it got none, and yields
                          the milliseconds it wants to wait; between two yields it blocks for one bus transaction
    errors                how often something went wrong since boot
    optional              if it has any: which of its readings may be missing without a fault

and it never raises a SensorError out of measure(): what fails is a None and a count.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    Readings = list[int | None]

    class Sensor(Protocol):
        count: int
        errors: int

        def measure(self, readings: Readings) -> Iterator[int]: ...
