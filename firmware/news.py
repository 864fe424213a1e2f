"""How an update ended: an event tells of it, once. Loaded when there is something to tell, and let go of."""

from firmware import records
from firmware.modules import forget
from firmware.pending import ENDED, NOTHING, OUTCOME, PHASE, PLACES, SEQUENCE, SLOT, TOLD, Pending
from protocols.wire import codes, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.outbox import Outbox


def recover(hal: "Hal", outbox: "Outbox") -> None:
    """At a start, before anything else is kept."""
    records.finish(outbox, Pending(hal.state_fs).intent)


def tell(node: "Node") -> None:
    """Keep the event."""
    pending = Pending(node.hal.state_fs)
    f = pending.f
    if f[PHASE] == TOLD:  # and a start has seen that it was kept
        _close(pending)
    elif f[PHASE] == ENDED:
        time, tq = node.record_time()
        detail = [f[SEQUENCE], f[OUTCOME]]
        if f[SLOT] >= PLACES:
            detail.append(1)
        payload = records.pack_event(time, tq, codes.UPDATE, messages.NOTE, detail)
        f[PHASE] = TOLD
        records.keep_once(node.outbox, pending.save, records.EVENT, payload)
        _close(pending)  # or each waking would look at it
        node.uplink.hurry()
        node.hal.log("update: release %d ended with %d" % (f[SEQUENCE], f[OUTCOME]))


def _close(pending: "Pending") -> None:
    pending.f[PHASE] = NOTHING
    pending.save()


def close() -> None:
    """Of all that is loaded here."""
    for name in ("news", "pending"):
        forget("firmware." + name)
