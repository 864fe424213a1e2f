"""When to measure, how, and what the readings are worth.

Sets stand on the raster of the clock (every 15 minutes: at :00, :15, :30, :45), so that stations can be compared and a
batch codes its times in one byte. A measurement is a chain of short steps: the node serves its link in between.
"""

from protocols.wire.quality import FlatLine, RateOfChange, check_limits, gross_range, worst

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firmware.hal.clock import Clock
    from firmware.sensors import Readings, Sensor
    from protocols.wire.quality import Limits

_NEVER_S = -(1 << 28)


class Schedule:
    """When the next set is due. Survives the clock being set: no set is missed for it, none taken twice."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._slot = -1
        self._begun_s = _NEVER_S  # uptime

    def is_due(self, interval_s: int) -> bool:
        now_s, _ = self._clock.now()
        # Half an interval must have passed: a clock set back over a slot's edge must not measure it again.
        return now_s // interval_s != self._slot and self._clock.uptime_s() - self._begun_s >= interval_s // 2

    def begin(self, interval_s: int) -> None:
        now_s, _ = self._clock.now()
        self._slot = now_s // interval_s
        self._begun_s = self._clock.uptime_s()

    def wait_ms(self, interval_s: int) -> int:
        if self.is_due(interval_s):
            return 0
        now_s, _ = self._clock.now()
        slot = now_s // interval_s
        rest_s = self._begun_s + interval_s // 2 - self._clock.uptime_s()
        until_ms = self._clock.ms_until((slot + 1) * interval_s) if slot == self._slot else 0
        return max(1, rest_s * 1000, until_ms)

    def overdue_s(self) -> int:
        """How long ago the latest measurement began."""
        return self._clock.uptime_s() - max(self._begun_s, 0)


class Sampler:
    """Measures all sensors, one after the other: they may share a bus."""

    def __init__(self, sensors: "Sequence[Sensor]", series_count: int) -> None:
        self._sensors = sensors
        self.values: "Readings" = [None] * series_count
        self._parts: "list[Readings]" = [[None] * sensor.count for sensor in sensors]
        self._steps: "Iterator[int] | None" = None
        if sum(sensor.count for sensor in sensors) != series_count:
            raise ValueError(
                "the sensors give %d readings, the schema has %d"
                % (sum(sensor.count for sensor in sensors), series_count)
            )

    def begin(self) -> None:
        """Start a measurement; one that is under way goes on instead."""
        if self._steps is None:
            self._steps = self._measure()

    @property
    def is_busy(self) -> bool:
        return self._steps is not None

    def step(self) -> "int | None":
        """Go on: milliseconds to wait for the next step, or None when `values` is complete."""
        steps = self._steps
        if steps is None:
            return None
        for wait_ms in steps:
            return wait_ms
        self._steps = None
        return None

    def errors(self) -> int:
        return sum(sensor.errors for sensor in self._sensors)

    def _measure(self) -> "Iterator[int]":
        at = 0
        for sensor, part in zip(self._sensors, self._parts):
            yield from sensor.measure(part)
            for value in part:
                self.values[at] = value
                at += 1


class Checker:
    """The tests of one series that can be passed at once. A spike shows only in the set after it: the gateway looks."""

    def __init__(self, limits: "Limits") -> None:
        check_limits(limits)
        self._limits = limits
        self._rate = RateOfChange(limits)
        self._flat = FlatLine(limits)

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        return worst(
            gross_range(value, self._limits), self._rate.next(time_s, value), self._flat.next(time_s, value)
        )
