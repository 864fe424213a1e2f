"""When an alarm begins and when it ends: one state machine for each rule and site, without clock, disk or network.

    idle → pending (it holds, for less than the on-delay) → open → closing (it no longer holds, off-delay) → idle

Several sources (nodes of a site, events of a rule) may hold one alarm; it ends when none does. Times are unix seconds
of the records. Time never runs backwards in a machine: what comes late is taken as of the latest moment known. What
has held for exactly the delay has held long enough.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from gateway.limits import ALARM_FLAPS_KEPT, ALARM_SOURCES_OF_NODE_MAX
from protocols.alarm_rules import Rule, beyond

IDLE, PENDING, OPEN, CLOSING = "idle", "pending", "open", "closing"
RAISED, CLEARED = "raised", "cleared"


class Cause(NamedTuple):
    """The record that an alarm began with."""

    node: int
    epoch: int
    seq: int
    detail: str = ""
    late: bool = False  # it had been on its way for long


NO_CAUSE = Cause(0, 0, 0)


class Change(NamedTuple):
    kind: str
    at_s: int
    cause: Cause


@dataclass
class Source:
    """What one source says. ``waiting``: [holds, cause] that was told during maintenance; ``epoch`` and ``seq`` are
    those of its newest reading."""

    holds: bool = False
    at_s: int = 0
    epoch: int = 0
    seq: int = 0
    bits: list[int] = field(default_factory=list)
    waiting: list[Any] | None = None


@dataclass
class Machine:
    """The state of one rule at one site; ``alarm`` is the id of the open one, 0 for none."""

    phase: str = IDLE
    since_s: int = 0
    raised_s: int = 0
    latest_s: int = 0
    cause: Cause = NO_CAUSE
    flapping: bool = False
    alarm: int = 0
    raises: list[int] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)

    # ---- what is told ----------------------------------------------------------------------------------------------

    def event(
        self, rule: Rule, source: str, holds: bool, at_s: int, cause: Cause, frozen: bool = False
    ) -> list[Change]:
        """A node says that it is so, or no longer so. ``frozen``: somebody works there, it counts later."""
        known = self.sources.setdefault(source, Source())
        if frozen:
            known.waiting = [holds, cause]
            return []
        return self._take(rule, known, holds, at_s, cause)

    def reading(self, rule: Rule, source: str, value: float, at_s: int, cause: Cause) -> list[Change]:
        """A reading; one that is not newer than the newest of its source says nothing about now. Nodes number what they
        measure: that holds when a clock was set back, too."""
        known = self.sources.setdefault(source, Source())
        is_newer = cause.seq > known.seq if cause.epoch == known.epoch else at_s > known.at_s
        if not is_newer:
            return []
        known.epoch, known.seq = cause.epoch, cause.seq
        speaks = beyond(rule, value, known.holds)
        known.bits = [*known.bits, int(speaks)][-rule.of :]
        holds = speaks if known.holds else sum(known.bits) >= rule.need
        if known.holds and not speaks:
            known.bits = []
        return self._take(rule, known, holds, at_s, cause)

    def release(self, rule: Rule, source: str, at_s: int) -> list[Change]:
        """Maintenance is over: what was told during it counts from now on."""
        known = self.sources.get(source)
        if known is None or known.waiting is None:
            return []
        holds, cause = known.waiting
        known.waiting = None
        return self._take(rule, known, bool(holds), at_s, Cause(*cause))

    def forget(self, rule: Rule, source: str, at_s: int) -> list[Change]:
        """That source is there no longer, so it holds nothing."""
        known = self.sources.get(source)
        changes = [] if known is None else self._take(rule, known, False, at_s, self.cause)
        self.sources.pop(source, None)
        return changes

    def _take(self, rule: Rule, source: Source, holds: bool, at_s: int, cause: Cause) -> list[Change]:
        at_s = max(at_s, self.latest_s)
        changes = self.tick(rule, at_s)
        self.latest_s = at_s
        source.holds, source.at_s = holds, at_s
        does_any = any(known.holds for known in self.sources.values())
        if self.phase == IDLE and does_any:
            self.phase, self.since_s, self.cause = PENDING, at_s, cause
        elif self.phase == PENDING and not does_any:
            self.phase = IDLE
        elif self.phase == OPEN and not does_any:
            self.phase, self.since_s = CLOSING, max(at_s, self.raised_s)
        elif self.phase == CLOSING and does_any:
            self.phase = OPEN
        return changes + self.tick(rule, at_s)

    def name_for(self, source: str, plain: str) -> str:
        """`source`, or `plain` where a node tells of more things of one kind than any has."""
        if source in self.sources or source == plain:
            return source
        same = sum(known.startswith(plain) for known in self.sources)
        return source if same < ALARM_SOURCES_OF_NODE_MAX else plain

    def bring_back(self, now_s: int) -> bool:
        """No moment lies in the future: the clock was set back. Whether one did."""
        latest_s = max([self.since_s, self.raised_s, self.latest_s, *self.raises])
        if latest_s <= now_s:
            return False
        self.since_s, self.raised_s = min(self.since_s, now_s), min(self.raised_s, now_s)
        self.latest_s = min(self.latest_s, now_s)
        self.raises = [min(raised_s, now_s) for raised_s in self.raises]
        return True

    # ---- what time brings ------------------------------------------------------------------------------------------

    def due_s(self, rule: Rule) -> int | None:
        """When `tick` has something to do, if nothing is told before."""
        if self.phase == PENDING:
            return self.since_s + rule.on_delay_s
        if self.phase == CLOSING:
            quiet_s = max(rule.flap_quiet_s, rule.off_delay_s) if self.flapping else rule.off_delay_s
            return max(self.since_s + quiet_s, self.raised_s + rule.min_s)
        return None

    def tick(self, rule: Rule, now_s: int) -> list[Change]:
        """What a delay that is over brings."""
        due_s = self.due_s(rule)
        if due_s is None or due_s > now_s:
            return []
        if self.phase == PENDING:
            return [self._raise(rule, due_s)]
        self.phase, self.flapping = IDLE, False
        return [Change(CLEARED, due_s, self.cause)]

    def _raise(self, rule: Rule, at_s: int) -> Change:
        self.phase, self.raised_s = OPEN, at_s
        recent = [*(raised for raised in self.raises if raised > at_s - rule.flap_window_s), at_s]
        self.raises = recent[-ALARM_FLAPS_KEPT:]
        self.flapping = 0 < rule.flap_count <= len(recent)
        return Change(RAISED, at_s, self.cause)

    # ---- its durable form ------------------------------------------------------------------------------------------

    def is_blank(self, now_s: int, rule: Rule) -> bool:
        """Whether it says no more than a new one would."""
        if any(s.holds or s.waiting or s.bits for s in self.sources.values()):
            return False
        is_recent = bool(self.raises) and self.raises[-1] > now_s - rule.flap_window_s
        return self.phase == IDLE and not is_recent

    def pack(self) -> str:
        """As JSON; sources that say nothing are left out."""
        said = {n: s for n, s in self.sources.items() if s.holds or s.waiting or s.bits or s.at_s}
        return json.dumps(
            {**asdict(self), "sources": {name: asdict(source) for name, source in said.items()}}
        )

    @classmethod
    def unpack(cls, text: str) -> Machine:
        fields = json.loads(text)
        fields["cause"] = Cause(*fields["cause"])
        fields["sources"] = {name: Source(**source) for name, source in fields["sources"].items()}
        return cls(**fields)
