"""The alarm engine and the sender of work orders over a real store: durable, in order, up the tree, and told once."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway import alarm_rows, limits
from gateway.errors import CommandError
from hil_tests.world.order_desk import OrderDesk
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.alarm_bench import (
    MAINTENANCE,
    NODE,
    OTHER,
    RULES,
    SILENT,
    TILTED,
    UPTURNED,
    Bench,
    deliver,
    idle,
    run,
)


def test_a_cover_that_is_tilted_and_then_upturned_is_one_alarm_that_a_restart_does_not_tell_again(
    tmp_path: Path,
) -> None:
    async def begins(bench: Bench) -> None:
        await bench.made.enrol(NODE, site="lid-1")
        await bench.tell(TILTED, RAISED)
        await bench.look()
        await bench.tell(UPTURNED, RAISED)  # not looked at before the end of this life

    async def ends(bench: Bench) -> None:
        await bench.look()
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        assert [alarm.cleared_ms for alarm in bench.alarms()] == [None]
        await bench.tell(UPTURNED, CLEARED)
        await bench.look()
        (alarm,) = bench.alarms()
        assert (alarm.rule, alarm.site, alarm.node, alarm.cleared_ms is not None) == (
            "cover_open", "lid-1", NODE, True,
        )  # fmt: skip
        assert bench.changes() == ["raised", "cleared"]

    run(tmp_path, begins, ends)


def test_a_look_that_the_disk_refuses_changes_nothing_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ALARM_RETRY_S", 0)

    async def life(bench: Bench) -> None:
        await bench.look()
        fails = [True, True]
        update = alarm_rows.change

        def change(connection: sqlite3.Connection, *args: Any) -> None:
            update(connection, *args)
            if fails:
                fails.pop()
                raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(alarm_rows, "change", change)
        await bench.tell(TILTED, RAISED)
        await bench.look()
        assert bench.engine.counters["failed_looks"] == 2
        assert bench.changes() == ["raised"]
        assert len(bench.alarms("open")) == 1

    run(tmp_path, life)


@pytest.mark.parametrize("seed", range(4))
def test_however_often_it_is_started_again_the_alarms_are_the_same(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    told = [(rng.choice((TILTED, UPTURNED)), rng.choice((RAISED, CLEARED)), rng.random()) for _ in range(60)]

    async def play(bench: Bench, part: list[tuple[int, int, float]]) -> None:
        for code, state, looks in part:
            bench.clock.pass_s(30)
            await bench.tell(code, state)
            if looks < 0.5:
                await bench.look()

    async def end(bench: Bench) -> None:
        await bench.look()
        bench.clock.pass_s(RULES["cover_open"].flap_quiet_s)  # the end of one that flaps
        await bench.look()
        holding, expected = set(), 0
        for code, state, _ in told:
            before = bool(holding)
            holding = holding | {code} if state == RAISED else holding - {code}
            expected += bool(holding) and not before
        assert len(bench.alarms()) <= expected
        assert len(bench.alarms("open")) == bool(holding)
        turns = [kind for kind in bench.changes() if kind != "escalated"]
        assert turns == [("raised", "cleared")[i % 2] for i in range(len(turns))]
        quiet = RULES["cover_open"].flap_count - 1
        assert len(bench.alarms()) >= min(expected, quiet)

    async def first(bench: Bench) -> None:
        await bench.look()

    cuts = [0, *sorted(rng.sample(range(1, 60), 5)), 60]
    lives = [
        lambda bench, part=told[a:b]: play(bench, part) for a, b in itertools.pairwise(cuts)
    ]  # fmt: skip
    run(tmp_path, first, *lives, end)


def test_maintenance_holds_alarms_back_and_tells_afterwards_what_still_holds(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        await bench.tell(MAINTENANCE, RAISED, detail=600)
        await bench.tell(TILTED, RAISED)
        await bench.tell(TILTED, RAISED, OTHER)
        await bench.look()
        assert [alarm.node for alarm in bench.alarms()] == [OTHER]
        await bench.tell(MAINTENANCE, CLEARED)
        await bench.look()
        assert {alarm.node for alarm in bench.alarms("open")} == {NODE, OTHER}

    async def a_node_that_never_says_it_is_over(bench: Bench) -> None:
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        await bench.tell(MAINTENANCE, RAISED, detail=600)
        await bench.tell(TILTED, RAISED)
        await bench.look()
        assert len(bench.alarms("open")) == 1
        bench.clock.pass_s(600 + limits.MAINTENANCE_MARGIN_S)
        await bench.look()
        assert len(bench.alarms("open")) == 2

    run(tmp_path, life, a_node_that_never_says_it_is_over)


@pytest.mark.parametrize("acknowledged_at", [0, 1, 2, None])
def test_it_goes_up_until_somebody_acknowledges_and_not_beyond_the_city(
    tmp_path: Path, acknowledged_at: int | None
) -> None:
    """Each tier down, and all of them."""

    async def life(bench: Bench) -> None:
        await bench.made.enrol(NODE, site="lid-1")
        await bench.tell(TILTED, RAISED)
        await bench.look()
        for tier in range(5):
            (alarm,) = bench.alarms()
            expected = tier if acknowledged_at is None else min(tier, acknowledged_at)
            assert alarm.tier == min(expected, 2)
            if tier == acknowledged_at:
                with pytest.raises(CommandError, match="say why"):
                    await bench.ask("alarm.acknowledge", alarm=alarm.id)
                await bench.ask("alarm.acknowledge", alarm=alarm.id, why="on my way")
            bench.clock.pass_s(599)
            await bench.look()
            assert bench.alarms() == bench.alarms() and bench.alarms()[0].tier == min(expected, 2)  # noqa: PT018
            bench.clock.pass_s(1)
            await bench.look()
        if acknowledged_at is not None:
            with pytest.raises(CommandError, match="already, by mei"):
                await bench.ask("alarm.acknowledge", alarm=alarm.id, why="me too")
            query = "SELECT who, why, action FROM audit WHERE action LIKE 'alarm%'"
            rows = bench.store.read(lambda reader: reader.execute(query).fetchall())
            assert rows == [("mei", "on my way", "alarm.acknowledge")]

    run(tmp_path, life)


def test_a_reading_of_hours_ago_raises_with_its_own_time_and_says_that_it_is_late(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        begun_ms = bench.clock.unix_ms()
        bench.notices.keep(NODE, TILTED, RAISED, 40)
        event = bench.store.batch.events[-1]
        row = bench.store.batch.event_rows[-1]
        late_ms = begun_ms + 7200_000  # it was on its way for two hours
        bench.store.batch.events[-1] = event._replace(received_ms=late_ms)
        bench.store.batch.event_rows[-1] = (*row[:6], late_ms, *row[7:])
        bench.clock.pass_s(7200)
        await bench.look()
        (alarm,) = bench.alarms()
        assert (alarm.raised_ms, alarm.noticed_ms, alarm.late) == (begun_ms // 1000 * 1000, late_ms, 1)

    run(tmp_path, life)


# ---- work orders ---------------------------------------------------------------------------------------------------


def test_an_order_is_sent_until_it_is_taken_and_again_after_a_kill_before_it_was_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)
    there = OrderDesk()

    async def begins(bench: Bench) -> None:
        await bench.tell(TILTED, RAISED)
        await bench.look()
        there.faults.extend(["away", "error", "swallow", "swallow"])
        await deliver(bench, there, lambda sender: there.counters["posts"] >= 2)

    async def goes_on(bench: Bench) -> None:
        await deliver(bench, there, idle)
        assert [order.fields["state"] for order in there.orders.values()] == [0]
        await bench.ask("alarm.acknowledge", alarm=1, why="seen")
        await deliver(bench, there, lambda sender: idle(sender) and sender._seen == 2)
        assert [order.fields["state"] for order in there.orders.values()] == [1]

    async def ends(bench: Bench) -> None:
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        await deliver(bench, there, idle)
        (order,) = there.orders.values()
        assert (order.fields["state"], order.answers) == (2, 1)
        assert [state for _, state, _ in order.history] == [0, 1, 2]
        assert there.counters["backwards"] == there.counters["malformed"] == 0
        assert there.counters["copies"] >= 1

    run(tmp_path, begins, goes_on, ends)


def test_an_order_that_is_never_taken_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)
    there = OrderDesk()
    there.fail = lambda document: "error" if document.get("place") == "node 0001" else ""

    async def life(bench: Bench) -> None:
        for node in range(1, 21):
            await bench.tell(TILTED, RAISED, node)
        await bench.look()
        sender = await deliver(
            bench, there, lambda sender: len(there.orders) == 19 and len(sender._owed) == 1
        )
        assert sender.counters["refused"] >= 1
        assert "node 0001" not in {order.fields["place"] for order in there.orders.values()}

    run(tmp_path, life)


def test_a_silence_keeps_orders_back_and_lets_them_go_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await bench.tell(SILENT, RAISED)
        await bench.look()
        await bench.ask("alarm.silence", alarm=1, seconds=3600, why="it is being moved")
        with pytest.raises(CommandError, match="seconds"):
            await bench.ask("alarm.silence", alarm=1, seconds=10**9, why="x")
        began_s = bench.clock.monotonic()
        await deliver(bench, there, idle, step_s=200)
        assert bench.clock.monotonic() - began_s >= 3600
        assert len(there.orders) == 1
        rows = bench.store.read(lambda reader: reader.execute("SELECT detail FROM audit").fetchall())
        assert any("node_silent until" in row[0] for row in rows)

    run(tmp_path, life)


def test_the_store_keeps_what_the_page_and_the_command_line_show(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        await bench.tell(TILTED, RAISED)
        await bench.look()
        (row,) = (await bench.ask("alarm.list"))["alarms"]
        assert json.loads(row["detail"]) == ["cover_tilted", 40]
        assert (await bench.ask("alarm.list", which="closed"))["alarms"] == []
        with pytest.raises(CommandError, match="Open: 1"):
            await bench.ask("alarm.acknowledge", alarm=9, why="x")

    run(tmp_path, life)
