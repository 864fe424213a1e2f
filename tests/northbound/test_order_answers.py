"""What the desk's people do comes back: they acknowledge the alarm, once, and whatever else they say is bounded."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.errors import NorthboundError, StoreError
from gateway.limits import ORDERS_ETAGS_MAX
from gateway.northbound.http_client import Answer
from gateway.northbound.order_answers import OrderAnswers
from gateway.northbound.work_orders import Settings, WorkOrders
from gateway.northbounds import OrdersNorthbound
from hil_tests.world.order_desk import OrderDesk
from protocols.northbound import work_order
from protocols.northbound.work_order import WorkOrderError
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.alarm_bench import NODE, RULES, TILTED, TREE, Bench, DeskPlatform, deliver, idle, run

ZONE = ZoneInfo("Asia/Shanghai")
URL = "http://x/orders/{code}"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)


def answers(bench: Bench, platform: Any) -> OrderAnswers:
    return OrderAnswers("hotline", URL, 30, 1, ZONE, bench.store, platform, bench.clock)


async def ordered(bench: Bench, there: OrderDesk) -> None:
    """A stolen cover, and its order at the desk."""
    await bench.tell(TILTED, RAISED)
    await bench.look()
    await deliver(bench, there, idle)


def take(bench: Bench, there: OrderDesk, does: str = "seen", at: str = "2026-09-21 22:13:25") -> None:
    (order,) = there.orders.values()
    there.clerk(order, does, at, "zhang-3")


def test_a_desk_that_answers_orders_and_no_questions_is_not_called_connected(tmp_path: Path) -> None:
    """Its status page may lie behind another door: then nobody hears here that somebody acts there."""

    async def life(bench: Bench) -> None:
        there = OrderDesk()
        await ordered(bench, there)
        settings = Settings("hotline", "gw", "http://x/orders", None, 1, "en", 1, ZONE, URL, 5)
        sender = WorkOrders(
            settings, bench.store, DeskPlatform(there), RULES, TREE, bench.clock, random.Random(1)
        )
        northbound = OrdersNorthbound("hotline", sender, bench.clock)
        assert northbound.problem() is None
        there.faults.append("away")
        await sender._answers.round(URL)
        assert northbound.problem() == "not connected: nobody there"
        assert northbound.picture()["connected"] == 0.0
        await sender._answers.round(URL)
        assert northbound.problem() is None
        there.faults.append("away")
        await sender._answers.round(URL)
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        await sender._answers.round(URL)
        assert northbound.problem() is None, "there is nothing to ask any more"

    run(tmp_path, life)


def test_who_takes_the_order_there_has_acknowledged_the_alarm_here_and_it_goes_no_further_up(
    tmp_path: Path,
) -> None:
    there = OrderDesk()

    async def begins(bench: Bench) -> None:
        await bench.made.enrol(NODE, site="lid-1")
        await ordered(bench, there)
        asker = answers(bench, DeskPlatform(there))
        await asker.round(URL)
        assert bench.alarms()[0].acknowledged_ms is None, "nobody has taken it yet"
        bench.clock.pass_s(60)
        take(bench, there)
        await asker.round(URL)
        (alarm,) = bench.alarms()
        assert alarm.acknowledged_by == "hotline: zhang-3"
        assert alarm.acknowledged_ms == alarm.noticed_ms + 5000, "when they say that it was"
        assert asker.counters == {"acknowledged": 1, "unreadable": 0}

    async def goes_on(bench: Bench) -> None:
        """After a kill: it is still so, and is neither asked nor told again."""
        asked = there.counters["asked"]
        await answers(bench, DeskPlatform(there)).round(URL)
        assert there.counters["asked"] == asked
        bench.clock.pass_s(86_400)
        await bench.look()
        assert bench.changes() == ["raised", "acknowledged"], "no escalation"
        posts = there.counters["posts"]
        await deliver(bench, there, idle)
        assert there.counters["posts"] == posts, "who said so need not be told"
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        await deliver(bench, there, idle)
        (order,) = there.orders.values()
        assert [state for _, state, _ in order.history] == [0, 2]
        query = "SELECT who, why, action FROM audit WHERE action LIKE 'alarm%'"
        rows = bench.store.read(lambda reader: reader.execute(query).fetchall())
        assert rows == [("hotline: zhang-3", "taken there", "alarm.acknowledge")]

    run(tmp_path, begins, goes_on)


def test_who_closes_the_order_of_a_cover_that_is_still_open_has_acknowledged_it_and_no_more(
    tmp_path: Path,
) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await ordered(bench, there)
        take(bench, there, "close")
        await answers(bench, DeskPlatform(there)).round(URL)
        (alarm,) = bench.alarms("open")
        assert alarm.acknowledged_by == "hotline: zhang-3"
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        await deliver(bench, there, idle)
        (order,) = there.orders.values()
        assert (order.is_done, order.answers) == (True, 1)

    run(tmp_path, life)


@pytest.mark.parametrize(
    ("at", "after_s"),
    [
        ("1970-01-01 00:00:00", 0),
        ("0001-01-01 00:00:00", 0),
        ("9999-12-31 23:59:59", 60),
        ("soon", 60),
        ("2026-13-40 99:99:99", 60),
    ],
)
def test_a_platform_whose_clock_is_wrong_acknowledges_neither_before_the_order_nor_in_the_future(
    tmp_path: Path, at: str, after_s: int
) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await ordered(bench, there)
        (alarm,) = bench.alarms()
        bench.clock.now_ms = alarm.noticed_ms + 60_000
        take(bench, there, at=at)
        await answers(bench, DeskPlatform(there)).round(URL)
        assert bench.alarms()[0].acknowledged_ms == alarm.noticed_ms + after_s * 1000

    run(tmp_path, life)


class Says:
    """A platform that answers each question with the same."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def get(self, url: str, etag: str = "") -> Answer:
        self.asked.append(etag)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _body(result: object) -> bytes:
    return json.dumps({"success": True, "code": 10000, "message": "", "resultData": result}).encode()


