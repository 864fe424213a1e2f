"""The outbox: records wait here, on flash, until the gateway has committed them to its disk (SPEC.md section 2.2).

    box = Outbox(fs, "/outbox", max_bytes)   recovers; fs has the methods of vfs.VfsLfs2
    box.begin_epoch(epoch)                   at every start with the channel's epoch, and when a new one is joined
    seq = box.keep(kind, payload)            durable on return; kind 1 readings, 2 event, 3 result; 1 to 200 bytes
    rec = box.next_unacked(lane, after)      lowest record of READINGS or EVENTS above seq `after` that the gateway
                                             lacks: Record(seq, kind, epoch, payload), or None
    box.acknowledge(epoch, cum, runs)        the gateway's whole knowledge of one epoch; runs of (start, length)
    box.oldest_in(epoch), box.next_seq       for hello and `held`; box.held(seq) for a record
    box.epoch_of(seq), box.has(seq), box.count(lane), box.free_records, box.evicted, box.damaged, box.flash_errors
    box.lost() -> (first seq, count) | None  evicted unsent and not yet told; keep an event, then box.lost_told()
    box.is_new                               nothing was found: with an epoch in hand, its seqs are lost: join anew
    box.flush()                              make what was acknowledged durable now (before a deliberate reset)

Rules
- seq begins at 1 (an ack of 0 acknowledges nothing) and only grows, through power cuts and with everything evicted.
  The seq of a record whose keep() did not return is used again unless the record is found at recovery: nobody can
  have sent it, since only a kept record is ever offered. Found, it is a record like any other.
- Two lanes, each an ascending list of segment files ``r<first seq>`` and ``e<first seq>`` (hexadecimal) of at most one
  flash block, so alarms are found at once behind any number of readings. The epoch of a record is in its segment's
  header. Records made before the first epoch belong to it; that adoption is durable before begin_epoch returns.
- An append is open, write, close: littlefs commits at close, and copies the block it adds to. RAM holds 12 bytes per
  segment, one block and its index (5 kB).
- When a new segment needs room, one is removed: the oldest all of whose records are acknowledged; else the oldest of
  readings; events are given up last, and only for events (readings keep one segment of their own). What goes unacknowledged is counted durably, in
  the same write that condemns the segment, before it is removed; a recovery finishes a removal that was begun.
- Acknowledgements are made durable when a segment is begun or removed, every ACKS_UNSAVED acks and at flush().
  What a power cut makes the node forget is sent again and dropped by the gateway as a duplicate. An ack that falls
  back is durable at once: what the gateway lacks must not be given up as if it had it.
- An ack with fewer than MAX_ACK_RUNS runs is everything the gateway has: every other record of that epoch is offered
  again (a gateway restored from a backup). With all runs used it says nothing about seqs between cum and its lowest
  run, and what was known of these stays.
- `oldest` jumps over what was evicted or damaged: an acknowledged record below the highest lost one no longer counts
  as held (it is still offered when an ack falls back below it), so a gap never holds up the gateway's cum.
"""

from array import array
from collections import namedtuple
from struct import pack, unpack_from

from firmware import segment
from firmware.durable import Document, ensure_folder
from firmware.errors import StorageError
from firmware.runs import RunSet
from firmware.segment import HEADER_BYTES, MAX_PAYLOAD, NO_EPOCH, RECORD_BYTES, RECORDS_MAX, SEGMENT_BYTES
from protocols.wire.document import FOLDERS
from protocols.wire.limits import MAX_ACK_RUNS, MAX_SEQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple

    class Record(NamedTuple):
        """epoch is None for a record made before the first epoch."""

        seq: int
        kind: int
        epoch: "int | None"
        payload: bytes

else:
    Record = namedtuple("Record", ("seq", "kind", "epoch", "payload"))

READINGS = 0
EVENTS = 1  # events and command results
KIND_READINGS = 1

