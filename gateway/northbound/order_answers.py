"""What the platform's people do about an order comes back: who takes it there has acknowledged the alarm here.

    every status_every_s: each open, unacknowledged alarm whose order was taken → GET status_url, with the ETag of the
    last answer → state 1 or 2 → the alarm is acknowledged, in one transaction with its change and the audit log

Asking goes the way that orders go: outwards, through whatever is between, with the same certificates. A gateway that
stands behind a router without an address of its own can not be called.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from gateway import alarm_rows
from gateway.alarm_rows import Alarm
from gateway.clock import Clock
from gateway.errors import NorthboundError, StoreError
from gateway.limits import ORDERS_ASKED_MAX, ORDERS_ETAGS_MAX
from gateway.northbound.http_client import Answer
from gateway.registry import By
from gateway.store import Store
from protocols.northbound import work_order
from protocols.northbound.work_order import Disposal, WorkOrderError

log = logging.getLogger(__name__)
_NOT_MODIFIED, _NOT_FOUND = 304, 404


class Asker(Protocol):
    async def get(self, url: str, etag: str = "") -> Answer: ...


def who(northbound: str, found: Disposal) -> str:
    """As the alarm keeps it: "hotline: zhang-3"."""
    return f"{northbound}: {found.handler or found.department or 'somebody'}"


def is_from(northbound: str, who: str) -> bool:
    """Whether it was that platform that acknowledged."""
    return who.startswith(f"{northbound}: ")


class OrderAnswers:
    """`run` asks, `told` is for what comes unasked, with the answer to a post."""

    def __init__(
        self, name: str, url: str | None, every_s: int, severity_min: int, zone: ZoneInfo, store: Store, asker: Asker,
        clock: Clock,
    ) -> None:  # fmt: skip
        self.counters = {"acknowledged": 0, "unreadable": 0}
        self._name = name
        self._url = url
        self._every_s = every_s
        self._severity_min = severity_min
        self._zone = zone
        self._store = store
        self._asker = asker
        self._clock = clock
        self._etags: dict[int, str] = {}
        self._after = 0
        self._problem = ""
        self.unanswered = ""  # why the last round got no answer

    async def run(self) -> None:
        """Ask, for ever; nothing where there is no status_url."""
        while self._url is not None:
            await asyncio.sleep(self._every_s)
            await self.round(self._url)

    async def round(self, url: str) -> None:
        """Ask about each order that nobody has acknowledged; the next round goes on where this one ends."""
        for alarm in self._store.read(self._unacknowledged):
            self._after = alarm.id
            try:
                await self._ask(url, alarm)
            except NorthboundError as error:
                self.unanswered = str(error)
                self._tell(str(error))
                return  # the others would have to wait for a platform that is away
            except StoreError as error:
                self._tell(str(error))
                return
        self._after = 0
        self.unanswered = ""

    def _unacknowledged(self, reader: sqlite3.Connection) -> list[Alarm]:
        columns = ", ".join(f"a.{name}" for name in Alarm._fields)
        rows = reader.execute(
            f"SELECT {columns} FROM alarm a JOIN order_sent s ON s.northbound = ? AND s.alarm = a.id"
            " WHERE a.cleared_ms IS NULL AND a.acknowledged_ms IS NULL AND a.severity >= ? AND a.id > ?"
            " ORDER BY a.id LIMIT ?",
            (self._name, self._severity_min, self._after, ORDERS_ASKED_MAX),
        )
        return [Alarm(*row) for row in rows]

    async def _ask(self, url: str, alarm: Alarm) -> None:
        code = work_order.code_of(alarm.node, alarm.epoch, alarm.seq, alarm.rule)
        answer = await self._asker.get(url.replace("{code}", code), self._etags.get(alarm.id, ""))
        if answer.status in (_NOT_MODIFIED, _NOT_FOUND):  # nothing new, or nobody has looked at it yet
            self._tell("")
            return
        try:
            if answer.status != 200:
                raise WorkOrderError(f"HTTP {answer.status}")
            found = work_order.disposal(answer.body, code)
        except WorkOrderError as error:
            self.counters["unreadable"] += 1
            self._tell(f"asked about order {code}, the platform said {error}")
            return
        self._tell("")
        if found is not None:
            await self._acknowledge(alarm.id, found)
        self._keep_etag(alarm.id, "" if found is not None else answer.etag)

    def _keep_etag(self, alarm: int, etag: str) -> None:
        self._etags.pop(alarm, None)
        if len(self._etags) >= ORDERS_ETAGS_MAX:
            self._etags.clear()
        if etag:
            self._etags[alarm] = etag

    async def told(self, alarm: int, code: str, body: bytes) -> None:
        """The answer to a post; what some platforms put there and is no word on the order is left alone."""
        try:
            found = work_order.disposal(body, code)
        except WorkOrderError:
            return
        if found is not None:
            await self._acknowledge(alarm, found)

    async def _acknowledge(self, number: int, found: Disposal) -> None:
        now_ms = self._clock.unix_ms()
        by = By(who(self._name, found), _why(found))
        if await self._store.write(self._writer(number, found.at, now_ms, by)):
            self.counters["acknowledged"] += 1
            log.info("%s: alarm %d is acknowledged by %s", self._name, number, by.who)

    def _writer(self, number: int, at: str, now_ms: int, by: By) -> Callable[[sqlite3.Connection], bool]:
        def write(connection: sqlite3.Connection) -> bool:
            alarm = alarm_rows.get(connection, number)
            if alarm is None or alarm.cleared_ms is not None or alarm.acknowledged_ms is not None:
                return False
            at_ms = self._unix_ms(at, now_ms)
            # A platform's clock is its own: it was not before the order went, and it is not in the future.
            alarm_rows.acknowledge(connection, alarm, max(min(at_ms, now_ms), alarm.noticed_ms), by)
            return True

        return write

    def _unix_ms(self, at: str, else_ms: int) -> int:
        try:
            moment = datetime.strptime(at, work_order.SECONDS).replace(tzinfo=self._zone)
            return int(moment.timestamp()) * 1000
        except (ValueError, OverflowError):
            return else_ms

    def _tell(self, problem: str) -> None:
        """Each problem once, until it is another one or none."""
        if problem and problem != self._problem:
            log.warning("%s: %s", self._name, problem)
        self._problem = problem


def _why(found: Disposal) -> str:
    if found.state == work_order.DONE:
        return "closed there; the alarm lasts until it is over here"
    return "taken there"
