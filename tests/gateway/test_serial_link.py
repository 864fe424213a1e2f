"""A serial link carries frames whole, survives what happens to cables, and bounds what a node can make it
do.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import limits
from gateway.errors import LinkError
from gateway.links.port import Timing, open_port
from gateway.links.routes import Routes
from gateway.links.serial import SerialLink
from protocols.wire import framing
from tests.gateway.fake_node import Pty

FAST = Timing(absent_s=0.005, retry_min_s=0.005, retry_max_s=0.02, check_s=0.02)


class KeptLog:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def bind(self, **facts: Any) -> KeptLog:
        return self

    def _keep(self, event: str, **facts: Any) -> None:
        self.entries.append({"event": event, **facts})

    debug = info = warning = error = _keep

    def told(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == event]


class Bench:
    """A link on a pty, with everything it received."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.log = KeptLog()
        self.frames: list[bytes] = []
        self.changed = asyncio.Event()
        self.link = SerialLink(
            "river-1",
            str(path),
            115200,
            self._on_frame,
            cast(Any, self.log),
            on_state=lambda link: self.changed.set(),
            timing=FAST,
            **options,
        )

    def _on_frame(self, link: SerialLink, payload: bytes) -> None:
        self.frames.append(payload)
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a frame or a change of state that makes `condition` true."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.link.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def readable(fd: int) -> bytes:
    """What comes out of `fd` next."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        async with asyncio.timeout(20):
            await ready
    finally:
        loop.remove_reader(fd)
    return os.read(fd, 65536)


@pytest.fixture
def pty(tmp_path: Path) -> Pty:
    return Pty(tmp_path / "port")


def test_frames_arrive_whole_however_the_line_cuts_them(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        payloads = [bytes([index]) * (index + 1) for index in range(1, 60)]
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            stream = b"".join(map(framing.encode, payloads))
            for start in range(0, len(stream), 7):
                os.write(pty.master, stream[start : start + 7])
            await bench.until(lambda: len(bench.frames) == len(payloads))
        assert bench.frames == payloads
        assert bench.link.counters.frames_in == len(payloads)
        assert bench.link.counters.bytes_in == len(stream)

    asyncio.run(scenario())


def test_sent_frames_reach_the_node(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            assert bench.link.send(0x12, b"\x00ack\x00")
            decoder = framing.Decoder()
            assert decoder.feed(await readable(pty.master)) == [(framing.SEALED, b"\x00ack\x00")]
        assert bench.link.counters.frames_out == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("path_vanishes", [True, False], ids=["path-vanishes", "path-dangles"])
def test_an_unplugged_port_comes_back_by_itself_under_another_number(pty: Pty, path_vanishes: bool) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        async with running(bench):
            for round_number in range(1, 4):
                await bench.until(lambda: bench.link.is_open)
                first = pty.slave_name
                os.write(pty.master, framing.encode(bytes([round_number])))
                await bench.until(lambda: len(bench.frames) == round_number)  # noqa: B023  (awaited at once)
                held = os.open(pty.slave_name, os.O_RDWR | os.O_NOCTTY)  # keeps the number taken
                pty.unplug(remove=path_vanishes)
                await bench.until(lambda: not bench.link.is_open)
                assert not bench.link.send(0x12, b"too late")
                pty.plug()
                assert pty.slave_name != first
                os.close(held)
            await bench.until(lambda: bench.link.is_open)
        assert bench.frames == [b"\x01", b"\x02", b"\x03"]
        assert bench.link.counters.losses == 3
        assert bench.link.counters.opens == 4

    asyncio.run(scenario())


def test_a_port_that_the_path_no_longer_names_is_left_for_the_one_it_names(pty: Pty) -> None:
    """Renumbering without a hang-up: the old device still works, but it is another node's now."""

    async def scenario() -> None:
        bench = Bench(pty.path)
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            old_master = pty.master
            pty.plug()
            await bench.until(lambda: bench.link.counters.opens == 2)
            os.write(pty.master, framing.encode(b"new"))
            await bench.until(lambda: bench.frames == [b"new"])
            os.close(old_master)

    asyncio.run(scenario())


def test_a_port_that_is_missing_at_the_start_is_waited_for_and_told_of_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path / "port")
        async with running(bench):
            await bench.until(lambda: bench.link.counters.open_errors >= 5)
            Pty(tmp_path / "port")
            await bench.until(lambda: bench.link.is_open)
        told = bench.log.told("port_unavailable")
        assert [entry["reason"] for entry in told] == [f"{tmp_path / 'port'}: no such port"]

    asyncio.run(scenario())


