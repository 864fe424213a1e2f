"""When a reading becomes an alarm, and when it stops being one. Pure: no clock, no flash, no hardware.

A rule raises after `on_count` readings in a row beyond `on`, and clears after `off_count` in a row back behind `off`;
the distance between the two is the hysteresis. Suspect readings count: a spill looks like a spike at first, and the
on-delay is there to tell them apart. Failed and missing readings say nothing about the water: they neither raise, nor
clear, nor interrupt a count. They raise a probe fault of their own instead.

The raised bits are the state worth keeping over a reset; a count that a reset interrupts starts again.
"""

from collections import namedtuple

from protocols.wire.messages import CLEARED, RAISED
from protocols.wire.readings import FAIL, MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NamedTuple

    from firmware.settings import Settings
    from protocols.wire.messages import Detail

    class Rule(NamedTuple):
        """Limits are scaled integers of the schema; None where that side has no limit. ``detail_factor``: from the
        reading to what the event tells; 0: it tells [series, reading]."""

        code: int
        series: int
        low_on: "int | None"
        low_off: "int | None"
        high_on: "int | None"
        high_off: "int | None"
        on_count: int
        off_count: int
        detail_factor: int

    # Gives more values for the rules, behind those of a set: from a memory of its own, the uptime, readings and flags.
    Derive = Callable[[list[Any], int, Sequence[int | None], Sequence[int]], Sequence[int | None]]
    Rules = Sequence[Rule] | Callable[[Settings], Sequence[Rule]]

    class Change(NamedTuple):
        """``bit`` is the alarm's place in Alarms.raised; ``detail`` as the event carries it."""

        bit: int
        code: int
        state: int
        detail: "Detail"

else:
    Rule = namedtuple(
        "Rule",
        (
            "code",
            "series",
            "low_on",
            "low_off",
            "high_on",
            "high_off",
            "on_count",
            "off_count",
            "detail_factor",
        ),
    )
    Change = namedtuple("Change", ("bit", "code", "state", "detail"))

# Event codes of alarms (SPEC.md 2.3)
LOW_DISSOLVED_OXYGEN = 1
HIGH_AMMONIA = 2
PH_OUT_OF_RANGE = 3
PROBE_FAULT = 4
SUPPLY_LOW = 5
DISCHARGE_SUSPECTED = 14
WATER_CLASS_WORSE = 15

# A probe is faulty after three sets in a row without a reading from it; one good reading ends that.
FAULT_ON_COUNT = 3


class Alarms:
    """The alarms of one node. Bits of ``raised``: the rules in order, one probe fault per series, the watch's."""

    def __init__(
        self, rules: "Sequence[Rule]", series_count: int, raised: int = 0, watch_bits: int = 0
    ) -> None:
        self.rules = rules
        self._series_count = series_count
        self.unfitted: "Sequence[int]" = ()  # series that can have no fault
        self.raised = raised
        self._counts = bytearray(len(rules) + series_count + watch_bits)
        self.watch_bit = len(rules) + series_count  # the first one

    def update(
        self, values: "Sequence[int | None]", flags: "Sequence[int]", derived: "Sequence[int | None]" = ()
    ) -> "list[Change]":
        """What this set changes. ``raised`` stays as it is: the caller applies each change once it is kept.

        A rule whose series lies behind those of the set is about one of ``derived``.
        """
        changes: "list[Change]" = []
        for bit, rule in enumerate(self.rules):
            behind = rule.series - self._series_count
            value = derived[behind] if behind >= 0 else values[rule.series]
            if value is None or (behind < 0 and flags[rule.series] in (FAIL, MISSING)):
                continue
            turned = _is_inside(rule, value) if self.is_raised(bit) else _is_beyond(rule, value)
            if self._count(bit, turned, rule.off_count if self.is_raised(bit) else rule.on_count):
                detail = value * rule.detail_factor if rule.detail_factor else [rule.series, value]
                changes.append(self._change(bit, rule.code, detail))
        self._update_faults(flags, changes)
        return changes

    def apply(self, change: "Change") -> None:
        bit = 1 << change.bit
        self.raised = self.raised | bit if change.state == RAISED else self.raised & ~bit
        self._counts[change.bit] = 0

    def rest(self) -> bytes:
        """The counts, for a deep sleep: three sets in a row may be three days."""
        return bytes(self._counts)

    def resume(self, counts: bytes) -> None:
        if len(counts) == len(self._counts):
            self._counts[:] = counts

    def of_watch(self, change: "Change") -> "Change":
        """A watch counts its alarms from 0; the bits of the node's own come first."""
        return Change(self.watch_bit + change.bit, change.code, change.state, change.detail)

    def is_raised(self, bit: int) -> bool:
        return self.raised >> bit & 1 == 1

    def _update_faults(self, flags: "Sequence[int]", changes: "list[Change]") -> None:
        """One fault per probe; a whole sonde that is silent is one fault, that of its first series."""
        all_failed = all(flag in (FAIL, MISSING) for flag in flags)
        for series in range(self._series_count):
            if series in self.unfitted:
                continue
            bit = len(self.rules) + series
            failed = flags[series] in (FAIL, MISSING)
            if all_failed and series and not self.is_raised(bit):
                continue
            turned = not failed if self.is_raised(bit) else failed
            if self._count(bit, turned, 1 if self.is_raised(bit) else FAULT_ON_COUNT):
                changes.append(self._change(bit, PROBE_FAULT, series))

    def _count(self, bit: int, turned: bool, wanted: int) -> bool:
        """Count readings in a row that speak for the other state; whether they suffice."""
        self._counts[bit] = min(self._counts[bit] + 1, 255) if turned else 0
        return self._counts[bit] >= wanted

    def _change(self, bit: int, code: int, detail: "Detail") -> "Change":
        return Change(bit, code, CLEARED if self.is_raised(bit) else RAISED, detail)


def _is_beyond(rule: "Rule", value: int) -> bool:
    return (rule.low_on is not None and value < rule.low_on) or (
        rule.high_on is not None and value > rule.high_on
    )


def _is_inside(rule: "Rule", value: int) -> bool:
    return (rule.low_off is None or value >= rule.low_off) and (
        rule.high_off is None or value <= rule.high_off
    )
