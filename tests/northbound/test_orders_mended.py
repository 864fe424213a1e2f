"""Work orders to a platform that is slow, and settings that would have given a secret away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway import alarm_rows
from gateway.config_alarms import WorkOrdersSection
from gateway.errors import ConfigError
from gateway.limits import ORDERS_IN_FLIGHT
from gateway.northbound.http_client import Answer
from gateway.northbounds import check_work_orders
from hil_tests.world.order_desk import NO, OK
from tests.gateway.desk import Desk, desk
from tests.northbound.test_orders_drain import delivery, owe, put, until


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)


def story(folder: Path, scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with desk(folder) as made:
            await scenario(made)

    asyncio.run(run())


class SlowPlatform:
    """Takes an order at once and answers when it is let."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.goes_on = asyncio.Event()
        self.refuses_once: set[str] = set()

    async def post(self, url: str, body: bytes) -> Answer:
        site = json.loads(body)["place"]
        self.came.append(site)
        if site in self.refuses_once:
            self.refuses_once.remove(site)
            return Answer(200, NO)
        await self.goes_on.wait()
        for _ in range(10):  # others have their turn
            await asyncio.sleep(0)
        return Answer(200, OK)

    async def get(self, url: str, etag: str = "") -> Answer:
        raise AssertionError("there is no status_url")


@pytest.mark.parametrize("in_flight", [2, ORDERS_IN_FLIGHT])
def test_a_fresh_alarm_waits_for_no_answer_to_an_old_order(tmp_path: Path, in_flight: int) -> None:
    """Each answer may take the whole time-out, and as many old orders as may be under way are."""

    async def scenario(made: Desk) -> None:
        await owe(made, 2 * in_flight)
        platform = SlowPlatform()
        sender = delivery(made, platform, in_flight)
        task = asyncio.create_task(sender.run())
        await until(lambda: len(platform.came) >= in_flight - max(1, in_flight // 8))
        looks = 0
        look = sender._look

        def counted() -> bool:
            nonlocal looks
            looks += 1
            return look()

        sender._look = counted  # type: ignore[method-assign]
        for _ in range(1000):
            await asyncio.sleep(0)
        assert looks < 10  # old ones that wait for room keep nobody busy
        assert "fresh" not in platform.came
        await made.store.write(put(made, "fresh", 1, 0, is_over=False))
        await until(lambda: "fresh" in platform.came)
        assert len(platform.came) <= in_flight
        platform.goes_on.set()
        await until(lambda: not sender.status()["backlog"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


def test_a_refused_fresh_alarm_goes_again_before_what_was_next_meanwhile(tmp_path: Path) -> None:
    async def scenario(made: Desk) -> None:
        await owe(made, 100)
        platform = SlowPlatform()
        platform.refuses_once.add("fresh")
        sender = delivery(made, platform, 1)
        task = asyncio.create_task(sender.run())
        await until(lambda: len(platform.came) == 1)
        assert len(sender._ahead) > 90
        await made.store.write(put(made, "fresh", 1, 0, is_over=False))
        platform.goes_on.set()
        await until(lambda: "fresh" in platform.came)
        platform.goes_on.clear()
        await until(lambda: sender.counters["refused"] == 1 and sender.status()["in_flight"] == 1)
        made.clock.pass_s(2)  # its pause is over, and what was sorted out before is a moment old
        before = len(platform.came)
        platform.goes_on.set()
        await until(lambda: platform.came.count("fresh") == 2)
        assert platform.came.index("fresh", before) - before <= 3  # the alarm under way has three changes
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


def test_an_end_that_went_before_it_was_looked_for_is_not_called_lost(tmp_path: Path) -> None:
    """It is looked at again when what was taken is written down, but for a platform that keeps it waiting."""

    async def scenario(made: Desk) -> None:
        platform, sees, writes = SlowPlatform(), True, asyncio.Event()
        sender = delivery(made, platform, 1)
        look, write = sender._look, made.store.write

        async def slow_write(work: Callable[[sqlite3.Connection], object]) -> object:
            if getattr(work, "func", None) == sender._write_taken:
                await writes.wait()
            return await write(work)

        sender._look = lambda: sees and look()  # type: ignore[method-assign]
        made.store.write = slow_write  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(sender.run())
        await made.store.write(put(made, "first", 2, 0, is_over=False))
        await made.store.write(put(made, "other", 1, 0, is_over=False))
        await until(lambda: platform.came == ["first"] and len(sender._owed) == 2)
        sees = False
        now_ms = made.clock.unix_ms()
        await made.store.write(lambda connection: alarm_rows.change(connection, 1, "cleared", now_ms, 0))
        platform.goes_on.set()
        await until(lambda: platform.came[:2] == ["first", "first"])
        platform.goes_on.clear()
        await until(lambda: platform.came == ["first", "first", "other"])
        sees = True
        sender._wake.set()
        await until(lambda: len(sender._owed) == 2)
        writes.set()
        await until(lambda: not sender._taken)
        platform.goes_on.set()
        await until(lambda: not sender.status()["backlog"])
        assert sender.counters["lost"] == 0
        assert platform.came == ["first", "first", "other"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, scenario)


@pytest.mark.parametrize("text", ["Zq81Xv ", "Zq81\nXv", "Zq81 Xv", "Zq81\u4e2dXv", "Zq81\x7fXv"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    """An editor leaves a blank at the end: each order would fail, with the token in the log."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(text + "\n", encoding="utf-8")
    section = WorkOrdersSection(name="hotline", url="https://12345.example/orders", token_file=str(file))
    with pytest.raises(ConfigError, match="must hold the token alone") as refused:
        check_work_orders(section)
    assert "Zq81" not in str(refused.value)
    file.write_text("Zq81-Xv._~+/==\n")
    assert check_work_orders(section) == "https://12345.example/orders"
