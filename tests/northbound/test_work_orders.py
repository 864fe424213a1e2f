"""Work orders: the engine and the sender over a real store, and the way over HTTP to a real desk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.areas import Areas
from gateway.config_alarms import AreaSection
from gateway.errors import NorthboundError
from gateway.northbound.http_client import HttpClient
from hil_tests.order_page import OrderServer
from hil_tests.world.order_desk import OrderDesk
from protocols.northbound import work_order

VECTORS = Path(work_order.__file__).parents[1] / "vectors" / "northbound" / "work_order.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
TREE = Areas(
    AreaSection(code=code, name=level, level=level, parent=parent, escalate_after_min=10)
    for code, level, parent in (
        ("330110001001", "grid", "330110001"), ("330110001", "street", "330110"), ("330110", "district", "3301"),
        ("3301", "city", None),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "is_success"),
    [
        (200, b'{"success":true,"code":10000,"message":"","resultData":null}', True),
        (200, b'{"success":"true","code":10000}', False),
        (200, b'{"success":true,"code":"10000"}', False),
        (200, b'{"success":1,"code":10000}', False),
        (200, b'{"success":true,"code":10001}', False),
        (500, b'{"success":true,"code":10000}', False),
        (204, b"", False),
        (200, b"[" * 100_000, False),
        (200, b"\xff", False),
        (200, b"[]", False),
    ],
)
def test_only_the_agreed_answer_is_a_success(status: int, body: bytes, is_success: bool) -> None:
    assert (work_order.refusal(status, body) is None) == is_success


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_golden_cases(case: dict[str, Any]) -> None:
    """Bodies and codes to the byte: platforms keep them for years."""
    check = case["check"]
    if check == "order":
        order = work_order.Order(**case["order"])
        assert work_order.encode(order) == case["body"].encode()
        if "story" in case:
            assert work_order.content(work_order.Story(**case["story"]), case["language"]) == order.content
    elif check == "answer":
        told = (case["code"], case["handler"], case["department"], case["at"], case["state"])
        assert work_order.encode_answer(*told) == case["body"].encode()
    elif check == "code":
        assert work_order.code_of(case["node"], case["epoch"], case["seq"], case["rule"]) == case["code"]
    elif check == "reply":
        assert (work_order.refusal(case["status"], case["body"].encode()) is None) == case["taken"]
    elif "disposal" in case:
        found = work_order.disposal(case["body"].encode(), case["code"])
        assert (None if found is None else found._asdict()) == case["disposal"]
    else:
        with pytest.raises(work_order.WorkOrderError):
            work_order.disposal(case["body"].encode(), case["code"])


def test_the_code_of_an_order_follows_from_the_record_alone() -> None:
    code = work_order.code_of(0x12, 281474976710655, 7, "cover_open")
    assert code == work_order.code_of(0x12, 281474976710655, 7, "cover_open") == "TGH3OAIPNAXEEVZMYLMI"
    others = {
        work_order.code_of(node, 1, seq, rule) for node in range(9) for seq in range(9) for rule in "ab"
    }
    assert len(others) == 162


def test_an_alarm_goes_up_a_tier_each_time_that_nobody_acknowledges_and_no_further_than_the_city() -> None:
    assert [tier.level for tier in TREE.tiers("330110001001")] == ["grid", "street", "district", "city"]
    assert [tier.level for tier in TREE.tiers("330110001999")] == ["street", "district", "city"]
    assert [tier.code for tier in TREE.tiers("4401")] == ["4401"]
    assert [tier.level for tier in Areas().tiers("x")] == [""]


@asynccontextmanager
async def server(there: OrderDesk) -> AsyncIterator[OrderServer]:
    made = OrderServer(there, structlog.get_logger())
    task = asyncio.create_task(made.run())
    await made.ready.wait()
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _order(code: str = "TG1", content: str = "c") -> bytes:
    return work_order.encode(
        work_order.Order(code, "s", content, "p", "a", "2026-01-01 00:00:00", "2026-01-02", 0, "event", "gw")
    )


def test_a_post_reaches_the_desk_over_http_and_a_page_shows_it_escaped() -> None:
    async def scenario() -> None:
        there = OrderDesk()
        async with server(there) as made:
            client = HttpClient(2.0, "secret", None)
            answer = await client.post(f"http://127.0.0.1:{made.port}/orders", _order(content="<b>&"))
            assert work_order.refusal(answer.status, answer.body) is None
            there.faults.extend(["error", "no", "garbage"])
            for _ in range(3):
                answer = await client.post(f"http://127.0.0.1:{made.port}/orders", _order())
                assert work_order.refusal(answer.status, answer.body) is not None
            page = (await made.handle(_request("GET", "/"))).body.decode()
            assert "&lt;b&gt;&amp;" in page
            assert "<b>&" not in page
            secret = page.partition('name="secret" value="')[2][:32]
            form = f"code=TG1&do=seen&secret={secret}".encode()
            assert (await made.handle(_request("POST", "/clerk", form, origin="http://evil"))).status == 403
            assert (await made.handle(_request("POST", "/clerk", b"code=TG1&do=seen"))).status == 403
            assert (await made.handle(_request("POST", "/clerk", form, origin="http://d"))).status == 303
            assert there.orders["TG1"].seen_by_clerk

    asyncio.run(scenario())


def _request(method: str, target: str, body: bytes = b"", origin: str = "") -> Any:
    from gateway.web import Request

    headers = {"host": "d"} | ({"origin": origin} if origin else {})
    return Request(method, target, headers, body, "127.0.0.1")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000, b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000],
)  # fmt: skip
def test_a_hostile_answer_is_an_error_of_ours_and_bounded(answer: bytes) -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                writer.write(answer)
                await writer.drain()
            writer.close()

        made = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = made.sockets[0].getsockname()[1]
        with pytest.raises(NorthboundError):
            await HttpClient(5.0, None, None).post(f"http://127.0.0.1:{port}/", b"{}")
        made.close()

    asyncio.run(scenario())
