"""Quality control of one series after QARTOD, in integers with bounded state; the node and the gateway run the same.

Gross range, spike, rate of change and flat line give the flags of ioos-qc 3.0 for the same series (its recorded answers
are in vectors/quality.json). Where a stream must or should differ:

* the spike test speaks of the sample before: it needs a neighbour on either side. So check() flags a sample by the
  other three tests at once, and ``spike_before`` is the spike flag of the one before, for whoever can still add it;
* time that does not advance says nothing of a rate: UNKNOWN, where ioos-qc divides by zero;
* a flat stretch begins at a value, not in the gap before it: the first reading after a day without any is not flat.

Limits (quality_limits.py) and values are scaled integers as on the wire; None switches a test off. Flags are only
ever added.
"""

from collections import namedtuple

from protocols.wire.schemas import FAIL, GOOD, MISSING, SUSPECT, UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Limits(NamedTuple):
        """Of one series. A fail span without suspect span: make them equal."""

        fail_low: int | None
        fail_high: int | None
        suspect_low: int | None
        suspect_high: int | None
        spike_suspect: int | None  # height over the mean of the neighbours
        spike_fail: int | None
        rate_per_h: int | None
        flat_tolerance: int | None  # flat is: a range of less than this, so 1 is "the same value"
        flat_suspect_s: int | None
        flat_fail_s: int | None

else:
    Limits = namedtuple(
        "Limits",
        (
            "fail_low",
            "fail_high",
            "suspect_low",
            "suspect_high",
            "spike_suspect",
            "spike_fail",
            "rate_per_h",
            "flat_tolerance",
            "flat_suspect_s",
            "flat_fail_s",
        ),
    )

_SEVERITY = {MISSING: 5, FAIL: 4, SUSPECT: 3, GOOD: 2, UNKNOWN: 1}


def worst(*flags: int) -> int:
    """One flag for several tests of one reading: missing, fail, suspect, good, not evaluated, in this order."""
    result = UNKNOWN
    for flag in flags:
        if _SEVERITY[flag] > _SEVERITY[result]:
            result = flag
    return result


def gross_range(value: "int | None", limits: "Limits") -> int:
    """FAIL outside the fail span, SUSPECT outside the suspect span; the limits themselves are inside."""
    if value is None:
        return MISSING
    if limits.fail_low is not None and value < limits.fail_low:
        return FAIL
    if limits.fail_high is not None and value > limits.fail_high:
        return FAIL
    if limits.suspect_low is not None and value < limits.suspect_low:
        return SUSPECT
    if limits.suspect_high is not None and value > limits.suspect_high:
        return SUSPECT
    return GOOD


class Spike:
    """How far a sample stands out from the mean of its two neighbours, whichever side; told one sample late."""

    def __init__(self, limits: "Limits") -> None:
        self._suspect = limits.spike_suspect
        self._fail = limits.spike_fail
        self._before: int | None = None
        self._sample: int | None = None
        self._count = 0

    def next(self, value: "int | None") -> int:
        """The flag of the sample before this one. UNKNOWN: it has no neighbour, or this is the first sample."""
        before = self._before
        sample = self._sample
        self._before = sample
        self._sample = value
        self._count = min(self._count + 1, 3)
        if self._count == 1:
            return UNKNOWN
        if sample is None:
            return MISSING
        if before is None or value is None:
            return UNKNOWN
        height2 = abs(2 * sample - before - value)  # twice the height: no halves among integers
        if self._fail is not None and height2 > 2 * self._fail:
            return FAIL
        if self._suspect is not None and height2 > 2 * self._suspect:
            return SUSPECT
        return GOOD


class RateOfChange:
    """Faster than the limit against the sample just before it. Nothing to compare with is GOOD, as in ioos-qc."""

    def __init__(self, limits: "Limits") -> None:
        self._rate_per_h = limits.rate_per_h
        self._value: int | None = None
        self._time_s = 0

    def next(self, time_s: int, value: "int | None") -> int:
        before = self._value
        elapsed_s = time_s - self._time_s
        self._value = value
        self._time_s = time_s
        if value is None:
            return MISSING
        if before is None or self._rate_per_h is None:
            return GOOD
        if elapsed_s <= 0:
            return UNKNOWN
        return SUSPECT if abs(value - before) * 3600 > self._rate_per_h * elapsed_s else GOOD


class FlatLine:
    """A stretch of values within less than the tolerance for longer than a sensor that lives would give them.

    The stretch is the longest one up to now; it holds at most ``tolerance`` different integers, so remembering where
    the stretch would begin if each of them had to leave is exact and needs no window of samples.
    """

    def __init__(self, limits: "Limits") -> None:
        self._limits = limits
        self._values: list[int] = []  # the latest one last
        self._next_s: list[int] = []  # time of the first value after the last occurrence of each
        self._start_s = 0

    def next(self, time_s: int, value: "int | None") -> int:
        if value is None:
            return MISSING
        limits = self._limits
        tolerance = limits.flat_tolerance
        if tolerance is None:
            return GOOD
        values = self._values
        next_s = self._next_s
        if not values or time_s < self._start_s:  # the first value, or the clock went back: begin again
            del values[:]
            del next_s[:]
            self._start_s = time_s
        else:
            next_s[-1] = time_s
        for i in range(len(values) - 1, -1, -1):
            if abs(values[i] - value) >= tolerance:
                self._start_s = max(self._start_s, next_s[i])
                del values[i]
                del next_s[i]
        self._forget_before_start()
        if value in values:
            i = values.index(value)
            del values[i]
            del next_s[i]
        values.append(value)
        next_s.append(time_s)
        flat_s = time_s - self._start_s
        if limits.flat_fail_s is not None and flat_s >= limits.flat_fail_s:
            return FAIL
        if limits.flat_suspect_s is not None and flat_s >= limits.flat_suspect_s:
            return SUSPECT
        return GOOD

    def _forget_before_start(self) -> None:
        """Values seen only before the stretch now begins do not bind it."""
        for i in range(len(self._values) - 1, -1, -1):
            if self._next_s[i] <= self._start_s:
                del self._values[i]
                del self._next_s[i]


class Checker:
    """All tests of one series, with limits that quality_limits.check() found right. ``spike_before`` after a check():
    the spike flag of the sample before.
    """

    def __init__(self, limits: "Limits") -> None:
        self._limits = limits
        self._spike = Spike(limits)
        self._rate = RateOfChange(limits)
        self._flat = FlatLine(limits)
        self.spike_before = UNKNOWN

    def check(self, time_s: int, value: "int | None") -> int:
        """The flag of this sample by gross range, rate of change and flat line."""
        self.spike_before = self._spike.next(value)
        rate = self._rate.next(time_s, value)
        flat = self._flat.next(time_s, value)
        return worst(gross_range(value, self._limits), rate, flat)
