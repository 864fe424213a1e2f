"""A district's hotline platform (12345) for tests and demos: takes work orders, keeps them by code, can misbehave.

`OrderDesk` is the desk itself, without a network; `SimPoster` is the way to it in the simulated world, order_page.py
the HTTP server with its page.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import NorthboundError
from gateway.northbound.http_post import Answer
from hil_tests.world.sim_world import World

OK = b'{"success":true,"code":10000,"message":"ok","resultData":null}'
NO = b'{"success":false,"code":50001,"message":"busy","resultData":null}'
# What a desk may do to one request. "swallow" and "twice" take it all the same.
FAULTS = ("error", "no", "garbage", "swallow", "slow", "away")
_NEEDED = (
    "workordercode",
    "scene",
    "workordercontent",
    "place",
    "area",
    "dispatchtime",
    "state",
    "workordertype",
)
ORDERS_MAX = 10_000


@dataclass
class DeskOrder:
    """One order as the desk has it. ``history``: what was told of it, copies left out."""

    code: str
    fields: dict[str, Any]
    arrived_s: float
    closed_s: float | None = None
    answers: int = 0
    seen_by_clerk: bool = False
    closed_by_clerk: bool = False
    history: list[tuple[float, int, str]] = field(default_factory=list)  # when, state, area

    @property
    def is_done(self) -> bool:
        return bool(self.fields["state"] == 2)


class OrderDesk:
    """``faults`` are used up one a request; ``fail`` decides beyond them: one of FAULTS, or "" for honest."""

    def __init__(self) -> None:
        self.orders: dict[str, DeskOrder] = {}
        self.counters: Counter[str] = Counter()
        self.faults: deque[str] = deque()
        self.fail: Callable[[dict[str, Any]], str] = lambda document: ""
        self.on_change: Callable[[DeskOrder], None] = lambda order: None

    def fault_of(self, body: bytes) -> str:
        """What happens to this request."""
        if self.faults:
            return self.faults.popleft()
        try:
            document = json.loads(body)
        except ValueError:
            return ""
        return self.fail(document) if isinstance(document, dict) else ""

    def take(self, body: bytes, now_s: float) -> bytes:
        """Take what a gateway posts; the honest answer."""
        self.counters["posts"] += 1
        try:
            document = json.loads(body)
            code = str(document["workordercode"])
        except (ValueError, KeyError, TypeError):
            self.counters["malformed"] += 1
            return NO
        known = self.orders.get(code)
        if "handlerid" in document:
            return self._answer(known)
        if any(key not in document for key in _NEEDED) or len(self.orders) >= ORDERS_MAX:
            self.counters["malformed"] += 1
            return NO
        if known is None:
            known = self.orders[code] = DeskOrder(code, document, now_s)
        elif known.fields == document:
            self.counters["copies"] += 1
            return OK
        elif known.is_done or document["state"] < known.fields["state"]:
            self.counters["backwards"] += 1  # an older state after a newer one
            return OK
        known.fields = document
        known.history.append((now_s, document["state"], document["area"]))
        if known.is_done:
            known.closed_s = now_s
        self.on_change(known)
        return OK

    def _answer(self, known: DeskOrder | None) -> bytes:
        if known is None:
            self.counters["malformed"] += 1
            return NO
        known.answers += 1
        return OK


class SimPoster:
    """What http_post.HttpPoster is on a network, in the simulated world: a way that takes time and loses things."""

    def __init__(self, world: World, desk: OrderDesk, rng: random.Random, timeout_s: float = 10.0) -> None:
        self._world = world
        self._desk = desk
        self._rng = rng
        self._timeout_s = timeout_s

    async def post(self, url: str, body: bytes) -> Answer:
        fault = self._desk.fault_of(body)
        await asyncio.sleep(self._rng.uniform(0.01, 0.2))
        if fault == "away":
            raise NorthboundError(f"{url}: connection refused")
        if fault in ("error", "no", "garbage"):
            bodies = {"error": b"<html>500</html>", "no": NO, "garbage": b'{"success":"true","code":10000}'}
            return Answer(500 if fault == "error" else 200, bodies[fault])
        if fault == "slow":
            await asyncio.sleep(self._timeout_s / 2)
        answer = self._desk.take(body, self._world.now_s)
        if fault == "swallow":
            await asyncio.sleep(self._timeout_s)
            raise NorthboundError(f"{url}: no answer within {self._timeout_s:g} s")
        await asyncio.sleep(self._rng.uniform(0.01, 0.2))
        return Answer(200, answer)
