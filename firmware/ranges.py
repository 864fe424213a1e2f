"""What readings are worth that can not be compared with the set before.

A node that sleeps forgets that one, so it looks at the range only, and the gateway, which forgets nothing, passes the
other tests. Of counts and floors nothing is tested at all.
"""

from protocols.wire.readings import FAIL, GOOD, MISSING, SUSPECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.quality import Limits

_FAR = (1 << 30) - 1


class RangeChecker:
    """The gross range of protocols/wire/quality.py, from its limits."""

    def __init__(self, limits: "Limits") -> None:
        self._fail = _span(limits.fail_low, limits.fail_high)
        self._suspect = _span(limits.suspect_low, limits.suspect_high)

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        if value is None:
            return MISSING
        if not self._fail[0] <= value <= self._fail[1]:
            return FAIL
        return GOOD if self._suspect[0] <= value <= self._suspect[1] else SUSPECT


class Untested:
    """Of a series without limits: there is a reading, or none."""

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        return MISSING if value is None else GOOD


def _span(low: "int | None", high: "int | None") -> "tuple[int, int]":
    return (-_FAR if low is None else low), (_FAR if high is None else high)
