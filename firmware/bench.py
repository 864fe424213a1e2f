"""For a person with a cable: what a bench tool may ask of a node, beside what its gateway may (SPEC.md section 3.3).

A bench acknowledges nothing, so what it asked for goes to it at once, aside of the records that wait for the gateway.
On the heap for a moment only.
"""

from firmware import records
from firmware.lane import EVENTS, READINGS
from protocols.wire import cbor, envelope, messages
from protocols.wire.errors import DecodeError, FrameError
from protocols.wire.limits import NONCE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware.durable import Channel
    from firmware.node import Node
    from firmware.session import Identity, Session
    from protocols.wire.envelope import Header
    from protocols.wire.messages import Hello


_PAUSE_MS = 1000


def answer_knock(
    session: "Session",
    identity: "Identity",
    channel: "Channel",
    header: "Header",
    frame: bytes,
    hello: "Callable[[], Hello]",
) -> bytes:
    """The frame that tells a bench the epoch: in the clear, as in a join, but only to who has this node's key.

    WireError when it was no knock, or none that is answered.
    """
    if identity.radio is not None or len(header.kid_context) != NONCE_SIZE or header.piv:
        raise FrameError("unknown_epoch", "a knock that this node does not answer")
    secret, salt = identity.master_secret, identity.master_salt
    key = envelope.sender_key(secret, salt, header.kid_context, bytes(header.kid))
    if not isinstance(messages.decode_down(envelope.open_(key, header, frame)), messages.Ping):
        raise DecodeError("a knock must be a ping")
    clock = session.clock
    quiet_ms = clock.ticks_diff(clock.ticks_ms(), session.latest_at_ms)
    if clock.uptime_s() - session.latest_at_s < 2 and quiet_ms < _PAUSE_MS:  # ticks alone wrap
        raise FrameError("late", "a knock within a second of the latest uplink")
    if channel.id_context is None:
        session.sent(-1)
        return session.start_join(hello())
    return session.seal(hello(), channel.id_context)


def tell_again(node: "Node", result: bytes) -> None:
    """A bench that says its latest command again has not heard the result: once more, with the set that it may name."""
    seq, payload = records.intended(result)
    detail = cbor.loads(payload)[-1]
    if isinstance(detail, int):
        tell(node, READINGS, detail)
    tell(node, EVENTS, seq)


def tell(node: "Node", lane: int, seq: int) -> None:
    """Send this record now; it stays in the outbox until the gateway has it."""
    epoch = node.session.epoch
    record = node.outbox.next_unacked(lane, seq - 1)
    if epoch is None or record is None or record.seq != seq:
        return
    from firmware import telling

    if lane == EVENTS:
        node.uplink.send_aside(telling.event_message(node.outbox, record, epoch))
    else:
        message, _ = telling.readings_message(node.outbox, record, epoch, lane, True, node.uplink.room)
        node.uplink.send_aside(message)
    telling.close()
