"""From records to messages: on the heap while something is sent, with what codes readings.

A node at work has better use for these 7 kB. What loads this lets go of it with close().
"""

from firmware.modules import forget
from firmware.records import EVENT
from protocols.wire import cbor, messages
from protocols.wire.limits import MAX_TIME_STEP_S
from protocols.wire.messages import UNSYNCHRONISED
from protocols.wire.readings import GOOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.outbox import Outbox, Record
    from protocols.wire.messages import Event, Readings, Result

# Sets in one frame. More would save a byte each (the header is shared), but cost heap and, on a chip that needs
# 10 ms to code a set, time in which nothing is heard.
BATCH_SETS = 16


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
        _forget_codec()  # a second try, with less, needs the room
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
    from protocols.wire import schemas  # events do without

    schema = schemas.schema(sets[0][0])
    forget("protocols.wire.registry_table")  # one after the other: there is no room for all of it at once
    from protocols.wire import readings

    good = (GOOD,) * len(schema.series)
    flags = None
    if any([items[4] is not None for items in sets]):
        flags = [items[4] or good for items in sets]
    return readings.encode(
        schema, sets[0][2], [items[1] for items in sets], [items[3] for items in sets], flags
    )


def _forget_codec() -> None:
    for name in ("batch", "rangecoder", "readings", "schemas", "registry_table"):
        forget("protocols.wire." + name)


def close() -> None:
    """Let go of this module; what codes readings went with each message."""
    forget("firmware.telling")
