"""A district's hotline platform (12345) for tests and demos: takes work orders, keeps them by code, can misbehave.

`OrderDesk` is the desk itself, without a network; `SimPlatform` is the way to it in the simulated world, order_page.py
the HTTP server with its page.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import NorthboundError
from gateway.northbound.http_client import Answer
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
    clerk: str = ""
    taken_s: float | None = None  # when the clerk took it
    clerk_at: str = ""  # civil time of the desk
    history: list[tuple[float, int, str]] = field(default_factory=list)  # when, state, area

    @property
    def is_done(self) -> bool:
        return bool(self.fields["state"] == 2)


class OrderDesk:
    """``faults`` are used up one a request; ``fail`` decides beyond them: one of FAULTS, or "" for honest."""

    def __init__(self, orders_max: int = ORDERS_MAX) -> None:
        self.orders_max = orders_max
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
        if any(key not in document for key in _NEEDED) or len(self.orders) >= self.orders_max:
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

    def clerk(self, order: DeskOrder, does: str, at: str, who: str = "clerk-1") -> None:
        """A person at the desk takes an order ("seen") or closes it ("close")."""
        order.seen_by_clerk, order.clerk, order.clerk_at = True, who, at
        order.closed_by_clerk |= does == "close"

    def status(self, code: str) -> dict[str, Any] | None:
        """What the desk's people did about an order, as a gateway is told it; None: there is no such order."""
        known = self.orders.get(code)
        if known is None:
            return None
        done = None
        if known.seen_by_clerk:
            done = {
                "workordercode": code,
                "handlerid": known.clerk,
                "disposaldeptid": known.fields["area"],
                "processtime": known.clerk_at,
                "state": 2 if known.closed_by_clerk else 1,
            }
        return {"success": True, "code": 10000, "message": "", "resultData": done}

    def _answer(self, known: DeskOrder | None) -> bytes:
        if known is None:
            self.counters["malformed"] += 1
            return NO
        known.answers += 1
        return OK


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def answer_to_get(desk: OrderDesk, url: str, etag: str) -> Answer:
    """What a desk answers when it is asked about an order, by the last part of the URL's path."""
    status = desk.status(url.rpartition("/")[2])
    desk.counters["asked"] += 1
    if status is None:
        return Answer(404, b"")
    body = json.dumps(status, ensure_ascii=False).encode()
    if etag == etag_of(body):
        desk.counters["not_modified"] += 1
        return Answer(304, b"", etag)
    return Answer(200, body, etag_of(body))


class SimPlatform:
    """What http_client.HttpClient is on a network, in the simulated world: a way that takes time and loses things."""

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

    async def get(self, url: str, etag: str = "") -> Answer:
        fault = self._desk.fault_of(url.encode())
        await asyncio.sleep(self._rng.uniform(0.01, 0.2))
        if fault in ("away", "swallow"):
            raise NorthboundError(f"{url}: connection refused")
        if fault in ("error", "no", "garbage"):
            return Answer(500 if fault == "error" else 200, NO if fault == "no" else b"[")
        return answer_to_get(self._desk, url, etag)
