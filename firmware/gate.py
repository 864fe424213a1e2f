"""Whether a release that is on trial may stay. Loaded for each look and let go of; the release judges itself.

It may once everything was measured that is fitted (but for the series that were silent before), heap and step time are
sane, and an authentic answer came to what it sent. All but the answer has to come within HEALTHY_S, in which it
measures again and again and does not sleep. For the answer there are days: a gateway may be away, and nobody is helped
by a node that goes back for that. So its absence alone ends a trial only after SILENT_S and SILENT_TRIES frames. What
hangs or takes the node down is counted by the starter.
"""

import gc

from firmware import slots
from firmware.modules import forget
from firmware.pending import (
    FLAGS,
    HEALTHY,
    HOURS,
    HOURS_NOW,
    MUTE,
    ON_TRIAL,
    OUTCOME,
    PARTLY,
    PHASE,
    PLACES,
    SENT,
    SENT_NOW,
    SEQUENCE,
    SLOT,
    Pending,
    drop,
    lacking,
)
from protocols.wire import outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.node import Node
    from firmware.tried import Trial

# Of uptime. A set is measured with the first steps of a start; what has come to nothing in an hour comes to nothing.
HEALTHY_S = 3600
SILENT_S = 72 * 3600
SILENT_TRIES = 20
# After a collection: what joining and coding a batch take is more than this, and fails by itself if it is not there.
HEAP_MIN = 2048
# Of one step. It takes well under 2 s, an outbox that is made anew some 6 s (a hundred blocks erased); what takes more
# than this answers nobody meanwhile, and is on its way to the watchdog (60 s).
STEP_MAX_MS = 20000
# Between two looks.
PAUSE_S = 10
_HOUR_S = 3600


def look(node: "Node", slowest_ms: int) -> int:
    """The uptime at which to look again; -1 when the trial has ended well. One that ends badly ends with a reset.

    ``slowest_ms``: what the slowest step since the last look took.
    """
    gc.collect()
    pending = Pending(node.hal.state_fs)
    f = pending.f
    if f[PHASE] != ON_TRIAL:  # that was confirmed by the look before
        from firmware import news

        news.tell(node)
        news.close()
        drop(node.hal)
        return -1
    uptime_s = node.hal.clock.uptime_s()
    if node.has_measured and f[SLOT] < PLACES:  # in this life: power may fail often in 72 hours
        slots.Slots(node.hal.program()[0]).came_to_something()
    if not f[FLAGS] & HEALTHY and slowest_ms <= STEP_MAX_MS and _is_healthy(node, pending):
        _trial(node, pending).came_to_something()
        f[FLAGS] |= HEALTHY
        pending.save()
    if f[FLAGS] & HEALTHY and not node.uplink.must_hello:
        _trial(node, pending).confirm()
        pending.end(outcomes.INSTALLED)
        return uptime_s  # the next look tells of it: each needs little of the heap
    _count(node, pending, uptime_s // _HOUR_S)
    if node.nap is not None:
        node.nap.is_held = not f[FLAGS] & HEALTHY
    if not f[FLAGS] & HEALTHY:
        if f[HOURS] * _HOUR_S >= HEALTHY_S:
            _roll_back(node, pending, outcomes.UNHEALTHY)
        node.begin_measurement(False)
    elif f[HOURS] * _HOUR_S >= SILENT_S and f[SENT] >= SILENT_TRIES:
        _roll_back(node, pending, outcomes.SILENT)
    return uptime_s + PAUSE_S


def _trial(node: "Node", pending: "Pending") -> "slots.Slots | Trial":
    if pending.f[SLOT] >= PLACES:
        from firmware.tried import Trial

        return Trial(node.hal, pending)
    return slots.Slots(node.hal.program()[0])


def _is_healthy(node: "Node", pending: "Pending") -> bool:
    if not node.has_measured or node.health.heap_free_min < HEAP_MIN:
        return False
    flags = pending.f[FLAGS]
    if not lacking(node) & ~pending.silent or flags & MUTE:
        return True
    # It was received by a release that did not say which. To forgive none would shut out, for good, each node of those
    # that has a broken sensor: so it is as that release had it, this one time.
    return bool(flags & PARTLY) and any([value is not None for value in node.sampler.values])


def _count(node: "Node", pending: "Pending", hours: int) -> None:
    """Hours of the trial and frames that it sent, over all its starts; made durable once an hour."""
    f = pending.f
    if hours < f[HOURS_NOW]:  # it slept, and what it slept with is lost
        f[HOURS_NOW] = f[SENT_NOW] = 0
    if hours == f[HOURS_NOW]:
        return
    sent = node.health.frames_sent
    f[HOURS] = min(f[HOURS] + hours - f[HOURS_NOW], 255)
    f[SENT] = min(f[SENT] + max(sent - f[SENT_NOW], 0), 0xFFFF)
    f[HOURS_NOW], f[SENT_NOW] = min(hours, 255), min(sent, 0xFFFF)
    pending.save()


def _roll_back(node: "Node", pending: "Pending", outcome: int) -> None:
    node.hal.log("update: release %d is rolled back" % pending.f[SEQUENCE])
    pending.f[OUTCOME] = outcome
    pending.save()
    node.outbox.flush()
    _trial(node, pending).roll_back()
    node.hal.reset()


def close() -> None:
    """Of all that is loaded here."""
    for name in ("gate", "pending", "slots", "tried"):
        forget("firmware." + name)
    forget("protocols.wire.outcomes")
