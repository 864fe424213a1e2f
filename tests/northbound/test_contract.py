"""Every kind of northbound keeps the contract (contract.py says which, and how a kind joins)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hil_tests.world.clock import pass_s
from tests.northbound.contract import (
    FRESH_S,
    HOUR_S,
    RecordsSubject,
    RowsSubject,
    Subject,
    live,
    settled,
)
from tests.northbound.contract_orders import OrdersSubject
from tests.northbound.contract_sl651 import SlSubject
from tests.northbound.hj_rig import KillingExecutor, in_world

SUBJECTS: dict[str, Callable[..., Any]] = {
    "mqtt": RecordsSubject,
    "hj212": RowsSubject,
    "sl651": SlSubject,
    "work_orders": OrdersSubject,
}
KINDS = pytest.mark.parametrize("kind", sorted(SUBJECTS))
Story = Callable[[Any], Coroutine[Any, Any, None]]


def tell(folder: Path, kind: str, story: Story, seed: int = 1) -> None:
    async def run() -> None:
        subject: Subject = SUBJECTS[kind](folder, seed)
        try:
            await story(subject)
        finally:
            await subject.close()

    in_world(run())


@KINDS
def test_without_failures_everything_comes_once_and_in_time(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        await live(subject, 2 * HOUR_S)
        await settled(subject)
        assert len(subject.arrivals()) == len(set(subject.arrivals()))
        assert subject.lateness_s(0.0) <= FRESH_S

    tell(tmp_path, kind, story)


@KINDS
def test_a_far_side_that_is_unreachable_at_the_start_gets_everything_later(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.away()
        subject.open()
        await live(subject, 2 * HOUR_S)
        assert not subject.arrivals()
        assert subject.owed()
        subject.back()
        await settled(subject)

    tell(tmp_path, kind, story)


@KINDS
def test_outages_lose_nothing(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        for _ in range(3):
            await live(subject, HOUR_S / 2)
            subject.away()
            await live(subject, HOUR_S / 3)
            subject.back()
        await settled(subject)

    tell(tmp_path, kind, story)


@KINDS
@pytest.mark.parametrize("how", ["slow", "twice", "shuffled"])
def test_confirmations_that_are_late_doubled_or_out_of_order_confirm_what_they_name(
    tmp_path: Path, kind: str, how: str
) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        await live(subject, 60)
        if how == "slow":
            subject.slow(2.0)
        elif how == "twice":
            subject.twice()
        else:
            subject.shuffled()
        await live(subject, 2 * HOUR_S)
        await settled(subject)
        if how != "shuffled" or not subject.shuffling_costs_copies:
            assert len(subject.arrivals()) == len(set(subject.arrivals())), (
                "nothing failed: nothing comes twice"
            )

    tell(tmp_path, kind, story)


@KINDS
def test_a_line_that_swallows_everything_is_taken_for_nothing(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        await live(subject, 600)
        subject.deaf(True)
        await live(subject, HOUR_S / 2)
        subject.deaf(False)
        await live(subject, 600)
        await settled(subject)

    tell(tmp_path, kind, story)


@KINDS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "nth", [*range(2), *(pytest.param(nth, marks=pytest.mark.soak) for nth in range(2, 20))]
)
def test_a_kill_between_confirmation_and_cursor_loses_nothing(
    tmp_path: Path, kind: str, nth: int, before: bool
) -> None:
    """At a commit of the seed's choice, which is the last that happens or the first that does not."""

    async def story(subject: Subject) -> None:
        rng = random.Random(nth)
        for _ in range(3):
            executor = KillingExecutor(rng.randrange(2, 60), before=before)
            subject.open(executor)
            feeding = asyncio.ensure_future(live(subject, HOUR_S))
            killed = asyncio.ensure_future(executor.killed.wait())
            await asyncio.wait({feeding, killed}, return_when=asyncio.FIRST_COMPLETED)
            for task in (feeding, killed):
                task.cancel()
            await asyncio.gather(feeding, killed, return_exceptions=True)
            await subject.close(kill=True)
        subject.open()
        await live(subject, 600)
        await settled(subject)

    tell(tmp_path, kind, story, nth)


@KINDS
def test_what_is_refused_holds_nobody_up_and_comes_when_it_is_taken(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        subject.refuse_some(True)
        await live(subject, 2 * HOUR_S + 120)
        await pass_s(2 * subject.settle_s())
        assert subject.owed()
        assert len(subject.missing()) == subject.refused
        assert len(set(subject.arrivals())) >= subject.others
        if not subject.refusal_holds_up:
            assert subject.lateness_s(0.0) <= FRESH_S, "of what is taken nothing waits for what is not"
        subject.refuse_some(False)
        await settled(subject)

    tell(tmp_path, kind, story)


@KINDS
@pytest.mark.parametrize("hours", [6, pytest.param(72, marks=pytest.mark.soak)])
def test_days_of_outage_drain_behind_what_is_fresh_and_in_bounded_memory(
    tmp_path: Path, kind: str, hours: int
) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        await live(subject, 600)
        subject.away()
        await pass_s(2)
        await live(subject, hours * HOUR_S, every_s=300, alarm_every=8)
        before, owed = len(subject.arrivals()), subject.owed()
        subject.back()
        await pass_s(2)
        since_s = asyncio.get_running_loop().time()
        await live(subject, 30, every_s=1)
        await live(subject, HOUR_S)
        await settled(subject)
        assert subject.lateness_s(since_s) <= FRESH_S
        if subject.alarms_overtake:
            assert subject.is_alarm(subject.arrivals()[before]), "alarms first"
            came_s = subject.alarms_came_s(since_s)
            assert max(came_s) <= since_s + FRESH_S + len(came_s) * subject.alarm_each_s, "all of three days"
        print(f"kind={kind} hours={hours} owed={owed} fresh_latest_s={subject.lateness_s(since_s):.2f}")

    tell(tmp_path, kind, story)


@KINDS
def test_behind_a_backlog_that_a_slow_far_side_takes_nothing_fresh_waits(tmp_path: Path, kind: str) -> None:
    async def story(subject: Subject) -> None:
        subject.open()
        await live(subject, 600)
        subject.away()
        await live(subject, 8 * HOUR_S, every_s=300)
        await pass_s(270)  # what is fresh comes soon after it is back
        subject.slow(1.0)
        subject.back()
        await pass_s(5)
        since_s = asyncio.get_running_loop().time()
        await live(subject, HOUR_S / 4)
        await settled(subject)
        assert subject.lateness_s(since_s) <= FRESH_S

    tell(tmp_path, kind, story)


def test_a_broker_is_not_filled_with_what_it_refuses_and_gets_it_soon_once_it_takes_some(
    tmp_path: Path,
) -> None:
    async def story(subject: Any) -> None:
        subject.open()
        subject.refuse_some(True)
        await live(subject, HOUR_S)
        # 60 readings of a node: offered again every five seconds each of them would be refused 360 times on average.
        assert 60 < subject.delivery.counters["refused"] < 60 * 20
        await pass_s(310)
        subject.refuse_some(False)
        began_s = asyncio.get_running_loop().time()
        while subject.missing():
            await pass_s(1)
        assert asyncio.get_running_loop().time() - began_s <= 305

    tell(tmp_path, "mqtt", story)
