"""Seeded series for quality control, and how their flags are written down. The same on CPython and MicroPython.

Number n is always the same series: a random walk with standing stretches, steps, single spikes, gaps, and every third
time irregular times. Two things are not asked of the oracle, because there the two differ on purpose (quality.py):

* time that stands still or goes back: every series goes forward;
* a flat line by irregular times, or whose window begins inside a gap: ioos-qc counts samples, a gap's too, where we
  measure the time since a value. There the oracle's flag is written as "." and nothing is compared.
"""

from protocols.wire import quality
from protocols.wire.quality_limits import FLAT_TOLERANCE_MAX

COUNT = 1200
TESTS = ("gross", "spike", "rate", "flat")
_INTERVALS_S = (60, 300, 600, 900, 3600)


class Rng:
    """xorshift32: the same numbers on both interpreters."""

    def __init__(self, seed):
        self._state = (seed * 2654435761 + 0x9E3779B9) & 0xFFFFFFFF or 1
        for _ in range(8):
            self.below(2)

    def below(self, bound):
        x = self._state
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self._state = x
        return (x >> 3) % bound


def series(number):
    """(limits, times, values, interval_s); interval_s 0: irregular times."""
    rng = Rng(number)
    interval_s = 0 if number % 3 == 2 else _INTERVALS_S[rng.below(5)]
    step_s = interval_s or 600
    suspect_steps = 2 + rng.below(4)
    spike = 2 + rng.below(40)
    limits = quality.Limits(
        -200 - rng.below(200), 1500 + rng.below(500), rng.below(200), 900 + rng.below(500), spike,
        spike + 1 + rng.below(60), 1 + rng.below(60) * 3600 // step_s, 1 + rng.below(FLAT_TOLERANCE_MAX),
        suspect_steps * step_s, (suspect_steps + 1 + rng.below(6)) * step_s,
    )  # fmt: skip
    time_s = 1790000000 + rng.below(86400)
    value = 100 + rng.below(1000)
    times = []
    values = []
    gap = 0
    for _ in range(40 + rng.below(50)):
        time_s += interval_s or (1, 60, 300, 900, 3600, 86400)[rng.below(6)]
        times.append(time_s)
        kind = rng.below(20)
        if kind < 9:
            value += rng.below(9) - 4
        elif kind == 9:
            value += rng.below(401) - 200
        shown = value + (rng.below(2) * 2 - 1) * rng.below(300) if kind == 10 else value
        if kind == 11 and not gap:
            gap = 1 + rng.below(4)
        values.append(None if gap else shown)
        gap = max(0, gap - 1)
    return limits, times, values, interval_s


def our_flags(limits, times, values):
    """One text of digits for each of TESTS."""
    spike = quality.Spike(limits)
    rate = quality.RateOfChange(limits)
    flat = quality.FlatLine(limits)
    late = [spike.next(value) for value in values + [None]][1:]
    return (
        "".join([str(quality.gross_range(value, limits)) for value in values]),
        "".join([str(flag) for flag in late]),
        "".join([str(rate.next(time_s, value)) for time_s, value in zip(times, values)]),
        "".join([str(flat.next(time_s, value)) for time_s, value in zip(times, values)]),
    )


def flat_is_comparable(limits, values, interval_s):
    """By sample: whether a flat line means the same to both."""
    result = []
    for at in range(len(values)):
        begins = (
            [at - limits.flat_suspect_s // interval_s, at - limits.flat_fail_s // interval_s]
            if interval_s
            else []
        )
        result.append(bool(interval_s) and all(begin < 0 or values[begin] is not None for begin in begins))
    return result


def compared(number, recorded):
    """How many flags of one series were compared; what differs is an AssertionError."""
    limits, times, values, _ = series(number)
    count = 0
    for test, ours, wanted in zip(TESTS, our_flags(limits, times, values), recorded.split(" ")):
        same = len(ours) == len(wanted) and all(b in (a, ".") for a, b in zip(ours, wanted))
        if not same:
            raise AssertionError("series %d, %s: ours %s, ioos-qc %s" % (number, test, ours, wanted))
        count += len(wanted) - wanted.count(".")
    return count