@pytest.mark.parametrize(
    ("status", "body", "unreadable"),
    [
        (200, b"", 1),
        (200, b"[" * 60_000, 1),
        (200, b"\xff\xfe", 1),
        (200, b'{"success":false,"code":50001}', 1),
        (200, _body([]), 1),
        (200, _body("x" * 60_000), 1),
        (200, _body({"workordercode": "TGNOTOURS", "state": 1}), 1),
        (200, _body({"workordercode": ["TG"], "state": 1}), 1),
        (200, b'{"success":true,"code":10000,"resultData":{"workordercode":"CODE","state":true}}', 1),
        (200, b'{"success":true,"code":10000,"resultData":{"workordercode":"CODE","state":"1"}}', 1),
        (200, b'{"success":true,"code":10000,"resultData":{"workordercode":"CODE","state":7}}', 1),
        (200, b'{"success":true,"code":10000,"resultData":{"workordercode":"CODE","state":1e400}}', 1),
        (200, b'{"success":true,"code":10000,"resultData":{"workordercode":"CODE","state":0}}', 0),
        (200, _body(None), 0),
        (500, b"<html>", 1),
        (302, b"", 1),
        (404, b"", 0),
        (304, b"", 0),
    ],
)
def test_what_is_no_word_on_the_order_acknowledges_nothing(
    tmp_path: Path, status: int, body: bytes, unreadable: int
) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await ordered(bench, there)
        (code,) = there.orders
        asker = answers(bench, Says(Answer(status, body.replace(b"CODE", code.encode()))))
        for _ in range(3):
            await asker.round(URL)
        assert bench.alarms()[0].acknowledged_ms is None
        assert asker.counters == {"acknowledged": 0, "unreadable": 3 * unreadable}

    run(tmp_path, life)


