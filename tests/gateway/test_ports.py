"""A serial port that is handed over is free for another program, told of truthfully, and comes back by itself."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from gateway import limits
from gateway.notices import Notices
from gateway.own_epochs import OwnEpochs
from gateway.presence import Presence
from gateway.silence import Silence
from tests.gateway.desk import desk
from tests.gateway.fake_node import Pty
from tests.gateway.test_daemon_process import CONFIG, daemon
from tests.gateway.test_daemon_process import folder as folder
from tests.gateway.test_serial_link import Bench, running


@pytest.fixture
def pty(tmp_path: Path) -> Pty:
    return Pty(tmp_path / "port")


def hold(pty: Pty) -> int:
    """What a program that flashes does; BlockingIOError while another one has the port."""
    holder = os.open(pty.slave_name, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(holder)
        raise
    return holder


def test_a_released_port_is_free_at_once_and_comes_back_when_its_time_is_up(pty: Pty) -> None:
    async def scenario() -> None:
        now = [0.0]
        beats: list[None] = []

        def beat() -> None:
            beats.append(None)
            bench.changed.set()

        bench = Bench(pty.path, monotonic=lambda: now[0], on_progress=beat)
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            with pytest.raises(BlockingIOError):
                hold(pty)
            await bench.link.release(600, "anna", "new firmware")
            os.close(hold(pty))
            assert not bench.link.send(0x12, b"nobody there")
            assert bench.link.last_error == "handed over to anna for 600 s (new firmware)"
            seen = len(beats)
            now[0] = 599.0
            # It is supervised all the while, and tries nothing.
            await bench.until(lambda: len(beats) >= seen + 3)
            assert not bench.link.is_open
            assert bench.link.handed_left_s() == 1.0
            now[0] = 600.0
            await bench.until(lambda: bench.link.is_open)
        assert bench.link.handed is None
        assert (bench.link.counters.losses, bench.link.counters.open_errors) == (0, 0)
        assert (bench.link.counters.opens, bench.link.counters.released) == (2, 1)

    asyncio.run(scenario())


def test_a_node_is_not_called_silent_for_the_time_that_its_port_was_lent(tmp_path: Path, pty: Pty) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as made:
            await made.enrol(0x12)
            presence = Presence(made.clock)
            notices = Notices(made.store, made.clock, OwnEpochs(made.store, os.urandom))
            silence = Silence(made.store, made.registry, presence, made.clock, notices)
            bench = Bench(pty.path, monotonic=made.clock.monotonic)
            silence.link_absent_s = lambda link, since_s, now_s: bench.link.absent_s(since_s, now_s)
            async with running(bench):
                await bench.until(lambda: bench.link.is_open)
                presence.heard(0x12, "river-1", None, made.clock.monotonic(), 0)
                made.clock.pass_s(10)
                await bench.link.release(600, "anna", "new firmware")
                made.clock.pass_s(500)
                assert silence.waited_s(0x12) == 10
                bench.link.take("anna")
                assert silence.waited_s(0x12) == 10
                made.clock.pass_s(limits.RETURN_S)
                assert silence.waited_s(0x12) == 10
                made.clock.pass_s(7)
                assert silence.waited_s(0x12) == 17

    asyncio.run(scenario())


def test_a_port_that_is_taken_back_waits_quietly_until_the_other_program_lets_go(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            await bench.link.release(600, "anna", "new firmware")
            holder = hold(pty)
            assert bench.link.take("anna")
            assert not bench.link.take("anna")
            await bench.until(lambda: bench.link.counters.open_errors >= 3)
            os.close(holder)
            await bench.until(lambda: bench.link.is_open)
        assert len(bench.log.told("port_unavailable")) == 1

    asyncio.run(scenario())


def test_a_port_that_is_missing_or_held_by_another_can_be_released_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path / "port")
        async with running(bench):
            await bench.until(lambda: bench.link.counters.open_errors >= 2)
            await bench.link.release(600, "anna", "a new board")
            pty = Pty(tmp_path / "port")
            holder = hold(pty)
            os.close(holder)
            bench.link.take("anna")
            await bench.until(lambda: bench.link.is_open)

    asyncio.run(scenario())


async def typed(folder: Path, code: int, *words: str) -> str:
    """What a person sees of `tidegate gateway …`, which ends with this exit code."""
    asked = ["gateway", *words, "--config", str(folder / "gateway.toml")]
    done = await asyncio.to_thread(lambda: CliRunner(env={"COLUMNS": "80"}).invoke(tidegate.app, asked))
    assert done.exit_code == code, done.output
    return done.output


def reasons(port: object) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as page:
            return list(json.load(page)["reasons"])
    except urllib.error.HTTPError as not_ready:
        return list(json.load(not_ready)["reasons"])


def test_a_person_hands_a_port_over_and_the_books_know_who_and_why(folder: Path) -> None:
    """The real daemon: refusals name what is allowed; a kill in between does no harm to who has the port."""

    async def refusals() -> None:
        why = ("--why", "new firmware")
        said = await typed(folder, 2, "port", "release", "rivre-1", *why)
        assert "There are: river-1. Did you mean river-1?" in said
        assert "is a Modbus bus" in await typed(folder, 2, "port", "release", "meters", *why)
        assert "say why" in await typed(folder, 2, "port", "release", "river-1")
        too_long = str(limits.PORT_RELEASE_MAX_S + 1)
        said = await typed(folder, 2, "port", "release", "river-1", "--for", too_long, *why)
        assert f"1 to {limits.PORT_RELEASE_MAX_S}" in said
        assert "not handed over" in await typed(folder, 2, "port", "take", "river-1")

    async def scenario() -> None:
        (folder / "gateway.toml").write_text(
            CONFIG + '[[modbus]]\nname = "meters"\npath = "line"\nbaud = 9600\n'
        )
        pty = Pty(folder / "port")
        async with daemon(folder) as child:
            listens = await child.logged("health_listens")
            await child.logged("port_open")
            await refusals()
            # By the path of the device, as who flashes a board knows it.
            said = await typed(folder, 0, "port", "release", pty.slave_name, "--why", "new firmware")
            assert "is free for 10 min" in said
            await child.logged("port_released")
            holder = hold(pty)
            said = await typed(folder, 0, "port", "list")
            assert "handed over to" in said
            assert "(new firmware)" in said
            assert "handed over, " in await typed(folder, 0, "status")
            told = await asyncio.to_thread(reasons, listens["port"])
            assert any(reason.startswith("serial:river-1: handed over to") for reason in told)
            child.process.kill()
            await child.process.wait()
        async with daemon(folder) as child:
            unavailable = await child.logged("port_unavailable")
            assert "in use by another program" in str(unavailable["reason"])
            os.close(holder)
            await child.logged("port_open")
            await typed(folder, 0, "port", "release", "river-1", "--why", "again")
            await typed(folder, 0, "port", "take", "river-1", "--why", "done")
            await child.logged("port_open")
        assert "no gateway is running" in await typed(folder, 1, "port", "list")
        with sqlite3.connect(folder / "data" / "tidegate.db") as database:
            rows = database.execute(
                "SELECT action, target, why FROM audit WHERE action LIKE 'port.%'"
            ).fetchall()
        assert rows == [
            ("port.release", "river-1", "new firmware"),
            ("port.release", "river-1", "again"),
            ("port.take", "river-1", "done"),
        ]

    asyncio.run(scenario())
