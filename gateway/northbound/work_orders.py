"""Alarms to a platform that takes work orders. What is owed is every change of an alarm that it has not confirmed.

It follows `alarm_change` from the store, and keeps how far each alarm was delivered (`order_sent`): changes of one
alarm go strictly in their order, one at a time, and an order that the platform refuses holds up no other. What was
taken is written down with the commits that come anyway, while the next is under way: what a kill takes of that is sent
again, under the same code.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
import random
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from gateway import alarm_rows, civil, positions
from gateway.alarm_machine import RAISED
from gateway.alarm_rows import Alarm, Changed
from gateway.areas import Areas
from gateway.batch import Batch
from gateway.clock import Clock
from gateway.errors import NorthboundError, StoreError
from gateway.intervals import Intervals
from gateway.limits import (
    ORDER_FRESH_S,
    ORDER_IDLE_S,
    ORDER_LOOK_S,
    ORDER_REFUSED_MAX_S,
    ORDER_RETRY_MAX_S,
    ORDER_RETRY_MIN_S,
    ORDERS_AHEAD,
    ORDERS_AHEAD_S,
    ORDERS_FRESH_SHARE,
    ORDERS_IN_FLIGHT,
    ORDERS_LOOK_MAX,
)
from gateway.northbound.http_client import Answer
from gateway.northbound.order_answers import Asker, OrderAnswers, is_from
from gateway.store import Store
from protocols.alarm_rules import Rule
from protocols.northbound import work_order

log = logging.getLogger(__name__)
_TOLD_MAX = 8
_UNTOLD = (alarm_rows.SILENCED, alarm_rows.UNSILENCED)


class Platform(Asker, Protocol):
    async def post(self, url: str, body: bytes) -> Answer: ...


class Settings(NamedTuple):
    """As [[work_orders]] has them."""

    name: str
    gateway: str
    url: str
    answer_url: str | None
    severity_min: int
    language: str
    days: int
    zone: ZoneInfo
    status_url: str | None = None
    status_every_s: int = 30
    in_flight: int = ORDERS_IN_FLIGHT


class _Owed:
    """An alarm of which changes are still to be delivered. They stay in the store: this is all of it in memory, some
    200 bytes for each of ALARMS_KEPT_MAX."""

    __slots__ = ("due_s", "is_busy", "pause_s", "seen_s", "severity", "since_ms", "told")

    def __init__(self, severity: int, since_ms: int) -> None:
        self.severity = severity
        self.since_ms = since_ms
        self.seen_s = 0.0  # of when the newest of it is
        self.due_s = 0.0
        self.pause_s = ORDER_RETRY_MIN_S
        self.is_busy = False
        self.told = ""


class WorkOrders:
    """`run` is supervised by the daemon."""

    def __init__(
        self, settings: Settings, store: Store, platform: Platform, rules: Mapping[str, Rule], areas: Areas,
        clock: Clock, rng: random.Random,
    ) -> None:  # fmt: skip
        self.counters = dict.fromkeys(("delivered", "refused", "unanswered", "lost"), 0)
        self._settings = settings
        self._store = store
        self._platform = platform
        self._rules = rules
        self._areas = areas
        self._clock = clock
        self._rng = rng
        self._owed: dict[int, _Owed] = {}
        self._busy = 0
        self._ahead: list[int] = []  # those that are next, the first one last
        self._ahead_until_s = 0.0
        self._taken: dict[
            int, int
        ] = {}  # the latest change of an alarm that was taken, until that is written down
        self._unwritten = asyncio.Event()
        self._seen = 0
        self._before = 0  # the latest change when `run` began
        self._is_answered, self._unanswered = True, ""
        self._told: set[str] = set()  # why it did not answer
        self._pause_s = ORDER_RETRY_MIN_S  # between two tries of a platform that does not
        self._quiet_until_s = 0.0
        self._wake = asyncio.Event()
        self._answers = OrderAnswers(
            settings.name, settings.status_url, settings.status_every_s, settings.severity_min, settings.zone, store,
            platform, clock,
        )  # fmt: skip
        store.on_commit.append(self._committed)

    def _committed(self, batch: Batch) -> None:
        if batch.jobs:  # alarms are written by jobs
            self._wake.set()

    # ---- the story -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver, for ever."""
        self._before = await self._store.write(self._begin)
        self._owed.clear()
        self._ahead.clear()
        self._busy = self._seen = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answers.run())
            group.create_task(self._settle())
            while True:
                self._wake.clear()
                more = self._look()
                while (found := self._take_due()) is not None:
                    group.create_task(self._work(found))
                try:
                    # wait_for may swallow a cancellation
                    async with asyncio.timeout(0 if more else self._wait_s()):
                        await self._wake.wait()
                    await asyncio.sleep(ORDER_LOOK_S)
                except TimeoutError:
                    pass

    async def _work(self, number: int | None) -> None:
        """One alarm after the other, as long as there is one."""
        while number is not None:
            await self._deliver(number, self._owed[number])
            number = self._take_due()

    def _begin(self, connection: sqlite3.Connection) -> int:
        """A platform that is new hears of the alarms that are open, not of those that are over. The latest change."""
        name = self._settings.name
        if (
            connection.execute("SELECT 1 FROM order_sent WHERE northbound = ? LIMIT 1", (name,)).fetchone()
            is None
        ):
            connection.execute(
                "INSERT INTO order_sent SELECT ?, c.alarm, max(c.id) FROM alarm_change c"
                " JOIN alarm a ON a.id = c.alarm WHERE a.cleared_ms IS NOT NULL GROUP BY c.alarm",
                (name,),
            )
            connection.execute("INSERT OR IGNORE INTO order_sent VALUES (?, 0, 0)", (name,))
        found = connection.execute("SELECT max(id) FROM alarm_change").fetchone()
        return int(found[0] or 0)

    def _look(self) -> bool:
        """What has happened to alarms since the last look; whether there is more to see."""
        rows = self._store.read(
            lambda reader: reader.execute(
                "SELECT c.*, coalesce(a.severity, 0) FROM alarm_change c"
                " LEFT JOIN order_sent s ON s.northbound = ? AND s.alarm = c.alarm"
                " LEFT JOIN alarm a ON a.id = c.alarm"
                " WHERE c.id > ? AND c.id > coalesce(s.change, 0) ORDER BY c.id LIMIT ?",
                (self._settings.name, self._seen, ORDERS_LOOK_MAX),
            ).fetchall()
        )
        for *row, severity in rows:
            change = Changed(*row)
            self._seen = change.id
            owed = self._owed.get(change.alarm)
            if owed is None:
                owed = self._owed[change.alarm] = _Owed(severity, change.at_ms)
            owed.seen_s = self._clock.monotonic()
            if change.id <= self._before:  # a restart makes nothing fresh
                owed.seen_s -= max(0, self._clock.unix_ms() - change.at_ms) / 1000
            if change.kind in _UNTOLD:
                owed.due_s = 0.0  # it may have ended
        if self._ahead:  # what is new may go before them
            now_s = self._clock.monotonic()
            near = {*self._ahead, *(row[1] for row in rows)}
            self._ahead = self._first((number for number in near if number in self._owed), now_s)
        return len(rows) == ORDERS_LOOK_MAX

    def _take_due(self) -> int | None:
        """The alarm that is next, which is busy from now on; None when there is none, or no room."""
        now_s = self._clock.monotonic()
        if self._busy >= self._room() or now_s < self._quiet_until_s:
            return None
        if not self._ahead or now_s >= self._ahead_until_s:
            self._ahead = self._first(self._owed, now_s)
            self._ahead_until_s = now_s + ORDERS_AHEAD_S
        while self._ahead:
            owed = self._owed.get(self._ahead[-1])
            if owed is not None and self._is_due(owed, now_s):
                if not self._has_room(owed, now_s):  # nor has any behind it
                    return None
                owed.is_busy = True
                self._busy += 1
                return self._ahead.pop()
            self._ahead.pop()
        return None

    def _room(self) -> int:
        """Who does not answer is asked by one for all."""
        return self._settings.in_flight if self._is_answered else 1

    def _has_room(self, owed: _Owed, now_s: float) -> bool:
        """Some is kept for what is fresh: a slow platform would hold it up by as many old ones as may be under way."""
        room = self._room()
        kept = max(1, room // ORDERS_FRESH_SHARE) if room > 1 and not self._is_fresh(owed, now_s) else 0
        return self._busy < room - kept

    @staticmethod
    def _is_fresh(owed: _Owed, now_s: float) -> bool:
        return owed.seen_s >= now_s - ORDER_FRESH_S

    def _first(self, numbers: Iterable[int], now_s: float) -> list[int]:
        """Some that are due: what is fresh goes before what has been owed for long, and of each the worst first."""

        def order(number: int) -> tuple[bool, int, float, int]:
            owed = self._owed[number]
            return not self._is_fresh(owed, now_s), -owed.severity, owed.due_s, number

        due = (number for number in numbers if self._is_due(self._owed[number], now_s))
        return heapq.nsmallest(ORDERS_AHEAD, due, key=order)[::-1]

    @staticmethod
    def _is_due(owed: _Owed, now_s: float) -> bool:
        return not owed.is_busy and owed.due_s <= now_s

    def _wait_s(self) -> float:
        now_s = self._clock.monotonic()
        if self._busy >= self._room():
            return ORDER_IDLE_S  # who ends goes on by itself
        dues = [
            max(owed.due_s, self._quiet_until_s) for owed in self._owed.values()
            if not owed.is_busy and self._has_room(owed, now_s)
        ]  # fmt: skip
        return max(0.0, min([now_s + ORDER_IDLE_S, *dues]) - now_s)

    async def _deliver(self, number: int, owed: _Owed) -> None:
        """The changes of one alarm, until there are none or one is not taken."""
        is_kept = number in self._taken
        try:
            while (change := self._store.read(lambda reader: self._next(reader, number))) is not None:
                alarm = self._store.read(lambda reader: alarm_rows.get(reader, number))
                if alarm is None:
                    break
                is_kept = True
                wait_s = (alarm.silent_until_ms - self._clock.unix_ms()) / 1000
                if wait_s > 0 and alarm.cleared_ms is None:
                    owed.due_s = self._clock.monotonic() + min(wait_s, 3600)
                    return
                if change.kind == RAISED and _was_silent(alarm):
                    self._note(number, self._store.read(lambda reader: _last_change(reader, number)))
                    break
                await self._send(alarm, change)
                self._note(number, change.id)
                owed.pause_s = ORDER_RETRY_MIN_S
            del self._owed[number]
            if not is_kept and self._store.read(lambda reader: alarm_rows.get(reader, number)) is None:
                self._lost(number)
        except NorthboundError as error:
            self._again(number, owed, ORDER_RETRY_MAX_S)
            self._tell(str(error))
            self._unanswered = str(error)
            self._is_answered = False
            self._quiet_until_s = self._clock.monotonic() + self._pause_s * (0.5 + 0.5 * self._rng.random())
            self._pause_s = min(2 * self._pause_s, ORDER_RETRY_MAX_S)
            self.counters["unanswered"] += 1
        except _Refused as error:
            self._again(number, owed, ORDER_REFUSED_MAX_S)
            if str(error) != owed.told:
                owed.told = str(error)
                log.warning("%s: order of alarm %d: %s; trying again", self._settings.name, number, error)
            self.counters["refused"] += 1
        except StoreError:  # the store tells of it
            self._again(number, owed, ORDER_RETRY_MAX_S)
        finally:
            owed.is_busy = False
            self._busy -= 1
            self._wake.set()

    def _next(self, reader: sqlite3.Connection, alarm: int) -> Changed | None:
        """The first change that was not delivered."""
        row = reader.execute(
            "SELECT * FROM alarm_change WHERE alarm = ? AND id > max(?, coalesce("
            "(SELECT change FROM order_sent WHERE northbound = ? AND alarm = ?), 0)) ORDER BY id LIMIT 1",
            (alarm, self._taken.get(alarm, 0), self._settings.name, alarm),
        ).fetchone()
        return None if row is None else Changed(*row)

    def _tell(self, why: str) -> None:
        """Each reason once, until there was an answer."""
        if why not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(why)
            log.warning("%s: %s; all that is owed is tried again", self._settings.name, why)

    def _lost(self, number: int) -> None:
        """So many came since that the store keeps it no longer."""
        log.error("%s: alarm %d was never delivered, and is not kept any more", self._settings.name, number)
        self.counters["lost"] += 1

    def _again(self, number: int, owed: _Owed, pause_max_s: float) -> None:
        owed.due_s = self._clock.monotonic() + owed.pause_s * (0.5 + 0.5 * self._rng.random())
        owed.pause_s = min(2 * owed.pause_s, pause_max_s)

    def _note(self, alarm: int, change: int) -> None:
        """It is taken as far as that."""
        self._taken[alarm] = change
        self._unwritten.set()

    async def _settle(self) -> None:
        """Write down what was taken, as much as there is with each commit. No order waits for it."""
        while True:
            await self._unwritten.wait()
            self._unwritten.clear()
            batch = dict(self._taken)
            try:
                await self._store.write(functools.partial(self._write_taken, batch))
            except StoreError:  # the store tells of it
                self._unwritten.set()
                await asyncio.sleep(ORDER_RETRY_MAX_S)
                continue
            for alarm, change in batch.items():
                if self._taken[alarm] == change:
                    del self._taken[alarm]

    def _write_taken(self, batch: Mapping[int, int], connection: sqlite3.Connection) -> None:
        """Of alarms that are kept; of the others nothing is to be known any more."""
        connection.executemany(
            "INSERT OR REPLACE INTO order_sent SELECT ?, id, ? FROM alarm WHERE id = ?",
            [(self._settings.name, change, alarm) for alarm, change in batch.items()],
        )

    # ---- what is said ----------------------------------------------------------------------------------------------

    async def _send(self, alarm: Alarm, change: Changed) -> None:
        if alarm.severity < self._settings.severity_min or change.kind in _UNTOLD:
            return
        if change.kind == "acknowledged" and is_from(self._settings.name, change.who):
            return  # it knows
        code = work_order.code_of(alarm.node, alarm.epoch, alarm.seq, alarm.rule)
        told = await self._post(self._settings.url, work_order.encode(self._order(alarm, change, code)))
        if alarm.acknowledged_ms is None and alarm.cleared_ms is None:
            await self._answers.told(alarm.id, code, told)
        if change.kind == "cleared" and self._settings.answer_url is not None:
            tier = self._tier(alarm, change)
            body = work_order.encode_answer(
                code, tier.handler or tier.code, tier.code, self._civil(change.at_ms), work_order.DONE
            )
            await self._post(self._settings.answer_url, body)
        self.counters["delivered"] += 1

    async def _post(self, url: str, body: bytes) -> bytes:
        answer = await self._platform.post(url, body)
        self._is_answered, self._unanswered = True, ""
        self._pause_s, self._quiet_until_s = ORDER_RETRY_MIN_S, 0.0
        self._told.clear()
        why = work_order.refusal(answer.status, answer.body)
        if why is not None:
            raise _Refused(f"the platform said {why}")
        return answer.body

    def _order(self, alarm: Alarm, change: Changed, code: str) -> work_order.Order:
        settings = self._settings
        rule = self._rules.get(alarm.rule) or Rule(
            alarm.rule, alarm.rule, alarm.rule, alarm.severity, "event"
        )
        tier = self._tier(alarm, change)
        position = self._store.read(lambda reader: positions.of_site(reader, alarm.site))
        until = civil.at(alarm.noticed_ms, settings.zone) + timedelta(days=settings.days)
        story = work_order.Story(
            zh=rule.zh, en=rule.en, severity=alarm.severity, place=alarm.site, node=f"{alarm.node:04x}",
            since=self._civil(alarm.raised_ms), detail=alarm_rows.detail_text(alarm.detail), tier=tier.name,
            handler=tier.handler, escalated=change.tier, is_late=bool(alarm.late), is_flapping=bool(alarm.flapping),
            position="" if position is None else str(position),
        )  # fmt: skip
        return work_order.Order(
            code=code,
            scene=alarm.rule,
            content=work_order.content(story, settings.language),
            place=alarm.site,
            area=tier.code,
            dispatched=self._civil(alarm.noticed_ms),
            until=until.strftime("%Y-%m-%d"),
            state=_state(alarm, change),
            kind=rule.order,
            sender=f"tidegate {settings.gateway}",
        )

    def _tier(self, alarm: Alarm, change: Changed) -> Any:
        tiers = self._areas.tiers(alarm.area)
        return tiers[min(change.tier, len(tiers) - 1)]

    def _civil(self, unix_ms: int) -> str:
        return civil.at(unix_ms, self._settings.zone).strftime(work_order.SECONDS)

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Readings got another time: an alarm keeps the one that it began with."""

    def close(self) -> None:
        """`run` has ended for good: hear of no further commit."""
        self._store.on_commit.remove(self._committed)

    def held(self) -> tuple[int, int, Intervals]:
        """Nothing of the records: an alarm has all that is said of it."""
        return self._store.last_event, self._store.last_reading + 1, Intervals()

    # ---- for people ------------------------------------------------------------------------------------------------

    @property
    def why_not(self) -> str:
        """Connected: what there was in the place of an answer, to an order or to a question about one."""
        return self._unanswered or self._answers.unanswered

    def status(self) -> dict[str, Any]:
        """As the northbounds of records say it; `backlog` counts alarms."""
        backlog = len(self._owed)
        oldest = min((owed.since_ms for owed in self._owed.values()), default=None)
        return {
            **self.counters,
            **self._answers.counters,
            "connected": self._is_answered and not self._answers.unanswered,
            "backlog": backlog,
            "in_flight": self._busy,
            "event_cursor": 0 if backlog else self._store.last_event,
            "oldest_undelivered_ms": oldest,
        }


def _last_change(reader: sqlite3.Connection, alarm: int) -> int:
    found = reader.execute("SELECT max(id) FROM alarm_change WHERE alarm = ?", (alarm,)).fetchone()
    return int(found[0] or 0)


class _Refused(Exception):
    """The platform answered, and it was no yes."""


def _was_silent(alarm: Alarm) -> bool:
    """Whether it ended in a silence: if nobody was told that it began, nobody is."""
    return alarm.cleared_ms is not None and alarm.cleared_ms < alarm.silent_until_ms


def _state(alarm: Alarm, change: Changed) -> int:
    if change.kind == "cleared":
        return work_order.DONE
    is_known = alarm.acknowledged_ms is not None and change.at_ms >= alarm.acknowledged_ms
    return work_order.DOING if change.kind == "acknowledged" or is_known else work_order.PENDING
