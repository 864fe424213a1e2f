"""What the outbox keeps, and how it becomes a message: a record is encoded once, and sealed each time it is sent.

    set    = [schema, time, tq, values, flags]    values: scaled integers, null where missing; flags null when all GOOD
    event  = [time, tq, code, state, detail]
    result = [time, tq, command_id, outcome, detail]

all deterministic CBOR. A set is kept as it was measured and coded when it is sent, alone or with those that follow it.
"""

from struct import pack, unpack_from

from firmware.modules import forget
from protocols.wire import cbor, messages, readings
from protocols.wire.limits import MAX_TIME_STEP_S
from protocols.wire.messages import UNSYNCHRONISED
from protocols.wire.readings import GOOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmware.outbox import Outbox, Record
    from protocols.wire.messages import Detail, Event, Readings, Result

SET = 1
EVENT = 2
RESULT = 3

# Sets in one frame. More would save a byte each (the header is shared), but cost heap and, on a chip that needs
# 10 ms to code a set, time in which nothing is heard.
BATCH_SETS = 16
_INTENT_HEAD = 5


def pack_set(
    schema: int, time: int, tq: int, values: "Sequence[int | None]", flags: "Sequence[int]"
) -> bytes:
    all_good = all([flag == GOOD for flag in flags])
    return cbor.dumps([schema, time, tq, list(values), None if all_good else list(flags)])


def pack_event(time: int, tq: int, code: int, state: int, detail: "Detail") -> bytes:
    return cbor.dumps([time, tq, code, state, detail])


def pack_result(time: int, tq: int, command_id: int, outcome: int, detail: "Detail") -> bytes:
    return cbor.dumps([time, tq, command_id, outcome, detail])


# -- kept exactly once with a durable state -----------------------------------------------------------------


def keep_once(outbox: "Outbox", save: "Callable[[bytes], None]", kind: int, payload: bytes) -> int:
    """Keep a record that goes with a change of some durable document: after any power cut both are there, or neither.

    ``save`` makes the document durable with the bytes it is given; they name the seq that the record will have, so that
    a start can tell whether it was kept: hand them to finish().
    """
    save(pack(">IB", outbox.next_seq, kind) + payload)
    return outbox.keep(kind, payload)


def intended(intent: bytes) -> "tuple[int, bytes]":
    """The seq and the payload that keep_once() has handed to ``save``."""
    return unpack_from(">I", intent)[0], intent[_INTENT_HEAD:]


def finish(outbox: "Outbox", intent: bytes) -> None:
    """At start: keep the record that the last run meant to keep, if it did not come to that."""
    if len(intent) > _INTENT_HEAD:
        seq, kind = unpack_from(">IB", intent)
        if seq >= outbox.next_seq:
            outbox.keep(kind, intent[_INTENT_HEAD:])


# -- from records to messages -------------------------------------------------------------------------------


def event_message(outbox: "Outbox", record: "Record", channel_epoch: int) -> "Event | Result":
    """The message of a record of the events lane."""
    items = cbor.loads(record.payload)
    held = outbox.held(record.seq)
    epoch = _named(record, channel_epoch)
    if record.kind == EVENT:
        return messages.Event(record.seq, held, items[0], items[1], items[2], items[3], items[4], epoch)
    return messages.Result(record.seq, held, items[0], items[1], items[2], items[3], items[4], epoch)


def readings_message(
    outbox: "Outbox", record: "Record", channel_epoch: int, lane: int, alone: bool, room: int
) -> "tuple[Readings, int]":
    """One message for this set and, unless it goes alone, those that follow it, with the last one's seq.

    ``room``: bytes for their body; a set that does not fit goes alone all the same.
    """
    sets = [cbor.loads(record.payload)]
    try:
        if not alone:
            _add_followers(outbox, record, lane, sets)
        while True:
            body = _body(sets)
            if len(body) <= room or len(sets) == 1:
                break
            del sets[max(1, len(sets) * room // len(body)) :]
    finally:
        # What codes batches is on the heap only while it does: until the next report, others need the room.
        forget("protocols.wire.batch")
        forget("protocols.wire.rangecoder")
    schema_id, time = sets[0][:2]
    epoch = _named(record, channel_epoch)
    message = messages.Readings(schema_id, record.seq, outbox.held(record.seq), time, body, epoch)
    return message, record.seq + len(sets) - 1


def _named(record: "Record", channel_epoch: int) -> "int | None":
    return None if record.epoch == channel_epoch else record.epoch


def _add_followers(outbox: "Outbox", record: "Record", lane: int, sets: "list[list]") -> None:
    """The sets that may share a message with the first: seqs without a gap, one epoch, schema, time quality, boot."""
    schema_id, time, tq = sets[0][:3]
    seq = record.seq
    while len(sets) < BATCH_SETS:
        seq += 1
        after = outbox.next_unacked(lane, seq - 1)
        if after is None or after.seq != seq or after.epoch != record.epoch:
            break
        items = cbor.loads(after.payload)
        if items[0] != schema_id or items[2] != tq or not 0 < items[1] - time <= MAX_TIME_STEP_S:
            break
        if tq == UNSYNCHRONISED and items[1] >> 32 != time >> 32:
            break
        time = items[1]
        sets.append(items)


def _body(sets: "list[list]") -> bytes:
    schema = readings.schema(sets[0][0])
    good = (GOOD,) * len(schema.series)
    flags = None
    if any([items[4] is not None for items in sets]):
        flags = [items[4] or good for items in sets]
    return readings.encode(
        schema, sets[0][2], [items[1] for items in sets], [items[3] for items in sets], flags
    )
