"""What the outbox keeps: a record is encoded once, and sealed each time it is sent (telling.py makes it a message).

    set    = [schema, time, tq, values, flags]    values: scaled integers, null where missing; flags null when all GOOD
    event  = [time, tq, code, state, detail]
    result = [time, tq, command_id, outcome, detail]

all deterministic CBOR. A set is kept as it was measured and coded when it is sent, alone or with those that follow it.
"""

from struct import pack, unpack_from

from protocols.wire import cbor
from protocols.wire.readings import GOOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmware.outbox import Outbox
    from protocols.wire.messages import Detail

SET = 1
EVENT = 2
RESULT = 3

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
