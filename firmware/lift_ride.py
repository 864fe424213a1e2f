"""Ride quality: the vertical vibration of a trip, peak to peak and A95, after the idea of ISO 18738-1. Integers.

The standard weights the acceleration (ISO 2631) and evaluates zones of the ride. Here it is a band from 0.5 Hz (what
is slower is the ride itself) to 10 Hz, of first-order filters, and only the zone of constant speed counts. A peak to
peak value is the distance between two neighbouring extremes with one zero crossing between them; A95 is what 95 % of
those of a trip do not exceed, taken from a histogram of 64 bins of 16 mm/s².
"""

from array import array

# At 100 Hz: two poles at 15.5 Hz are 10 Hz together; one pole at 0.5 Hz takes the slow part away.
_LOW_Q = 20  # /32
_SLOW_SHIFT = 5
# The filters settle for this long in the zone before anything counts.
_SETTLE = 64
BINS = 64
_BIN_MM_S2 = 16
# 9.80665 mm/s² per mg, 64 steps to a mg.
_MM_S2_Q = 9807
_MM_S2_DIV = 64000
# Fewer extremes than that are no ride.
_PEAKS_MIN = 20


class Ride:
    """``samples()`` while the speed is constant, ``end()`` with the trip; then the two figures are of this trip."""

    def __init__(self) -> None:
        self.peak_to_peak_mm_s2 = 0
        self.a95_mm_s2 = 0
        self._bins = array("H", [0] * BINS)
        self._first = self._second = self._slow = 0
        self._extreme = 0  # since the latest zero crossing
        self._before = 0  # the extreme before it
        self._settling = _SETTLE
        self._peaks = 0
        self._highest = 0

    def samples(self, samples: "array[int]", count: int, motion: "Motion") -> None:
        """Take ``count`` samples of three axes; the loop that costs, so everything is local."""
        gx, gy, gz = motion.gx, motion.gy, motion.gz  # no more than three: four would be a tuple on the heap
        rest = motion.rest
        first, second, slow = self._first, self._second, self._slow
        extreme = self._extreme
        at = 0
        for _ in range(count):
            w = ((samples[at] * gx + samples[at + 1] * gy + samples[at + 2] * gz) >> 4) - rest
            at += 3
            first += (w - first) * _LOW_Q >> 5
            second += (first - second) * _LOW_Q >> 5
            slow += (second - slow) >> _SLOW_SHIFT
            w = second - slow
            if self._settling:
                self._settling -= 1
                extreme = 0
            elif extreme >= 0:
                if w > extreme:
                    extreme = w
                elif w < 0:
                    self._crossed(extreme)
                    extreme = w
            elif w < extreme:
                extreme = w
            elif w > 0:
                self._crossed(extreme)
                extreme = w
        self._first, self._second, self._slow = first, second, slow
        self._extreme = extreme

    def pause(self) -> None:
        """The zone of constant speed is left, or not yet reached."""
        self._settling = _SETTLE
        self._before = 0
        self._first = self._second = self._slow = 0

    def end(self) -> bool:
        """The trip has ended: whether it was long enough to speak of; the figures are those of this trip."""
        enough = self._peaks >= _PEAKS_MIN
        if enough:
            self.peak_to_peak_mm_s2 = self._highest
            left = self._peaks - self._peaks * 95 // 100
            bin_ = BINS
            while bin_ > 0 and left > 0:
                bin_ -= 1
                left -= self._bins[bin_]
            self.a95_mm_s2 = min((bin_ + 1) * _BIN_MM_S2, self._highest)
        for bin_ in range(BINS):
            self._bins[bin_] = 0
        self._peaks = self._highest = 0
        self.pause()
        return enough

    def _crossed(self, extreme: int) -> None:
        between = abs(extreme - self._before) * _MM_S2_Q // _MM_S2_DIV
        if self._before:
            bin_ = min(between // _BIN_MM_S2, BINS - 1)
            if self._bins[bin_] < 0xFFFF:
                self._bins[bin_] += 1
                self._peaks += 1
            if between > self._highest:
                self._highest = between
        self._before = extreme


TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.lift_motion import Motion
