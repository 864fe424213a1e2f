"""One lane of the outbox in RAM: 10 bytes per segment, and what the gateway has of it."""

from array import array

from firmware.runs import RunSet
from firmware.segment import SEGMENT_BYTES

READINGS = 0
EVENTS = 1  # events and command results
LANES = (READINGS, EVENTS)


class Lane:
    """Its segments, oldest first, as parallel arrays: seq of the first and of the last record, number of records.

    ``size`` is what the newest segment holds in bytes, SEGMENT_BYTES when nothing more may be appended to it.
    """

    def __init__(self) -> None:
        self.first = array("I")
        self.last = array("I")
        self.count = array("H")
        self.runs = RunSet()
        self.size = SEGMENT_BYTES

    def __len__(self) -> int:
        return len(self.first)

    def append(self, first: int, last: int, count: int) -> None:
        self.first.append(first)
        self.last.append(last)
        self.count.append(count)

    def pop(self, at: int) -> None:
        """Forget a segment."""
        self.first = self.first[:at] + self.first[at + 1 :]
        self.last = self.last[:at] + self.last[at + 1 :]
        self.count = self.count[:at] + self.count[at + 1 :]
        if at == len(self.first):
            self.size = SEGMENT_BYTES

    def locate(self, seq: int) -> int:
        """The first segment that may hold seq or a later one."""
        low = 0
        high = len(self.last)
        while low < high:
            middle = (low + high) // 2
            if self.last[middle] < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def is_acked(self, at: int) -> bool:
        """Whether the gateway has the whole segment."""
        return self.runs.gap(self.first[at]) > self.last[at]
