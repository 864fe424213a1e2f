"""Rules of alarms: which there are, and whether a reading speaks for one. On the host only; data in alarm_rules.toml.

rules()["cover_open"].events                          -> (6, 7, 8)
beyond(rule, 1.9, holds=False)                        -> True: under `below`
beyond(rule, 2.2, holds=True)                         -> True: not yet back at `below_clear`
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from protocols.wire.codes import EVENT_NAMES

_PATH = Path(__file__).with_name("alarm_rules.toml")
ORDER_TYPES = ("event", "warning", "risk", "hidden", "device")
CODES = {name: code for code, name in EVENT_NAMES.items()}
# Events that can hold no alarm: they are told once and can hold no alarm, or hold alarms back (SPEC.md 2.3).
NOTES = frozenset(
    {
        "records_lost", "clock_stepped", "maintenance", "test_alarm", "pose_learned", "calibrated", "lift_trip",
        "lift_floors_learned",
    }
)  # fmt: skip
# What the gateway makes an alarm of when the rule does not say otherwise: five raises in ten minutes flap.
FLAP_COUNT, FLAP_WINDOW_S, FLAP_QUIET_S = 5, 600, 900


class AlarmRulesError(Exception):
    """Built-in data that contradicts itself."""


class Rule(NamedTuple):
    """One rule. It watches ``events`` or a ``measurand``; limits are in the measurand's unit, None: no limit there.

    ``need`` of the last ``of`` readings must be beyond a limit. Delays and times are seconds; ``flap_count`` 0: never.
    """

    name: str
    en: str
    zh: str
    severity: int
    order: str
    events: tuple[int, ...] = ()
    measurand: str = ""
    below: float | None = None
    below_clear: float | None = None
    above: float | None = None
    above_clear: float | None = None
    need: int = 1
    of: int = 1
    on_delay_s: int = 0
    off_delay_s: int = 0
    min_s: int = 0
    flap_count: int = FLAP_COUNT
    flap_window_s: int = FLAP_WINDOW_S
    flap_quiet_s: int = FLAP_QUIET_S


@functools.cache
def rules() -> dict[str, Rule]:
    """The built-in rules by name."""
    return parse(_PATH.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Rule]:
    """Rules from TOML. Raises AlarmRulesError."""
    made: dict[str, Rule] = {}
    for name, table in tomllib.loads(text).items():
        made[name] = _rule(name, table)
    return made


def _rule(name: str, table: Mapping[str, Any]) -> Rule:
    unknown = [event for event in table.get("events", ()) if event not in CODES]
    strange = sorted(set(table) - set(Rule._fields))
    if unknown or strange:
        raise AlarmRulesError(f"{name}: there is no event or key {', '.join(unknown + strange)}")
    if table.get("order") not in ORDER_TYPES or table.get("severity") not in (1, 2, 3, 4):
        raise AlarmRulesError(f"{name}: order is one of {', '.join(ORDER_TYPES)}, severity 1 to 4")
    notes = sorted(NOTES & set(table.get("events", ())))
    if notes:
        raise AlarmRulesError(f"{name}: {', '.join(notes)} can hold no alarm")
    events = tuple(CODES[event] for event in table.get("events", ()))
    if not events and "measurand" not in table:
        raise AlarmRulesError(f"{name}: watches neither events nor a measurand")
    return Rule(**{**table, "name": name, "events": events})


def beyond(rule: Rule, value: float, holds: bool) -> bool:
    """Whether a reading speaks for the alarm: beyond a limit, or while it holds not yet back behind the clear one."""
    below, above = rule.below, rule.above
    if holds:
        below = rule.below_clear if rule.below_clear is not None else below
        above = rule.above_clear if rule.above_clear is not None else above
    return (below is not None and value < below) or (above is not None and value > above)
