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
- Two lanes, each an ascending list of segment files of at most one flash block (shelf.py, segment.py), so alarms are
  found at once behind any number of readings. The epoch of a record is in its segment's
  header. Records made before the first epoch belong to it; that adoption is durable before begin_epoch returns.
- An append is open, write, close: littlefs commits at close, and copies the block it adds to. RAM holds 10 bytes per
  segment, one block and its index (5 kB).
- When a new segment needs room, one is removed: the oldest all of whose records are acknowledged; else the oldest of
  readings; events are given up last, and only for events (readings keep one segment of their own). What goes
  unacknowledged is counted durably, in the same write that condemns the segment, before it is removed; a recovery
  finishes a removal that was begun.
- Acknowledgements are made durable when a segment is begun or removed, every ACKS_UNSAVED acks and at flush().
  What a power cut makes the node forget is sent again and dropped by the gateway as a duplicate. An ack that falls
  back is durable at once: what the gateway lacks must not be given up as if it had it.
- An ack with fewer than MAX_ACK_RUNS runs is everything the gateway has: every other record of that epoch is offered
  again (a gateway restored from a backup). With all runs used it says nothing about seqs between cum and its lowest
  run, and what was known of these stays.
- `oldest` jumps over what was evicted or damaged: an acknowledged record below the highest lost one no longer counts
  as held (it is still offered when an ack falls back below it), so a gap never holds up the gateway's cum.
