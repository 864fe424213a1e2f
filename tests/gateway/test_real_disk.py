"""A disk that is full, read-only or broken, for real: the daemon comes up, says so, acknowledges nothing, and heals.

The file systems are real ones in a mount namespace of their own, where that is allowed; what refuses under a daemon
that runs is the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hil_tests.world import real_disk
from hil_tests.world.real_disk import RealDisk
from tests.gateway.fake_node import FakeNode, Pty, PtyNode
from tests.gateway.test_daemon import joined, write_config
from tests.gateway.test_daemon_parts import Notified
from tests.gateway.test_daemon_process import CONFIG, ROOT, Daemon, daemon, import_node

MISSING = real_disk.missing()
needs_mounts = pytest.mark.skipif(MISSING is not None, reason=f"a real file system for a test: {MISSING}")
MIB = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path)  # makes the master key
    (tmp_path / "gateway.toml").write_text(CONFIG + "[store]\nreserve_mib = 1\n")
    return tmp_path


@pytest.fixture
def disk(folder: Path) -> Iterator[RealDisk]:
    with RealDisk(folder / "data", MIB) as made:
        made.inside("chmod", "700", str(folder / "data"))
        yield made


class Station:
    """A daemon with one node, over as many starts as a test wants."""

    def __init__(self, folder: Path, prefix: list[str]) -> None:
        self.folder = folder
        self.prefix = prefix
        self.program: tuple[str, ...] = ("-m", "tidegate")
        self.notified = Notified(folder / "notify")
        self.peer = PtyNode(FakeNode(), Pty(folder / "port"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        notify = str(self.folder / "notify")
        async with daemon(self.folder, *self.prefix, program=self.program, NOTIFY_SOCKET=notify) as child:
            yield child

    async def gives(self, count: int) -> None:
        """So many more events, until all is acknowledged."""
        node = self.peer.node
        for _ in range(count):
            node.keep()
        for _ in range(10):  # as a node does: what was not acknowledged is sent again
            self.peer.send(*node.pending()[:50])
            sent = min(len(node.records), node.acked + 50)
            with contextlib.suppress(TimeoutError):
                await self.peer.until(lambda sent=sent: node.acked >= sent, 2)  # type: ignore[misc]
            if node.acked == len(node.records):
                return
        raise AssertionError(f"{node.acked} of {len(node.records)} are acknowledged")

    def audited(self) -> str:
        """The first line of `tidegate gateway audit`."""
        config = str(self.folder / "gateway.toml")
        command = [*self.prefix, sys.executable, "-m", "tidegate", "gateway", "audit", "--config", config]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("\n")[0]


async def asked(port: object, page: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(get)


@asynccontextmanager
async def living(station: Station) -> AsyncIterator[Daemon]:
    """A daemon that runs, whose node has joined and had three events acknowledged."""
    await import_node(station.folder, *station.prefix)
    async with station.running() as child:
        await child.logged("port_open")
        await joined(station.peer)
        await station.gives(3)
        yield child


async def waits_and_heals(station: Station, mend: Callable[[], None], says: str) -> None:
    """A daemon is started on a disk that takes nothing."""
    node = station.peer.node
    before = node.acked
    station.notified.lines()
    async with station.running() as child:
        assert says in str((await child.logged("disk_refuses"))["reason"])
        port = (await child.logged("health_listens"))["port"]
        status, told = await asked(port, "/readyz")
        assert status == 503
        assert says in json.loads(told)["reasons"][0]
        assert (await asked(port, "/healthz"))[0] == 200, "starting it again would not help"
        lines = station.notified.lines()
        assert "READY=1" in lines, "systemd does not give it up"
        assert any(line.startswith("STATUS=waiting for the disk") and says in line for line in lines)
        assert node.acked == before
        mend()
        child.process.send_signal(signal.SIGHUP)  # or it looks by itself, every few seconds
        await child.logged("disk_takes_again")
        await child.logged("port_open")
        await station.gives(1)
        child.process.send_signal(signal.SIGTERM)
        assert await child.process.wait() == 0


@needs_mounts
def test_a_start_on_a_disk_that_is_read_only_or_full_waits_and_heals(folder: Path, disk: RealDisk) -> None:
    async def scenario() -> None:
        station = Station(folder, disk.prefix)
        async with living(station) as child:
            child.process.kill()
            await child.process.wait()
        disk.remount("ro")
        await waits_and_heals(station, lambda: disk.remount("rw"), "ead-only")
        disk.inside("rm", f"{folder}/data/reserve")
        disk.fill()
        await waits_and_heals(station, disk.make_room, "o space left")
        station.peer.detach()
        assert (
            station.audited()
            == "produced=5 stored=5 delivered=0 queued=5 missing=0 lost=0 copies=0 holds=yes"
        )

    asyncio.run(scenario())


async def refused(station: Station, child: Daemon) -> None:
    """An event that is sent is not acknowledged, and the daemon says why."""
    node = station.peer.node
    before = node.acked
    node.keep()
    station.peer.send(*node.pending())
    while "commit of" not in str((await child.line())["event"]):
        pass
    assert node.acked == before


@needs_mounts
def test_a_disk_that_fills_up_under_it_gives_its_reserve_to_events_and_then_refuses(
    folder: Path, disk: RealDisk
) -> None:
    async def scenario() -> None:
        station = Station(folder, disk.prefix)
        async with living(station) as child:
            disk.fill()
            await station.gives(200)
            assert disk.inside("ls", f"{folder}/data/reserve").returncode, "given to events"
            disk.fill()
            for _ in range(30):  # what is left in the log's file, which SQLite writes over
                station.peer.node.keep()
            await refused(station, child)
            disk.make_room()
            await station.gives(1)
        station.peer.detach()
        assert "holds=yes" in station.audited()

    asyncio.run(scenario())


def test_writes_that_the_kernel_refuses_under_it_are_told_and_over_when_they_are_over(folder: Path) -> None:
    """No file may grow any more (RLIMIT_FSIZE): each write(2) to the database fails, without any right of root."""

    async def scenario() -> None:
        station = Station(folder, [])
        async with living(station) as child:
            pid = child.process.pid
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            await refused(station, child)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            await station.gives(1)
            child.process.send_signal(signal.SIGTERM)
            assert await child.process.wait() == 0, "the same process, from beginning to end"
        station.peer.detach()
        assert station.audited().startswith("produced=5 stored=5")

    asyncio.run(scenario())


# Gives a broken disk up at once: what that is for is proven in any time.
HASTY = "import gateway.limits as l; l.DISK_GIVE_UP_S = 0; import tidegate; tidegate.app()"
MISSING_EXT4 = real_disk.missing_ext4()


@pytest.mark.soak
@pytest.mark.skipif(MISSING_EXT4 is not None, reason=f"a file system that breaks: {MISSING_EXT4}")
def test_a_file_system_that_breaks_under_it_is_let_go_so_that_it_can_be_mounted_anew(folder: Path) -> None:
    async def scenario(disk: RealDisk) -> None:
        station = Station(folder, disk.prefix)
        station.program = ("-c", HASTY)
        async with living(station) as child:
            disk.break_()
            await refused(station, child)
            assert "refused for" in str((await child.logged("begins_again"))["why"])
            await child.logged("disk_refuses")
            disk.mend()
            child.process.send_signal(signal.SIGHUP)
            await child.logged("port_open")
            await station.gives(1)
            child.process.send_signal(signal.SIGTERM)
            assert await child.process.wait() == 0
        station.peer.detach()
        assert station.audited().startswith("produced=5 stored=5")

    with RealDisk(folder / "data", 64, folder / "image") as disk:
        asyncio.run(scenario(disk))
