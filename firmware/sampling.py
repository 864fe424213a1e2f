"""When to measure, and how. What the readings are worth is in checking.py.

Sets stand on the raster of the clock (every 15 minutes: at :00, :15, :30, :45), so that stations can be compared and a
batch codes its times in one byte. A measurement is a chain of short steps: the node serves its link in between.
"""

from protocols.wire.limits import MAX_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firmware.hal.clock import Clock
    from firmware.sensors import Readings, Sensor


class Schedule:
    """When the next set is due. The clock may be set at any time: no set is missed for it, none taken twice."""

    def __init__(self, clock: "Clock", phase_s: int = 0) -> None:
        self._clock = clock
        self._phase_s = phase_s  # past the raster; for nodes that must not all wake at once
        self._due_s = 0  # by the clock: at once after a start
        self._begun_s = 0  # uptime
        self._on_raster = False

    def is_due(self) -> bool:
        return self._clock.now()[0] >= self._due_s

    def begin(self, interval_s: int) -> None:
        """The set that was due is being taken."""
        self._on_raster = self._due_s > 0
        self._begun_s = self._clock.uptime_s()
        self._due_s = self._next_s(interval_s)

    def replan(self, interval_s: int) -> None:
        """The clock was set, or the interval changed."""
        self._due_s = self._next_s(interval_s)
        ahead_s = self._due_s - self._clock.now()[0] + self._clock.uptime_s() - self._begun_s
        if self._on_raster and ahead_s < interval_s // 2:
            self._due_s += interval_s  # the clock went back over a set that was just taken

    def wait_ms(self) -> int:
        return self._clock.ms_until(self._due_s)

    def rest(self) -> "tuple[int, int, bool]":
        """What resume() needs after a deep sleep that begins now."""
        return self._due_s, self._begun_s, self._on_raster

    def resume(self, due_s: int, begun_s: int, on_raster: bool) -> None:
        self._due_s, self._begun_s, self._on_raster = due_s, begun_s, on_raster

    def _next_s(self, interval_s: int) -> int:
        phase_s = self._phase_s % interval_s
        return ((self._clock.now()[0] - phase_s) // interval_s + 1) * interval_s + phase_s


class Sampler:
    """Measures all sensors, one after the other: they may share a bus."""

    def __init__(self, sensors: "Sequence[Sensor]", series_count: int, clock: "Clock") -> None:
        self._sensors = sensors
        self._clock = clock
        self._from_ms = self._wait_ms = 0  # of the step that is next
        self.values: "Readings" = [None] * series_count
        self.corrections: "dict[int, tuple[int, int, int, int]]" = {}  # by series: two pairs of probe and truth
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
            # Ticks begin anywhere: a first step due "since 0" might be due a minute after the wrap.
            self._from_ms = self._clock.ticks_ms()
            self._wait_ms = 0

    @property
    def is_busy(self) -> bool:
        return self._steps is not None

    def poll(self) -> "int | None":
        """Go on, if it is time: milliseconds to the next step, or None when `values` is complete."""
        steps = self._steps
        if steps is None:
            return None
        left_ms = self._wait_ms - self._clock.ticks_diff(self._clock.ticks_ms(), self._from_ms)
        if left_ms > 0:
            return left_ms
        for wait_ms in steps:
            self._from_ms = self._clock.ticks_ms()
            self._wait_ms = wait_ms
            return wait_ms
        self._steps = None
        return None

    def correct(self) -> None:
        """Put the calibrations that are in force to the values."""
        for series, pairs in self.corrections.items():
            value = self.values[series]
            if value is not None:
                self.values[series] = corrected(value, pairs)

    def unfitted(self) -> "list[int]":
        """The series that may be missing without a fault: of sensors that this node does not have, or not yet known."""
        series: "list[int]" = []
        at = 0
        for sensor in self._sensors:
            for one in getattr(sensor, "optional", ()):
                series.append(at + one)
            at += sensor.count
        return series

    def errors(self) -> int:
        return sum(sensor.errors for sensor in self._sensors)

    def _measure(self) -> "Iterator[int]":
        at = 0
        for sensor, part in zip(self._sensors, self._parts):
            yield from sensor.measure(part)
            for value in part:
                self.values[at] = value
                at += 1


def corrected(probe: int, pairs: "tuple[int, int, int, int]") -> int:
    """What a probe that said this should have said: on the line through both points, rounded half up."""
    probe0, true0, probe1, true1 = pairs
    over = 2 * (probe1 - probe0)
    value = true0 + (2 * (probe - probe0) * (true1 - true0) + over // 2) // over
    return max(-MAX_VALUE, min(value, MAX_VALUE))