"""

from collections import namedtuple

from firmware.errors import StorageError
from firmware.lane import EVENTS, LANES, READINGS
from firmware.mark import RUNS_SAVED, Mark
from firmware.segment import HEADER_BYTES, MAX_PAYLOAD, NO_EPOCH, SEGMENT_BYTES
from firmware.shelf import Shelf
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

__all__ = ("EVENTS", "READINGS", "Outbox", "Record")

KIND_READINGS = 1

# Runs a lane remembers of what the gateway has. In order, one suffices; each overtaking alarm may add one for a while.
RUNS_MAX = 16
# Acks whose records a power cut may make the node send again.
ACKS_UNSAVED = 32
# Each lane its newest, and one of each to give up.
SEGMENTS_MIN = 4
# For `free_records` only: a set of eight series with its record around it.
RECORD_BYTES_TYPICAL = 48
# Retries of one keep(), each with one more segment given up when the file system is full before max_bytes is reached.
_ATTEMPTS = 4
_ENOSPC = 28


class Outbox:
    """See the head of this file. Not re-entrant: one owner, one call at a time."""

    def __init__(self, fs: "Any", path: str, max_bytes: int) -> None:
        self._segments_max = max_bytes // SEGMENT_BYTES
        if self._segments_max < SEGMENTS_MIN:
            raise StorageError(
                "an outbox of %d bytes is too small: at least %d" % (max_bytes, SEGMENTS_MIN * SEGMENT_BYTES)
            )
        self._mark = Mark(fs)
        self._shelf = Shelf(fs, path, self._mark)
        self._epoch = NO_EPOCH  # what begin_epoch() said in this run
        self._epochs: "list[tuple[int, int]]" = []  # (first seq, epoch), by seq
        self._oldest: "tuple[tuple[int, int], int] | None" = None  # the last answer of oldest_in()
        self._acks_unsaved = 0
        self._keep_errors = 0
        self._recover()
        self.is_new = self._mark.is_new and self.next_seq == 1

    # -- what is here ------------------------------------------------------------------------------------------------

    @property
    def next_seq(self) -> int:
        """The seq of the next record."""
        return self._mark.next_seq

    @property
    def evicted(self) -> int:
        """Records given up before the gateway had them, ever."""
        return self._mark.evicted

    @property
    def damaged(self) -> int:
        """Segments in which something could not be read, in this run."""
        return self._shelf.damaged

    @property
    def flash_errors(self) -> int:
        """Operations that the file system refused, in this run."""
        return self._shelf.flash_errors + self._keep_errors

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
        key = (bounds[0], self._mark.lost_below)
        if self._oldest is None or self._oldest[0] != key:
            self._oldest = (key, min([self._oldest_of(lane, bounds[0], bounds[1]) for lane in LANES]))
        return self._oldest[1]

    def held(self, seq: int) -> int:
        """The `held` field of the message that carries this record."""
        return seq - self.oldest_in(self.epoch_of(seq))

    def has(self, seq: int) -> bool:
        """Whether the record is here, acknowledged or not."""
        return any([self._shelf.holds(lane, seq, seq + 1) for lane in LANES])

    def count(self, lane: int) -> int:
        """How many records of a lane the gateway lacks."""
        return sum([self._unacked(lane, at)[0] for at in range(len(self._shelf.lanes[lane]))])

    @property
    def free_records(self) -> int:
        """About how many typical records can be kept before one is lost that the gateway lacks."""
        segments = self._segments_max
        for one in self._shelf.lanes:
            for at in range(len(one)):
                segments -= not one.is_acked(at)
        return segments * (SEGMENT_BYTES - HEADER_BYTES) // RECORD_BYTES_TYPICAL

    def next_unacked(self, lane: int, after: int) -> "Record | None":
        """The lowest record of a lane above seq ``after`` that the gateway lacks."""
        one = self._shelf.lanes[lane]
        seq = one.runs.gap(after + 1)
        at = one.locate(seq)
        while at < len(one):
            seq = one.runs.gap(max(seq, one.first[at]))
            if seq > one.last[at]:
                at = one.locate(seq)
                continue
            index = self._shelf.find(lane, at, seq)
            if index == self._shelf.count:
                at += 1
                continue
            seq = self._shelf.seq(index)
            if one.runs.gap(seq) == seq:
                kind, payload = self._shelf.kind_and_payload(index)
                return Record(seq, kind, self.epoch_of(seq), payload)
        return None

    def lost(self) -> "tuple[int, int] | None":
        """(first seq, how many) of what was evicted unsent since the last lost_told(), or None."""
        return (self._mark.lost_first, self._mark.lost_count) if self._mark.lost_count else None

    # -- what changes it ---------------------------------------------------------------------------------------------

    def offer_again(self, epoch: int) -> None:
        """Before ``epoch`` begins: if there was another, its gateway did not know it, and what it had acknowledged
        may be lost with it. What is still held is offered again; what the gateway does have it answers as a copy.
        """
        if self._epochs and self._epochs[-1][1] not in (NO_EPOCH, epoch):
            for _, name in tuple(self._epochs):
                self.acknowledge(name, 0, ())

    def begin_epoch(self, epoch: int) -> None:
        """Records kept from now on belong to ``epoch``. Again with the newest epoch: nothing happens."""
        if not 0 <= epoch < NO_EPOCH:
            raise StorageError("epoch %d: allowed are 0 to %d" % (epoch, NO_EPOCH - 1))
        start, newest = self._epochs[-1] if self._epochs else (self.next_seq, NO_EPOCH)
        self._epoch = epoch
        if newest == epoch:
            return
        self._oldest = None
        if newest == NO_EPOCH:
            if start < self.next_seq:
                self._mark.adopted = epoch
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
        seq = self.next_seq
        if seq > MAX_SEQ:
            raise StorageError("all %d sequence numbers are used up" % MAX_SEQ)
        lane = READINGS if kind == KIND_READINGS else EVENTS
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
            self._keep_errors += 1
            self._recover()
            if self.next_seq > seq:
                return seq
            self._shelf.lanes[lane].size = SEGMENT_BYTES
            if problem.args and problem.args[0] == _ENOSPC:
                self._give_up_one(lane)
        raise StorageError(
            "seq %d could not be kept: %r; the state partition is full or worn out" % (seq, problem)
        )

    def acknowledge(self, epoch: int, cum: int, runs: "Iterable[tuple[int, int]]") -> bool:
        """Take in the gateway's whole knowledge of one epoch. Seqs that are not of this epoch are left alone.

        Whether it fell back: the gateway lost records that it had acknowledged, and they are offered again.
        """
        bounds = self._bounds(epoch)
        if bounds is None:
            return False
        start, end = bounds
        known = [(max(a, start), min(a + n, end)) for a, n in runs]
        floor = cum + 1
        if len(known) >= MAX_ACK_RUNS:
            floor = min([a for a, _ in known])
        fell_back = False
        for lane in LANES:
            have = self._shelf.lanes[lane].runs
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
        return fell_back

    def lost_told(self) -> None:
        """An event that tells of lost() is kept: begin counting anew."""
        self._mark.lost_count = 0
        self._save_mark()

    def flush(self) -> None:
        """Make what is acknowledged durable now."""
        if self._acks_unsaved:
            self._save_mark()

    # -- recovery and epochs -----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        self._mark.load()
        self._acks_unsaved = 0
        self._oldest = None
        self._epochs = self._named(self._shelf.recover())
        for lane in LANES:
            self._shelf.lanes[lane].runs = self._mark.runs[lane]
        for one in self._shelf.lanes:
            if len(one) and one.first[len(one) - 1] < self._epochs[-1][0]:
                one.size = SEGMENT_BYTES  # its header names an earlier epoch
        if self._epoch != NO_EPOCH and (not self._epochs or self._epochs[-1][1] != self._epoch):
            self._enter(self._epoch)

    def _named(self, epochs: "list[tuple[int, int]]") -> "list[tuple[int, int]]":
        """[(first seq, epoch)] without repetitions, the unnamed one under the name that it was adopted by."""
        named: "list[tuple[int, int]]" = []
        for start, epoch in epochs:
            if epoch == NO_EPOCH:
                epoch = self._mark.adopted
            if not named or named[-1][1] != epoch:
                named.append((start, epoch))
        if len(named) > 1 and named[0][1] == NO_EPOCH:
            # The mark is gone, and the adoption with it; but the first epoch is the one that followed.
            named[1] = (named[0][0], named[1][1])
            named.pop(0)
        return named

    def _enter(self, epoch: int) -> None:
        """From next_seq on it is another epoch: the header of the next record's segment will say so."""
        self._epochs.append((self.next_seq, epoch))
        for one in self._shelf.lanes:
            one.size = SEGMENT_BYTES

    def _bounds(self, epoch: int) -> "tuple[int, int] | None":
        """[start, end) of the seqs of an epoch, or None when nothing of it is here."""
        for at in range(len(self._epochs)):
            if self._epochs[at][1] == epoch:
                end = self._epochs[at + 1][0] if at + 1 < len(self._epochs) else self.next_seq
                return self._epochs[at][0], end
        return None

    def _forget_epochs(self) -> None:
        """Drop the epochs of which nothing is left, but for the newest."""
        lowest = min([one.first[0] if len(one) else self.next_seq for one in self._shelf.lanes])
        while len(self._epochs) > 1 and self._epochs[1][0] <= lowest:
            self._epochs.pop(0)

    # -- acknowledgement ---------------------------------------------------------------------------------------------

    def _oldest_of(self, lane: int, start: int, end: int) -> int:
        one = self._shelf.lanes[lane]
        oldest = end
        low = max(start, self._mark.lost_below)
        at = one.locate(low)
        if at < len(one) and one.first[at] < end:
            index = self._shelf.find(lane, at, low)
            if index < self._shelf.count:
                oldest = min(oldest, self._shelf.seq(index))
        if self._mark.lost_below > start:
            record = self.next_unacked(lane, start - 1)
            if record is not None:
                oldest = min(oldest, record.seq)
        return oldest

    def _unacked(self, lane: int, at: int) -> "tuple[int, int, int]":
        """(how many records of a segment the gateway lacks, the lowest, the highest of these)"""
        one = self._shelf.lanes[lane]
        if one.is_acked(at):
            return 0, 0, 0
        if not one.runs.overlaps(one.first[at], one.last[at] + 1):
            return one.count[at], one.first[at], one.last[at]
        self._shelf.load(lane, at)
        count = lowest = highest = 0
        for index in range(self._shelf.count):
            seq = self._shelf.seq(index)
            if one.runs.gap(seq) == seq:
                lowest = lowest or seq
                highest = seq
                count += 1
        return count, lowest, highest

    def _lacks(self, lane: int, before: "list[int]") -> bool:
        """Whether a record of ``before`` (flat runs) is no longer acknowledged."""
        runs = self._shelf.lanes[lane].runs
        for at in range(0, len(before), 2):
            low = runs.gap(before[at])
            while low < before[at + 1]:
                high = min(runs.end_of_gap(low, before[at + 1]), before[at + 1])
                if self._shelf.holds(lane, low, high):
                    return True
                low = runs.gap(high)
        return False

    def _merge(self, lane: int) -> None:
        """Join runs between which the lane has no record."""
        have = self._shelf.lanes[lane].runs
        runs = have.runs
        for at in range(len(runs) - 2, 0, -2):
            if not self._shelf.holds(lane, runs[at - 1], runs[at]):
                have.add(runs[at - 1], runs[at])

    def _save_mark(self) -> None:
        for lane in LANES:
            self._merge(lane)
        self._mark.save([one.runs for one in self._shelf.lanes])
        self._acks_unsaved = 0

    # -- keeping and giving up ---------------------------------------------------------------------------------------

    def _append(self, lane: int, seq: int, kind: int, payload: bytes) -> None:
        if not self._shelf.append(lane, seq, kind, payload):
            self._make_room(lane)
            self.flush()
            if not self._epochs:
                self._epochs.append((seq, NO_EPOCH))
            self._shelf.begin(lane, self._epochs[-1][1], seq, kind, payload)
        self._mark.next_seq = seq + 1
        if self._oldest is not None and self._oldest[1] >= seq:
            self._oldest = None

    def _make_room(self, lane: int) -> None:
        """Room for one more segment of a lane. Events leave room for one of readings."""
        while True:
            events = len(self._shelf.lanes[EVENTS])
            if events + len(self._shelf.lanes[READINGS]) < self._segments_max:
                if lane == READINGS or events < self._segments_max - 1:
                    return
            self._give_up_one(lane)

    def _give_up_one(self, lane: int) -> None:
        """Remove the segment that goes first, so that one more of ``lane`` has room."""
        victim = self._oldest_acked()
        if victim is None:
            if len(self._shelf.lanes[READINGS]) > (lane == EVENTS):
                victim = (READINGS, 0)
            elif len(self._shelf.lanes[EVENTS]) and lane == EVENTS:
                victim = (EVENTS, 0)
            else:
                raise StorageError("no room for a record, and nothing in the outbox to give up for it")
        self._remove(victim[0], victim[1])

    def _oldest_acked(self) -> "tuple[int, int] | None":
        """(lane, which) of the segment with the lowest seq all of whose records the gateway has."""
        found = None
        lowest = self.next_seq
        for lane in LANES:
            one = self._shelf.lanes[lane]
            for at in range(len(one)):
                if one.first[at] < lowest and one.is_acked(at):
                    found = (lane, at)
                    lowest = one.first[at]
        return found

    def _remove(self, lane: int, at: int) -> None:
        """The losses are counted in the write that condemns the segment; a recovery finishes the removal."""
        count, lowest, highest = self._unacked(lane, at)
        self._mark.lose(count, lowest, highest)
        self._mark.condemned = (lane, self._shelf.lanes[lane].first[at])
        self._save_mark()
        self._shelf.remove(lane, at)
        self._oldest = None
        self._forget_epochs()
