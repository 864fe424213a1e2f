"""Which floor: a table of the heights where the car stops with its door open, learned as it goes. Integers, bounded.

The table is in millimetres as this node's accelerometer measures them, which is not quite a millimetre: what counts is
that a trip is as long today as it was when its floors were learned. The accelerometer's scale stays; the barometer's
changes with the air in the shaft, so the ratio of the two is followed, and a distance by the barometer is brought to
the accelerometer's measure. At every stop on a floor the position is that floor's again, so errors do not add up.

After a reset the table is there and the place in it is not. Each stop then rules out the floors from which the trip
would have led to no floor, until one is left.
"""

from array import array
from struct import pack, unpack_from

from firmware.lift_motion import isqrt

# Lifts with more stops than that have a wider table than a node can hold in one document.
FLOORS_MAX = 80
UNKNOWN = -1

_VERSION = 1
# A table is learned when so many stops in a row found no floor that it does not have.
_LEARNED_STOPS = 5
# The unlocking zone is at most 350 mm (EN 81-20, GB/T 7588.1). What the accelerometer's noise makes of a distance
# grows with the time to the power of 1.5: after 10 s 15 mm, after 50 s 160 mm (1 sigma). Five of those are no fault.
_ZONE_MM = 300
_NOISE_MILLI_MM = 73
_NOISE_DS_MAX = 1000
# What is wrong with a height by the barometer alone: its share of the way, for the air in the shaft is warm or cold.
_ROUGH_SHARE = 20
# A door that opens here shows a floor, even if the trip was measured badly.
_NEAR_MM = 700
# No two floors are nearer to each other than people are tall.
SPACING_MM = 2200
# A height follows its stops with 1/2, 1/3, … down to this share.
_VISITS_MAX = 16
_RATIO_ONE = 1024
_RATIO_TRIP_MM = 5000
_RATIO_SUM_MAX = 1 << 27
# Beyond this the air has stepped (a door, the air conditioning) or the distance is wrong.
_STEP_MM = 600
_STEP_SHARE = 20