# Runs a lane remembers of what the gateway has. In order, one suffices; each overtaking alarm may add one for a while.
RUNS_MAX = 16
# Of which this many are made durable, so that a copy of the mark stays a littlefs inline file (128 bytes).
RUNS_SAVED = 4
# Acks whose records a power cut may make the node send again.
ACKS_UNSAVED = 32
# Each lane its newest, and one of each to give up.
SEGMENTS_MIN = 4
# For `free_records` only: a set of eight series with its record around it.
RECORD_BYTES_TYPICAL = 48
# Retries of one keep(), each with one more segment given up, when the file system is full before max_bytes is reached.
_ATTEMPTS = 4
_ENOSPC = 28

_PREFIX = "re"
_LANES = (READINGS, EVENTS)
_NOBODY = 0xFF
_MARK = "<IIIIIBI"


class _Lane:
    """The segments of one lane, oldest first, as parallel arrays; `runs` is what the gateway has of it."""

    def __init__(self):
        self.first = array("I")
        self.last = array("I")
        self.count = array("H")
        self.runs = RunSet()
        self.size = 0  # bytes of the newest segment; SEGMENT_BYTES when nothing may be appended to it

    def append(self, first, last, count):
        self.first.append(first)
        self.last.append(last)
        self.count.append(count)

    def pop(self, at):
        self.first = self.first[:at] + self.first[at + 1 :]
        self.last = self.last[:at] + self.last[at + 1 :]
        self.count = self.count[:at] + self.count[at + 1 :]
        if at == len(self.first):
            self.size = SEGMENT_BYTES

    def locate(self, seq):
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


