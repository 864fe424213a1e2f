"""What a person does about alarms: look, acknowledge, silence. Audited, with who and why."""

from __future__ import annotations

import sqlite3
from typing import Any

from gateway import alarm_rows, limits
from gateway.alarm_rows import Alarm
from gateway.clock import Clock
from gateway.errors import CommandError
from gateway.operations import Operations, Reply, Request
from gateway.registry import By, audit
from gateway.store import Store

LIST_MAX = 1000


class AlarmOperations:
    """Written for a running gateway and a stopped one: the engine reads the rows again."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def serve(self, operations: Operations) -> None:
        operations.add("alarm.list", self._do_list)
        operations.add("alarm.acknowledge", self._do_acknowledge)
        operations.add("alarm.silence", self._do_silence)

    async def _do_list(self, request: Request, by: By) -> Reply:
        which = request.get("which", "open")
        if which not in ("open", "closed", "all"):
            raise CommandError(f"which = {which!r:.40} is not allowed. Allowed are open, closed and all.")
        rows = self._store.read(lambda reader: alarm_rows.latest(reader, which, LIST_MAX))
        return {"alarms": [alarm._asdict() for alarm in rows]}

    async def _do_acknowledge(self, request: Request, by: By) -> Reply:
        number = _number(request, by)
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> Alarm:
            alarm = _open(connection, number)
            if alarm.acknowledged_ms is not None:
                raise CommandError(f"alarm {number} was acknowledged already, by {alarm.acknowledged_by}.")
            alarm_rows.acknowledge(connection, alarm, now_ms, by)
            return alarm

        return {"rule": (await self._store.write(write)).rule}

    async def _do_silence(self, request: Request, by: By) -> Reply:
        number = _number(request, by)
        seconds: Any = request.get("seconds")
        if type(seconds) is not int or not 0 <= seconds <= limits.ALARM_SILENCE_MAX_S:
            raise CommandError(
                f"seconds = {seconds!r:.40} is not allowed. Allowed is 0 (ends a silence) to "
                f"{limits.ALARM_SILENCE_MAX_S}."
            )
        now_ms = self._clock.unix_ms()
        until_ms = (now_ms // 1000 + seconds) * 1000

        def write(connection: sqlite3.Connection) -> Alarm:
            alarm = _open(connection, number)
            alarm_rows.update(connection, number, silent_until_ms=until_ms)
            alarm_rows.change(connection, number, "silenced", now_ms, alarm.tier, by.who, by.why)
            connection.execute(
                "INSERT OR REPLACE INTO alarm_silence (rule, site, until_ms, who, why) VALUES (?, ?, ?, ?, ?)",
                (alarm.rule, alarm.site, until_ms, by.who, by.why),
            )
            audit(connection, now_ms, by, "alarm.silence", str(number), f"{alarm.rule} until {until_ms}")
            return alarm

        alarm = await self._store.write(write)
        return {"rule": alarm.rule, "until_ms": until_ms}


def _number(request: Request, by: By) -> int:
    number = request.get("alarm")
    if type(number) is not int:
        raise CommandError(
            f"alarm {number!r:.40} is not a number. `tidegate gateway alarm list` shows the numbers."
        )
    if not by.why:
        raise CommandError("say why with --why: it is kept in the audit log.")
    return number


def _open(connection: sqlite3.Connection, number: int) -> Alarm:
    alarm = alarm_rows.get(connection, number)
    if alarm is None or alarm.cleared_ms is not None:
        rows = connection.execute("SELECT id FROM alarm WHERE cleared_ms IS NULL ORDER BY id DESC LIMIT 10")
        known = ", ".join(str(row[0]) for row in rows) or "none"
        what = "is over" if alarm is not None else "is not there"
        raise CommandError(f"alarm {number} {what}. Open: {known}.")
    return alarm
