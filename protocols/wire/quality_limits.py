"""Which limits the quality tests of a series have, and whether they can work as meant. A node needs it at its start."""

from protocols.wire.errors import WireError
from protocols.wire.quality import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.schemas import Schema

NO_LIMITS = Limits(None, None, None, None, None, None, None, None, None, None)

# Different values that one flat stretch may hold: FlatLine remembers each.
FLAT_TOLERANCE_MAX = 16


class LimitsError(WireError):
    """Limits that make no sense; the message names the field."""


def limits_of(schema: "Schema") -> "tuple[Limits, ...]":
    """The registry's default limits, one per series."""
    from protocols.wire import limits_table  # here, so that a node with limits of its own never loads it

    return tuple([Limits(*limits_table.LIMITS[series.name]) for series in schema.series])


def check(limits: "Limits") -> None:
    """Refuse limits that could never work as meant."""
    _check_order("fail_low", limits.fail_low, "suspect_low", limits.suspect_low)
    _check_order("suspect_low", limits.suspect_low, "suspect_high", limits.suspect_high)
    _check_order("suspect_high", limits.suspect_high, "fail_high", limits.fail_high)
    _check_order("spike_suspect", limits.spike_suspect, "spike_fail", limits.spike_fail)
    _check_order("flat_suspect_s", limits.flat_suspect_s, "flat_fail_s", limits.flat_fail_s)
    tolerance = limits.flat_tolerance
    if tolerance is not None and not 1 <= tolerance <= FLAT_TOLERANCE_MAX:
        raise LimitsError("flat_tolerance is %d: allowed are 1 to %d steps" % (tolerance, FLAT_TOLERANCE_MAX))


def _check_order(low_name: str, low: "int | None", high_name: str, high: "int | None") -> None:
    if low is not None and high is not None and low > high:
        raise LimitsError(
            "%s is %d, above %s, which is %d: swap or widen them" % (low_name, low, high_name, high)
        )