class Outbox:
    """See the head of this file. Not re-entrant: one owner, one call at a time."""

    def __init__(self, fs: "Any", path: str, max_bytes: int) -> None:
        self._segments_max = max_bytes // SEGMENT_BYTES
        if self._segments_max < SEGMENTS_MIN:
            raise StorageError(
                "an outbox of %d bytes is too small: at least %d" % (max_bytes, SEGMENTS_MIN * SEGMENT_BYTES)
            )
        self._fs = fs
        self._path = path
        self._mark = Document(fs, "outbox")
        self._buffer = bytearray(SEGMENT_BYTES)
        self._view = memoryview(self._buffer)
        self._offsets = array("H", bytes(2 * RECORDS_MAX))
        self._epoch = NO_EPOCH  # what begin_epoch() said in this run
        self.damaged = 0
        self.flash_errors = 0
        self._recover()

    # -- what is here ------------------------------------------------------------------------------------------------

    def epoch_of(self, seq: int) -> "int | None":
        """The epoch that a held record, or the next one to be kept, belongs to."""
        epoch = NO_EPOCH
        for start, name in self._epochs:
            if start > seq:
                break
            epoch = name
        return None if epoch == NO_EPOCH else epoch

    def oldest_in(self, epoch: "int | None") -> int:
        """The lowest seq of an epoch that counts as held; next_seq when none is. None: before the first epoch."""
        bounds = self._bounds(NO_EPOCH if epoch is None else epoch)
        if bounds is None:
            return self.next_seq
        if self._oldest is None or self._oldest[0] != bounds[0]:
            oldest = min(self._oldest_of(lane, bounds[0], bounds[1]) for lane in _LANES)
            self._oldest = (bounds[0], oldest)
        return self._oldest[1]

    def held(self, seq: int) -> int:
        """The `held` field of the message that carries this record."""
        return seq - self.oldest_in(self.epoch_of(seq))

    def has(self, seq: int) -> bool:
        """Whether the record is here, acknowledged or not."""
        return any(self._holds(lane, seq, seq + 1) for lane in _LANES)

    def count(self, lane: int) -> int:
        """How many records of a lane the gateway lacks."""
        return sum(self._unacked(lane, at)[0] for at in range(len(self._lanes[lane].first)))

    @property
    def free_records(self) -> int:
        """About how many typical records can be kept before one is lost that the gateway lacks."""
        segments = self._segments_max
        for one in self._lanes:
            for at in range(len(one.first)):
                segments -= one.runs.gap(one.first[at]) <= one.last[at]
        return segments * (SEGMENT_BYTES - HEADER_BYTES) // RECORD_BYTES_TYPICAL

    def next_unacked(self, lane: int, after: int) -> "Record | None":
        """The lowest record of a lane above seq ``after`` that the gateway lacks."""
        one = self._lanes[lane]
        seq = one.runs.gap(after + 1)
        at = one.locate(seq)
        while at < len(one.first):
            seq = one.runs.gap(max(seq, one.first[at]))
            if seq > one.last[at]:
                at = one.locate(seq)
                continue
            index = self._find(lane, at, seq)
            if index < self._loaded_count:
                found = segment.seq_at(self._view, self._offsets[index])
                if one.runs.gap(found) == found:
                    return self._record(index, found)
                seq = found + 1
            else:
                at += 1
        return None

    def lost(self) -> "tuple[int, int] | None":
        """(first seq, how many) of what was evicted unsent since the last lost_told(), or None."""
        return (self._lost_first, self._lost_count) if self._lost_count else None

    # -- what changes it ---------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Records kept from now on belong to ``epoch``. Again with the newest epoch: nothing happens."""
        if not 0 <= epoch < NO_EPOCH:
            raise StorageError("epoch %d: allowed are 0 to %d" % (epoch, NO_EPOCH - 1))
        start, newest = self._epochs[-1] if self._epochs else (self.next_seq, NO_EPOCH)
        if newest == epoch:
            self._epoch = epoch
            return
        self._oldest = None
        self._epoch = epoch
        if newest == NO_EPOCH:
            if start < self.next_seq:
                self._adopted = epoch
                self._save_mark()
            self._epochs = [(start, epoch)]
            return
        if start == self.next_seq:
            self._epochs.pop()  # joined twice without a record between
        self._enter(epoch)

    def keep(self, kind: int, payload: bytes) -> int:
        """Keep a record; durable on return. StorageError: it is not kept (or, if it is, will be sent all the same)."""
        if not 1 <= len(payload) <= MAX_PAYLOAD:
            raise StorageError("a record of %d bytes: allowed are 1 to %d" % (len(payload), MAX_PAYLOAD))
        if self.next_seq > MAX_SEQ:
            raise StorageError("all %d sequence numbers are used up" % MAX_SEQ)
        lane = READINGS if kind == KIND_READINGS else EVENTS
        seq = self.next_seq
        problem = None
        for _ in range(_ATTEMPTS):
            try:
                self._append(lane, seq, kind, payload)
                return seq
            except OSError as exc:
                problem = exc
            except StorageError:
                self._recover()
                raise
            # What is on flash now is not known: find out. The record may be there although its close failed.
            self.flash_errors += 1
            self._recover()
            if self.next_seq > seq:
                return seq
            self._lanes[lane].size = SEGMENT_BYTES
            if problem.args and problem.args[0] == _ENOSPC:
                self._give_up_one(lane)
        raise StorageError(
            "seq %d could not be kept: %r; the state partition is full or worn out" % (seq, problem)
        )

    def acknowledge(self, epoch: int, cum: int, runs: "Iterable[tuple[int, int]]") -> None:
        """Take in the gateway's whole knowledge of one epoch. Seqs that are not of this epoch are left alone."""
        bounds = self._bounds(epoch)
        if bounds is None:
            return
        start, end = bounds
        known = [(max(a, start), min(a + n, end)) for a, n in runs]
        floor = cum + 1
        if len(known) >= MAX_ACK_RUNS:
            floor = min(a for a, _ in known)
        fell_back = False
        for lane in _LANES:
            have = self._lanes[lane].runs
            before = have.runs
            have.remove(max(floor, start), end)
            have.add(start, min(cum + 1, end))
            for a, b in known:
                have.add(a, b)
            fell_back = fell_back or self._lacks(lane, before)
            if len(have.runs) > 2 * RUNS_SAVED:
                self._merge(lane)
                have.bound(RUNS_MAX)
        self._oldest = None
        self._acks_unsaved += 1
        if fell_back or self._acks_unsaved >= ACKS_UNSAVED:
            self._save_mark()

    def lost_told(self) -> None:
        """An event that tells of lost() is kept: begin counting anew."""
        self._lost_count = 0
        self._save_mark()

    def flush(self) -> None:
        """Make what is acknowledged durable now."""
        if self._acks_unsaved:
            self._save_mark()

    # -- recovery ----------------------------------------------------------------------------------------------------

    def _recover(self):
        self._lanes = (_Lane(), _Lane())
        self._loaded = None  # (lane, first) of the segment in the buffer
        self._loaded_count = 0
        self._damaged_known = []
        self._oldest = None
        # All folders now: on a full partition, giving up a segment must not need a new one.
        for folder in FOLDERS + (self._path,):
            ensure_folder(self._fs, folder)
        self._take_mark()
        self._list()
        epochs = []
        for lane in _LANES:
            self._read_headers(lane, epochs)
        epochs.sort()
        self._epochs = self._name_epochs(epochs)
        for lane in _LANES:
            one = self._lanes[lane]
            for at in range(len(one.first)):
                if not one.count[at]:
                    self._walk(lane, at)
            if len(one.last):
                self.next_seq = max(self.next_seq, one.last[len(one.last) - 1] + 1)
        if self._epoch != NO_EPOCH and (not self._epochs or self._epochs[-1][1] != self._epoch):
            self._enter(self._epoch)

    def _list(self):
        """Find the segments; finish a removal that was begun."""
        firsts = ([], [])
        empty = []
        for entry in self._fs.ilistdir(self._path):
            name = entry[0]
            lane = _PREFIX.find(name[:1])
            try:
                first = int(name[1:], 16)
            except ValueError:
                continue
            if len(name) != 9 or lane < 0:
                continue
            if self._condemned == (lane, first):
                continue
            if not entry[3]:
                empty.append(name)
                continue
            firsts[lane].append(first)
        for name in empty:
            # littlefs creates a file before it fills it: this segment was never begun.
            self._fs.remove(self._path + "/" + name)
        if self._condemned[0] != _NOBODY:
            try:
                self._fs.remove(self._name(self._condemned[0], self._condemned[1]))
            except OSError:
                pass  # removed before the power went
        for lane in _LANES:
            for first in sorted(firsts[lane]):
                self._lanes[lane].append(first, first, 0)
                self.is_new = False

    def _read_headers(self, lane, epochs):
        """What each header says of its epoch, and of the segment before it."""
        one = self._lanes[lane]
        for at in range(len(one.first)):
            head = self._read(lane, at, HEADER_BYTES)
            if head is None:
                continue
            epochs.append((one.first[at], head.epoch))
            if at and head.prev_first == one.first[at - 1]:
                one.last[at - 1] = head.prev_last
                one.count[at - 1] = head.prev_count

    def _name_epochs(self, epochs):
        """[(first seq, epoch)] without repetitions, the unnamed one under the name that it was adopted by."""
        named = []
        for start, epoch in epochs:
            if epoch == NO_EPOCH:
                epoch = self._adopted
            if not named or named[-1][1] != epoch:
                named.append((start, epoch))
        if len(named) > 1 and named[0][1] == NO_EPOCH:
            # The mark is gone, and the adoption with it; but the first epoch is the one that followed.
            named[1] = (named[0][0], named[1][1])
            named.pop(0)
        return named

    def _walk(self, lane, at):
        """Count a segment that no later header describes: the newest of its lane, mostly."""
        one = self._lanes[lane]
        newest = at == len(one.first) - 1
        end, damage = self._load(lane, at)
        count = self._loaded_count
        one.count[at] = count
        if count:
            one.last[at] = segment.seq_at(self._view, self._offsets[count - 1])
        if newest:
            one.size = SEGMENT_BYTES if damage else end
        if damage and newest:
            # What can not be read may have been sent: its seqs are not used again, and count as lost.
            self.next_seq = max(self.next_seq, one.last[at] + RECORDS_MAX)
            self._lost_below = max(self._lost_below, self.next_seq)
        elif damage:
            one.last[at] = one.first[at + 1] - 1
            self._lost_below = max(self._lost_below, one.first[at + 1])

    # -- one segment -------------------------------------------------------------------------------------------------

    def _name(self, lane, first):
        return "%s/%s%08x" % (self._path, _PREFIX[lane], first)

    def _read(self, lane, at, size):
        """Fill the buffer from a segment; its header, or None when that is not whole."""
        self._loaded = None
        self._length = 0
        first = self._lanes[lane].first[at]
        try:
            with self._fs.open(self._name(lane, first), "rb") as file:
                self._length = file.readinto(self._view[:size]) or 0
        except OSError:
            self.flash_errors += 1
            return None
        head = segment.read_header(self._view[: self._length])
        return head if head is not None and head.first == first and head.lane == lane else None

    def _load(self, lane, at):
        """Bring a segment into the buffer and index it. (bytes, whether something in it can not be read)"""
        one = self._lanes[lane]
        key = (lane, one.first[at])
        if self._loaded == key:
            return self._length, key in self._damaged_known
        head = self._read(lane, at, SEGMENT_BYTES)
        self._loaded = key
        self._loaded_count = 0
        before = 0
        if head is not None:
            self._loaded_count, before = segment.index(self._view, self._length, head.seed, self._offsets)
        damaged = before >= 0 or self._loaded_count < one.count[at]
        if damaged and key not in self._damaged_known:
            self._damaged_known.append(key)
            self.damaged += 1
        if damaged:
            self._lose_below(one, at, before)
        return self._length, damaged

    def _lose_below(self, one, at, before):
        """Records that can not be read are lost: what is acknowledged below them stops counting as held."""
        if 0 <= before < self._loaded_count:
            bound = segment.seq_at(self._view, self._offsets[before])
        else:
            bound = one.last[at] + 1
        if bound > self._lost_below:
            self._lost_below = bound
            self._oldest = None

    def _find(self, lane, at, seq):
        """Load a segment; the index of its first record from seq on, _loaded_count when there is none."""
        self._load(lane, at)
        low = 0
        high = self._loaded_count
        while low < high:
            middle = (low + high) // 2
            if segment.seq_at(self._view, self._offsets[middle]) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def _record(self, index, seq):
        at = self._offsets[index]
        return Record(seq, self._buffer[at + 4], self.epoch_of(seq), segment.payload_at(self._view, at))

    def _holds(self, lane, low, high):
        """Whether a lane has a record with low <= seq < high."""
        one = self._lanes[lane]
        at = one.locate(low)
        while at < len(one.first) and one.first[at] < high:
            if one.first[at] >= low and one.count[at]:
                return True
            index = self._find(lane, at, low)
            if index < self._loaded_count:
                return segment.seq_at(self._view, self._offsets[index]) < high
            at += 1
        return False

    def _unacked(self, lane, at):
        """(how many records of a segment the gateway lacks, the first, the last of these)"""
        one = self._lanes[lane]
        first = one.first[at]
        last = one.last[at]
        if one.runs.gap(first) > last:
            return 0, 0, 0
        if not one.runs.overlaps(first, last + 1):
            return one.count[at], first, last
        self._load(lane, at)
        count = lowest = highest = 0
        for index in range(self._loaded_count):
            seq = segment.seq_at(self._view, self._offsets[index])
            if one.runs.gap(seq) == seq:
                lowest = lowest or seq
                highest = seq
                count += 1
        return count, lowest, highest

    # -- epochs and acknowledgement ----------------------------------------------------------------------------------

    def _bounds(self, epoch):
        """[start, end) of the seqs of an epoch, or None when nothing of it is here."""
        for at in range(len(self._epochs)):
            if self._epochs[at][1] == epoch:
                end = self._epochs[at + 1][0] if at + 1 < len(self._epochs) else self.next_seq
                return self._epochs[at][0], end
        return None

    def _enter(self, epoch):
        """From next_seq on it is another epoch; its name is written with the next record, in the header of its segment."""
        self._epochs.append((self.next_seq, epoch))
        for one in self._lanes:
            one.size = SEGMENT_BYTES

    def _oldest_of(self, lane, start, end):
        one = self._lanes[lane]
        oldest = end
        at = one.locate(max(start, self._lost_below))
        if at < len(one.first) and one.first[at] < end:
            index = self._find(lane, at, max(start, self._lost_below))
            if index < self._loaded_count:
                oldest = min(oldest, segment.seq_at(self._view, self._offsets[index]))
        if self._lost_below > start:
            record = self.next_unacked(lane, start - 1)
            if record is not None:
                oldest = min(oldest, record.seq)
        return oldest

    def _lacks(self, lane, before):
        """Whether a record of ``before`` (flat runs) is no longer acknowledged."""
        runs = self._lanes[lane].runs
        for at in range(0, len(before), 2):
            low = runs.gap(before[at])
            while low < before[at + 1]:
                high = min(runs.end_of_gap(low, before[at + 1]), before[at + 1])
                if self._holds(lane, low, high):
                    return True
                low = runs.gap(high)
        return False

    def _merge(self, lane):
        """Join runs between which the lane has no record."""
        one = self._lanes[lane]
        runs = one.runs.runs
        for at in range(len(runs) - 2, 0, -2):
            if not self._holds(lane, runs[at - 1], runs[at]):
                one.runs.add(runs[at - 1], runs[at])

    # -- writing -----------------------------------------------------------------------------------------------------

    def _append(self, lane, seq, kind, payload):
        if not self._append_to_newest(lane, seq, kind, payload):
            self._begin_segment(lane, seq, kind, payload)
        self.next_seq = seq + 1
        if self._oldest is not None and self._oldest[1] >= seq:
            self._oldest = None

    def _append_to_newest(self, lane, seq, kind, payload):
        """Whether the newest segment of the lane could take the record."""
        one = self._lanes[lane]
        at = len(one.first) - 1
        if at < 0 or one.size + RECORD_BYTES + len(payload) > SEGMENT_BYTES:
            return False
        length, damaged = self._load(lane, at)
        if damaged or length != one.size:
            one.size = SEGMENT_BYTES  # went bad under us: leave it as it is
            return False
        record = segment.record(seq, kind, payload, unpack_from("<I", self._buffer, HEADER_BYTES - 4)[0])
        with self._fs.open(self._name(lane, one.first[at]), "ab") as file:
            file.write(record)
        self._view[length : length + len(record)] = record
        self._offsets[self._loaded_count] = length
        self._loaded_count += 1
        self._length = one.size = length + len(record)
        one.last[at] = seq
        one.count[at] += 1
        return True

    def _begin_segment(self, lane, seq, kind, payload):
        """The header and the first record are one commit of littlefs: there is no segment without a record."""
        self._make_room(lane)
        self.flush()
        one = self._lanes[lane]
        at = len(one.first) - 1
        prev = (one.first[at], one.last[at], one.count[at]) if at >= 0 else (0, 0, 0)
        if not self._epochs:
            self._epochs.append((seq, NO_EPOCH))
        named = self._epochs[-1][1]
        head = segment.header(lane, seq, named, prev)
        data = head + segment.record(seq, kind, payload, unpack_from("<I", head, HEADER_BYTES - 4)[0])
        with self._fs.open(self._name(lane, seq), "wb") as file:
            file.write(data)
        one.append(seq, seq, 1)
        one.size = len(data)

    def _make_room(self, lane):
        while True:
            events = len(self._lanes[EVENTS].first)
            if events + len(self._lanes[READINGS].first) < self._segments_max:
                if lane == READINGS or events < self._segments_max - 1:
                    return
            self._give_up_one(lane)

    def _give_up_one(self, lane):
        """Remove the segment that goes first, so that one more of ``lane`` has room."""
        victim = None
        for other in _LANES:
            one = self._lanes[other]
            for at in range(len(one.first)):
                if one.runs.gap(one.first[at]) > one.last[at]:
                    if victim is None or one.first[at] < self._lanes[victim[0]].first[victim[1]]:
                        victim = (other, at)
                    break
        if victim is None:
            readings = len(self._lanes[READINGS].first)
            if readings > (lane == EVENTS):
                victim = (READINGS, 0)
            elif len(self._lanes[EVENTS].first) and lane == EVENTS:
                victim = (EVENTS, 0)
            else:
                raise StorageError("no room for a record, and nothing in the outbox to give up for it")
        self._remove(victim[0], victim[1])

    def _remove(self, lane, at):
        one = self._lanes[lane]
        count, lowest, highest = self._unacked(lane, at)
        if count:
            self._lost_first = min(self._lost_first, lowest) if self._lost_count else lowest
            self._lost_count += count
            self.evicted += count
            self._lost_below = max(self._lost_below, highest + 1)
        self._condemned = (lane, one.first[at])
        self._save_mark()
        self._fs.remove(self._name(lane, one.first[at]))
        if self._loaded == self._condemned:
            self._loaded = None
        one.pop(at)
        self._oldest = None
        self._forget_epochs()

    def _forget_epochs(self):
        """Drop the epochs of which nothing is left, but for the newest."""
        held = [one.first[0] for one in self._lanes if len(one.first)]
        lowest = min(held) if held else self.next_seq
        while len(self._epochs) > 1 and self._epochs[1][0] <= lowest:
            self._epochs.pop(0)

    # -- the mark: what must outlive its segments -----------------------------------------------------------------------

    def _save_mark(self):
        """next seq | evicted | lost below | lost first | lost count | condemned lane and first | adopted epoch | runs"""
        parts = [
            pack(
                _MARK,
                self.next_seq,
                self.evicted,
                self._lost_below,
                self._lost_first,
                self._lost_count,
                self._condemned[0],
                self._condemned[1],
            ),
            self._adopted.to_bytes(6, "big"),
        ]
        for lane in _LANES:
            self._merge(lane)
            saved = RunSet(self._lanes[lane].runs.runs)
            saved.bound(RUNS_SAVED)
            parts.append(bytes((len(saved.runs),)))
            for bound in saved.runs:
                parts.append(pack("<I", bound))
        self._mark.save(b"".join(parts))
        self._acks_unsaved = 0

    def _take_mark(self):
        self.next_seq = 1
        self.evicted = 0
        self._lost_below = 0
        self._lost_first = 0
        self._lost_count = 0
        self._condemned = (_NOBODY, 0)
        self._adopted = NO_EPOCH
        self._acks_unsaved = 0
        data = self._mark.load()
        self.is_new = data is None
        if data is None:
            return
        fields = unpack_from(_MARK, data)
        self.next_seq, self.evicted, self._lost_below, self._lost_first, self._lost_count = fields[:5]
        self._condemned = fields[5:]
        self._adopted = int.from_bytes(data[25:31], "big")
        at = 31
        for lane in _LANES:
            count = data[at]
            self._lanes[lane].runs = RunSet(unpack_from("<%dI" % count, data, at + 1))
            at += 1 + 4 * count