def test_names_that_come_back_are_cut_and_printable() -> None:
    handler = "李" * 5000
    told = {
        "workordercode": "TG1",
        "state": 1,
        "handlerid": handler,
        "disposaldeptid": "a\x1b[31m\nb",
        "processtime": 5,
    }
    found = work_order.disposal(_body(told), "TG1")
    assert found == work_order.Disposal(1, "李" * 64, "a [31m b", "5")
    assert work_order.disposal(_body({"workordercode": "TG1", "state": 2, "handlerid": 17}), "TG1") == (
        2,
        "17",
        "",
        "",
    )
    for odd in (True, None, [1], {"a": 1}, 10**30, 1.5):
        assert work_order.disposal(_body({"workordercode": "TG1", "state": 1, "handlerid": odd}), "TG1") == (
            1,
            "",
            "",
            "",
        )
    with pytest.raises(WorkOrderError) as caught:
        work_order.disposal(_body("y" * 60_000), "TG1")
    assert len(str(caught.value)) < 200


def test_an_answer_that_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await ordered(bench, there)
        asker = answers(bench, DeskPlatform(there))
        for _ in range(3):
            await asker.round(URL)
        assert (there.counters["asked"], there.counters["not_modified"]) == (3, 2)
        take(bench, there)
        await asker.round(URL)
        assert asker.counters["acknowledged"] == 1
        assert asker._etags == {}

    run(tmp_path, life)


def test_tags_kept_are_bounded(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        asker = answers(bench, Says(Answer(200, b"")))
        for alarm in range(2 * ORDERS_ETAGS_MAX):
            asker._keep_etag(alarm, '"x"')
            assert len(asker._etags) <= ORDERS_ETAGS_MAX

    run(tmp_path, life)


def test_the_answer_to_the_post_may_say_it_at_once(tmp_path: Path) -> None:
    there = OrderDesk()

    class Eager(DeskPlatform):
        async def post(self, url: str, body: bytes) -> Answer:
            await DeskPlatform.post(self, url, body)
            code = json.loads(body)["workordercode"]
            return Answer(200, _body({"workordercode": code, "state": 1, "handlerid": "auto"}))

    async def life(bench: Bench) -> None:
        await bench.tell(TILTED, RAISED)
        await bench.look()
        await deliver(bench, there, idle, platform=Eager(there))
        assert bench.alarms()[0].acknowledged_by == "hotline: auto"
        assert there.counters["posts"] == 1

    run(tmp_path, life)


def test_an_acknowledgement_that_the_disk_refused_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before its commit is the same: what is not on the disk was never said."""
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await ordered(bench, there)
        take(bench, there)
        asker = answers(bench, DeskPlatform(there))

        async def full(work: Any) -> Any:
            raise StoreError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(bench.store, "write", full)
            await asker.round(URL)
        assert bench.alarms()[0].acknowledged_ms is None
        assert bench.changes() == ["raised"]

    async def again(bench: Bench) -> None:
        asker = answers(bench, DeskPlatform(there))
        await asker.round(URL)
        await asker.round(URL)
        assert bench.changes() == ["raised", "acknowledged"]

    run(tmp_path, life, again)


def test_a_round_ends_where_the_platform_is_away_and_the_next_goes_on_with_the_other_orders(
    tmp_path: Path,
) -> None:
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        for node in range(1, 5):
            await bench.tell(TILTED, RAISED, node)
        await bench.look()
        await deliver(bench, there, idle)
        away = Says(NorthboundError("nobody there"))
        asker = answers(bench, away)
        await asker.round(URL)
        assert len(away.asked) == 1
        asker._asker = here = Says(Answer(404, b""))
        await asker.round(URL)
        assert len(here.asked) == 3, "one is left to the next round"
        await asker.round(URL)
        assert len(here.asked) == 3 + 4

    run(tmp_path, life)
