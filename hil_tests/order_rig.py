"""Covers that are stolen, with the real gateway and a hotline desk: when the order was there, and when it was closed.

with OrderRig(folder, covers=4, seed=7) as rig:
    rig.settle_in(); rig.play(openings=20)
    rig.thefts → [Theft(opening, orders)]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hil_tests.cover_rig import CoverRig, Opening, percentile
from hil_tests.hotline import area_tables
from hil_tests.street import AREA
from hil_tests.world.order_desk import DeskOrder

ESCALATE_MIN = 2
# Between two bursts passes so many times their length, on average.
BURST_EVERY = 9


@dataclass
class Theft:
    """One opening, and the orders that came of it."""

    opening: Opening
    orders: list[DeskOrder]

    @property
    def latency_s(self) -> float:
        return self.orders[0].arrived_s - self._due_s if self.orders else float("inf")

    _due_s: float = 0.0


class Plan(NamedTuple):
    """What one street has to stand.

    ``kills``: so many times the gateway is killed, at seeded moments after a cover was opened; ``trouble``: the desk
    refuses, swallows and is slow now and then; ``spoiled_percent`` of the bytes on the lines is spoiled, and
    ``lost_percent`` of the frames is lost, each way; ``burst_s``: as often as one minute in ten a line loses everything
    for up to so long; ``clerk``: somebody at the desk takes every other order after one to three minutes.
    """

    seed: int
    openings: int
    kills: int = 0
    trouble: bool = False
    spoiled_percent: float = 0.0
    lost_percent: float = 0.0
    burst_s: float = 0.0
    clerk: bool = False


class Weather:
    """Frames that one line loses: some by chance, and all while a burst lasts."""

    def __init__(self, plan: Plan, rng: random.Random, now_s: Callable[[], float]) -> None:
        self.lost = 0
        self._share = plan.lost_percent / 100
        self._burst_s = plan.burst_s
        self._rng = rng
        self._now_s = now_s
        self._bursts: tuple[float, float] = (0.0, 0.0)

    def loses(self, way: str) -> bool:
        is_lost = self._rng.random() < self._share or self._is_burst()
        self.lost += is_lost
        return is_lost

    def _is_burst(self) -> bool:
        now_s = self._now_s()
        while self._burst_s and self._bursts[1] < now_s:
            length_s = self._rng.uniform(0.1, 1) * self._burst_s
            begin_s = self._bursts[1] + self._rng.uniform(0.5, 1.5) * BURST_EVERY * length_s
            self._bursts = begin_s, begin_s + length_s
        return self._bursts[0] <= now_s < self._bursts[1]


class OrderRig(CoverRig):
    """A street of a Plan."""

    def __init__(self, folder: Path, covers: int, plan: Plan) -> None:
        self.plan = plan
        seed, trouble = plan.seed, plan.trouble
        self.killed = self.acknowledged = 0
        self._weather: list[Weather] = []
        self._clerk = random.Random(f"{seed} clerk")
        self._seen: set[str] = set()
        super().__init__(folder, covers, seed, trucks_a_day=100, pace_s=150)
        rng = self.random("desk")
        if trouble:
            self.desk.fail = lambda _: (
                rng.choice(("error", "no", "garbage", "slow")) if rng.random() < 0.1 else ""
            )
        self.desk.on_change = self._order_changed

    def tables(self) -> list[str]:
        url = 'url = "http://desk.invalid/orders"\nanswer_url = "http://desk.invalid/answers"\n'
        url += 'status_url = "http://desk.invalid/orders/{code}"\nstatus_every_s = 10\n'
        return [*area_tables(AREA, ESCALATE_MIN), f'[[work_orders]]\nname = "hotline"\n{url}']

    def play(self, openings: int) -> None:
        self.line_faults(self.plan.spoiled_percent)
        for name, line in self.lines.items():
            weather = Weather(self.plan, self.random(f"weather {name}"), lambda: self.world.now_s)
            self._weather.append(weather)
            line.loses = weather.loses
        rng = self.random("kills")
        for index in range(self.plan.kills):
            self.world.at(self.world.now_s + 600 + index * 900 + rng.uniform(0, 900), self._kill_soon(rng))
        super().play(openings)
        self.line_faults(0)
        for line in self.lines.values():
            line.loses = lambda way: False

    @property
    def frames_lost(self) -> int:
        return sum(weather.lost for weather in self._weather)

    def _angle(self, rng: random.Random) -> float:
        """Far enough for an alarm of five seconds' hold: levered out, or carried away upside down."""
        return rng.choice((rng.uniform(20, 80), rng.uniform(95, 180)))

    def _kill_soon(self, rng: Any) -> Callable[[], None]:
        def act() -> None:
            self.pending_kill_s = rng.uniform(0.0, 3.0)

        return act

    pending_kill_s: float | None = None

    def _order_changed(self, order: DeskOrder) -> None:
        """What the clerk sees."""
        if not self.plan.clerk or order.code in self._seen:
            return
        self._seen.add(order.code)
        if self._clerk.random() < 0.5:
            self.world.after(self._clerk.uniform(60, 180), lambda: self._take(order))

    def _take(self, order: DeskOrder) -> None:
        if not order.is_done:
            order.taken_s = self.world.now_s
            self.desk.clerk(order, "seen", "")

    def run_s(self, seconds: float) -> None:
        """In small steps, so that a kill comes at its moment: the gateway is started again after a second."""
        until_s = self.world.now_s + seconds
        while self.world.now_s < until_s:
            super().run_s(min(1.0, until_s - self.world.now_s))
            if self.pending_kill_s is not None and self._open:
                wait_s, self.pending_kill_s = self.pending_kill_s, None
                super().run_s(wait_s)
                self.killed += 1
                self.kill_gateway()
                super().run_s(1.0)
                self.start_gateway()

    def count_acknowledged(self) -> None:
        """Alarms that the desk's people acknowledged, as the gateway has them."""
        query = "SELECT count(*) FROM alarm WHERE acknowledged_by = 'hotline: clerk-1'"
        self.acknowledged = int(self.alive.store.read(lambda reader: reader.execute(query).fetchone())[0])

    @property
    def thefts(self) -> list[Theft]:
        """Each order belongs to the opening whose place it names, and in whose time it came."""
        made = []
        begin_s = self.world.unix_ms() / 1000 - self.world.now_s
        for opening in self.openings:
            assert opening.opened is not None
            assert opening.closed is not None
            place = f"bridge-{list(self.motions).index(opening.node) + 1}"
            first_s, last_s = opening.opened.start_s - begin_s, opening.closed.start_s + 140 - begin_s
            orders = [
                order
                for order in self.desk.orders.values()
                if order.fields["place"] == place and first_s <= order.arrived_s <= last_s
            ]
            theft = Theft(opening, orders)
            theft._due_s = opening.due_s - begin_s
            made.append(theft)
        return made


