"""Tests of the series of devices: rate of change and flat line, where the registry has limits for the measurand.

A node tests its own samples (protocols/wire/quality.py). A device has no node in front, so accept.py asks here. Flags
are only ever added, values never altered. Time is the machine's monotonic clock: a step of the wall clock is no
change of the river. What is remembered begins anew with the daemon.

The rate differs from the node's in one thing. Limits are per hour, for samples minutes apart; a device may be read each
second, where one step of its last digit is already faster than any river. So a sample is compared with one that stays
for at least RATE_OVER_S, and may be as far from it as that time allows. For samples further apart both are the same.

The spike test is left out: it speaks of the sample before, which is committed and on its way by then.
"""

from __future__ import annotations

import functools

from gateway.devices import Quantity
from protocols.wire import limits_table, quality
from protocols.wire.quality import Limits
from protocols.wire.quality_limits import FLAT_TOLERANCE_MAX, NO_LIMITS
from protocols.wire.schemas import GOOD, MISSING, SUSPECT, UNKNOWN

RATE_OVER_S = 600


class Trend:
    """Of one series; values are the scaled integers of its records."""

    def __init__(self, limits: Limits) -> None:
        self._rate_per_h = limits.rate_per_h
        self._flat = quality.FlatLine(limits)
        self._anchor: int | None = None
        self._anchor_s = 0

    def next(self, time_s: int, value: int | None) -> int:
        """The flag of this sample."""
        return quality.worst(self._rate(time_s, value), self._flat.next(time_s, value))

    def _rate(self, time_s: int, value: int | None) -> int:
        anchor = self._anchor
        elapsed_s = time_s - self._anchor_s
        if anchor is None or value is None or elapsed_s >= RATE_OVER_S:
            self._anchor, self._anchor_s = value, time_s
        if value is None:
            return MISSING
        if anchor is None or self._rate_per_h is None:
            return GOOD
        if elapsed_s < 0:
            return UNKNOWN
        is_fast = abs(value - anchor) * 3600 > self._rate_per_h * max(elapsed_s, RATE_OVER_S)
        return SUSPECT if is_fast else GOOD


def trend_of(quantity: Quantity) -> Trend | None:
    """The tests of a point; None where the registry has no limits, or the profile says that they do not fit."""
    limits = limits_of(quantity)
    return None if limits == NO_LIMITS else Trend(limits)


@functools.cache
def _registry(measurand: str) -> Limits | None:
    found = limits_table.LIMITS.get(measurand)
    return None if found is None else Limits(*found)


def limits_of(quantity: Quantity) -> Limits:
    """Rate and flat line in steps of the point's own decimals."""
    point = quantity.point
    registered = _registry(point.measurand)
    if registered is None or not point.trend:
        return NO_LIMITS
    steps = 10.0 ** (quantity.decimals - quantity.measurand_decimals)
    rate = registered.rate_per_h
    flat = NO_LIMITS
    tolerance = registered.flat_tolerance
    # One that tells 0.1 where the test wants 0.01 says the same for hours, and is not stuck.
    if tolerance is not None and tolerance * steps >= 1 and not _is_coarse(quantity, tolerance):
        flat = registered._replace(flat_tolerance=min(round(tolerance * steps), FLAT_TOLERANCE_MAX))
    return NO_LIMITS._replace(
        rate_per_h=None if rate is None else max(1, round(rate * steps)),
        flat_tolerance=flat.flat_tolerance,
        flat_suspect_s=flat.flat_suspect_s,
        flat_fail_s=flat.flat_fail_s,
    )


def _is_coarse(quantity: Quantity, tolerance: int) -> bool:
    """Whether the smallest step of the device is more than the tolerance, in the measurand's steps."""
    kind = getattr(quantity.point, "type", "")
    if kind.startswith("f"):
        return False
    return bool(abs(quantity.point.scale) * 10**quantity.measurand_decimals > tolerance * 1.0001)
