"""Alarms and work orders in tests: an engine and a sender over a real store, and a desk without a network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway import alarm_rows
from gateway.alarm_operations import AlarmOperations
from gateway.alarm_rows import Alarm
from gateway.alarms import Alarms
from gateway.areas import Areas
from gateway.config_alarms import AreaSection
from gateway.errors import NorthboundError
from gateway.northbound.http_client import Answer
from gateway.northbound.work_orders import Settings, WorkOrders
from gateway.notices import Notices
from gateway.operations import Operations
from gateway.own_epochs import OwnEpochs
from gateway.tokens import Tokens
from hil_tests.world.order_desk import OrderDesk, answer_to_get
from protocols.alarm_rules import Rule, rules
from tests.gateway.desk import Desk, HandClock, desk

NODE, OTHER = 0x12, 0x13
TILTED, UPTURNED, SILENT, MAINTENANCE = 6, 7, 23, 18
RULES = {**rules(), "cover_open": rules()["cover_open"]._replace(off_delay_s=0)}
TREE = Areas(
    AreaSection(code=code, name=level, level=level, parent=parent, escalate_after_min=10)
    for code, level, parent in (
        ("330106", "street", "3301"),
        ("3301", "district", "33"),
        ("33", "city", None),
    )
)


class Bench:
    """One life of a gateway as far as alarms go."""

    def __init__(self, made: Desk, known: dict[str, Rule] = RULES) -> None:
        self.made, self.clock, self.store = made, made.clock, made.store
        assert isinstance(made.clock, HandClock)
        self.engine = Alarms(made.store, made.registry, made.marks, made.clock, known, TREE)
        self.notices = Notices(made.store, made.clock, OwnEpochs(made.store, random.Random(1).randbytes))
        tokens = Tokens(made.store, made.clock, random.Random(1).randbytes)
        self.operations = Operations(made.registry, made.commands, made.wishes, tokens)
        AlarmOperations(made.store, made.clock).serve(self.operations)

    async def tell(self, code: int, state: int, node: int = NODE, detail: int | None = 40) -> None:
        if not self.made.registry.is_enrolled(node):
            await self.made.enrol(node)
        self.notices.keep(node, code, state, detail)
        await self.store.write(lambda connection: None)

    async def look(self) -> None:
        await self.engine.look()

    async def ask(self, operation: str, **words: Any) -> dict[str, Any]:
        return await self.operations.handle({"operation": operation, **words}, "mei")

    def alarms(self, which: str = "all") -> list[Alarm]:
        return self.store.read(lambda reader: alarm_rows.latest(reader, which, 100))

    def changes(self) -> list[str]:
        query = "SELECT kind FROM alarm_change ORDER BY id"
        return [row[0] for row in self.store.read(lambda reader: reader.execute(query).fetchall())]


def run(folder: Path, *lives: Any) -> None:
    """Each life opens the database anew, on the same clock."""
    clock = HandClock()

    async def one(life: Any) -> None:
        with desk(folder, clock) as made:
            result: Coroutine[Any, Any, None] = life(Bench(made))
            await result

    for life in lives:
        asyncio.run(one(life))


class DeskPlatform:
    """Straight to a desk, which may have its faults."""

    def __init__(self, there: OrderDesk) -> None:
        self.there = there

    async def post(self, url: str, body: bytes) -> Answer:
        fault = self.there.fault_of(body)
        if fault == "away":
            raise NorthboundError("nobody there")
        if fault == "error":
            return Answer(500, b"")
        answer = self.there.take(body, 0.0)
        if fault == "swallow":
            raise NorthboundError("no answer")
        return Answer(200, answer)

    async def get(self, url: str, etag: str = "") -> Answer:
        if self.there.faults and self.there.faults.popleft() == "away":
            raise NorthboundError("nobody there")
        return answer_to_get(self.there, url, etag)


async def deliver(
    bench: Bench, there: OrderDesk, until: Any, step_s: float = 0.05, platform: DeskPlatform | None = None
) -> WorkOrders:
    """Run a sender until it holds; then it is cancelled, as by a kill."""
    zone = ZoneInfo("Asia/Shanghai")
    settings = Settings("hotline", "gw", "http://x/orders", "http://x/answers", 1, "both", 1, zone)
    platform = platform or DeskPlatform(there)
    sender = WorkOrders(settings, bench.store, platform, RULES, TREE, bench.clock, random.Random(1))
    task = asyncio.create_task(sender.run())
    for _ in range(1000):
        if until(sender):
            break
        await bench.store.write(lambda connection: None)
        bench.clock.pass_s(step_s)
        sender._wake.set()
    else:
        raise AssertionError(f"never: {sender.status()} {there.counters}")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sender


def idle(sender: WorkOrders) -> bool:
    return sender._seen > 0 and not sender._owed
