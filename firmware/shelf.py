"""The outbox' segment files: found, read, appended to, removed. One segment at a time is in RAM, with an index.

Files are named ``r<first seq>`` and ``e<first seq>`` (hexadecimal) by their lane. littlefs makes a write to a file
durable, whole, when the file is closed; a power cut before that leaves the file as it was. What littlefs hands back is
checked all the same: damage costs the records that it hit, is counted once per segment in ``damaged``, and raises the
mark's ``lost_below`` past them.
"""

from array import array
from struct import unpack_from

from firmware import segment
from firmware.durable import ensure_folder
from firmware.lane import LANES, Lane
from firmware.segment import HEADER_BYTES, RECORD_BYTES, RECORDS_MAX, SEGMENT_BYTES
from protocols.wire.document import FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.mark import Mark
    from firmware.segment import Header

_PREFIX = "re"


class Shelf:
    """``lanes`` are the segments of each lane. ``recover()`` fills them; until then there are none."""

    def __init__(self, fs: "Any", path: str, mark: "Mark") -> None:
        self._fs = fs
        self._path = path
        self._mark = mark
        self.view = memoryview(bytearray(SEGMENT_BYTES))
        self.offsets = array("H", bytes(2 * RECORDS_MAX))
        self.lanes = (Lane(), Lane())
        self.damaged = 0
        self.flash_errors = 0
        self._forget()

    def _forget(self) -> None:
        self._loaded = (-1, 0)  # lane and first seq of the segment in RAM
        self._length = 0  # its bytes
        self.count = 0  # its whole records
        self._known: "list[tuple[int, int]]" = []  # damaged segments that are counted

    # -- recovery ----------------------------------------------------------------------------------------------------

    def recover(self) -> "list[tuple[int, int]]":
        """Find the segments and what they hold. Returns (first seq, epoch) of each whose header is whole, by seq."""
        self._forget()
        self.lanes = (Lane(), Lane())
        # All folders now: on a full partition, giving up a segment must not need a new one.
        for folder in FOLDERS + (self._path,):
            ensure_folder(self._fs, folder)
        self._list()
        epochs: "list[tuple[int, int]]" = []
        for lane in LANES:
            self._read_headers(lane, epochs)
        for lane in LANES:
            one = self.lanes[lane]
            for at in range(len(one)):
                if not one.count[at]:
                    self._walk(lane, at)
            if len(one):
                self._mark.next_seq = max(self._mark.next_seq, one.last[len(one) - 1] + 1)
        epochs.sort()
        return epochs

    def _list(self) -> None:
        """Find the files; finish a removal that was begun, and one of a segment that was never begun."""
        firsts: "tuple[list[int], list[int]]" = ([], [])
        remove = []
        for entry in self._fs.ilistdir(self._path):
            found = _parse(entry[0])
            if found is None:
                continue
            # littlefs creates a file before it fills it: an empty one is a segment whose first record was never kept.
            if found == self._mark.condemned or not entry[3]:
                remove.append(entry[0])
            else:
                firsts[found[0]].append(found[1])
        for name in remove:
            self._fs.remove(self._path + "/" + name)
        for lane in LANES:
            for first in sorted(firsts[lane]):
                self.lanes[lane].append(first, first, 0)

    def _read_headers(self, lane: int, epochs: "list[tuple[int, int]]") -> None:
        """What each header says of its epoch, and of the segment before it."""
        one = self.lanes[lane]
        for at in range(len(one)):
            head = self._read(lane, at, HEADER_BYTES)
            if head is None:
                continue
            epochs.append((one.first[at], head.epoch))
            if at and head.prev_first == one.first[at - 1]:
                one.last[at - 1] = head.prev_last
                one.count[at - 1] = head.prev_count

    def _walk(self, lane: int, at: int) -> None:
        """Count a segment that no later header describes: the newest of its lane, mostly."""
        one = self.lanes[lane]
        damage = self.load(lane, at)
        one.count[at] = self.count
        if self.count:
            one.last[at] = self.seq(self.count - 1)
        if at < len(one) - 1:
            if damage:
                one.last[at] = one.first[at + 1] - 1
                self._lose_below(one.first[at + 1])
            return
        one.size = self._length
        if damage:
            # What can not be read may have been sent: its seqs are not used again, and count as lost.
            one.size = SEGMENT_BYTES
            self._mark.next_seq = max(self._mark.next_seq, one.last[at] + RECORDS_MAX)
            self._lose_below(self._mark.next_seq)

    # -- reading -----------------------------------------------------------------------------------------------------

    def load(self, lane: int, at: int) -> bool:
        """Bring a segment into RAM and index it. Whether something in it can not be read."""
        one = self.lanes[lane]
        key = (lane, one.first[at])
        if self._loaded == key:
            return key in self._known
        head = self._read(lane, at, SEGMENT_BYTES)
        self._loaded = key
        self.count = before = 0
        if head is not None:
            self.count, before = segment.index(self.view, self._length, head.seed, self.offsets)
        damaged = head is None or before >= 0 or self.count < one.count[at]
        if damaged:
            self._lose_below(self.seq(before) if 0 <= before < self.count else one.last[at] + 1)
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

    def _read(self, lane: int, at: int, size: int) -> "Header | None":
        """The start of a segment into RAM; its header, or None when that is not whole."""
        self._loaded = (-1, 0)
        self._length = 0
        first = self.lanes[lane].first[at]
        try:
            with self._fs.open(self._name(lane, first), "rb") as file:
                self._length = file.readinto(self.view[:size]) or 0
        except OSError:
            self.flash_errors += 1
            return None
        head = segment.read_header(self.view[: self._length])
        return head if head is not None and head.first == first and head.lane == lane else None

    def _lose_below(self, bound: int) -> None:
        self._mark.lost_below = max(self._mark.lost_below, bound)

    def _name(self, lane: int, first: int) -> str:
        return "%s/%s%08x" % (self._path, _PREFIX[lane], first)

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, lane: int, seq: int, kind: int, payload: bytes) -> bool:
        """Whether the newest segment of a lane could take a record; durable when it could."""
        one = self.lanes[lane]
        at = len(one) - 1
        if at < 0 or one.size + RECORD_BYTES + len(payload) > SEGMENT_BYTES:
            return False
        if self.load(lane, at) or self._length != one.size:
            one.size = SEGMENT_BYTES  # went bad under us: leave it as it is
            return False
        record = segment.record(seq, kind, payload, unpack_from("<I", self.view, HEADER_BYTES - 4)[0])
        with self._fs.open(self._name(lane, one.first[at]), "ab") as file:
            file.write(record)
        self.offsets[self.count] = one.size
        self.count += 1
        self.view[one.size : one.size + len(record)] = record
        one.size += len(record)
        self._length = one.size
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
        with self._fs.open(self._name(lane, seq), "wb") as file:
            file.write(data)
        one.append(seq, seq, 1)
        one.size = len(data)

    def remove(self, lane: int, at: int) -> None:
        """Remove a segment that the mark condemned."""
        one = self.lanes[lane]
        self._fs.remove(self._name(lane, one.first[at]))
        if self._loaded == (lane, one.first[at]):
            self._loaded = (-1, 0)
        one.pop(at)


def _parse(name: str) -> "tuple[int, int] | None":
    """(lane, first seq) of a segment's file name, or None for any other name."""
    lane = _PREFIX.find(name[:1])
    if len(name) != 9 or lane < 0:
        return None
    try:
        return lane, int(name[1:], 16)
    except ValueError:
        return None
