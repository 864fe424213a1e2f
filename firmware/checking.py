"""What the readings are worth: the tests of protocols/wire/quality.py that can be passed at once, per series."""

from protocols.wire.quality import FlatLine, RateOfChange, gross_range, worst

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.quality import Limits


class Checker:
    """The tests of one series that can be passed at once. A spike shows only in the set after it: the gateway looks."""

    def __init__(self, limits: "Limits") -> None:
        self._limits = limits
        # Half a kilobyte of heap per series that is tested.
        self._rate = None if limits.rate_per_h is None else RateOfChange(limits)
        self._flat = None if limits.flat_tolerance is None else FlatLine(limits)

    def check(self, time_s: int, value: "int | None") -> int:
        """The quality flag of this reading."""
        flag = gross_range(value, self._limits)
        if self._rate is not None:
            flag = worst(flag, self._rate.next(time_s, value))
        if self._flat is not None:
            flag = worst(flag, self._flat.next(time_s, value))
        return flag
