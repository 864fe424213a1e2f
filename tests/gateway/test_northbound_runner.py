"""The northbound contract with a far side in memory, and what only the runner can be asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import NorthboundError
from gateway.intervals import Intervals
from gateway.northbound import runner
from gateway.northbound.runner import Destination, OnConfirm, Sender
from hil_tests.northbound_contract import WINDOW, Arrival, Bench, Contract, FarSide, arrival_of


class MemoryFarSide:
    """Does at once, and in order, what it is asked to; or what a bad far side would."""

    def __init__(self) -> None:
        self._taken: list[Arrival] = []
        self._up = False
        self._holding = False
        self._swallowing = False
        self._repeating = False
        self._refuse = 0
        self._held: list[tuple[MemorySession, int]] = []
        self._sessions: list[MemorySession] = []
        self.destinations: list[Destination] = []

    def sender(self) -> Sender:
        return MemorySender(self)

    def arrivals(self) -> list[Arrival]:
        return self._taken

    async def start(self) -> None:
        self._up = True

    async def stop(self) -> None:
        self._up = False
        self._held.clear()
        for session in self._sessions:
            session.end("gone")

    async def close(self) -> None:
        await self.stop()

    def hold(self) -> None:
        self._holding = True

    def release(self, *, reverse: bool = False, twice: bool = False) -> None:
        self._holding = False
        held, self._held = self._held, []
        for session, token in reversed(held) if reverse else held:
            session.confirm(token, True)
            if twice:
                session.confirm(token, True)

    def swallow(self) -> None:
        self._swallowing = True
        for session in self._sessions:
            session.deaf = True

    def heal(self) -> None:
        self._swallowing = False

    def refuse_next(self, count: int) -> None:
        self._refuse = count

    def repeat(self) -> None:
        self._repeating = True

    async def connect(self, on_confirm: OnConfirm) -> MemorySession:
        if self._swallowing:
            raise NorthboundError("no answer in time")
        if not self._up:
            raise NorthboundError("connection refused")
        session = MemorySession(self, on_confirm)
        self._sessions = [one for one in self._sessions if not one.gone.done()] + [session]
        return session

    def take(self, session: MemorySession, token: int, destination: Destination, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._refuse:
            self._refuse -= 1
            loop.call_soon(session.confirm, token, False)
            return
        self._taken.append(arrival_of(payload))
        self.destinations.append(destination)
        if self._holding:
            self._held.append((session, token))
            return
        for _ in range(2 if self._repeating else 1):
            loop.call_soon(session.confirm, token, True)


class MemorySender:
    def __init__(self, far: MemoryFarSide) -> None:
        self._far = far

    async def connect(self, on_confirm: OnConfirm) -> MemorySession:
        return await self._far.connect(on_confirm)


class MemorySession:
    """Tokens are used again as soon as they are confirmed, as MQTT's packet ids are."""

    def __init__(self, far: MemoryFarSide, on_confirm: OnConfirm) -> None:
        self.window = WINDOW
        self.deaf = False
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._far = far
        self._on_confirm = on_confirm
        self._free = list(range(WINDOW, 0, -1))
        self._used: set[int] = set()

    def publish(self, destination: Destination, payload: bytes) -> int:
        token = self._free.pop(0)
        self._used.add(token)
        if not self.deaf:
            self._far.take(self, token, destination, payload)
        return token

    def confirm(self, token: int, taken: bool) -> None:
        if self.gone.done() or self.deaf:
            return
        if token in self._used:
            self._used.discard(token)
            self._free.append(token)
        self._on_confirm(token, taken)

    async def lost(self) -> str:
        return await asyncio.shield(self.gone)

    def abort(self) -> None:
        self.end("aborted")

    def end(self, why: str) -> None:
        if not self.gone.done():
            self.gone.set_result(why)


class TestRunnerInMemory(Contract):
    def far_side(self) -> FarSide:
        return MemoryFarSide()

    def test_a_record_goes_to_the_place_of_its_node(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            await bench.readings(1)
            await bench.event()
            await bench.drained()
            assert isinstance(bench.far, MemoryFarSide)
            streams = [(d.area, d.site, d.node, d.stream) for d in bench.far.destinations]
            assert streams == [
                ("330106", "lishui-3", "0012", "readings"),
                ("330106", "lishui-3", "0012", "events"),
            ]

        self.tell(tmp_path, story)

    def test_a_flood_beyond_memory_goes_by_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "LIVE_QUEUE_MAX", 50)

        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.hold()
            for _ in range(10):
                await bench.readings(40)
            assert bench.runner.queued() <= 50
            assert bench.runner.counters["live_overflow"] > 0
            bench.far.release()
            await bench.drained()
            assert set(bench.seqs()) == set(range(1, 401))

        self.tell(tmp_path, story)

    def test_rows_that_are_no_longer_there_are_owed_no_longer(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            await bench.readings(100)
            await bench.south.store.write(
                lambda db: db.execute("DELETE FROM reading WHERE id BETWEEN 20 AND 29") and None
            )
            bench.begin()
            await bench.drained()
            assert bench.runner.counters["delivered"] == 90

        self.tell(tmp_path, story)

    def test_a_record_whose_commit_failed_is_neither_delivered_nor_owed(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            import sqlite3

            from gateway.errors import StoreError

            bench.begin()
            await bench.connected()
            bench.south.disk.fail_with = sqlite3.OperationalError("database or disk is full")
            with pytest.raises(StoreError):
                await bench.readings(5)
            with pytest.raises(StoreError):
                await bench.event()
            bench.south.disk.fail_with = None
            bench.node.seq = 0
            await bench.readings(5)
            await bench.event()
            await bench.drained()
            bench.check_complete()
            assert len(bench.seqs()) == 6

        self.tell(tmp_path, story)

    def test_progress_stays_small_however_scattered_what_is_owed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "OWED_RUNS_MAX", 4)

        async def story(bench: Bench) -> None:
            await bench.readings(100)
            scattered = Intervals()
            for first in range(1, 100, 10):
                scattered.add(first, first)
            bench.south.store.save_progress("contract", 0, 101, scattered.pack())
            await bench.south.commit()
            bench.begin()
            saved = Intervals.unpack(bench.runner._bounded_owed())
            assert list(saved) == [(1, 1), (11, 11), (21, 21), (31, 91)]
            await bench.drained()
            assert set(bench.seqs()) == set(range(1, 100, 10))

        self.tell(tmp_path, story)

    def test_status_tells_how_old_the_oldest_undelivered_record_is(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            await bench.far.stop()
            bench.begin()
            assert bench.runner.status()["oldest_undelivered_ms"] is None
            first_ms = bench.south.clock.now_ms
            await bench.readings(3)
            bench.south.clock.advance(60)
            await bench.event()
            assert bench.runner.status()["oldest_undelivered_ms"] == first_ms
            assert bench.runner.status()["backlog"] == 4

        self.tell(tmp_path, story)
