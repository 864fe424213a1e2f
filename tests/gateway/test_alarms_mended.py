"""What a life before, another configuration, another clock or a damaged database leave behind never keeps an alarm open
for ever, nor silent, nor on its tier."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from gateway import limits
from gateway.alarm_rows import Alarm
from gateway.areas import Areas
from hil_tests.world.order_desk import OrderDesk
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.alarm_bench import (
    MAINTENANCE,
    NODE,
    OTHER,
    RULES,
    SILENT,
    TILTED,
    TREE,
    UPTURNED,
    Bench,
    deliver,
    idle,
    run,
)
from tests.gateway.desk import BY

DAY_S = 86_400


async def start(bench: Bench) -> None:
    """As the daemon does."""
    await bench.engine.mend()
    await bench.look()


async def stolen(bench: Bench) -> Alarm:
    await bench.made.enrol(NODE, site="lid-1")
    await bench.tell(TILTED, RAISED)
    await bench.look()
    (alarm,) = bench.alarms("open")
    return alarm


async def change(bench: Bench, *statements: str) -> None:
    def work(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    await bench.store.write(work)


def why_over(bench: Bench) -> list[str]:
    query = "SELECT why FROM alarm_change WHERE kind = 'cleared' ORDER BY id"
    return [row[0] for row in bench.store.read(lambda reader: reader.execute(query).fetchall())]


# ---- the configuration and the registry ------------------------------------------------------------------------------


def test_an_event_that_a_rule_no_longer_watches_holds_nothing(tmp_path: Path) -> None:
    async def other_rules(bench: Bench) -> None:
        changed = Bench(bench.made, {**RULES, "cover_open": RULES["cover_open"]._replace(events=(UPTURNED,))})
        await start(changed)
        assert changed.alarms("open") == []

    async def no_rule(bench: Bench) -> None:
        await bench.tell(TILTED, CLEARED)
        await bench.tell(TILTED, RAISED)
        await bench.look()
        assert len(bench.alarms("open")) == 1
        await start(Bench(bench.made, {}))
        assert bench.alarms("open") == []
        assert why_over(bench)[-1] == "the rule is gone"

    async def first(bench: Bench) -> None:
        await stolen(bench)

    run(tmp_path, first, other_rules, no_rule)


def test_a_node_that_was_removed_before_a_kill_holds_nothing_after_it(tmp_path: Path) -> None:
    async def first(bench: Bench) -> None:
        await stolen(bench)
        await bench.made.registry.remove_node(NODE, BY)  # and killed before anybody looked

    async def after(bench: Bench) -> None:
        await start(bench)
        assert bench.alarms("open") == []

    run(tmp_path, first, after)


def test_a_site_whose_node_was_swapped_is_judged_by_the_new_one(tmp_path: Path) -> None:
    """The old one keeps its keys, in a van, and will never say that all is well."""

    async def life(bench: Bench) -> None:
        await stolen(bench)
        await bench.made.enrol(OTHER)
        await bench.made.registry.replace("lid-1", OTHER, BY)
        bench.clock.pass_s(limits.ALARM_STRAYS_S)
        await bench.look()
        assert bench.alarms("open") == []
        await bench.tell(UPTURNED, RAISED, OTHER)
        await bench.look()
        (alarm,) = bench.alarms("open")
        assert (alarm.site, alarm.node) == ("lid-1", OTHER)
        await bench.tell(TILTED, RAISED)  # the old one, on a workbench
        await bench.look()
        assert {alarm.site for alarm in bench.alarms("open")} == {"lid-1", f"node {NODE:04x}"}

    run(tmp_path, life)


def test_an_area_tree_that_came_later_counts_for_alarms_that_were_there(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        bench.engine.areas = Areas()
        await stolen(bench)
        bench.clock.pass_s(DAY_S)
        await bench.look()
        assert bench.alarms()[0].tier == 0
        bench.engine.areas = TREE
        await start(bench)
        bench.clock.pass_s(600)
        await bench.look()
        assert bench.alarms()[0].tier == 1

    run(tmp_path, life)


# ---- clocks --------------------------------------------------------------------------------------------------------


def set_back(bench: Bench, seconds: int) -> None:
    bench.clock.now_ms -= seconds * 1000


def test_a_clock_that_is_set_back_a_day_delays_nothing_by_a_day(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        await stolen(bench)
        await bench.tell(SILENT, RAISED, OTHER)
        await bench.look()
        await bench.ask("alarm.silence", alarm=2, seconds=300, why="x")
        await bench.tell(MAINTENANCE, RAISED, 0x20, detail=300)
        await bench.tell(TILTED, RAISED, 0x20)
        await bench.look()
        bench.clock.pass_s(200)
        set_back(bench, DAY_S)
        bench.engine.jumped(-DAY_S * 1000)
        await bench.look()
        bench.clock.pass_s(400)
        await bench.look()
        assert bench.alarms()[-1].tier == 1, "unacknowledged for ten minutes, whatever the wall says"
        silent = next(alarm for alarm in bench.alarms() if alarm.node == OTHER)
        assert silent.silent_until_ms <= bench.clock.unix_ms()
        assert any(alarm.node == 0x20 for alarm in bench.alarms("open")), "maintenance was over"
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        over = next(alarm for alarm in bench.alarms() if alarm.node == NODE)
        assert over.cleared_ms is not None

    run(tmp_path, life)


@pytest.mark.parametrize("is_synchronised", [True, False])
def test_a_machine_that_was_off_and_begins_in_the_past_waits_for_no_future(
    tmp_path: Path, is_synchronised: bool
) -> None:
    """Until its clock is set, what lies in the future may well be right."""

    async def first(bench: Bench) -> None:
        await stolen(bench)
        await bench.ask("alarm.silence", alarm=1, seconds=limits.ALARM_SILENCE_MAX_S, why="x")
        await change(bench, "UPDATE alarm SET silent_until_ms = 0, escalate_ms = 0 + noticed_ms + 600000")
        set_back(bench, 400 * DAY_S)

    async def after(bench: Bench) -> None:
        bench.clock.is_synchronised = is_synchronised
        await start(bench)
        bench.clock.pass_s(601)
        await bench.look()
        assert bench.alarms()[0].tier == int(is_synchronised)
        await bench.tell(TILTED, CLEARED)
        bench.clock.pass_s(1)
        await bench.look()
        assert bench.alarms("open") == []

    run(tmp_path, first, after)


def test_what_was_told_while_a_clock_was_ahead_ends_today(tmp_path: Path) -> None:
    async def ahead(bench: Bench, state: int) -> None:
        bench.clock.now_ms += 30 * DAY_S * 1000
        await bench.tell(TILTED, state)
        set_back(bench, 30 * DAY_S)
        await bench.look()

    async def life(bench: Bench) -> None:
        await ahead(bench, RAISED)
        assert bench.alarms()[0].raised_ms <= bench.clock.unix_ms()
        await ahead(bench, CLEARED)
        assert bench.alarms("open") == []

    run(tmp_path, life)


# ---- a damaged database ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM alarm_rule_state",
        "UPDATE alarm_rule_state SET state = 'x'",
        "UPDATE alarm_rule_state SET state = '[]'",
        "UPDATE alarm_rule_state SET state = '{}'",
        """UPDATE alarm_rule_state SET state = '{"later_version": 1}'""",
    ],
)
def test_an_alarm_whose_state_was_lost_is_held_by_what_it_began_with(tmp_path: Path, damage: str) -> None:
    async def first(bench: Bench) -> None:
        await stolen(bench)
        await change(bench, damage)

    async def after(bench: Bench) -> None:
        await start(bench)
        await bench.tell(TILTED, RAISED)  # told again by a node that lost its own state
        await bench.look()
        assert len(bench.alarms()) == 1, "no second alarm of one theft"
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        assert bench.alarms("open") == []

    run(tmp_path, first, after)


def test_of_two_alarms_that_are_open_the_earlier_one_ends(tmp_path: Path) -> None:
    async def first(bench: Bench) -> None:
        await stolen(bench)
        columns = ", ".join(name for name in Alarm._fields if name != "id")
        await change(bench, f"INSERT INTO alarm ({columns}) SELECT {columns} FROM alarm")
        await change(bench, "UPDATE alarm_rule_state SET state = 'x'")

    async def after(bench: Bench) -> None:
        await start(bench)
        assert [alarm.id for alarm in bench.alarms("open")] == [2]
        await bench.tell(TILTED, CLEARED)
        await bench.look()
        assert bench.alarms("open") == []
        assert why_over(bench) == ["a later one has its place", ""]

    run(tmp_path, first, after)


# ---- storms --------------------------------------------------------------------------------------------------------


def test_ten_thousand_events_of_a_cover_that_flaps_are_a_few_alarms(tmp_path: Path) -> None:
    async def life(bench: Bench) -> None:
        await bench.made.enrol(NODE, site="lid-1")
        for number in range(10_000):
            bench.notices.keep(NODE, TILTED, (RAISED, CLEARED)[number % 2], 40)
            if number % 500 == 0:
                await bench.store.write(lambda connection: None)
                bench.clock.pass_s(7)
        await bench.store.write(lambda connection: None)
        await bench.look()
        assert len(bench.alarms()) <= RULES["cover_open"].flap_count
        assert bench.alarms()[0].flapping
        (state,) = bench.store.read(
            lambda reader: reader.execute("SELECT state FROM alarm_rule_state").fetchall()
        )
        assert len(state[0]) < 4096
        bench.clock.pass_s(RULES["cover_open"].flap_quiet_s)
        await bench.look()
        assert bench.alarms("open") == []

    run(tmp_path, life)


# ---- silence, and platforms that are away ----------------------------------------------------------------------------


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.work_orders.ORDER_LOOK_S", 0)


@pytest.mark.usefixtures("_at_once")
def test_what_began_and_ended_in_a_silence_is_told_to_nobody_also_over_a_restart(tmp_path: Path) -> None:
    there = OrderDesk()

    async def first(bench: Bench) -> None:
        await bench.tell(SILENT, RAISED)
        await bench.look()
        await deliver(bench, there, idle)
        await bench.ask("alarm.silence", alarm=1, seconds=3600, why="it is being moved")
        for state in (CLEARED, RAISED, CLEARED):
            await bench.tell(SILENT, state)
            await bench.look()
            bench.clock.pass_s(60)

    async def after(bench: Bench) -> None:
        await start(bench)
        await bench.tell(SILENT, RAISED)
        await bench.look()
        await deliver(
            bench, there, lambda sender: sender.counters["delivered"] >= 1 and len(sender._owed) == 1
        )
        (order,) = there.orders.values()
        assert order.is_done, "the one that had been told is closed"
        await deliver(bench, there, idle, step_s=200)
        assert [order.is_done for order in there.orders.values()] == [True, False]
        assert len(bench.alarms()) == 3

    run(tmp_path, first, after)


@pytest.mark.usefixtures("_at_once")
def test_a_platform_that_is_away_is_told_of_once_however_much_is_owed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = OrderDesk()
    there.fail = lambda document: "away"

    async def life(bench: Bench) -> None:
        for node in range(1, 61):
            await bench.tell(TILTED, RAISED, node)
        await bench.look()
        caplog.clear()
        await deliver(bench, there, lambda sender: sender.counters["unanswered"] >= 20, step_s=5)
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(told) == 1, [record.message for record in told]

    run(tmp_path, life)


@pytest.mark.usefixtures("_at_once")
def test_orders_that_the_store_keeps_no_longer_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.alarm_rows.ALARMS_KEPT_MAX", 5)
    there = OrderDesk()

    async def life(bench: Bench) -> None:
        await bench.tell(SILENT, RAISED, 0x50)
        await bench.look()
        await deliver(bench, there, idle)
        there.fail = lambda document: "away"
        is_back = False

        async def happen() -> None:
            nonlocal is_back
            for node in range(1, 11):
                await bench.tell(TILTED, RAISED, node)
                await bench.look()
                await bench.tell(TILTED, CLEARED, node)
                await bench.look()
            there.fail, is_back = lambda document: "", True

        sending = deliver(bench, there, lambda sender: is_back and idle(sender))
        sender, _ = await asyncio.gather(sending, happen())
        assert sender.counters["lost"] > 0
        assert len(there.orders) + sender.counters["lost"] == 11
        rows = bench.store.read(lambda reader: reader.execute("SELECT count(*) FROM order_sent").fetchone())
        assert rows[0] <= 2 * limits_kept

    limits_kept = 5
    run(tmp_path, life)
