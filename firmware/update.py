"""Where an update stands at a start: to be installed (install.py), on trial (gate.py), or ended.

Loaded only when one is under way; what it does itself is little enough for the heap of a node.
"""

from firmware import slots
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.modules import forget
from firmware.pending import (
    ENDED,
    FILLED,
    HOURS_NOW,
    ON_TRIAL,
    OUTCOME,
    PHASE,
    PLACES,
    RECEIVED,
    SENT_NOW,
    SEQUENCE,
    SLOT,
    VERIFIED,
    Pending,
    drop,
    give_a_start,
)
from protocols.wire import outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal


def begin(hal: "Hal") -> bool:
    """Whether this release is on trial. Does not return when there is something to install."""
    pending = Pending(hal.state_fs)
    f = pending.f
    if f[PHASE] == ON_TRIAL and f[SLOT] >= PLACES:
        from firmware import tried

        tried.settle(hal, pending)
    elif f[PHASE] == ON_TRIAL:
        _settle(hal, pending)
    if f[PHASE] in (RECEIVED, FILLED):
        from firmware import replace

        if f[PHASE] == FILLED or replace.is_meant(hal.state_fs):
            replace.run(hal, pending)
    if f[PHASE] in (RECEIVED, VERIFIED):
        from firmware import install

        install.run(hal, pending)
    if f[PHASE] == ENDED:
        drop(hal)
    is_on_trial = f[PHASE] == ON_TRIAL
    if is_on_trial and f[HOURS_NOW] and hal.reset_cause != CAUSE_DEEP_SLEEP:
        f[HOURS_NOW] = f[SENT_NOW] = 0  # uptime begins anew
        pending.save()
    for name in ("update", "pending", "slots", "tried"):
        forget("firmware." + name)
    forget("protocols.wire.outcomes")
    return bool(is_on_trial)


def _settle(hal: "Hal", pending: "Pending") -> None:
    """Where the trial stands, by the record of the slots."""
    app, this = hal.program()
    found = slots.Slots(app)
    running, trial, _, starts, tried = found.record
    slot = pending.f[SLOT]
    if trial == slot:
        if this != slot:  # it can not be started: the starter chose the other one
            pending.f[OUTCOME] = outcomes.FLASH
            pending.save()
        if pending.f[OUTCOME]:  # it was to be rolled back when the power failed
            found.roll_back()
            hal.reset()
        return
    if tried != pending.f[SEQUENCE]:
        pending.f[PHASE] = VERIFIED  # the power failed before the trial could begin
        return
    outcome = outcomes.INSTALLED
    if running != slot:
        outcome = pending.f[OUTCOME] or (
            outcomes.UNSTEADY if starts >= slots.STARTS_MAX else outcomes.CRASHED
        )
        give_a_start(hal)
    pending.end(outcome)
