"""Whether a release that is on trial may stay. In RAM during a trial only; the release that is tried judges itself.

It may once a set was measured in which a sensor answered (unless none did before), the heap and the length of a step
are sane, and an authentic answer came to what it sent. All but the answer has to come within HEALTHY_S. For the answer
there are days: a gateway may be away, and nobody is helped by a node that goes back for that. So its absence alone ends
a trial only after SILENT_S and SILENT_TRIES frames. What takes the node down again and again is counted by the starter.
"""

from firmware import records, slots
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.pending import (
    ENDED,
    FLAGS,
    HEALTHY,
    HOURS,
    HOURS_NOW,
    MUTE,
    NOTHING,
    ON_TRIAL,
    OUTCOME,
    PHASE,
    SENT,
    SENT_NOW,
    SEQUENCE,
    TOLD,
    Pending,
    has_answered,
)
from protocols.wire import codes, messages, outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.outbox import Outbox

# Of uptime. A set is measured with the first steps of a start; what has come to nothing in an hour comes to nothing.
HEALTHY_S = 3600
SILENT_S = 72 * 3600
SILENT_TRIES = 20
# After a collection: what joining and coding a batch take is more than this, and fails by itself if it is not there.
HEAP_MIN = 2048
# A step is a transaction on a probe's bus or a write to flash; the watchdog bites after 60 s.
STEP_MS_MAX = 15000
_HOUR_S = 3600


class Gate:
    """Looks at a node after each of its steps, until the trial is over."""

    def __init__(self, hal: "Hal", pending: "Pending") -> None:
        self._hal = hal
        self._pending = pending
        self._is_slow = False
        if hal.reset_cause != CAUSE_DEEP_SLEEP:
            pending.f[HOURS_NOW] = pending.f[SENT_NOW] = 0

    def step(self, node: "Node") -> int:
        """A step of the node; what it returns, or -1 when the trial has ended well. A reset when it ends badly."""
        clock = self._hal.clock
        begun_ms = clock.ticks_ms()
        wait_ms = node.step()
        self._is_slow = self._is_slow or clock.ticks_diff(clock.ticks_ms(), begun_ms) > STEP_MS_MAX
        return -1 if self._look(node) else wait_ms

    def _look(self, node: "Node") -> bool:
        f = self._pending.f
        if not f[FLAGS] & HEALTHY and node.has_measured and self._is_healthy(node):
            self._slots().came_to_something()
            f[FLAGS] |= HEALTHY
            self._pending.save()
        if f[FLAGS] & HEALTHY and not node.uplink.must_hello:
            self._confirm(node)
            return True
        self._count(node)
        if not f[FLAGS] & HEALTHY:
            if f[HOURS] * _HOUR_S >= HEALTHY_S:
                self._roll_back(node, outcomes.UNHEALTHY)
        elif f[HOURS] * _HOUR_S >= SILENT_S and f[SENT] >= SILENT_TRIES:
            self._roll_back(node, outcomes.SILENT)
        return False

    def _slots(self) -> "slots.Slots":
        return slots.Slots(self._hal.mount(True)[0])

    def _is_healthy(self, node: "Node") -> bool:
        answered = self._pending.f[FLAGS] & MUTE or has_answered(node)
        return bool(answered) and not self._is_slow and node.health.heap_free_min >= HEAP_MIN

    def _count(self, node: "Node") -> None:
        """Hours of the trial and frames that it sent, over all its starts; made durable once an hour."""
        f = self._pending.f
        hours = self._hal.clock.uptime_s() // _HOUR_S
        if hours < f[HOURS_NOW]:  # it slept, and what it slept with is lost
            f[HOURS_NOW] = f[SENT_NOW] = 0
        if hours == f[HOURS_NOW]:
            return
        sent = node.health.frames_sent
        f[HOURS] = min(f[HOURS] + hours - f[HOURS_NOW], 255)
        f[SENT] = min(f[SENT] + max(sent - f[SENT_NOW], 0), 0xFFFF)
        f[HOURS_NOW], f[SENT_NOW] = min(hours, 255), min(sent, 0xFFFF)
        self._pending.save()

    def _confirm(self, node: "Node") -> None:
        self._slots().confirm()
        self._pending.end(outcomes.INSTALLED)
        self._hal.log("update: release %d is confirmed" % self._pending.f[SEQUENCE])
        tell(node, self._pending)

    def _roll_back(self, node: "Node", outcome: int) -> None:
        self._hal.log("update: release %d is rolled back" % self._pending.f[SEQUENCE])
        self._pending.f[OUTCOME] = outcome
        self._pending.save()
        node.outbox.flush()
        self._slots().roll_back()
        self._hal.reset()


def tell(node: "Node", pending: "Pending") -> None:
    """Keep the event of how it ended, once."""
    f = pending.f
    if f[PHASE] == TOLD:  # and a start has seen that it was kept
        f[PHASE] = NOTHING
        pending.save()
    elif f[PHASE] == ENDED:
        name, result, reason = outcomes.OUTCOMES[f[OUTCOME]]
        time, tq = node.record_time()
        payload = records.pack_event(
            time, tq, codes.UPDATE, messages.NOTE, [f[SEQUENCE], result, reason, f[OUTCOME]]
        )
        f[PHASE] = TOLD
        records.keep_once(node.outbox, pending.save, records.EVENT, payload)
        node.uplink.hurry()
        node.hal.log("update: %s" % name)


def recover(hal: "Hal") -> "_News | None":
    """Of an update that has ended: what a start has to do about it. None while it is on trial."""
    pending = Pending(hal.state_fs)
    return None if pending.f[PHASE] == ON_TRIAL else _News(pending)


class _News:
    def __init__(self, pending: "Pending") -> None:
        self._pending = pending

    def recover(self, outbox: "Outbox") -> None:
        """Before anything else is kept."""
        records.finish(outbox, self._pending.intent)

    def started(self, node: "Node") -> None:
        """There is a node."""
        tell(node, self._pending)