def zone_mm(duration_ms: int) -> int:
    """How far from a floor a car that has moved for so long may seem to stand, and stand at the floor."""
    ds = min(duration_ms // 100, _NOISE_DS_MAX)
    return max(_ZONE_MM, isqrt(ds * ds * ds) * _NOISE_MILLI_MM // 1000)


class Floors:
    """``moved()`` after each stop, ``door_opened()`` when the door opens where the car stands.

    ``at``: the floor, counted from the lowest one learned, or UNKNOWN; ``position_mm`` above the lowest; ``nearest``
    and ``off_mm``: the nearest floor and how far above it the car stands. ``located``: whether the place in the table
    is known. ``changed``: the table has floors that it had not when it was last kept. ``learned``: it has not grown for
    some stops; from then on a new floor must be seen twice, because the first time may as well be a place mistaken.
    """

    def __init__(self, document: "bytes | None" = None) -> None:
        self.heights: "list[int]" = []
        self._visits = bytearray()
        self._could_be = bytearray()  # while not located: whether the car may stand at that floor
        self.located = False
        self.changed = False
        self.refined = False
        self.learned = False
        self._stops = 0  # in a row that found nothing new
        self._misses = 0  # stops in a row at no floor
        self._new = 0  # height of a place that may be a floor
        self.at = UNKNOWN
        self.nearest = UNKNOWN
        self.off_mm = 0
        self._height = 0  # in the measure of the table
        self._sum_aa = self._sum_ab = 0
        self.ratio_q = _RATIO_ONE  # metres of the barometer per metre of the accelerometer
        if document is not None:
            self._restore(document)
        if not self.heights:
            self.forget()

    @property
    def position_mm(self) -> int:
        return self._height - self.heights[0] if self.heights else 0

    def forget(self) -> None:
        """Learn anew: the place where the door opens next is the first floor."""
        self.heights = []
        self._visits = bytearray()
        self.located = True
        self.learned = False
        self._stops = self._misses = 0
        self.changed = True
        self.at = self.nearest = UNKNOWN
        self.off_mm = self._height = 0

    def document(self) -> bytes:
        """The table, to be kept: what a new Floors is made from."""
        self.changed = self.refined = False
        kept = pack("<BBH", _VERSION, len(self.heights), self.ratio_q)
        return kept + bytes(self._visits) + bytes(array("i", self.heights))

    def _restore(self, kept: bytes) -> None:
        if len(kept) < 4:
            return
        version, count, ratio = unpack_from("<BBH", kept)
        if version != _VERSION or len(kept) < 4 + 5 * count or count > FLOORS_MAX:
            return
        self.ratio_q = ratio
        self._visits = bytearray(kept[4 : 4 + count])
        self.heights = list(unpack_from("<%di" % count, kept, 4 + count))
        self.learned = True
        self._begin_search()

    # -- stops ----------------------------------------------------------------------------------------------

    def moved(self, distance_mm: int, baro_mm: "int | None", duration_ms: int, rough: bool) -> None:
        """The car has stopped that far above where it stood. ``rough``: rather believe the barometer."""
        moved = distance_mm
        if baro_mm is not None:
            if rough:
                moved = baro_mm * _RATIO_ONE // self.ratio_q
            else:
                self._compare(distance_mm, baro_mm)
        self._height += moved
        zone = zone_mm(duration_ms)
        if rough:
            zone = min(max(zone, _ZONE_MM + abs(moved) // _ROUGH_SHARE), SPACING_MM // 2)
        if self.located:
            self._look()
            if self.at == UNKNOWN and abs(self.off_mm) <= zone and self.heights:
                self.at = self.nearest
            if self.at != UNKNOWN:
                self._settle()
                self._count_stop()
        else:
            self._narrow(moved, zone)

    def door_opened(self) -> None:
        """The door opens where the car stands: a floor, and a new one where there was none."""
        if self.at != UNKNOWN:
            return
        if not self.located:
            self._narrow(0, _ZONE_MM)
        elif not self.heights or abs(self.off_mm) >= SPACING_MM:
            self._found()
        elif abs(self.off_mm) <= _NEAR_MM:
            self.at = self.nearest
            self._height = self.heights[self.at]
            self.off_mm = 0
        else:
            self._begin_search()

    def _look(self) -> None:
        """The nearest floor, and whether the car stands at it."""
        best = UNKNOWN
        off = 0
        height = self._height
        for floor, at in enumerate(self.heights):
            if best == UNKNOWN or abs(height - at) < abs(off):
                best = floor
                off = height - at
        self.nearest = best
        self.off_mm = off
        self.at = best if best != UNKNOWN and abs(off) <= _ZONE_MM else UNKNOWN

    def _settle(self) -> None:
        """Stand at the floor: its height learns from this stop, and the position begins anew from it."""
        floor = self.at
        visits = self._visits[floor]
        self.heights[floor] += self.off_mm // (visits + 1)
        if visits < _VISITS_MAX:
            self._visits[floor] = visits + 1
        self.refined = True
        self._height = self.heights[floor]
        self.off_mm = 0

    def _count_stop(self) -> None:
        self._misses = 0
        if not self.learned:
            self._stops += 1
            self.learned = self._stops >= _LEARNED_STOPS

    def _found(self) -> None:
        """A door opened where no floor is known."""
        if not self.learned or (self._new and abs(self._height - self._new) <= _NEAR_MM):
            self._insert()
        elif self._misses:
            self._begin_search()
        else:
            self._misses = 1
            self._new = self._height

    def _insert(self) -> None:
        if len(self.heights) >= FLOORS_MAX:
            return
        floor = 0
        while floor < len(self.heights) and self.heights[floor] < self._height:
            floor += 1
        self.heights.insert(floor, self._height)
        self._visits = self._visits[:floor] + b"\x01" + self._visits[floor:]
        self.at = self.nearest = floor
        self.off_mm = 0
        self.changed = True
        self.learned = False
        self._stops = self._misses = self._new = 0

    def _compare(self, distance_mm: int, baro_mm: int) -> None:
        """Follow the ratio of the two distances by least squares that forget; steps of the air say nothing of it."""
        if abs(distance_mm) < _RATIO_TRIP_MM:
            return
        expected = distance_mm * self.ratio_q // _RATIO_ONE
        if abs(baro_mm - expected) > _STEP_MM + abs(distance_mm) // _STEP_SHARE:
            return
        a, b = distance_mm // 100, baro_mm // 100
        self._sum_aa += a * a
        self._sum_ab += a * b
        if self._sum_aa > _RATIO_SUM_MAX:
            self._sum_aa >>= 1
            self._sum_ab >>= 1
        if self._sum_aa > 10000:  # a hundred metres: before that it is noise
            self.ratio_q = self._sum_ab * _RATIO_ONE // self._sum_aa

    # -- finding the place again ----------------------------------------------------------------------------

    def _begin_search(self) -> None:
        """The place in the table is lost: it may be any floor."""
        self.located = False
        self._misses = self._new = 0
        self.at = self.nearest = UNKNOWN
        self.off_mm = 0
        self._could_be = bytearray(b"\x01" * len(self.heights))

    def _narrow(self, moved: int, zone: int) -> None:
        """Rule out the floors that no floor which was possible before leads to."""
        heights = self.heights
        after = bytearray(len(heights))
        count = last = 0
        for to, height in enumerate(heights):
            for floor in range(len(heights)):
                if self._could_be[floor] and abs(heights[floor] + moved - height) <= zone:
                    after[to] = 1
                    count += 1
                    last = to
                    break
        self._could_be = after
        if not count:
            self._begin_search()
        elif count == 1:
            self.located = True
            self.at = self.nearest = last
            self.off_mm = 0
            self._height = heights[last]
