"""The outbox' segment files: found, read, appended to, removed. One segment at a time is in RAM, with an index.

Files are named ``r<first seq>`` and ``e<first seq>`` (hexadecimal) by their lane. littlefs makes a write to a file
durable, whole, when the file is closed; a power cut before that leaves the file as it was. What littlefs hands back is
checked all the same: damage costs the records that it hit, is counted once per segment in ``damaged``, and raises the
mark's ``lost_below`` past them.
"""

from array import array
from struct import unpack_from

from firmware import segment
from firmware.lane import Lane
from firmware.modules import forget
from firmware.segment import HEADER_BYTES, RECORD_BYTES, RECORDS_MAX, SEGMENT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.mark import Mark
    from firmware.segment import Header

PREFIX = "re"


class Shelf:
    """``lanes`` are the segments of each lane. ``recover()`` fills them; until then there are none.

    ``length`` and ``count``: bytes and whole records of the segment in RAM.
    """

    def __init__(self, fs: "Any", path: str, mark: "Mark") -> None:
        self.fs = fs
        self.path = path
        self.mark = mark
        self.view = memoryview(bytearray(SEGMENT_BYTES))
        self.offsets = array("H", bytes(2 * RECORDS_MAX))
        self.lanes = (Lane(), Lane())
        self.damaged = 0
        self.flash_errors = 0
        self._forget()

    def _forget(self) -> None:
        self._loaded = (-1, 0)  # lane and first seq of the segment in RAM
        self.length = 0  # its bytes
        self.count = 0  # its whole records
        self._known: "list[tuple[int, int]]" = []  # damaged segments that are counted

    def recover(self) -> "list[tuple[int, int]]":
        """Find the segments and what they hold. Returns (first seq, epoch) of each whose header is whole, by seq."""
        from firmware import recovery  # on the heap at a start, and when the flash fails

        self._forget()
        self.lanes = (Lane(), Lane())
        epochs = recovery.recover(self)
        forget("firmware.recovery")
        return epochs

    # -- reading -----------------------------------------------------------------------------------------------------

    def load(self, lane: int, at: int) -> bool:
        """Bring a segment into RAM and index it. Whether something in it can not be read."""
        one = self.lanes[lane]
        key = (lane, one.first[at])
        if self._loaded == key:
            return key in self._known
        head = self.read(lane, at, SEGMENT_BYTES)
        self._loaded = key
        self.count = before = 0
        if head is not None:
            self.count, before = segment.index(self.view, self.length, head.seed, self.offsets)
        damaged = head is None or before >= 0 or self.count < one.count[at]
        if damaged:
            self.lose_below(self.seq(before) if 0 <= before < self.count else one.last[at] + 1)
            if key not in self._known:
                self._known.append(key)
                self.damaged += 1
        return damaged

    def find(self, lane: int, at: int, seq: int) -> int:
        """Load a segment; the index of its first record from seq on, ``count`` when there is none."""
        self.load(lane, at)
        low = 0
        high = self.count
        while low < high:
            middle = (low + high) // 2
            if self.seq(middle) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def seq(self, index: int) -> int:
        """The seq of a record of the loaded segment."""
        return segment.seq_at(self.view, self.offsets[index])

    def kind_and_payload(self, index: int) -> "tuple[int, bytes]":
        """Of a record of the loaded segment."""
        return segment.content_at(self.view, self.offsets[index])

    def holds(self, lane: int, low: int, high: int) -> bool:
        """Whether a lane has a record with low <= seq < high."""
        one = self.lanes[lane]
        at = one.locate(low)
        while at < len(one) and one.first[at] < high:
            if one.first[at] >= low and one.count[at]:
                return True
            index = self.find(lane, at, low)
            if index < self.count:
                return self.seq(index) < high
            at += 1
        return False

    def read(self, lane: int, at: int, size: int) -> "Header | None":
        """The start of a segment into RAM; its header, or None when that is not whole."""
        self._loaded = (-1, 0)
        self.length = 0
        first = self.lanes[lane].first[at]
        try:
            with self.fs.open(self._name(lane, first), "rb") as file:
                self.length = file.readinto(self.view[:size]) or 0
        except OSError:
            self.flash_errors += 1
            return None
        head = segment.read_header(self.view[: self.length])
        return head if head is not None and head.first == first and head.lane == lane else None

    def lose_below(self, bound: int) -> None:
        self.mark.lost_below = max(self.mark.lost_below, bound)

    def _name(self, lane: int, first: int) -> str:
        return "%s/%s%08x" % (self.path, PREFIX[lane], first)

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, lane: int, seq: int, kind: int, payload: bytes) -> bool:
        """Whether the newest segment of a lane could take a record; durable when it could."""
        one = self.lanes[lane]
        at = len(one) - 1
        if at < 0 or one.size + RECORD_BYTES + len(payload) > SEGMENT_BYTES:
            return False
        if self.load(lane, at) or self.length != one.size:
            one.size = SEGMENT_BYTES  # went bad under us: leave it as it is
            return False
        record = segment.record(seq, kind, payload, unpack_from("<I", self.view, HEADER_BYTES - 4)[0])
        with self.fs.open(self._name(lane, one.first[at]), "ab") as file:
            file.write(record)
        self.offsets[self.count] = one.size
        self.count += 1
        self.view[one.size : one.size + len(record)] = record
        one.size += len(record)
        self.length = one.size
        one.last[at] = seq
        one.count[at] += 1
        return True

    def begin(self, lane: int, epoch: int, seq: int, kind: int, payload: bytes) -> None:
        """A new segment. Its header and its first record are one commit: there is no segment without a record."""
        one = self.lanes[lane]
        at = len(one) - 1
        prev = (one.first[at], one.last[at], one.count[at]) if at >= 0 else (0, 0, 0)
        head = segment.header(lane, seq, epoch, prev)
        data = head + segment.record(seq, kind, payload, unpack_from("<I", head, HEADER_BYTES - 4)[0])
        with self.fs.open(self._name(lane, seq), "wb") as file:
            file.write(data)
        one.append(seq, seq, 1)
        one.size = len(data)

    def remove(self, lane: int, at: int) -> None:
        """Remove a segment that the mark condemned."""
        one = self.lanes[lane]
        self.fs.remove(self._name(lane, one.first[at]))
        if self._loaded == (lane, one.first[at]):
            self._loaded = (-1, 0)
        one.pop(at)
