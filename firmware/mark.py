"""What must outlive the outbox' segments, as one durable document: the seq to go on from, losses, acknowledgements."""

from struct import pack, unpack_from

from firmware.durable import Document
from firmware.runs import RunSet
from firmware.segment import NO_EPOCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Runs per lane that are made durable, so that a copy of the mark stays a littlefs inline file (128 bytes).
RUNS_SAVED = 4

_NOBODY = (0xFF, 0)
# next seq | evicted | lost below | lost first | lost count | condemned lane and first; then the adopted epoch, the runs
_FIELDS = "<IIIIIBI"
_EPOCH_AT = 25
_RUNS_AT = 31


class Mark:
    """``condemned`` is the (lane, first seq) of the segment whose removal was begun last; its losses are counted here.

    ``lost_below``: no record below it that the gateway lacks will ever come. ``lost_first`` and ``lost_count`` are the
    losses not told yet, ``evicted`` all of them. ``adopted`` is the epoch that took in the records made before it.
    """

    def __init__(self, fs: "Any") -> None:
        self._document = Document(fs, "outbox")
        self.load()

    def load(self) -> None:
        """Everything as it was last made durable; ``is_new`` when it never was, or is lost."""
        self.next_seq = 1
        self.evicted = 0
        self.lost_below = 0
        self.lost_first = 0
        self.lost_count = 0
        self.condemned = _NOBODY
        self.adopted = NO_EPOCH
        self.runs = [RunSet(), RunSet()]
        data = self._document.load()
        self.is_new = data is None
        if data is None:
            return
        fields = unpack_from(_FIELDS, data)
        self.next_seq, self.evicted, self.lost_below, self.lost_first, self.lost_count = fields[:5]
        self.condemned = fields[5:]
        self.adopted = int.from_bytes(data[_EPOCH_AT:_RUNS_AT], "big")
        at = _RUNS_AT
        for lane in range(len(self.runs)):
            self.runs[lane] = RunSet(unpack_from("<%dI" % data[at], data, at + 1))
            at += 1 + 4 * data[at]

    def save(self, runs: "list[RunSet]") -> None:
        """Durable on return."""
        parts = [
            pack(
                _FIELDS,
                self.next_seq,
                self.evicted,
                self.lost_below,
                self.lost_first,
                self.lost_count,
                self.condemned[0],
                self.condemned[1],
            ),
            self.adopted.to_bytes(6, "big"),
        ]
        for one in runs:
            saved = RunSet(one.runs)
            saved.bound(RUNS_SAVED)
            parts.append(bytes((len(saved.runs),)))
            for seq in saved.runs:
                parts.append(pack("<I", seq))
        self._document.save(b"".join(parts))

    def lose(self, count: int, lowest: int, highest: int) -> None:
        """Count records that go before the gateway had them."""
        if count:
            self.lost_first = min(self.lost_first, lowest) if self.lost_count else lowest
            self.lost_count += count
            self.evicted += count
            self.lost_below = max(self.lost_below, highest + 1)
