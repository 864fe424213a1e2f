"""The alarm engine: from events and readings to alarms, and from alarms to whoever must know.

    committed events, readings → rules (alarm_rules.toml, [[alarm]]) → machines (alarm_machine.py) → alarm, alarm_change

It follows the store from a cursor of its own. Everything that a look brings (the cursor, the machines' states, alarms
and their changes) is one transaction, so a kill at any moment neither loses an alarm nor makes it twice. What is in
memory changes only once that transaction is on the disk.

Times are those of the records. A reading that is not newer than the newest of its source says nothing about now; one
that was long on its way (a backlog) may still begin an alarm, which then says since when, and that it is late.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from gateway import alarm_mending, alarm_rows, limits, recovery
from gateway.alarm_machine import CLEARED, RAISED, Cause, Change, Machine
from gateway.alarm_rows import Alarm
from gateway.areas import Areas, escalation_ms
from gateway.batch import Batch
from gateway.clock import TrustedClock
from gateway.devices import FIRST_ADDRESS
from gateway.errors import StoreError
from gateway.marks import Marks
from gateway.records import KIND_EVENT, Event, Reading
from gateway.registry import UNASSIGNED, Registry
from gateway.store import Store
from protocols.alarm_rules import CODES, Rule
from protocols.measurands import registry as measurands
from protocols.wire import codes, messages
from protocols.wire.readings import FAIL, MISSING

_MAINTENANCE_MAX_S = 86_400  # SPEC.md 2.2
log = logging.getLogger(__name__)
Key = tuple[str, str]  # rule, site


class Alarms:
    """`run` is a part of the daemon."""

    def __init__(
        self, store: Store, registry: Registry, marks: Marks, clock: TrustedClock, rules: Mapping[str, Rule],
        areas: Areas,
    ) -> None:  # fmt: skip
        self.rules = dict(rules)
        self.areas = areas
        self.counters = {"raised": 0, "cleared": 0, "escalated": 0, "failed_looks": 0}
        self.on_progress: Callable[[], None] = lambda: None
        self.store, self.registry, self.marks, self.clock = store, registry, marks, clock
        self.of_event: dict[int, list[Rule]] = {}
        self.of_measurand: dict[str, list[Rule]] = {}
        for rule in self.rules.values():
            for code in rule.events:
                self.of_event.setdefault(code, []).append(rule)
            if rule.measurand:
                self.of_measurand.setdefault(rule.measurand, []).append(rule)
        self.machines: dict[Key, Machine] = {}
        self.held: dict[Key, Key] = {}  # rule, source: the machine that it holds
        self.frozen: dict[int, int] = {}  # node: until
        self.gone: set[int] = set()  # nodes that are there no longer
        self.event_cursor = self.reading_cursor = 0
        self.escalate_ms: int | None = None
        self.found: list[tuple[Key, str, str]] = []  # strays, as of the latest look for them
        self._strays_s = float("-inf")
        self._jumps_ms = 0  # how far the clock was set back and nobody has looked at it yet
        self._wake = asyncio.Event()
        self._readings_wait = False
        store.read(self.load)
        store.on_commit.append(self._committed)

    def load(self, connection: sqlite3.Connection) -> None:
        """As of the last commit. A database that never had alarms begins with what comes from now on."""
        row = connection.execute("SELECT event, reading FROM alarm_cursor").fetchone()
        self.event_cursor, self.reading_cursor = row or (self.store.last_event, self.store.last_reading)
        self.machines = alarm_mending.machines(connection)
        self.held = {}
        for key, machine in self.machines.items():
            self.held |= held_by(key, machine)
        self.frozen = dict(connection.execute("SELECT node, until_s FROM alarm_maintenance").fetchall())
        self.escalate_ms = next_escalation(connection)

    # ---- when to look ----------------------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        if any(self._matters(event) for event in batch.events):
            self._wake.set()
        if self.of_measurand and batch.readings:
            self._readings_wait = True

    def _matters(self, event: Event) -> bool:
        return event.kind == KIND_EVENT and (
            event.code in self.of_event or event.code == codes.IN_MAINTENANCE
        )

    def forget(self, node: int) -> None:
        """The node was removed or replaced: it holds no alarm any more."""
        self.gone.add(node)
        self._wake.set()

    def jumped(self, by_ms: int) -> None:
        """The wall clock was set, ahead or (negative) back. Set ahead, delays end early; set back, they would not."""
        if by_ms < 0:
            self._jumps_ms += by_ms
            self._wake.set()

    def strays(self) -> list[tuple[Key, str, str]]:
        """Sources that hold an alarm and can not end it any more, and why."""
        now_ms = self.clock.unix_ms()
        found = []
        for (_, source), key in self.held.items():
            why = self._stray(key, source, now_ms)
            if why:
                found.append((key, source, why))
        return found

    def _look_for_strays(self) -> bool:
        """Now and then: thousands of alarms may be open, and nodes are seldom moved."""
        now_s = self.clock.monotonic()
        if now_s - self._strays_s >= limits.ALARM_STRAYS_S:
            self._strays_s = now_s
            self.found = self.strays()
        return bool(self.found)

    def _stray(self, key: Key, source: str, now_ms: int) -> str:
        rule, (node, what) = self.rules.get(key[0]), parts_of(source)
        if rule is None:
            return ""  # that ends the machine as a whole
        if not what or not (what == rule.measurand or CODES.get(what) in rule.events):
            return f"the rule no longer watches {what or 'what it began with'}"
        if node < FIRST_ADDRESS and not self.registry.is_enrolled(node):
            return f"node {node:04x} was removed"
        if site_of(node, self.registry.place_of(node, now_ms).site) != key[1]:
            return f"node {node:04x} is at {key[1]} no longer"
        return ""

    async def mend(self) -> None:
        """What a life before, another configuration or another clock left behind."""
        mending = alarm_mending.Mending(self.rules, self.areas, self.clock)
        await self.store.write(mending.at_start)
        self._load_again()

    def _load_again(self) -> None:
        """What was mended; the cursors are further than a database that never had alarms says."""
        self._strays_s = float("-inf")
        cursors = self.event_cursor, self.reading_cursor
        self.store.read(self.load)
        self.event_cursor, self.reading_cursor = cursors

    async def run(self) -> None:
        """Look, for ever."""
        await self.mend()
        await self.look()
        while True:
            wait_s = min(self._due_in_s(), limits.ALARM_LOOK_S if self.of_measurand else limits.ALARM_IDLE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # wait_for may swallow a cancellation
                    await self._wake.wait()
            self.on_progress()
            if self._wake.is_set() or self._readings_wait or self._due_in_s() <= 0 or self._look_for_strays():
                await self.look()

    def _due_in_s(self) -> float:
        now_s = self.clock.unix_ms() / 1000
        dues: list[float] = list(self.frozen.values())
        dues += [due for key, m in self.machines.items() if (due := self._due_s(key, m)) is not None]
        if self.escalate_ms is not None:
            dues.append(self.escalate_ms / 1000)
        return max(0.0, min(dues, default=now_s + limits.ALARM_IDLE_S) - now_s)

    def _due_s(self, key: Key, machine: Machine) -> int | None:
        rule = self.rules.get(key[0])
        return 0 if rule is None else machine.due_s(rule)

    async def look(self) -> None:
        """Everything there is to see now."""
        self._wake.clear()
        self._readings_wait = False
        await self._set_back()
        self._look_for_strays()
        more = True
        while more:
            turn = Turn(self)
            try:
                more = await self.store.write(turn.work)
            except (StoreError, sqlite3.Error) as error:
                self.counters["failed_looks"] += 1
                log.error("alarms can not be written: %s; trying again", error)
                await asyncio.sleep(limits.ALARM_RETRY_S)
                continue
            turn.settle()
            self.found = []
            self.on_progress()

    async def _set_back(self) -> None:
        by_ms = self._jumps_ms
        if not by_ms:
            return
        mending = alarm_mending.Mending(self.rules, self.areas, self.clock)
        try:
            await self.store.write(lambda connection: mending.set_back(connection, by_ms))
        except (StoreError, sqlite3.Error) as error:
            self.counters["failed_looks"] += 1
            log.error("alarms can not be brought back by %d s: %s; trying again", -by_ms // 1000, error)
            return
        self._jumps_ms -= by_ms
        self._load_again()


class Turn:
    """One look, in one transaction. `work` runs in it, `settle` when it is on the disk."""

    def __init__(self, engine: Alarms) -> None:
        self._engine = engine
        self._machines: dict[Key, Machine] = {}
        self._held: dict[Key, Key | None] = {}
        self._frozen = dict(engine.frozen)
        self._gone = frozenset(engine.gone)
        self._cursors = engine.event_cursor, engine.reading_cursor
        self._escalate_ms = engine.escalate_ms
        self._counts = dict.fromkeys(engine.counters, 0)
        self._now_ms = engine.clock.unix_ms()

    def work(self, connection: sqlite3.Connection) -> bool:
        """Whether there is more to look at."""
        engine = self._engine
        after_event, after_reading = self._cursors
        known = engine.store.epochs
        events = recovery.load_events(connection, known, after_event, limits.ALARM_CHUNK)
        for event in events:
            self._event(connection, event)
            after_event = event.id
        readings: Sequence[Reading] = ()
        if engine.of_measurand:
            readings = recovery.load_readings(
                connection, known, after_reading + 1, 1 << 62, limits.ALARM_CHUNK
            )
            for reading in readings:
                self._reading(connection, reading)
                after_reading = reading.id
        else:
            after_reading = max(after_reading, engine.store.last_reading)
        self._cursors = after_event, after_reading
        self._time(connection)
        self._write(connection)
        return max(len(events), len(readings)) == limits.ALARM_CHUNK

    def settle(self) -> None:
        engine = self._engine
        engine.event_cursor, engine.reading_cursor = self._cursors
        engine.frozen = self._frozen
        engine.gone -= self._gone
        engine.escalate_ms = self._escalate_ms
        engine.held |= {source: key for source, key in self._held.items() if key is not None}
        for source, held in self._held.items():
            if held is None:
                engine.held.pop(source, None)
        for key, machine in self._machines.items():
            if key[0] not in engine.rules or machine.is_blank(self._now_ms // 1000, engine.rules[key[0]]):
                engine.machines.pop(key, None)
            else:
                engine.machines[key] = machine
        for name, count in self._counts.items():
            engine.counters[name] += count

    # ---- what comes in ---------------------------------------------------------------------------------------------

    def _event(self, connection: sqlite3.Connection, event: Event) -> None:
        if event.kind != KIND_EVENT or event.state == messages.NOTE:
            return
        node, at_s = event.ledger.node, min(_at_s(event), self._now_ms // 1000)
        if event.code == codes.IN_MAINTENANCE:
            self._maintenance(connection, node, event, at_s)
            return
        for rule in self._engine.of_event.get(event.code, ()):
            plain = f"{node:04x}:{codes.EVENT_NAMES[event.code]}"
            source = plain + _part(event)
            key = self._key(rule, source, node, event.received_ms)
            holds = event.state == messages.RAISED
            if not holds and key not in self._machines and key not in self._engine.machines:
                continue
            source = self._machine(key).name_for(source, plain)
            cause = _cause(event, codes.EVENT_NAMES.get(event.code, ""), event.detail)
            machine = self._machine(key)
            changes = machine.event(rule, source, holds, at_s, cause, frozen=node in self._frozen)
            self._told(connection, key, rule, source, changes)

    def _maintenance(self, connection: sqlite3.Connection, node: int, event: Event, at_s: int) -> None:
        if event.state == messages.RAISED:
            lasts_s = event.detail if isinstance(event.detail, int) else _MAINTENANCE_MAX_S
            self._frozen[node] = at_s + lasts_s + limits.MAINTENANCE_MARGIN_S
        else:
            self._release(connection, node, at_s)

    def _release(self, connection: sqlite3.Connection, node: int, at_s: int) -> None:
        self._frozen.pop(node, None)
        for key, rule, source in self._sources_of(node):
            changes = self._machine(key).release(rule, source, at_s)
            self._told(connection, key, rule, source, changes)

    def _sources_of(self, node: int) -> list[tuple[Key, Rule, str]]:
        begin = f"{node:04x}:"
        engine = self._engine
        machines = {**engine.machines, **self._machines}
        return [
            (key, engine.rules[key[0]], source)
            for key, machine in machines.items()
            if key[0] in engine.rules
            for source in machine.sources
            if source.startswith(begin)
        ]

    def _reading(self, connection: sqlite3.Connection, reading: Reading) -> None:
        engine = self._engine
        node, at_s = reading.ledger.node, min(_at_s(reading), self._now_ms // 1000)
        if engine.marks.of(reading).maintenance:
            return
        for index, measurand in enumerate(measurands().of_schema(reading.schema)):
            value = reading.values[index]
            flag = 1 if reading.flags is None else reading.flags[index]
            if value is None or flag in (FAIL, MISSING):
                continue
            for rule in engine.of_measurand.get(measurand.name, ()):
                source = f"{node:04x}:{measurand.name}"
                key = self._key(rule, source, node, reading.received_ms)
                number = measurand.value_of(value)
                machine = self._machine(key)
                cause = _cause(reading, measurand.name, number)
                changes = machine.reading(rule, source, number, at_s, cause)
                self._told(connection, key, rule, source, changes)

    def _key(self, rule: Rule, source: str, node: int, at_ms: int) -> Key:
        """The site that the source holds the alarm of; else the one that it is at now."""
        held = self._held.get((rule.name, source), self._engine.held.get((rule.name, source)))
        if held is not None:
            return held
        return rule.name, site_of(node, self._engine.registry.place_of(node, at_ms).site)

    def _machine(self, key: Key) -> Machine:
        machine = self._machines.get(key)
        if machine is None:
            machine = self._machines[key] = deepcopy(self._engine.machines.get(key, Machine()))
        return machine

    # ---- what time brings ------------------------------------------------------------------------------------------

    def _time(self, connection: sqlite3.Connection) -> None:
        engine, now_s = self._engine, self._now_ms // 1000
        for node, until_s in list(self._frozen.items()):
            if until_s <= now_s:
                self._release(connection, node, now_s)
        for node in self._gone:
            for key, _, source in self._sources_of(node):
                self._forget(connection, key, source, now_s)
        for key, source, why in engine.found:
            log.info("alarm %s at %s: %s, so it is not held by that any more", *key, why)
            self._forget(connection, key, source, now_s)
        for key in [*engine.machines]:
            due_s = engine._due_s(key, self._machines.get(key) or engine.machines[key])
            if due_s is not None and due_s <= now_s:
                self._tick(connection, key, now_s)
        if self._escalate_ms is not None and self._escalate_ms <= self._now_ms:
            self._escalate(connection)

    def _forget(self, connection: sqlite3.Connection, key: Key, source: str, now_s: int) -> None:
        rule = self._engine.rules[key[0]]
        self._told(connection, key, rule, source, self._machine(key).forget(rule, source, now_s))

    def _tick(self, connection: sqlite3.Connection, key: Key, now_s: int) -> None:
        machine, rule = self._machine(key), self._engine.rules.get(key[0])
        if rule is None:  # it was taken out of the configuration
            if machine.alarm:
                self._clear(connection, machine, now_s * 1000, "the rule is gone")
            return
        for change in machine.tick(rule, now_s):
            self._change(connection, key, rule, machine, change)

    def _escalate(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            f"SELECT {alarm_rows.COLUMNS} FROM alarm WHERE cleared_ms IS NULL AND escalate_ms <= ? ORDER BY id",
            (self._now_ms,),
        ).fetchall()
        for alarm in map(Alarm._make, rows):
            tiers = self._engine.areas.tiers(alarm.area)
            if alarm.silent_until_ms > self._now_ms:  # looked at again when it is told
                alarm_rows.update(connection, alarm.id, escalate_ms=alarm.silent_until_ms)
            elif alarm.tier + 1 >= len(tiers):
                alarm_rows.update(connection, alarm.id, escalate_ms=None)
            else:
                tier = alarm.tier + 1
                due_ms = escalation_ms(self._engine.areas, alarm.area, tier, self._now_ms)
                alarm_rows.update(connection, alarm.id, tier=tier, escalate_ms=due_ms)
                alarm_rows.change(connection, alarm.id, "escalated", self._now_ms, tier)
                self._counts["escalated"] += 1

    def _told(
        self, connection: sqlite3.Connection, key: Key, rule: Rule, source: str, changes: Sequence[Change]
    ) -> None:
        """After a source was told to a machine."""
        machine = self._machine(key)
        known = machine.sources.get(source)
        self._held[rule.name, source] = key if known is not None and known.holds else None
        for change in changes:
            self._change(connection, key, rule, machine, change)

    # ---- what goes out ---------------------------------------------------------------------------------------------

    def _change(
        self, connection: sqlite3.Connection, key: Key, rule: Rule, machine: Machine, change: Change
    ) -> None:
        if change.kind == CLEARED:
            self._clear(connection, machine, change.at_s * 1000)
        elif change.kind == RAISED:
            cause, at_ms = change.cause, change.at_s * 1000
            area = self._engine.registry.place_of(cause.node, self._now_ms).area
            due_ms = escalation_ms(self._engine.areas, area, 0, self._now_ms)
            machine.alarm = alarm_rows.insert(
                connection,
                Alarm(
                    0, rule.name, key[1], area, cause.node, cause.epoch, cause.seq, rule.severity, cause.detail,
                    at_ms, self._now_ms, None, int(cause.late), int(machine.flapping), 0, due_ms, None, None,
                    alarm_rows.silent_until_ms(connection, *key),
                ),
            )  # fmt: skip
            alarm_rows.change(connection, machine.alarm, RAISED, at_ms, 0)
            self._counts["raised"] += 1

    def _clear(self, connection: sqlite3.Connection, machine: Machine, at_ms: int, why: str = "") -> None:
        alarm = alarm_rows.get(connection, machine.alarm)
        alarm_rows.update(connection, machine.alarm, cleared_ms=at_ms, escalate_ms=None)
        tier = 0 if alarm is None else alarm.tier
        alarm_rows.change(connection, machine.alarm, CLEARED, at_ms, tier, "", why)
        machine.alarm = 0
        self._counts["cleared"] += 1

    def _write(self, connection: sqlite3.Connection) -> None:
        engine, now_s = self._engine, self._now_ms // 1000
        for key, machine in self._machines.items():
            rule = engine.rules.get(key[0])
            if rule is None or machine.is_blank(now_s, rule):
                connection.execute("DELETE FROM alarm_rule_state WHERE rule = ? AND site = ?", key)
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO alarm_rule_state (rule, site, state) VALUES (?, ?, ?)",
                    (*key, machine.pack()),
                )
        if self._frozen != engine.frozen:
            connection.execute("DELETE FROM alarm_maintenance")
            connection.executemany("INSERT INTO alarm_maintenance VALUES (?, ?)", self._frozen.items())
        connection.execute(
            "INSERT OR REPLACE INTO alarm_cursor (id, event, reading) VALUES (1, ?, ?)", self._cursors
        )
        self._escalate_ms = next_escalation(connection)


def held_by(key: Key, machine: Machine) -> dict[Key, Key]:
    return {(key[0], name): key for name, source in machine.sources.items() if source.holds}


def next_escalation(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT min(escalate_ms) FROM alarm WHERE cleared_ms IS NULL").fetchone()
    return None if row[0] is None else int(row[0])


def _at_s(record: Event | Reading) -> int:
    """When it was measured; when it came, if nobody can say."""
    return record.time if record.time >= 0 else record.received_ms // 1000


def _part(event: Event) -> str:
    """What of a node's begins and ends by itself where one event tells of several: a probe, a gas; "" mostly."""
    name, detail = codes.EVENT_NAMES[event.code], event.detail
    if name == "probe_fault":
        return f":{detail}"
    if isinstance(detail, list) and name in ("gas_warning", "gas_alarm") and detail:
        return f":{detail[0]}"
    return ""


def parts_of(source: str) -> tuple[int, str]:
    """Node and event or measurand of a source."""
    node, _, rest = source.partition(":")
    return int(node, 16), rest.partition(":")[0]


def site_of(node: int, site: str) -> str:
    """A node that serves no site is one by itself."""
    return f"node {node:04x}" if site == UNASSIGNED else site


def _cause(record: Event | Reading, what: str, detail: object) -> Cause:
    late = record.received_ms // 1000 - _at_s(record) > limits.ALARM_LATE_S
    ledger = record.ledger
    return Cause(ledger.node, ledger.number, record.seq, json.dumps([what, detail]), late)
