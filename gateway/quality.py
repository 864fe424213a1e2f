"""What the gateway adds to a node's quality flags. Values are never altered, and no flag is ever made milder.

A node runs all tests of protocols.wire.quality on its own samples, with every sample in order. What the gateway can add
without keeping state per series is the range test against the registry's limits: it catches a node with wrong or older
limits, and costs 1 µs per set. Devices that are polled or overheard have no node in front: device_quality.py.
"""

from __future__ import annotations

import functools
from operator import gt, lt

from protocols.wire import quality, quality_limits, readings
from protocols.wire.limits import MAX_VALUE


@functools.cache
def _spans(schema_id: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[quality.Limits, ...]]:
    """Between lows and highs a value is beyond doubt; the limits tell what it is outside."""
    limits = quality_limits.limits_of(readings.schema(schema_id))
    lows = tuple(
        max((low for low in (each.fail_low, each.suspect_low) if low is not None), default=-MAX_VALUE)
        for each in limits
    )
    highs = tuple(
        min((high for high in (each.fail_high, each.suspect_high) if high is not None), default=MAX_VALUE)
        for each in limits
    )
    return lows, highs, limits


def merged(
    schema_id: int, values: tuple[int | None, ...], flags: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The node's flags with ours; None when all are GOOD."""
    lows, highs, limits = _spans(schema_id)
    if flags is None:
        # Without flags none is missing; so every value is a number.
        if not any(map(lt, values, lows)) and not any(map(gt, values, highs)):  # type: ignore[arg-type]
            return None
        flags = (readings.GOOD,) * len(values)
    return tuple(
        quality.worst(flag, quality.gross_range(value, limit))
        for flag, value, limit in zip(flags, values, limits, strict=True)
    )
