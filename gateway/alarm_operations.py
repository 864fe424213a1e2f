"""What a person does about alarms: look, acknowledge, silence. Audited, with who and why."""

from __future__ import annotations

import sqlite3
from difflib import get_close_matches
from typing import Any

from gateway import alarm_rows, limits
from gateway.alarm_rows import Alarm, Changed
from gateway.clock import Clock
from gateway.errors import CommandError
from gateway.operations import Operations, Reply, Request
from gateway.registry import By, audit
from gateway.store import Store
from protocols.northbound import work_order

LIST_MAX = 1000
_WHICH = ("open", "closed", "all")


class AlarmOperations:
    """Written for a running gateway and a stopped one: the engine reads the rows again."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def serve(self, operations: Operations) -> None:
        operations.add("alarm.list", self._do_list)
        operations.add("alarm.show", self._do_show)
        operations.add("alarm.acknowledge", self._do_acknowledge)
        operations.add("alarm.silence", self._do_silence)

    async def _do_list(self, request: Request, by: By) -> Reply:
        which = request.get("which", "open")
        if which not in _WHICH:
            near = get_close_matches(str(which)[:20].lower(), _WHICH, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(
                f"which = {which!r:.40} is not allowed. Allowed are open, closed and all.{hint}"
            )
        rows = self._store.read(lambda reader: alarm_rows.latest(reader, which, LIST_MAX))
        count = self._store.read(lambda reader: alarm_rows.count(reader, which))
        return {"alarms": [_told(alarm) for alarm in rows], "more": max(0, count - len(rows))}

    async def _do_show(self, request: Request, by: By) -> Reply:
        def look(reader: sqlite3.Connection) -> Reply:
            alarm = _find(reader, request.get("alarm"))
            rows = reader.execute("SELECT * FROM alarm_change WHERE alarm = ? ORDER BY id", (alarm.id,))
            changes = [Changed(*row)._asdict() for row in rows]
            # What a northbound began with counts for alarms that it has not sent anything of.
            names = reader.execute("SELECT DISTINCT northbound FROM order_sent").fetchall()
            sent = {name: 0 for (name,) in names} | dict(
                reader.execute(
                    "SELECT northbound, change FROM order_sent WHERE alarm = ?", (alarm.id,)
                ).fetchall()
            )
            return {"alarm": _told(alarm), "changes": changes, "sent": sent}

        return self._store.read(look)

    async def _do_acknowledge(self, request: Request, by: By) -> Reply:
        _must_say_why(by)
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> Alarm:
            alarm = _open(connection, request.get("alarm"))
            if alarm.acknowledged_ms is not None:
                raise CommandError(f"alarm {alarm.id} was acknowledged already, by {alarm.acknowledged_by}.")
            alarm_rows.acknowledge(connection, alarm, now_ms, by)
            return alarm

        return _named(await self._store.write(write))

    async def _do_silence(self, request: Request, by: By) -> Reply:
        _must_say_why(by)
        seconds: Any = request.get("seconds")
        if type(seconds) is not int or not 0 <= seconds <= limits.ALARM_SILENCE_MAX_S:
            raise CommandError(
                f"seconds = {seconds!r:.40} is not allowed. Allowed is 0 (ends a silence) to "
                f"{limits.ALARM_SILENCE_MAX_S}."
            )
        now_ms = self._clock.unix_ms()
        until_ms = (now_ms // 1000 + seconds) * 1000

        def write(connection: sqlite3.Connection) -> Alarm:
            alarm = _open(connection, request.get("alarm"))
            alarm_rows.silence(connection, alarm, now_ms, until_ms, by)
            audit(connection, now_ms, by, "alarm.silence", str(alarm.id), f"{alarm.rule} until {until_ms}")
            return alarm

        return {**_named(await self._store.write(write)), "until_ms": until_ms}


def _code(alarm: Alarm) -> str:
    return work_order.code_of(alarm.node, alarm.epoch, alarm.seq, alarm.rule)


def _told(alarm: Alarm) -> Reply:
    return {**alarm._asdict(), "order": _code(alarm)}


def _named(alarm: Alarm) -> Reply:
    return {"alarm": alarm.id, "rule": alarm.rule, "site": alarm.site}


def _must_say_why(by: By) -> None:
    if not by.why:
        raise CommandError("say why with --why: it is kept in the audit log.")


def _find(connection: sqlite3.Connection, what: Any) -> Alarm:
    """By its number or the code of its order. Raises CommandError."""
    if isinstance(what, str) and what.isascii() and what.isdecimal() and len(what) < 16:
        what = int(what)
    if type(what) is int:
        alarm = alarm_rows.get(connection, what)
    elif isinstance(what, str) and work_order.is_code(what):
        alarm = next((one for one in alarm_rows.each(connection) if _code(one) == what.upper()), None)
    else:
        raise CommandError(
            f"alarm {what!r:.40} is neither a number nor the code of an order. "
            "`tidegate gateway alarm list` shows both."
        )
    if alarm is None:
        raise CommandError(f"alarm {what} is not there. {_open_ones(connection)}")
    return alarm


def _open(connection: sqlite3.Connection, what: Any) -> Alarm:
    alarm = _find(connection, what)
    if alarm.cleared_ms is not None:
        raise CommandError(f"alarm {what} is over. {_open_ones(connection)}")
    return alarm


def _open_ones(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT id FROM alarm WHERE cleared_ms IS NULL ORDER BY id DESC LIMIT 10")
    return f"Open: {', '.join(str(row[0]) for row in rows) or 'none'}."
