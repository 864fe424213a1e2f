"""Covers that are stolen, with the real gateway and a hotline desk: when the order was there, and when it was closed.

with OrderRig(folder, covers=4, seed=7) as rig:
    rig.settle_in(); rig.play(openings=20)
    rig.thefts → [Theft(opening, order code, latency_s, closed)]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil_tests.cover_rig import CoverRig, Opening, percentile
from hil_tests.street import AREA
from hil_tests.world.order_desk import DeskOrder

ESCALATE_MIN = 2


@dataclass
class Theft:
    """One opening, and the orders that came of it."""

    opening: Opening
    orders: list[DeskOrder]

    @property
    def latency_s(self) -> float:
        return self.orders[0].arrived_s - self._due_s if self.orders else float("inf")

    _due_s: float = 0.0


class OrderRig(CoverRig):
    """`kills`: so many times the gateway is killed, at seeded moments after a cover was opened; `trouble`: the desk
    refuses, swallows and is slow now and then; `loss_percent` of the bytes on the lines is spoiled."""

    def __init__(
        self, folder: Path, covers: int, seed: int, *, kills: int = 0, trouble: bool = False, loss_percent: float = 0
    ) -> None:  # fmt: skip
        self._kills = kills
        self._trouble = trouble
        self.killed = 0
        self._order_of: dict[int, list[DeskOrder]] = {}
        super().__init__(folder, covers, seed, trucks_a_day=100, pace_s=150)
        rng = self.random("desk")
        if trouble:
            self.desk.fail = lambda _: (
                rng.choice(("error", "no", "garbage", "slow")) if rng.random() < 0.1 else ""
            )
        self.desk.on_change = self._order_changed
        self._loss_percent = loss_percent

    def tables(self) -> list[str]:
        levels = (
            ("grid", AREA, "330110001"),
            ("street", "330110001", "330110"),
            ("district", "330110", "3301"),
        )
        areas = [
            f'[[area]]\ncode = "{code}"\nname = "{level}"\nlevel = "{level}"\nparent = "{parent}"\n'
            f'escalate_after_min = {ESCALATE_MIN}\nhandler = "{level}-1"\n'
            for level, code, parent in levels
        ]
        areas.append('[[area]]\ncode = "3301"\nname = "city"\nlevel = "city"\n')
        url = 'url = "http://desk.invalid/orders"\nanswer_url = "http://desk.invalid/answers"\n'
        return [*areas, f'[[work_orders]]\nname = "hotline"\n{url}']

    def play(self, openings: int) -> None:
        self.line_faults(self._loss_percent)
        rng = self.random("kills")
        for index in range(self._kills):
            self.world.at(self.world.now_s + 600 + index * 900 + rng.uniform(0, 900), self._kill_soon(rng))
        super().play(openings)

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
    yield f"escalated={escalated} kills={sum(rig.killed for rig in rigs)} copies_of_posts={copies}"
    yield f"latency_p50_s={percentile(latencies, 0.5):.1f} latency_p99_s={percentile(latencies, 0.99):.1f}"
    yield f"latency_max_s={max(latencies):.1f}"
