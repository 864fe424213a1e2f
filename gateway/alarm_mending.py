"""What alarms need at a start, and when the clock was set back.

A life before may have ended at any moment, with another configuration, on another clock, or with a database of which
some rows were lost. None of that may leave an alarm that can not end, or that goes up no further.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping

from gateway import alarm_rows, limits
from gateway.alarm_machine import OPEN, Cause, Machine, Source
from gateway.alarm_rows import Alarm
from gateway.areas import Areas, escalation_ms
from gateway.clock import TrustedClock
from protocols.alarm_rules import Rule

log = logging.getLogger(__name__)
Key = tuple[str, str]  # rule, site


def machines(connection: sqlite3.Connection) -> dict[Key, Machine]:
    """All of them; one that can not be read is left out, and its alarm begins a new one (`Mending.adopt`)."""
    found = {}
    for rule, site, state in connection.execute("SELECT rule, site, state FROM alarm_rule_state"):
        try:
            found[rule, site] = Machine.unpack(state)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("the state of alarm %s at %s can not be read, it begins anew: %r", rule, site, error)
    return found


class Mending:
    """Each method is the work of one transaction; the engine loads everything again behind it."""

    def __init__(self, rules: Mapping[str, Rule], areas: Areas, clock: TrustedClock) -> None:
        self._rules = rules
        self._areas = areas
        self._now_ms = clock.unix_ms()
        # A clock that is not set yet says nothing about what lies in the future.
        self._may_clamp = clock.synchronised()

    def at_start(self, connection: sqlite3.Connection) -> None:
        known = machines(connection)
        self._drop_unreadable(connection, known)
        self._adopt(connection, known)
        if self._may_clamp:
            self._bring_back(connection, known)
        self._escalate_again(connection)

    def set_back(self, connection: sqlite3.Connection, by_ms: int) -> None:
        """The clock was set back by so much (negative): what was to come in an hour still comes in an hour."""
        connection.execute(
            "UPDATE alarm SET escalate_ms = escalate_ms + ? WHERE cleared_ms IS NULL", (by_ms,)
        )
        silent = "silent_until_ms = silent_until_ms + ? WHERE silent_until_ms > ?"
        connection.execute(f"UPDATE alarm SET {silent}", (by_ms, self._now_ms))
        connection.execute(
            "UPDATE alarm_silence SET until_ms = until_ms + ? WHERE until_ms > ?", (by_ms, self._now_ms)
        )
        connection.execute("UPDATE alarm_maintenance SET until_s = until_s + ?", (by_ms // 1000,))
        self._bring_back(connection, machines(connection))

    def _drop_unreadable(self, connection: sqlite3.Connection, known: Mapping[Key, Machine]) -> None:
        for key in connection.execute("SELECT rule, site FROM alarm_rule_state").fetchall():
            if key not in known:
                connection.execute("DELETE FROM alarm_rule_state WHERE rule = ? AND site = ?", key)

    def _adopt(self, connection: sqlite3.Connection, known: dict[Key, Machine]) -> None:
        """Alarms that are open and whose machine was lost: by the record that they began with."""
        held = {machine.alarm for machine in known.values()}
        for alarm in alarm_rows.opened(connection):
            key = (alarm.rule, alarm.site)
            if alarm.id in held:
                continue
            if key in known and known[key].alarm:
                alarm_rows.end(connection, alarm, self._now_ms, "a later one has its place")
                continue
            known[key] = machine = _machine_of(alarm)
            _write(connection, key, machine)
            log.warning("alarm %d, %s at %s, is held again by what it began with", alarm.id, *key)

    def _bring_back(self, connection: sqlite3.Connection, known: Mapping[Key, Machine]) -> None:
        for key, machine in known.items():
            if machine.bring_back(self._now_ms // 1000):
                _write(connection, key, machine)

    def _escalate_again(self, connection: sqlite3.Connection) -> None:
        """By the area tree as it is now: an alarm that had nowhere to go may have, or sooner than it did."""
        for alarm in alarm_rows.opened(connection):
            if alarm.acknowledged_ms is not None:
                continue
            due_ms = escalation_ms(self._areas, alarm.area, alarm.tier, self._now_ms)
            is_silent = alarm.silent_until_ms > self._now_ms
            is_late = due_ms is not None and alarm.escalate_ms is not None and alarm.escalate_ms > due_ms
            if alarm.escalate_ms is None or (is_late and not is_silent and self._may_clamp):
                alarm_rows.update(connection, alarm.id, escalate_ms=due_ms)
        if self._may_clamp:
            longest_ms = self._now_ms + 1000 * limits.ALARM_SILENCE_MAX_S
            for table, column in (("alarm", "silent_until_ms"), ("alarm_silence", "until_ms")):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {column} > ?", (longest_ms, longest_ms)
                )


def _machine_of(alarm: Alarm) -> Machine:
    raised_s = alarm.raised_ms // 1000
    return Machine(
        phase=OPEN,
        raised_s=raised_s,
        latest_s=raised_s,
        cause=Cause(alarm.node, alarm.epoch, alarm.seq, alarm.detail, bool(alarm.late)),
        flapping=bool(alarm.flapping),
        alarm=alarm.id,
        raises=[raised_s],
        sources={_source_of(alarm): Source(holds=True, at_s=raised_s)},
    )


def _source_of(alarm: Alarm) -> str:
    """As alarms.py names it."""
    try:
        what, detail = json.loads(alarm.detail)
    except (ValueError, TypeError):
        what, detail = "", None
    plain = f"{alarm.node:04x}:{what}"
    if what == "probe_fault":
        return f"{plain}:{detail}"
    is_gas = what in ("gas_warning", "gas_alarm") and isinstance(detail, list) and detail
    return f"{plain}:{detail[0]}" if is_gas else plain


def _write(connection: sqlite3.Connection, key: Key, machine: Machine) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO alarm_rule_state (rule, site, state) VALUES (?, ?, ?)", (*key, machine.pack())
    )
