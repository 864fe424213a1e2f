"""The contract's Subject for work orders: alarms that begin and end, and a hotline that may do anything to a post."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gateway.alarms import Alarms
from gateway.areas import Areas
from gateway.errors import NorthboundError
from gateway.fingerprints import of_event
from gateway.limits import ORDERS_IN_FLIGHT
from gateway.marks import Marks
from gateway.northbound.http_client import Answer
from gateway.northbound.work_orders import Settings, WorkOrders
from gateway.records import KIND_EVENT, NO_PIV, Event
from gateway.registry import Place
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.order_desk import NO, OrderDesk, answer_to_get
from protocols.alarm_rules import CODES, rules
from protocols.northbound import work_order
from protocols.wire.messages import CLEARED, RAISED
from tests.northbound.hj_rig import ZONE, KillingExecutor, Rig

NODES = tuple(range(0x12, 0x12 + 8))
ALARM_NODE = 0x30
NOTICE, THEFT = "safe_mode", "cover_open"
RULES = {
    NOTICE: rules()[NOTICE]._replace(flap_count=0),
    THEFT: rules()[THEFT]._replace(flap_count=0, off_delay_s=0),
}
EVENT_OF = {NOTICE: CODES["safe_mode"], THEFT: CODES["cover_tilted"]}
REFUSED_NODE = NODES[3]
TIMEOUT_S = 10.0

Name = tuple[str, int]  # code of the order, state


class Told(NamedTuple):
    """An event of a node; its place in the list is its seq."""

    node: int
    code: int
    state: int
    at_ms: int


class Places:
    """A registry in which every node serves a site of its own."""

    def place_of(self, node: int, at_ms: int) -> Place:
        return Place(f"lid-{node:04x}", "330106")

    def is_enrolled(self, node: int) -> bool:
        return True


class Hotline:
    """The desk at the end of a network on the loop's clock."""

    def __init__(self, rng: random.Random) -> None:
        self.desk = OrderDesk()
        self.came: list[tuple[Name, float]] = []
        self.is_away = self.is_deaf = self.comes_twice = self.refuses = False
        self.answer_s: Callable[[], float] = lambda: 0.0
        self._rng = rng

    async def post(self, url: str, body: bytes) -> Answer:
        await self._way()
        document = json.loads(body)
        if self.refuses and document.get("place") == f"lid-{REFUSED_NODE:04x}":
            return Answer(200, NO)
        if url.endswith("/orders"):
            name = document["workordercode"], document["state"]
            self.came.append((name, asyncio.get_running_loop().time()))
        answer = self.desk.take(body, asyncio.get_running_loop().time())
        if self.comes_twice:  # whatever is between repeats the request
            assert self.desk.take(body, 0.0) == answer
        await asyncio.sleep(self.answer_s())
        await self._way()
        return Answer(200, answer)

    async def get(self, url: str, etag: str = "") -> Answer:
        await self._way()
        return answer_to_get(self.desk, url, etag)

    async def _way(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.05))
        if self.is_away:
            raise NorthboundError("http://desk: connection refused")
        if self.is_deaf:
            await asyncio.sleep(TIMEOUT_S)
            raise NorthboundError("http://desk: no answer")


