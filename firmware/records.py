"""What the outbox keeps, and how it becomes a message: a record is encoded once, and sealed each time it is sent.

    set    = [schema, time, body]                 body: one set, as SPEC-readings.md has it (quality of the time inside)
    event  = [time, tq, code, state, detail]
    result = [time, tq, command_id, outcome, detail]

all deterministic CBOR. Sets that follow each other go out as one batch, which is coded anew from the kept sets.
"""

from struct import pack, unpack_from

from protocols.wire import cbor, messages, readings
from protocols.wire.errors import EncodeError
from protocols.wire.limits import MAX_BODY
from protocols.wire.messages import UNSYNCHRONISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware.outbox import Outbox, Record
    from protocols.wire.messages import Detail, Event, Readings, Result

SET = 1
EVENT = 2
RESULT = 3

# Sets in one frame. More would save a byte each (the header is shared), but cost heap and, on a chip that needs
# 10 ms to code a set, time in which nothing is heard.
BATCH_SETS = 32
_INTENT_HEAD = 5


def pack_set(schema: int, time: int, body: bytes) -> bytes:
    return cbor.dumps([schema, time, body])


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
    outbox: "Outbox", record: "Record", channel_epoch: int, lane: int
) -> "tuple[Readings, int]":
    """One message for this set and as many that follow it as fit, and how many sets it holds."""
    schema_id, time, body = cbor.loads(record.payload)
    tq = body[0] >> 6
    followers = _followers(outbox, record, lane, schema_id, time, tq)
    count = 1 + len(followers)
    while count > 1:
        batch = _batch(schema_id, time, body, tq, followers[: count - 1])
        if batch is not None and len(batch) <= MAX_BODY:
            body = batch
            break
        count //= 2
    epoch = _named(record, channel_epoch)
    return messages.Readings(schema_id, record.seq, outbox.held(record.seq), time, body, epoch), count


def _named(record: "Record", channel_epoch: int) -> "int | None":
    return None if record.epoch == channel_epoch else record.epoch


def _followers(
    outbox: "Outbox", record: "Record", lane: int, schema_id: int, time: int, tq: int
) -> "list[list]":
    """The sets that may share a message with this one: seqs without a gap, one epoch, schema and time quality."""
    found: "list[list]" = []
    seq = record.seq
    while len(found) < BATCH_SETS - 1:
        seq += 1
        after = outbox.next_unacked(lane, seq - 1)
        if after is None or after.seq != seq or after.epoch != record.epoch:
            break
        items = cbor.loads(after.payload)
        if items[0] != schema_id or items[2][0] >> 6 != tq or items[1] <= time:
            break
        if tq == UNSYNCHRONISED and items[1] >> 32 != time >> 32:
            break  # another boot
        time = items[1]
        found.append(items)
    return found


def _batch(schema_id: int, time: int, body: bytes, tq: int, followers: "list[list]") -> "bytes | None":
    schema = readings.schema(schema_id)
    times = [time]
    rows = []
    flags = []
    flagged = False
    for one_time, one_body in [(time, body)] + [(items[1], items[2]) for items in followers]:
        sets = readings.decode(schema, one_time, one_body)
        rows.append(sets.rows[0])
        if sets.flags is None:
            flags.append((readings.GOOD,) * len(schema.series))
        else:
            flags.append(sets.flags[0])
            flagged = True
        if len(rows) > 1:
            times.append(one_time)
    try:
        return readings.encode(schema, tq, times, rows, flags if flagged else None)
    except EncodeError:
        return None  # an odd step of time between two sets: they go one by one