def test_a_port_in_use_is_not_shared_and_is_taken_once_it_is_free(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        holder = os.open(pty.slave_name, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        async with running(bench):
            await bench.until(lambda: bench.link.counters.open_errors)
            assert "in use by another program" in bench.link.last_error
            os.close(holder)
            await bench.until(lambda: bench.link.is_open)
            other = os.open(pty.slave_name, os.O_RDWR | os.O_NOCTTY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)

    asyncio.run(scenario())


def test_the_queue_of_a_port_that_takes_nothing_is_bounded_and_keeps_the_newest(pty: Pty) -> None:
    async def scenario() -> None:
        now = [0.0]
        bench = Bench(pty.path, monotonic=lambda: now[0])
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            count = 0
            while bench.link.counters.queue_dropped < 50:  # the pty takes some kilobytes, then no more
                assert bench.link.send(0x12, count.to_bytes(2, "big") + bytes(500))
                count += 1
            assert bench.link.queued <= limits.SERIAL_QUEUE_FRAMES_MAX + 1
            decoder = framing.Decoder()
            seen: list[int] = []
            while not seen or seen[-1] != count - 1:
                for _, payload in decoder.feed(await readable(pty.master)):
                    seen.append(int.from_bytes(payload[:2], "big"))
            assert seen == sorted(set(seen))
            assert seen[-limits.SERIAL_QUEUE_FRAMES_MAX :] == list(
                range(count - limits.SERIAL_QUEUE_FRAMES_MAX, count)
            )
            assert decoder.crc_errors == 0

    asyncio.run(scenario())


def test_a_downlink_that_waited_too_long_for_the_port_is_dropped(pty: Pty) -> None:
    async def scenario() -> None:
        now = [0.0]
        bench = Bench(pty.path, monotonic=lambda: now[0])
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            while not bench.link.queued:
                bench.link.send(0x12, bytes(500))
            bench.link.send(0x12, b"old")
            now[0] += limits.SERIAL_QUEUE_AGE_MAX_S + 1
            bench.link.send(0x12, b"new")
            decoder = framing.Decoder()
            seen: list[bytes] = []
            while not seen or seen[-1] != b"new":
                seen += [payload for _, payload in decoder.feed(await readable(pty.master))]
            assert b"old" not in seen

    asyncio.run(scenario())


def test_nothing_queued_for_one_cable_goes_out_on_the_next(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            while bench.link.queued < 3:
                bench.link.send(0x12, bytes(500))
            pty.unplug()
            await bench.until(lambda: not bench.link.is_open)
            assert bench.link.queued == 0
            pty.plug()
            await bench.until(lambda: bench.link.is_open)
            bench.link.send(0x12, b"fresh")
            assert framing.Decoder().feed(await readable(pty.master)) == [(framing.SEALED, b"fresh")]

    asyncio.run(scenario())


def test_console_lines_of_a_node_are_logged_at_a_bounded_rate(pty: Pty) -> None:
    async def scenario() -> None:
        now = [0.0]
        bench = Bench(pty.path, monotonic=lambda: now[0])
        lines = limits.NODE_LOG_LINES_MAX + 15
        async with running(bench):
            await bench.until(lambda: bench.link.is_open)
            for index in range(lines):
                os.write(pty.master, b"boot %d\r\n" % index + framing.encode(b"x"))
            await bench.until(lambda: len(bench.frames) == lines)
            now[0] += limits.NODE_LOG_PERIOD_S
            os.write(pty.master, b"later\r\n" + framing.encode(b"x"))
            await bench.until(lambda: len(bench.frames) == lines + 1)
        shown = [entry["line"] for entry in bench.log.told("node_console")]
        assert shown == [f"boot {index}" for index in range(limits.NODE_LOG_LINES_MAX)] + ["later"]
        assert bench.link.counters.log_dropped == 15

    asyncio.run(scenario())


def test_refused_frames_are_counted_across_unplugging(pty: Pty) -> None:
    async def scenario() -> None:
        bench = Bench(pty.path)
        broken = bytearray(framing.encode(b"payload"))
        broken[5] ^= 0x10
        async with running(bench):
            for round_number in (1, 2):
                await bench.until(lambda: bench.link.is_open)
                os.write(pty.master, bytes(broken) + framing.encode(b"good"))
                await bench.until(lambda: len(bench.frames) == round_number)  # noqa: B023  (awaited at once)
                assert bench.link.refused["crc"] == round_number
                pty.unplug()
                await bench.until(lambda: not bench.link.is_open)
                assert bench.link.refused["crc"] == round_number
                pty.plug()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "no such port"),
        (lambda path: path.write_text("a file"), "not a serial port"),
    ],
)
def test_why_a_port_cannot_be_opened_is_said(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "port")
    with pytest.raises(LinkError, match=told):
        open_port(str(tmp_path / "port"), 115200)


def test_a_port_opened_while_the_link_is_stopped_is_closed_again(tmp_path: Path, pty: Pty) -> None:
    closed = asyncio.Event()

    class SlowPort:
        def __init__(self) -> None:
            self.fd = os.open(pty.slave_name, os.O_RDWR | os.O_NOCTTY)

        def fileno(self) -> int:
            return self.fd

        def close(self) -> None:
            os.close(self.fd)
            closed.set()

    async def scenario() -> None:
        opening, may_open = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def opener(path: str, baud: int) -> SlowPort:
            loop.call_soon_threadsafe(opening.set)
            may_open.wait(20)
            return SlowPort()

        bench = Bench(pty.path, opener=opener)
        task = asyncio.create_task(bench.link.run())
        await opening.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        may_open.set()
        await loop.shutdown_default_executor()
        async with asyncio.timeout(20):
            await closed.wait()

    asyncio.run(scenario())


def test_routes_follow_the_link_a_node_was_last_heard_on() -> None:
    class Wire:
        listens = True
        can_answer = True
        wants_answer = True
        room = 512

        def __init__(self, name: str) -> None:
            self.name = name
            self.sent: list[bytes] = []

        def send(self, address: int, frame: bytes) -> bool:
            self.sent.append(frame)
            return True

    routes, a, b = Routes(), Wire("a"), Wire("b")
    assert not routes.send(0x12, b"nobody was heard")
    routes.heard(0x12, a)
    routes.heard(0x13, a)
    routes.heard(0x12, b)
    assert routes.send(0x12, b"ack")
    assert (a.sent, b.sent) == ([], [b"ack"])
    assert (routes.addresses(a), routes.addresses(b)) == ([0x13], [0x12])
    routes.forget(0x12)
    assert routes.link_to(0x12) is None
