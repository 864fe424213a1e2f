"""A hotline desk that was away for 72 hours: how fast the orders drain, beside a floor, and what a fresh alarm waits.

    python bench/orders.py [plain] [40ms] [closing] [--alarms 15000]

Alarms that are over, most of the 20,000 that a gateway keeps: each raised, told to the next tier and cleared, so three
changes and four requests (the end is posted to `answer_url` too). The desk is a process of its own on the other core;
it keeps connections open, answers 40 ms later, or closes after each answer. The floor is the HTTP client alone with
orders that are ready, as many under way. Meanwhile ten alarms a second begin; their time runs from their commit to the
desk's yes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sqlite3
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rig, steps
from gateway import alarm_rows
from gateway.alarm_rows import Alarm
from gateway.areas import Areas
from gateway.clock import SystemClock
from gateway.daemon import EXTRA_SCHEMA
from gateway.limits import ORDERS_IN_FLIGHT
from gateway.northbound.http_client import Answer, HttpClient
from gateway.northbound.work_orders import Settings, WorkOrders
from gateway.store import Store
from hil_tests.world import order_desk
from protocols.alarm_rules import rules
from protocols.northbound import work_order

KINDS = ("plain", "40ms", "closing")
CHANGES, REQUESTS = 3, 4  # of each alarm
FLOOR_REQUESTS = 20_000
FRESH_PER_S = 10
OUTAGE_MS = 72 * 3_600_000
ROUND_TRIP_S = 0.04
RULE = "cover_open"
FRESH_NODE = 0x7000


# ---- the far side ------------------------------------------------------------------------------------------------


class DeskLine(asyncio.Protocol):
    """One connection to the desk: requests in their order."""

    def __init__(self, desk: order_desk.OrderDesk, kind: str) -> None:
        self._desk = desk
        self._kind = kind
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head, end, body = self._data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            if not end or len(body) < length:
                return
            self._data = body[length:]
            answer = self._desk.take(body[:length], time.time())
            self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    def _answer(self, answer: bytes) -> None:
        if self._kind == "40ms":
            asyncio.get_running_loop().call_later(ROUND_TRIP_S, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(answer)
        if self._kind == "closing":
            self._transport.close()


def far_side(kind: str, pipe: Connection) -> None:
    """A desk in a process of its own: tells its port, ends when the pipe does."""

    async def serve() -> None:
        desk = order_desk.OrderDesk(orders_max=1_000_000)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: DeskLine(desk, kind), "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)
        orders = [order for order in desk.orders.values() if order.is_done]
        answered = sum(order.answers > 0 for order in orders)
        pipe.send((len(desk.orders), len(orders), answered, desk.counters["backwards"]))
        server.close()

    rig.pin(0, rig.BROKER_CORE)
    asyncio.run(serve())


class FarSide:
    def __init__(self, kind: str) -> None:
        here, there = multiprocessing.Pipe()
        self._pipe = here
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=far_side, args=(kind, there), daemon=True)
        self._process.start()
        self.port = int(here.recv())

    def close(self) -> tuple[int, int, int, int]:
        """What it has: orders, those that are over, those whose end was answered, and what came in a wrong order."""
        self._pipe.send(None)
        counted: tuple[int, int, int, int] = self._pipe.recv()
        self._process.join(5)
        return counted


# ---- the gateway -------------------------------------------------------------------------------------------------


def open_store(path: Path) -> Store:
    return Store.open(path, clock=SystemClock(), random_bytes=os.urandom, extra_schema=EXTRA_SCHEMA)


def alarm(number: int, at_ms: int, cleared_ms: int | None, node: int) -> Alarm:
    return Alarm(
        number, RULE, f"lid-{node:04x}", "330110001001", node, 1, number, 3, "40", at_ms, at_ms, cleared_ms, 0, 0,
        0, None, None, None, 0,
    )  # fmt: skip


async def fill(path: Path, alarms: int) -> None:
    """What happened while the desk was away; it knew none of it."""
    store = open_store(path)
    now_ms = SystemClock().unix_ms()

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO order_sent VALUES ('hotline', 0, 0)")
        for number in range(1, alarms + 1):
            at_ms = now_ms - OUTAGE_MS + number * (OUTAGE_MS - 7_200_000) // alarms
            alarm_rows.insert(connection, alarm(number, at_ms, at_ms + 3_600_000, number % 4000))
            for after, kind in enumerate(("raised", "escalated", "cleared")):
                alarm_rows.change(connection, number, kind, at_ms + after * 1_800_000, min(after, 1))

    await store.write(write)
    store.close()


class Watched:
    """The HTTP client, and when the desk took what."""

    def __init__(self, client: HttpClient) -> None:
        self.posts = 0
        self.began_s: dict[bytes, float] = {}
        self.fresh_ms: list[float] = []
        self._client = client

    async def post(self, url: str, body: bytes) -> Answer:
        answer = await self._client.post(url, body)
        began_s = self.began_s.pop(body[18:38], None)  # {"workordercode":"TG…
        if began_s is not None:
            self.fresh_ms.append(1000 * (time.perf_counter() - began_s))
        else:
            self.posts += 1
        return answer

    async def get(self, url: str, etag: str = "") -> Answer:
        return await self._client.get(url, etag)


async def feed(store: Store, watched: Watched, after: int) -> None:
    """Alarms that begin while the backlog drains."""
    for number in range(after + 1, 1 << 30):
        now_ms = SystemClock().unix_ms()

        def write(connection: sqlite3.Connection, number: int = number, now_ms: int = now_ms) -> None:
            alarm_rows.insert(connection, alarm(number, now_ms, None, FRESH_NODE))
            alarm_rows.change(connection, number, "raised", now_ms, 0)

        await store.write(write)
        code = work_order.code_of(FRESH_NODE, 1, number, RULE)
        watched.began_s[code.encode()] = time.perf_counter()
        await asyncio.sleep(1 / FRESH_PER_S)


def delivery(store: Store, platform: Watched, port: int) -> WorkOrders:
    url = f"http://127.0.0.1:{port}"
    settings = Settings(
        "hotline", "bench", f"{url}/orders", f"{url}/answers", 1, "both", 1, ZoneInfo("Asia/Shanghai")
    )
    return WorkOrders(settings, store, platform, rules(), Areas(), SystemClock(), random.Random(1))


async def drain(path: Path, kind: str, alarms: int) -> None:
    far = FarSide(kind)
    store = open_store(path)
    watched = Watched(HttpClient(10.0, "secret", None))
    made = delivery(store, watched, far.port)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    tasks = [asyncio.ensure_future(made.run()), asyncio.ensure_future(feed(store, watched, alarms))]
    await rig.until(lambda: watched.posts >= REQUESTS * alarms or any(task.done() for task in tasks))
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    orders, over, answered, backwards = far.close()
    if (over, answered, backwards) != (alarms, alarms, 0):
        raise SystemExit(
            f"of {alarms} alarms {over} are over there, {answered} answered; backwards={backwards}"
        )
    limit = f"limit_requests_per_s={ORDERS_IN_FLIGHT / ROUND_TRIP_S:.0f} " if kind == "40ms" else ""
    print(
        f"kind={kind} alarms={alarms} orders_there={orders} changes_per_s={CHANGES * alarms / took_s:.0f} "
        f"requests_per_s={watched.posts / took_s:.0f} {limit}"
        f"{steps.told(watched.fresh_ms, cpu_s, took_s)}",
        flush=True,
    )
    store.close()


async def floor(kind: str) -> None:
    """The client alone, with as many under way as the delivery has."""
    far = FarSide(kind)
    client = HttpClient(10.0, "secret", None)
    url = f"http://127.0.0.1:{far.port}/orders"
    left = iter(range(FLOOR_REQUESTS // (4 if kind == "40ms" else 1)))
    sent = 0

    async def post() -> None:
        nonlocal sent
        for number in left:
            order = work_order.Order(
                work_order.code_of(1, 1, number, RULE), RULE, "井盖打开 cover open" * 4, "lid-0001", "330110001001",
                "2026-01-01 00:00:00", "2026-01-02", 0, "event", "bench",
            )  # fmt: skip
            answer = await client.post(url, work_order.encode(order))
            assert work_order.refusal(answer.status, answer.body) is None
            sent += 1

    began_s = time.perf_counter()
    await asyncio.gather(*(post() for _ in range(ORDERS_IN_FLIGHT)))
    print(f"kind={kind} floor_requests_per_s={sent / (time.perf_counter() - began_s):.0f}", flush=True)
    far.close()


def main() -> None:
    ways: dict[str, steps.Step] = {
        "fill": lambda path, kind, alarms: fill(path, alarms),
        "drain": drain,
        "floor": lambda path, kind, alarms: floor(kind),
    }
    steps.play(__file__, __doc__, KINDS, {"alarms": 15_000}, ways)


if __name__ == "__main__":
    main()
