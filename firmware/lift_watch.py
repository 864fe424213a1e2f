"""The watch of an elevator monitor: ten times a second it empties the accelerometer's FIFO into the detectors.

What the two sensors fail to give is a gap, not a movement, and is counted; the door's contact and the presence sensor
are read as they are. The table of floors is kept whenever it has new floors, and every few hours as it becomes exact.
Contract: watch.py.
"""

from array import array

from firmware.errors import StorageError
from firmware.lift import ALARMS, Lift
from firmware.lift_faults import INSPECTION, NORMAL
from firmware.lift_floors import UNKNOWN
from firmware.lift_motion import MOVING, PERIOD_US
from firmware.settings import LONG_STAY_S, RATED_SPEED_MM_S, TRAPPED_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from firmware.alarms import Change
    from firmware.hal import Hal
    from firmware.sensors import Readings
    from firmware.settings import Settings, Slot

    class Accelerometer(Protocol):
        """A firmware.sensors.lis3dh.Lis3dh with its FIFO on."""

        errors: int
        overruns: int

        def drain(self, samples: "array[int]") -> int: ...

    class Barometer(Protocol):
        """``pressure()``: 1/100 Pa, None when there is nothing to be had; ``temperature``: 1/100 °C with it."""

        errors: int
        temperature: int

        def pressure(self) -> "int | None": ...


POLL_MS = 100
_EARLY_MS = 10
_FIFO_SAMPLES = 32
# A batch that a chip's small integers hold in every product.
_BATCH_MAX = 16
# More samples missing than a poll's jitter can hide.
_MISSING = 8
# The accelerometer's own clock is compared with the node's over this long, and believed when it is this near.
_RATE_MS = 60000
_PERIOD_US_MIN = 9000
_PERIOD_US_MAX = 11000
# The heights of floors become exact slowly; what a reset may cost is that.
_KEEP_EVERY_MS = 6 * 3600 * 1000
_KEEP_AGAIN_MS = 60000
_AIR_EVERY_MS = 600000
# Looks that a set waits for what has not been said.
_TRIES = 10


