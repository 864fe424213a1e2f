"""What a technician types becomes the args of a command, kept in a database of whichever version."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from firmware import nodes
from gateway import commands, registry, schema, wishes
from gateway.command_words import args_of
from gateway.errors import CommandError
from protocols.measurands import registry as measurands
from protocols.wire import codes
from tests.gateway.desk import BY, desk

if TYPE_CHECKING:
    from pathlib import Path

NODE = 0x12


@pytest.mark.parametrize(
    ("op", "words", "args"),
    [
        (codes.READ_NOW, "", None),
        (codes.IDENTIFY, "30", 30),
        (codes.MAINTENANCE, "30min", 1800),
        (codes.MAINTENANCE, "2h", 7200),
        (codes.MAINTENANCE, "0", 0),
        (codes.CONSOLE, "3", 3),
        (codes.CALIBRATE, "ph zero 6.86", [1, 0, 686]),
        (codes.CALIBRATE, "ph span 9.18", [1, 1, 918]),
        (codes.CALIBRATE, "turbidity zero 0", [4, 0, 0]),
        (codes.CALIBRATE, "orp span -210.4", [5, 1, -210]),
        (codes.CALIBRATE, "ph apply 17", [1, 2, 17]),
        (codes.CALIBRATE, "ph discard", [1, 3, 0]),
        (codes.SET_RADIO, "9 -3", [9, -3]),
    ],
)
def test_words_become_args(op: int, words: str, args: object) -> None:
    assert args_of(op, words.split(), "river") == args


@pytest.mark.parametrize(
    ("op", "words", "told"),
    [
        (codes.MAINTENANCE, "soon", "'soon' is not allowed. Allowed is a whole number; of time also 90s"),
        (codes.IDENTIFY, "3 4", "2 values were given"),
        (codes.READ_NOW, "5", "'5' is not allowed: this command takes no value"),
        (codes.CALIBRATE, "", "calibrate ph zero 6.86"),
        (codes.SET_RADIO, "", "set-radio 9 14"),
        (codes.SET_RADIO, "9", "set-radio 9 14"),
        (codes.SET_RADIO, "9 x", "set-radio 9 14"),
        (codes.CALIBRATE, "ph", "calibrate ph zero 6.86"),
        (codes.CALIBRATE, "ph middle 6.86", "calibrate ph zero 6.86"),
        (codes.CALIBRATE, "ph zero", "calibrate ph zero 6.86"),
        (codes.CALIBRATE, "ph zero 6,86", "'6,86' is not a value in .pH., such as 6.86"),
        (codes.CALIBRATE, "ph apply x", "'x' is not allowed"),
        (
            codes.CALIBRATE,
            "pH zero 6.86",
            "type river does not measure 'pH'. It measures water_temperature, ph,",
        ),
    ],
)
def test_words_that_mean_nothing_are_refused_with_what_is_allowed(op: int, words: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        args_of(op, words.split(), "river")


def test_a_node_type_without_a_probe_says_so() -> None:
    with pytest.raises(CommandError, match="a node of type 'submarine' has no probe to calibrate"):
        args_of(codes.CALIBRATE, ["ph", "zero", "7"], "submarine")


def test_every_node_type_of_the_registry_is_the_firmwares() -> None:
    for name, schema_id in measurands().node_types.items():
        found = nodes.load(name)
        assert found is not None
        assert found.schema_id == schema_id


def test_args_come_back_as_they_were_given_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            for op, args in (
                (codes.CALIBRATE, [1, 0, 686]),
                (codes.MAINTENANCE, 1800),
                (codes.LEARN, None),
            ):
                await office.commands.add(NODE, op, args, 60, BY)
            assert [report.args for report in office.commands.reports()] == [None, 1800, [1, 0, 686]]
        with desk(tmp_path) as office:
            assert await office.commands.recover() == 3
            due = office.commands.due(NODE)
            assert due is not None
            assert due.args == [1, 0, 686]

    asyncio.run(scenario())


VERSION_1 = """CREATE TABLE command (
        id INTEGER PRIMARY KEY, node INTEGER NOT NULL, command_id INTEGER NOT NULL, op INTEGER NOT NULL,
        args INTEGER, who TEXT NOT NULL, why TEXT NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
        sent_ms INTEGER, state TEXT NOT NULL, detail TEXT NOT NULL, ended_ms INTEGER, UNIQUE (node, command_id)
    ) STRICT"""


def test_a_database_of_version_1_keeps_its_commands_and_takes_arrays(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID")
    connection.execute("INSERT INTO meta VALUES ('schema_version', 1)")
    connection.execute(VERSION_1)
    connection.execute(commands.SCHEMA[1])
    connection.execute(
        "INSERT INTO command VALUES (1, 18, 7, 1, 30, 'li', 'x', 5, 6, NULL, 'open', '', NULL)"
    )
    connection.execute("INSERT INTO command VALUES (2, 18, 8, 3, NULL, 'li', 'x', 5, 6, 7, 'done', 'ok', 8)")
    extra = (*registry.SCHEMA, *commands.SCHEMA, *wishes.SCHEMA)
    for _ in range(2):  # the second time there is nothing to do
        schema.create(connection, extra)
        assert schema.version(connection) == schema.SCHEMA_VERSION
        rows = connection.execute("SELECT id, args, detail FROM command ORDER BY id").fetchall()
        assert rows == [(1, "30", ""), (2, None, "ok")]
    connection.execute("UPDATE command SET args = '[1, 0, 686]' WHERE id = 1")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert "command_open" in names
    assert "command_old" not in names


def test_a_database_of_a_newer_version_stays_as_it_is(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    schema.create(connection, commands.SCHEMA)
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")
    schema.create(connection, commands.SCHEMA)
    assert schema.version(connection) == 99
