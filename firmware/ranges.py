"""What readings are worth that can not be compared with the set before.

A node that sleeps forgets that one, so it looks at the range only, and the gateway, which forgets nothing, passes the
other tests. Of counts and floors nothing is tested at all.
"""

from protocols.wire.readings import FAIL, GOOD, MISSING, SUSPECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class RangeChecker:
    """The gross range of protocols/wire/quality.py, from a line of its table of limits."""

    def __init__(self, limits: "Sequence[int]") -> None:
        self._fail_low, self._fail_high, self._suspect_low, self._suspect_high = limits[:4]

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        if value is None:
            return MISSING
        if not self._fail_low <= value <= self._fail_high:
            return FAIL
        return GOOD if self._suspect_low <= value <= self._suspect_high else SUSPECT


class Untested:
    """Of a series without limits: there is a reading, or none."""

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        return MISSING if value is None else GOOD
