"""The daemon as a process: it starts, tells its service manager, stops when asked, and is none the worse for
kill -9.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.audit import balance
from tests.gateway.fake_node import SALT, SECRET, FakeNode, Pty, PtyNode
from tests.gateway.test_daemon import joined, write_config
from tests.gateway.test_daemon_parts import Notified

CONFIG = """
[keys]
master_key_file = "master.key"
[clock]
assume_synchronised = true
[health]
port = 0
[[serial]]
name = "river-1"
path = "port"
"""
ROOT = Path(__file__).resolve().parents[2]


class Daemon:
    """`tidegate gateway run` as a child, with its log read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[dict[str, object]] = []  # of its log, what was read so far

    async def logged(self, event: str) -> dict[str, object]:
        """The next line of the log that tells of `event`."""
        while (entry := await self.line())["event"] != event:
            pass
        return entry

    async def line(self) -> dict[str, object]:
        """The next line of the log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            line = await self.process.stderr.readline()
        assert line, "the daemon ended before it logged what was waited for"
        entry: dict[str, object] = json.loads(line)
        self.seen.append(entry)
        return entry

    async def says(self, words: str) -> None:
        """Its log has these words in it, from now on or already; everything before them counts as heard."""
        while not any(words in str(entry["event"]) for entry in self.seen):
            await self.line()
        while self.seen and words not in str(self.seen.pop(0)["event"]):
            pass


@asynccontextmanager
async def daemon(
    folder: Path, *prefix: str, program: tuple[str, ...] = ("-m", "tidegate"), **environ: str
) -> AsyncIterator[Daemon]:
    """`prefix`: words in front of the command, such as those that show it another file system."""
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, *program, "gateway", "run", "--config", str(folder / "gateway.toml"),
        stderr=asyncio.subprocess.PIPE, env={**os.environ, **environ}, cwd=ROOT,
    )  # fmt: skip
    try:
        yield Daemon(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path)  # makes the master key
    (tmp_path / "gateway.toml").write_text(CONFIG)
    return tmp_path


async def import_node(folder: Path, *prefix: str) -> None:
    row = {"address": "0012", "node_type": "river", "master_secret": SECRET.hex(), "master_salt": SALT.hex()}
    (folder / "nodes.jsonl").write_text(json.dumps(row))
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-m", "tidegate", "gateway", "node", "import", str(folder / "nodes.jsonl"),
        "--config", str(folder / "gateway.toml"), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate()
    assert process.returncode == 0


def test_sigterm_ends_it_in_order_and_the_service_manager_is_told(folder: Path) -> None:
    async def scenario() -> None:
        notified = Notified(folder / "notify")
        environ = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "60000000"}
        async with daemon(folder, **environ) as child:
            await child.logged("health_listens")
            child.process.send_signal(signal.SIGTERM)
            await child.logged("stopped")
            assert await child.process.wait() == 0
        lines = notified.lines()
        assert lines[0] == "READY=1"
        assert "WATCHDOG=1" in lines
        assert lines[-1] == "STOPPING=1"
        assert not (folder / "data" / "control.sock").exists()

    asyncio.run(scenario())


def test_kill_9_loses_nothing_that_was_acknowledged_and_the_node_just_goes_on(folder: Path) -> None:
    async def scenario() -> None:
        await import_node(folder)
        peer = PtyNode(FakeNode(), Pty(folder / "port"))
        node = peer.node
        async with daemon(folder) as child:
            await child.logged("port_open")
            await joined(peer)
            epoch = node.epoch
            for _ in range(10):
                node.keep()
            peer.send(*node.pending())
            await peer.until(lambda: node.acked == 10)
            child.process.kill()
            await child.process.wait()
        async with daemon(folder) as child:
            await child.logged("port_open")
            for _ in range(10):
                node.keep()
            peer.send(*node.pending())
            await peer.until(lambda: node.acked == 20)
            assert node.epoch == epoch
        peer.detach()
        with sqlite3.connect(folder / "data" / "tidegate.db") as database:
            [row] = balance(database)
        assert (row.produced, row.stored, row.copies, row.holds) == (20, 20, 0, True)

    asyncio.run(scenario())


def test_a_config_that_is_wrong_ends_the_start_with_its_problems_and_code_2(folder: Path) -> None:
    async def scenario() -> None:
        (folder / "gateway.toml").write_text(CONFIG + "baudrate = 1\n")
        async with daemon(folder) as child:
            _, errors = await child.process.communicate()
            assert child.process.returncode == 2
            told = errors.decode()
            assert (
                "gateway.toml:11: serial[0].baudrate = 1: unknown key. Allowed here: name, path, baud. Did "
                'you mean "baud"?' in told
            )
            assert "Traceback" not in told

    asyncio.run(scenario())


def test_a_database_that_is_damaged_while_it_runs_is_salvaged_without_a_person(folder: Path) -> None:
    """The same process: what was acknowledged is there afterwards, and somebody is told."""

    async def scenario() -> None:
        await import_node(folder)
        peer = PtyNode(FakeNode(), Pty(folder / "port"))
        async with daemon(folder) as child:
            await child.logged("port_open")
            await joined(peer)
            for _ in range(3):
                peer.node.keep()
            peer.send(*peer.node.pending())
            await peer.until(lambda: peer.node.acked == 3)
            database = folder / "data" / "tidegate.db"
            spoil(database, "audit")
            assert await command(folder, "site", "add", "bridge-9") != 0, "it meets the damage"
            assert "damaged" in str((await child.logged("begins_again"))["why"])
            note = str((await child.logged("store_recovery"))["note"])
            assert "3 event" in note
            await child.logged("port_open")
            peer.node.keep()
            # Nothing is sent down until the node has told what it heard, and that cannot be a recording.
            peer.send(peer.node.status(), *peer.node.pending())
            await peer.until(lambda: peer.node.acked == 4)
            assert await command(folder, "damage", "--acknowledge") == 0
            child.process.send_signal(signal.SIGTERM)
            assert await child.process.wait() == 0
        peer.detach()
        with sqlite3.connect(database) as connection:
            assert connection.execute("SELECT count(*) FROM event").fetchone() == (4,)
            assert connection.execute("SELECT known_by IS NOT NULL FROM damage").fetchall() == [(1,)]
        connection.close()

    asyncio.run(scenario())


def spoil(database: Path, table: str) -> None:
    """Overwrite the page at which a table begins, under the running daemon."""
    with sqlite3.connect(database) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)


async def command(folder: Path, *words: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidegate", "gateway", *words, "--config", str(folder / "gateway.toml"), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate()
    return process.returncode or 0