class LiftWatch:
    """Inputs of the hal: "door" is high while the door is shut, "presence" while somebody is there, "float" while the
    inspection switch is on (nodes/lift.py).
    """

    bits = ALARMS

    def __init__(
        self,
        accelerometer: "Accelerometer",
        barometer: "Barometer",
        hal: "Hal",
        settings: "Settings",
        slot: "Slot",
    ) -> None:
        self._accelerometer = accelerometer
        self.barometer = barometer
        self._hal = hal
        self._clock = hal.clock
        self._settings = settings
        self._slot = slot
        self._samples = array("h", [0] * 3 * _FIFO_SAMPLES)
        self._batch = array("h", [0] * 3 * _BATCH_MAX)
        self.lift = Lift(slot.load())
        self.pressure: "int | None" = None  # at the latest look
        self.storage_errors = 0
        self.gaps = 0
        self._polled_ms = hal.clock.ticks_ms()
        self._period_us = PERIOD_US
        self._is_fed = False
        self._rate_ms = self._rate_count = 0
        self._keep_ms = 0  # until the table may be kept
        self._air_ms = 0

    @property
    def errors(self) -> int:
        return self._accelerometer.errors + self.barometer.errors + self.storage_errors + self.gaps

    @property
    def is_blind(self) -> bool:
        """Whether there were no samples at the latest looks, or never one: nobody knows what the car does."""
        return not self._is_fed or self._clock.ticks_diff(self._clock.ticks_ms(), self._polled_ms) > 1000

    def restore(self, raised: int) -> None:
        self.lift.faults.restore(raised)

    def poll(self) -> int:
        early_ms = POLL_MS - self._clock.ticks_diff(self._clock.ticks_ms(), self._polled_ms)
        if early_ms > _EARLY_MS:
            return early_ms  # the node steps whenever something arrives on its link
        count = self._accelerometer.drain(self._samples)
        self.pressure = self.barometer.pressure()
        if count:
            self._take(count, self.pressure)
            self._keep()
        return POLL_MS

    def changes(self) -> "list[Change]":
        return self.lift.changes()

    def applied(self, change: "Change") -> None:
        self.lift.applied(change)

    def wait_s(self) -> int:
        return 0  # it never sleeps

    def wake_pins(self) -> "tuple[str, ...]":
        # It never sleeps, but a pass of an update ends when somebody comes. High already: the sensor may be stuck.
        return () if self._hal.read_pin("presence") else ("presence",)

    def learn(self) -> str:
        if self.lift.motion.state == MOVING:
            return "the car moves: learn while it stands"
        self.lift.learn()
        return ""

    def _take(self, count: int, pressure: "int | None") -> None:
        now_ms = self._clock.ticks_ms()
        elapsed_ms = self._clock.ticks_diff(now_ms, self._polled_ms)
        self._polled_ms = now_ms
        if (
            not self._is_fed
        ):  # the chip was set up at the first look: how long ago is not how long it has measured
            self._is_fed = True
            elapsed_ms = count * self._period_us // 1000
        self._follow_rate(elapsed_ms, count)
        missing = elapsed_ms * 1000 // self._period_us - count
        if missing > _MISSING:
            self.gaps += 1
            self._rate_ms = self._rate_count = 0
            self.lift.gap(missing * self._period_us // 1000, pressure)
        self._follow_settings()
        if pressure is not None and self._air_ms <= 0:
            self._air_ms = _AIR_EVERY_MS
            self.lift.motion.set_air(pressure, self.barometer.temperature)
        self._air_ms -= elapsed_ms
        self._keep_ms -= elapsed_ms
        door_open = not self._hal.read_pin("door")
        somebody = self._hal.read_pin("presence") == 1
        mode = INSPECTION if self._hal.read_pin("float") else NORMAL
        if count <= _BATCH_MAX:
            self.lift.feed(self._samples, count, pressure, door_open, somebody, mode)
            return
        # After a pause: in two, so that the products stay small.
        half = count // 2
        self.lift.feed(self._samples, half, pressure, door_open, somebody, mode)
        for at in range(3 * (count - half)):
            self._batch[at] = self._samples[3 * half + at]
        self.lift.feed(self._batch, count - half, pressure, door_open, somebody, mode)

    def _follow_rate(self, elapsed_ms: int, count: int) -> None:
        self._rate_ms += elapsed_ms
        self._rate_count += count
        if self._rate_ms >= _RATE_MS:
            period_us = self._rate_ms * 1000 // self._rate_count
            if _PERIOD_US_MIN <= period_us <= _PERIOD_US_MAX:
                self._period_us = period_us
                self.lift.motion.set_period(period_us)
            self._rate_ms = self._rate_count = 0

    def _follow_settings(self) -> None:
        faults = self.lift.faults
        faults.trapped_ms = self._settings[TRAPPED_S] * 1000
        faults.long_stay_ms = self._settings[LONG_STAY_S] * 1000
        faults.rated_mm_s = self._settings[RATED_SPEED_MM_S]

    def _keep(self) -> None:
        """A table with a new floor is kept at once, while the car stands; one that became more exact, in its turn."""
        floors = self.lift.floors
        if (
            not (floors.changed or (floors.refined and self._keep_ms <= 0))
            or self.lift.motion.state == MOVING
        ):
            return
        if floors.changed and self._keep_ms > _KEEP_EVERY_MS:
            return  # it failed a moment ago
        document = floors.document()
        self._keep_ms = _KEEP_EVERY_MS
        try:
            self._slot.save(document)
        except (StorageError, OSError):
            self.storage_errors += 1
            floors.changed = True
            self._keep_ms = _KEEP_EVERY_MS + _KEEP_AGAIN_MS


class Summary:
    """The nine readings of schema `lift`: a sensor that reports what the watch saw since the set before."""

    count = 9
    # Nobody knows floor and height before a ride has shown them: no fault of a probe.
    optional = (0, 1)

    def __init__(self, watch: "LiftWatch") -> None:
        self._watch = watch
        self.errors = 0  # the watch counts them

    def measure(self, readings: "Readings") -> "Iterator[int]":
        watch = self._watch
        for _ in range(_TRIES):  # the first set of a life is due before the first look
            if watch.pressure is not None and not watch.is_blind:
                break
            yield POLL_MS
        lift = watch.lift
        floors = lift.floors
        for at in range(self.count):
            readings[at] = None
        if not watch.is_blind:
            if floors.located and floors.nearest != UNKNOWN:
                readings[0] = floors.nearest
                readings[1] = floors.position_mm // 10
            readings[2] = lift.speed_max_mm_s // 10
            readings[3] = lift.trips
            readings[4] = lift.faults.door_cycles
            readings[5] = lift.run_ms // 1000
            readings[6] = lift.peak_to_peak_mm_s2
            readings[7] = lift.a95_mm_s2
            lift.begin_summary()
        if watch.pressure is not None:
            readings[8] = (watch.barometer.temperature + 5) // 10
        yield 0
