"""Days of orders drain fast, each alarm's changes in their order, and what is fresh does not wait for them."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway import alarm_rows
from gateway.alarm_rows import Alarm
from gateway.areas import Areas
from gateway.errors import NorthboundError, StoreError
from gateway.limits import ORDERS_AHEAD, ORDERS_FRESH_SHARE, ORDERS_IN_FLIGHT
from gateway.northbound.http_client import Answer
from gateway.northbound.work_orders import Settings, WorkOrders
from hil_tests.world.order_desk import NO, OK
from protocols.alarm_rules import rules
from tests.gateway.desk import Desk, desk

ALARMS = 2 * ORDERS_AHEAD + 50
DAY_MS = 86_400_000


class Platform:
    """Takes orders in its own time, and knows how many came at once."""

    def __init__(self, seed: int = 1) -> None:
        self.told: list[tuple[str, int]] = []  # site and state
        self.under_way: dict[str, int] = {}
        self.most = 0
        self.is_away = False
        self.refused: set[str] = set()
        self._rng = random.Random(seed)

    async def post(self, url: str, body: bytes) -> Answer:
        told = json.loads(body)
        site = told.get("place", told["workordercode"])
        assert site not in self.under_way, "two changes of one alarm at once"
        self.under_way[site] = 1
        self.most = max(self.most, len(self.under_way))
        try:
            for _ in range(self._rng.randrange(4)):
                await asyncio.sleep(0)
            if self.is_away:
                raise NorthboundError("nobody there")
            if site in self.refused:
                return Answer(200, NO)
            self.told.append((site, told["state"]))
            return Answer(200, OK)
        finally:
            del self.under_way[site]

    async def get(self, url: str, etag: str = "") -> Answer:
        raise AssertionError("there is no status_url")


def put(
    made: Desk, site: str, severity: int, ago_ms: int, *, is_over: bool
) -> Callable[[sqlite3.Connection], None]:
    now_ms = made.clock.unix_ms()

    def write(connection: sqlite3.Connection) -> None:
        at_ms = now_ms - ago_ms
        cleared_ms = at_ms + 1000 if is_over else None
        number = alarm_rows.insert(
            connection,
            Alarm(0, "cover_open", site, "330106", 0x12, 1, random.Random(site).getrandbits(30), severity, "40", at_ms,
                  at_ms, cleared_ms, 0, 0, 0, None, None, None, 0),
        )  # fmt: skip
        for kind in ("raised", "escalated", "cleared")[: 3 if is_over else 1]:
            alarm_rows.change(connection, number, kind, at_ms, 0)

    return write


def delivery(made: Desk, platform: Platform, in_flight: int = ORDERS_IN_FLIGHT) -> WorkOrders:
    settings = Settings(
        "hotline", "gw", "http://x/orders", None, 1, "en", 1, ZoneInfo("Asia/Shanghai"), in_flight=in_flight
    )
    return WorkOrders(settings, made.store, platform, rules(), Areas(), made.clock, random.Random(1))


async def owe(made: Desk, count: int = ALARMS) -> None:
    """Alarms of three days, of every severity, of which the platform knows nothing."""
    await made.store.write(
        lambda connection: connection.execute("INSERT INTO order_sent VALUES ('hotline', 0, 0)")
    )
    step_ms = 2 * DAY_MS // count
    works = [
        put(made, f"old-{number}", 1 + number % 3, 3 * DAY_MS - number * step_ms, is_over=True)
        for number in range(count)
    ]
    await asyncio.gather(*(made.store.write(work) for work in works))  # one commit


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(200_000):
        if reached():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)


def story(folder: Path, scenario: Callable[[Desk, Platform], object]) -> None:
    async def run() -> None:
        with desk(folder) as made:
            await scenario(made, Platform())  # type: ignore[misc]

    asyncio.run(run())


def test_a_backlog_goes_over_several_connections_and_each_alarm_keeps_its_order(tmp_path: Path) -> None:
    async def scenario(made: Desk, platform: Platform) -> None:
        await owe(made)
        sender = delivery(made, platform)
        task = asyncio.create_task(sender.run())
        await until(lambda: len(platform.told) >= 3 * ALARMS and not sender.status()["backlog"])
        assert platform.most == ORDERS_IN_FLIGHT - ORDERS_IN_FLIGHT // ORDERS_FRESH_SHARE
        states: dict[str, list[int]] = {}
        for site, state in platform.told:
            states.setdefault(site, []).append(state)
        assert states == {f"old-{number}": [0, 0, 2] for number in range(ALARMS)}
        await until(lambda: not sender._taken)
        rows = made.store.read(
            lambda c: c.execute("SELECT count(*) FROM order_sent WHERE alarm > 0").fetchone()
        )
        assert rows[0] == ALARMS
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


def test_a_fresh_alarm_goes_before_a_backlog_that_is_worse(tmp_path: Path) -> None:
    """After a restart, too: what is old is not fresh because the gateway began a moment ago."""

    async def scenario(made: Desk, platform: Platform) -> None:
        await owe(made)
        sender = delivery(made, platform)
        task = asyncio.create_task(sender.run())
        await until(lambda: len(platform.told) > 300)
        await made.store.write(put(made, "fresh", 1, 0, is_over=False))
        before = len(platform.told)
        await until(lambda: ("fresh", 0) in platform.told)
        # Those under way go on with their alarms; of 1,300 changes that are owed it waits for no more.
        assert platform.told.index(("fresh", 0)) - before <= 3 * ORDERS_IN_FLIGHT
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


def test_who_does_not_answer_is_asked_by_one_order_and_by_the_worst(tmp_path: Path) -> None:
    async def scenario(made: Desk, platform: Platform) -> None:
        await owe(made, 40)
        platform.is_away = True
        sender = delivery(made, platform)
        task = asyncio.create_task(sender.run())
        await until(lambda: not sender.status()["connected"] and not sender.status()["in_flight"])
        platform.most = 0
        for _ in range(5):
            made.clock.pass_s(10)
            tries = sender.counters["unanswered"]
            sender._wake.set()
            await until(lambda tries=tries: sender.counters["unanswered"] > tries)  # type: ignore[misc]
        assert platform.most == 1
        platform.is_away = False
        made.clock.pass_s(10)
        sender._wake.set()
        await until(lambda: len(platform.told) == 120)
        worst = {f"old-{number}" for number in range(40) if number % 3 == 2}
        assert platform.told[0][0] in worst
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


def test_a_full_disk_holds_up_no_order_and_a_kill_then_costs_copies_only(tmp_path: Path) -> None:
    async def scenario(made: Desk, platform: Platform) -> None:
        await owe(made, 30)
        sender = delivery(made, platform)
        write = made.store.write

        async def full(work: Callable[[sqlite3.Connection], object]) -> object:
            if getattr(work, "func", None) == sender._write_taken:
                raise StoreError("disk full")
            return await write(work)  # type: ignore[arg-type]

        made.store.write = full  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(sender.run())
        await until(lambda: len(platform.told) == 90 and not sender.status()["backlog"])
        assert sender.counters["lost"] == 0
        assert len(sender._taken) == 30
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made.store.write = write  # type: ignore[method-assign]
        again = delivery(made, platform)
        task = asyncio.create_task(again.run())
        await until(lambda: len(platform.told) == 180 and not again.status()["backlog"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)
