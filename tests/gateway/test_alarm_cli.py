"""`tidegate gateway alarm …` as a person types it: whole on 80 columns, by number or by the code of the order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tidegate
from protocols.wire.messages import CLEARED, RAISED
from tests.gateway.alarm_bench import NODE, OTHER, SILENT, TILTED, Bench
from tests.gateway.desk import HandClock, desk, stopped_gateway

CONFIG = """
[gateway]
data_dir = "data"
[keys]
master_key_file = "master.key"
[[area]]
code = "330106"
name = "Xihu"
level = "street"
parent = "3301"
handler = "street-1"
escalate_after_min = 10
[[area]]
code = "3301"
name = "Hangzhou"
level = "city"
[[work_orders]]
name = "hotline"
url = "http://127.0.0.1:9/orders"
"""
Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A gateway that does not run, with a stolen cover, a silent node, and one that is over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stopped_gateway(Path(), CONFIG)

    async def happen() -> None:
        with desk(Path("data"), HandClock()) as made:
            bench = Bench(made)
            await made.enrol(NODE, site="lid-1")
            for code, state, node in (
                (SILENT, RAISED, OTHER),
                (SILENT, CLEARED, OTHER),
                (TILTED, RAISED, NODE),
            ):
                await bench.tell(code, state, node)
                await bench.look()
                made.clock.pass_s(700)
            await bench.look()

    asyncio.run(happen())
    return lambda *words: CliRunner().invoke(tidegate.app, ["gateway", "alarm", *words])


def lines(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    found = done.output.splitlines()
    assert max(map(len, found)) <= 80, done.output
    return found


def code_of(cli: Cli) -> str:
    return next(word.strip(";") for word in cli("list").output.split() if word.startswith("TG"))


def test_a_list_says_what_is_open_since_when_and_who_was_told(cli: Cli) -> None:
    first, second, third = lines(cli("list"))
    assert first.startswith("2   cover_open at lid-1: OPEN since 2026-09-21 14:36:40Z, ")
    assert second == "    danger: Manhole cover open, displaced or gone (node 0012: cover_tilted 40)"
    assert third == f"    order {code_of(cli)}; for city Hangzhou"
    assert "1   node_silent at node 0013: over, " in cli("list", "--which", "all").output
    assert lines(cli("list", "--which", "closed"))[0].startswith("1 ")


def test_one_alarm_is_shown_with_all_that_happened_to_it(cli: Cli) -> None:
    why = "two men and a van are on their way, and they bring a cover that is wider than the one that was stolen"
    assert cli("ack", code_of(cli).lower(), "--why", why).exit_code == 0
    said = "\n".join(lines(cli("show", "2")))
    assert "escalated to city Hangzhou" in said
    assert " ".join(said.split()).count(why) == 1
    assert "acknowledged by" in said


def test_a_silence_is_seen_and_ends(cli: Cli) -> None:
    assert "cover_open at lid-1 is silent until " in cli("silence", "2", "--for", "2h", "--why", "x").output
    assert "SILENT until" in cli("show", "2").output
    assert cli("silence", "2", "--for", "0", "--why", "x").output == "cover_open at lid-1 is told again.\n"
    said = cli("show", "2").output
    assert "SILENT" not in said
    assert "unsilenced by" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "--which", "opne"), "Allowed are open, closed and all. Did you mean open?"),
        (("ack", "2"), "say why with --why"),
        (("ack", "1", "--why", "x"), "alarm 1 is over. Open: 2."),
        (("ack", "99", "--why", "x"), "alarm 99 is not there. Open: 2."),
        (("ack", "TG" + "A" * 18, "--why", "x"), "is not there. Open: 2."),
        (("show", "two"), "neither a number nor the code of an order"),
        (("show", "9" * 400), "neither a number nor"),
        (("silence", "2", "--for", "2hours", "--why", "x"), "Allowed is 30min, 2h, 1d"),
        (("silence", "2", "--for", "9" * 400, "--why", "x"), "Allowed is 30min, 2h, 1d"),
        (("silence", "2", "--for", "90d", "--why", "x"), "Allowed is 0 (ends a silence) to"),
        (("silence", "2"), "say why with --why"),
    ],
)
def test_what_is_not_allowed_is_said_in_one_line_with_what_is(
    cli: Cli, words: tuple[str, ...], told: str
) -> None:
    done = cli(*words)
    assert done.exit_code == 2
    assert told in str(done.exception or "") + done.output + done.stderr


def test_a_number_of_years_stands_apart_from_the_rule(cli: Cli) -> None:
    connection = sqlite3.connect("data/tidegate.db")
    connection.execute("UPDATE alarm SET id = id + 123000")
    connection.execute("UPDATE alarm_change SET alarm = alarm + 123000")
    connection.commit()
    connection.close()
    assert lines(cli("list"))[0].split()[:2] == ["123002", "cover_open"]
