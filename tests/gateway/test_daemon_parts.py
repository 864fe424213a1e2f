"""A part that fails or stalls takes no other one down, and the service manager is told the truth."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
import structlog

from gateway import limits, parts
from gateway.parts import Part, ServiceManager, watch
from tests.gateway.desk import HandClock

LOG = structlog.get_logger()


class Turns:
    """Stands in for asyncio.sleep: counts the pauses, lets the clock run, and stops the test after some."""

    def __init__(self, clock: HandClock, stop_after: int) -> None:
        self.clock = clock
        self.left = stop_after
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.pass_s(seconds)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError


def supervise(part: Part, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.asyncio, "sleep", turns.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(part.supervise(LOG))


def test_a_failing_part_is_started_again_with_a_growing_bounded_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = HandClock()

    async def run() -> None:
        raise RuntimeError("broken")

    part, turns = Part("p", clock, run), Turns(clock, 12)
    supervise(part, turns, monkeypatch)
    assert turns.pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert (part.failures, part.last_error, part.state) == (12, "RuntimeError: broken", "failed")


def test_the_pause_starts_over_once_a_part_ran_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    runs = iter([0, 0, limits.PART_SETTLED_S, 0, 0])

    async def run() -> None:
        clock.pass_s(next(runs))
        raise RuntimeError

    turns = Turns(clock, 5)
    supervise(Part("p", clock, run), turns, monkeypatch)
    assert turns.pauses == [0.5, 1, 0.5, 1, 2]


def test_a_part_that_ends_by_itself_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()

    async def run() -> None:
        return

    part = Part("p", clock, run)
    supervise(part, Turns(clock, 2), monkeypatch)
    assert (part.failures, part.last_error) == (2, "ended by itself")


def test_a_part_that_fails_while_it_is_ended_is_ended() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def run() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                raise OSError("Read-only file system")

        part = Part("p", HandClock(), run)
        task = asyncio.create_task(part.supervise(LOG))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert (task.cancelled(), part.state) == (True, "stopped")

    asyncio.run(scenario())


def test_one_failing_part_leaves_the_others_running() -> None:
    async def scenario() -> None:
        clock = HandClock()
        failed = asyncio.Event()

        async def bad() -> None:
            failed.set()
            raise MemoryError

        good, broken = Part("good", clock), Part("broken", clock, bad)
        tasks = [asyncio.create_task(part.supervise(LOG)) for part in (good, broken)]
        await failed.wait()
        await asyncio.sleep(0)
        assert (good.state, good.failures) == ("running", 0)
        assert not tasks[0].done()
        assert not tasks[1].done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (good.state, broken.state) == ("stopped", "failed")

    asyncio.run(scenario())


def test_a_part_is_stalled_when_it_has_work_and_makes_no_progress() -> None:
    clock = HandClock()
    work: list[object] = [None]
    part = Part("p", clock, watch=lambda: work[0])
    part.state = "running"
    for value in (None, None, 1, 2, 3, None):
        work[0] = value
        clock.pass_s(limits.PART_STALLED_S)
        part.look()
        assert not part.stalled
    work[0] = 7
    part.look()
    clock.pass_s(limits.PART_STALLED_S + 1)
    part.look()
    assert part.stalled
    work[0] = 8
    part.look()
    assert not part.stalled


def test_a_part_with_a_loop_of_its_own_is_stalled_when_it_stops_beating() -> None:
    clock = HandClock()
    part = Part("p", clock)
    part.state = "running"
    clock.pass_s(limits.PART_STALLED_S + 1)
    part.look()
    assert part.stalled
    part.beat()
    assert not part.stalled


class Notified:
    """The service manager's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def lines(self) -> list[str]:
        found = []
        try:
            while True:
                found += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return found


def test_the_watchdog_is_fed_only_while_no_part_is_stalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    notified = Notified(tmp_path / "notify")
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
    part = Part("p", clock)
    part.state = "running"
    turns = Turns(clock, int(limits.PART_STALLED_S) + 10)
    fed: list[str] = []

    async def sleep(seconds: float) -> None:
        fed.extend(notified.lines())
        await turns.sleep(seconds)

    monkeypatch.setattr(parts.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch([part], manager, LOG))
    assert turns.pauses[0] == 1.0
    # Fed at 0 s to 30 s of silence, not any more in the nine turns after.
    assert fed == ["WATCHDOG=1"] * (int(limits.PART_STALLED_S) + 1)


def test_a_watchdog_meant_for_another_process_or_nobody_is_left_alone(tmp_path: Path) -> None:
    assert ServiceManager({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert ServiceManager({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 3
    assert ServiceManager({"WATCHDOG_USEC": "often"}).watchdog_s is None
    assert ServiceManager({}).watchdog_s is None
    ServiceManager({}).notify("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).notify("READY=1")
