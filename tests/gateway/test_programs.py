"""What a gateway knows of the programs of its nodes: kept over kills, told on 80 columns, counted for the metrics."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from gateway import programs, schema
from gateway.campaign_making import Choice
from gateway.campaign_told import pass_told
from gateway.daemon import EXTRA_SCHEMA
from gateway.programs import Program
from protocols.wire import outcomes
from tests.gateway.campaign_world import AIR, PLAN, World
from tests.gateway.desk import HandClock, desk, stopped_gateway
from tests.gateway.test_campaign_cli import CONFIG


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.1.0+r12", ("0.1.0", 12)),
        ("0.1.0", ("0.1.0", 0)),
        ("", ("", 0)),
        ("0.1.0+dirty", ("0.1.0+dirty", 0)),
        ("0.1.0+r", ("0.1.0+r", 0)),
    ],
)
def test_a_hello_names_version_and_release(text: str, found: tuple[str, int]) -> None:
    assert programs.split(text) == found


def test_it_is_written_down_since_when_a_node_runs_what_it_runs(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute(programs.SCHEMA[0])
        assert programs.of_node(connection, 0x12) == programs.UNKNOWN
        first = programs.of_hello("virtual", "0.1.0+r1", 5)
        programs.note(connection, 0x12, first)
        programs.note(connection, 0x12, first._replace(at_ms=9))
        assert programs.every(connection) == {0x12: Program("virtual", 1, "0.1.0", 5)}
        programs.note(connection, 0x12, programs.of_hello("virtual", "0.1.0+r2", 11))
        assert programs.of_node(connection, 0x12) == Program("virtual", 2, "0.1.0", 11)


def test_a_database_of_before_knows_boards_and_releases_still(tmp_path: Path) -> None:
    connection = schema.connect(str(tmp_path / "db"), wal_pages=100, cache_kib=100)
    connection.execute(
        "CREATE TABLE node_program (node INTEGER PRIMARY KEY, board TEXT NOT NULL, sequence INTEGER NOT NULL,"
        " at_ms INTEGER NOT NULL) STRICT"
    )
    connection.execute("INSERT INTO node_program VALUES (18, 'virtual', 3, 7)")
    schema.create(connection, EXTRA_SCHEMA)
    assert programs.of_node(connection, 18) == Program("virtual", 3, "", 7)
    connection.close()


def test_the_releases_that_most_run_are_counted_one_by_one() -> None:
    known = {node: Program("virtual", node, "0.1.0", 1) for node in range(1, 31)}
    known |= {node: Program("virtual", 99, "0.1.0", 1) for node in range(31, 41)}
    told = programs.counted(known, dict.fromkeys(range(1, 50), "river"))
    assert told["river"]["99"] == 10
    assert len(told["river"]) == programs.RELEASES_MAX + 1
    assert sum(told["river"].values()) == 40  # nine of them said nothing
    assert programs.counted({}, {1: "cover"}) == {}


def test_what_nodes_run_is_listed_with_what_became_of_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stopped_gateway(Path(), CONFIG)

    async def live() -> None:
        with desk(Path("data"), HandClock()) as office:
            world = World(office, 1, 3)
            await office.enrol(*world.nodes)
            world.start()
            for node in list(world.nodes.values())[:2]:
                await world.engine.hello(node.address, "virtual", f"0.1.0+r{node.release}")
            world.nodes[0x101].health = outcomes.CRASHED
            await world.begin(Choice())
            await world.live(60)
            assert world.engine.picture()["running"]["river"]["2"] == 2

    asyncio.run(live())
    listed = _say("list")
    assert "0100" in listed
    assert "3 nodes: 1 × river 1, 2 × river 2." in listed
    shown = _say("show", "0101")
    assert "runs release 1, firmware 0.1.0" in shown
    assert "1 → 2, rolled back (crashed)" in shown
    assert "crashed three times" in shown
    assert "no gateway is running" in shown
    assert "river on virtual" in shown
    refused = CliRunner().invoke(tidegate.app, ["gateway", "node", "show", "0999"])
    assert refused.exit_code != 0
    assert "is not registered" in str(refused.exception or "") + refused.output


def _say(*words: str) -> str:
    done = CliRunner().invoke(tidegate.app, ["gateway", "node", *words])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert max(map(len, done.output.splitlines())) <= 80, done.output
    return done.output


def test_a_broadcast_that_is_planned_is_told_until_it_is_over(tmp_path: Path) -> None:
    async def live() -> None:
        with desk(tmp_path, HandClock()) as office:
            world = World(office, 3, 2)
            await office.enrol(*world.nodes)
            world.start()
            await world.begin(Choice(), PLAN)
            await world.turn(way=AIR)
            await world.turn(way=AIR)
            passes = world.engine.passes
            (told,) = passes.told_of(1)
            assert passes.told_of(2) == []
            assert pass_told(told).endswith(": 2 nodes so far")
            office.clock.pass_s(told["begins_in_s"])
            (found,) = world.engine.passes_due()
            await world.engine.frame(found)
            (now,) = passes.told_of(1)
            assert pass_told(now) == f"broadcast at SF7: 1 of {1 + now['left']} rows sent to 2 nodes"
            await world.engine.question(found)
            (named,) = passes.told_of(1)  # the next one
            assert named["coming"] == 2

    asyncio.run(live())