def order_figures(rigs: list[OrderRig]) -> Iterator[str]:
    thefts = [theft for rig in rigs for theft in rig.thefts]
    latencies = [theft.latency_s for theft in thefts]
    orders = sum(len(rig.desk.orders) for rig in rigs)
    closed = sum(order.is_done and order.answers > 0 for rig in rigs for order in rig.desk.orders.values())
    escalated = sum(
        len({area for _, _, area in order.history}) > 1 for rig in rigs for order in rig.desk.orders.values()
    )
    copies = sum(rig.desk.counters["copies"] for rig in rigs)
    yield f"thefts={len(thefts)} orders={orders} duplicates={orders - len(thefts)} closed={closed}"
    taken = sum(order.taken_s is not None for rig in rigs for order in rig.desk.orders.values())
    acknowledged = sum(rig.acknowledged for rig in rigs)
    yield f"escalated={escalated} taken_at_the_desk={taken} acknowledged={acknowledged}"
    yield f"frames_lost={sum(rig.frames_lost for rig in rigs)} kills={sum(rig.killed for rig in rigs)}"
    yield f"copies_of_posts={copies}"
    yield f"latency_p50_s={percentile(latencies, 0.5):.1f} latency_p99_s={percentile(latencies, 0.99):.1f}"
    yield f"latency_max_s={max(latencies):.1f}"