class OrdersSubject(Rig):
    """A change of an order is what must arrive: that it began, that it is done."""

    alarms_overtake = True
    alarm_each_s = 0.15  # two posts and an answer each, four at once
    shuffling_costs_copies = False
    refusal_holds_up = False
    refused = 2 * 15  # one node of eight begins and ends, in turn with the others
    others = 2 * 106

    def __init__(self, folder: Path, seed: int = 1) -> None:
        super().__init__(folder, HjPlatform(), sites={}, seed=seed)
        self.far = Hotline(random.Random(seed))
        self.events: list[Told] = []
        self.given_s: dict[Name, float] = {}
        self._open: list[tuple[int, str]] = []
        self._begun: dict[int, str] = {}
        self._measured = 0

    # ---- the gateway ---------------------------------------------------------------------------------------------

    def open(self, executor: KillingExecutor | None = None) -> None:
        self.open_store(executor)
        self._epochs = {epoch.node: epoch for epoch in self.store.epochs.values()}
        places: Any = Places()
        self.engine = Alarms(self.store, places, Marks(self.store), self.clock, RULES, Areas())
        settings = Settings(
            "hotline",
            "gw",
            "http://desk/orders",
            "http://desk/answers",
            1,
            "both",
            1,
            ZONE,
            "http://desk/{code}",
            60,
        )
        self.delivery = WorkOrders(settings, self.store, self.far, RULES, Areas(), self.clock, self._rng)
        self._task = asyncio.get_running_loop().create_task(self._run())
        known = {row[0] for row in self.store.read(lambda c: c.execute("SELECT seq FROM event").fetchall())}
        for seq, told in enumerate(self.events, start=1):
            if seq not in known:
                self._put_event(seq, told)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run())
            group.create_task(self.delivery.run())

    def measure(self) -> None:
        """What was open is over, and another node has something to say."""
        for node, rule in self._open:
            self._tell(node, rule, CLEARED)
        self._open = [(NODES[self._measured % len(NODES)], NOTICE)]
        self._measured += 1
        self._tell(*self._open[0], RAISED)

    def alarm(self) -> None:
        if (ALARM_NODE, THEFT) not in self._open:
            self._open.append((ALARM_NODE, THEFT))
            self._tell(ALARM_NODE, THEFT, RAISED)

    def _tell(self, node: int, rule: str, state: int) -> None:
        self.events.append(Told(node, EVENT_OF[rule], state, self.clock.unix_ms()))
        seq = len(self.events)
        if state == RAISED:
            self._begun[node] = work_order.code_of(node, 1 << 48 | node, seq, rule)
        name = self._begun[node], 0 if state == RAISED else 2
        self.given_s[name] = asyncio.get_running_loop().time()
        self._put_event(seq, self.events[-1])

    def _put_event(self, seq: int, told: Told) -> None:
        store, node = self.store, told.node
        if node not in self._epochs:
            self._epochs[node] = store.add_epoch(node, 1 << 48 | node, None, None, 1)
        ledger, now_ms = self._epochs[node].ledger, self.clock.unix_ms()
        time_s, text = told.at_ms // 1000, json.dumps(40)
        mark = of_event(ledger.row_id, seq, KIND_EVENT, time_s, 1, told.code, told.state, text)
        ledger.offer(seq, mark)
        row_id = store.next_event
        store.next_event += 1
        row = (
            row_id,
            KIND_EVENT,
            ledger.row_id,
            seq,
            NO_PIV,
            mark,
            now_ms,
            time_s,
            None,
            1,
            told.code,
            told.state,
            text,
        )
        store.batch.event_rows.append(row)
        store.batch.events.append(
            Event(row_id, ledger, seq, KIND_EVENT, now_ms, time_s, 1, told.code, told.state, 40)
        )
        store.schedule()

    # ---- what must hold ------------------------------------------------------------------------------------------

    def settle_s(self) -> float:
        return 15.0

    def missing(self) -> set[Any]:
        return set(self.given_s) - {name for name, _ in self.far.came}

    def arrivals(self) -> list[Any]:
        return [name for name, _ in self.far.came]

    def is_alarm(self, name: Any) -> bool:
        return bool(self.far.desk.orders[name[0]].fields["scene"] == THEFT)

    def owed(self) -> int:
        return int(self.delivery.status()["backlog"])

    def _came_s(self) -> dict[Name, float]:
        return dict(reversed(self.far.came))

    def lateness_s(self, since_s: float) -> float:
        fresh = {name: at_s for name, at_s in self._came_s().items() if self.given_s[name] >= since_s}
        return max(at_s - self.given_s[name] for name, at_s in fresh.items())

    def alarms_came_s(self, until_s: float) -> list[float]:
        given = {name for name, given_s in self.given_s.items() if given_s < until_s}
        return [at_s for name, at_s in self._came_s().items() if name in given and self.is_alarm(name)]

    def in_memory(self) -> int:
        """What is owed stays in the store; an alarm under way is read from it."""
        return int(self.delivery.status()["in_flight"])

    def memory_max(self) -> int:
        return ORDERS_IN_FLIGHT

    # ---- what the far side does ----------------------------------------------------------------------------------

    def away(self) -> None:
        self.far.is_away = True

    def back(self) -> None:
        self.far.is_away = False

    def slow(self, seconds: float) -> None:
        self.far.answer_s = lambda: seconds / 2

    def twice(self) -> None:
        self.far.comes_twice = True

    def shuffled(self) -> None:
        """Each answer takes its own time, so that they overtake each other."""
        self.far.answer_s = lambda: self._rng.uniform(0.0, 2.0)

    def deaf(self, on: bool) -> None:
        self.far.is_deaf = on

    def refuse_some(self, on: bool) -> None:
        self.far.refuses = on
