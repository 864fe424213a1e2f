"""What every northbound must hold, whatever far side it speaks to. A test module makes a FarSide and inherits Contract.

Delivery is at least once: after any failure each record arrives, under its id, and copies are allowed; without failures
none come. What was never confirmed is never taken for delivered. The runner and the store are real; the far side is the
one of the test module, and does what a far side may do: be away, be slow, swallow, repeat, reorder and refuse.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from gateway.northbound import mqtt, runner
from gateway.northbound.runner import Runner, Sender
from hil_tests.southbound import South, TestNode

WINDOW = 32
PATIENCE_S = 20


class Place(NamedTuple):
    site: str
    area: str


class Arrival(NamedTuple):
    """One record as the far side got it."""

    node: str
    epoch: int
    seq: int
    lane: str
    resent: bool

    @property
    def id(self) -> tuple[str, int, int]:
        return self.node, self.epoch, self.seq


def arrival_of(payload: bytes) -> Arrival:
    """From the JSON that all test far sides get."""
    record = json.loads(payload)
    return Arrival(record["node"], record["epoch"], record["seq"], record["lane"], record["resent"])


class FarSide(Protocol):
    """The far side under the test's control. Starts up and honest."""

    def sender(self) -> Sender:
        """A sender that connects to it, with a window of WINDOW."""

    def arrivals(self) -> list[Arrival]:
        """Everything it took, in order of arrival."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Away: connections break and none is accepted."""

    async def close(self) -> None:
        """For good."""

    def hold(self) -> None:
        """Take publishes, and keep the confirmations back until `release`."""

    def release(self, *, reverse: bool = False, twice: bool = False) -> None:
        """Send what was held back, and answer at once from now on."""

    def swallow(self) -> None:
        """Half open from now on, until `heal`: connections stay up, nothing goes through in either direction."""

    def heal(self) -> None:
        """New connections work again; those that swallow go on swallowing."""

    def refuse_next(self, count: int) -> None:
        """Answer the next publishes with a refusal instead of taking them."""

    def repeat(self) -> None:
        """Send each confirmation twice from now on."""


class LoopClock:
    """Real time: the runner watches a real connection."""

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Bench:
    """A gateway with one node, one northbound and one far side."""

    def __init__(self, folder: Path, far: FarSide) -> None:
        self.far = far
        self.south = South(folder / "gateway.db")
        self.node = TestNode(self.south)
        self.clock = LoopClock()
        self._running: asyncio.Future[None] | None = None

    def begin(self) -> Runner:
        """Start the northbound."""
        self.runner = Runner(
            "contract",
            self.south.store,
            mqtt.format,
            self.far.sender(),
            lambda address, at_ms: Place("lishui-3", "330106"),
            self.clock,
            random.Random(1),
        )
        self._running = asyncio.ensure_future(self.runner.run())
        return self.runner

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def restart(self, *, kill: bool) -> None:
        """The whole gateway goes down and comes back; with `kill`, without a chance to save anything."""
        if kill:
            self.south.kill()
            await self.end()
        else:
            await self.end()
            self.south.stop()
        self.south.open()
        self.begin()

    async def readings(self, count: int) -> list[int]:
        """Commit that many sets; their seqs."""
        frames = [self.node.reading() for _ in range(count)]
        self.node.give(*frames)
        await self.south.commit()
        return list(range(self.node.seq - count + 1, self.node.seq + 1))

    async def event(self) -> int:
        """Commit an alarm; its seq."""
        self.node.give(self.node.event())
        await self.south.commit()
        return self.node.seq

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for something that must come; the time-out only ends a test that has failed."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not reached():
            if self._running is not None and self._running.done():
                self._running.result()  # the runner must never end
            if time.monotonic() > deadline_s:
                pytest.fail(
                    f"{what}: not within {PATIENCE_S} s; {self.runner.status()}, {len(self.seqs())} arrived"
                )
            await asyncio.sleep(0.002)

    async def connected(self) -> None:
        await self.until(lambda: bool(self.runner.status()["connected"]), "connected")

    async def drained(self) -> None:
        """Everything is confirmed."""
        await self.until(lambda: self.runner.status()["backlog"] == 0, "drained")

    def seqs(self) -> list[int]:
        return [arrival.seq for arrival in self.far.arrivals()]

    def check_complete(self) -> None:
        """Every record arrived, and each lane in order once copies are dropped."""
        assert set(self.seqs()) == set(range(1, self.node.seq + 1))
        seen: set[tuple[str, int, int]] = set()
        last: dict[tuple[str, int, str, bool], int] = {}
        for arrival in self.far.arrivals():
            if arrival.id in seen:
                continue
            seen.add(arrival.id)
            lane = arrival.node, arrival.epoch, arrival.lane, arrival.resent
            assert arrival.seq > last.get(lane, 0), f"{arrival} came after {last[lane]}"
            last[lane] = arrival.seq


Story = Callable[[Bench], Coroutine[Any, Any, None]]


class Contract:
    """Inherit, and give `far_side`."""

    def far_side(self) -> FarSide:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _short_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same machinery with shorter patience; the real figures are measured by the benches."""
        monkeypatch.setattr(runner, "CONFIRM_TIMEOUT_S", 0.4)
        monkeypatch.setattr(runner, "REFUSED_PAUSE_S", 0.05)
        monkeypatch.setattr(runner, "RECONNECT_MIN_S", 0.01)
        monkeypatch.setattr(runner, "RECONNECT_MAX_S", 0.05)
        monkeypatch.setattr(runner, "PROGRESS_PERIOD_S", 0.0)

    def tell(self, folder: Path, story: Story) -> None:
        async def run() -> None:
            far = self.far_side()
            await far.start()
            bench = Bench(folder, far)
            try:
                await bench.node.join()
                await story(bench)
            finally:
                await bench.end()
                bench.south.stop()
                await far.close()

        asyncio.run(run())

    def test_without_failures_everything_arrives_once_and_in_order(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            for _ in range(5):
                await bench.readings(40)
                await bench.event()
            await bench.drained()
            bench.check_complete()
            assert len(bench.seqs()) == bench.node.seq
            assert {arrival.resent for arrival in bench.far.arrivals()} == {False}

        self.tell(tmp_path, story)

    def test_what_was_committed_before_it_ran_arrives_as_resent(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            await bench.readings(300)
            await bench.event()
            bench.begin()
            await bench.drained()
            bench.check_complete()
            assert {arrival.resent for arrival in bench.far.arrivals()} == {True}

        self.tell(tmp_path, story)

    def test_a_far_side_that_is_unreachable_at_start_gets_everything_later(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            await bench.far.stop()
            bench.begin()
            await bench.readings(50)
            await bench.event()
            assert not bench.runner.status()["connected"]
            assert bench.runner.status()["backlog"] == 51
            await bench.far.start()
            await bench.drained()
            bench.check_complete()

        self.tell(tmp_path, story)

    def test_an_outage_loses_nothing_and_live_data_is_not_called_resent(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            before = await bench.readings(20)
            await bench.drained()
            await bench.far.stop()
            await bench.until(lambda: not bench.runner.status()["connected"], "outage noticed")
            meanwhile = [*await bench.readings(500), await bench.event()]
            await bench.far.start()
            await bench.connected()
            after = await bench.readings(20)
            await bench.drained()
            bench.check_complete()
            resent = {arrival.seq for arrival in bench.far.arrivals() if arrival.resent}
            assert resent >= set(meanwhile)
            assert resent.isdisjoint(after)
            assert resent.isdisjoint(before)

        self.tell(tmp_path, story)

    def test_no_more_than_the_window_is_in_flight_and_nothing_unconfirmed_counts(
        self, tmp_path: Path
    ) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.hold()
            await bench.readings(100)
            await bench.until(lambda: len(bench.seqs()) >= WINDOW - 1, "window full")
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(bench.seqs()) <= WINDOW
            assert bench.runner.status()["backlog"] == 100
            assert bench.runner.counters["delivered"] == 0
            _, next_reading, owed = bench.south.store.progress("contract")
            assert next_reading == 1 or owed.count() == next_reading - 1
            bench.far.release()
            await bench.drained()
            bench.check_complete()

        self.tell(tmp_path, story)

    def test_confirmations_in_any_order_are_taken(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.hold()
            await bench.readings(20)
            await bench.event()
            await bench.until(lambda: len(bench.seqs()) == 21, "all sent")
            bench.far.release(reverse=True)
            await bench.drained()
            assert len(bench.seqs()) == 21

        self.tell(tmp_path, story)

    def test_a_confirmation_that_comes_twice_confirms_nothing_else(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.hold()
            await bench.readings(20)
            await bench.until(lambda: len(bench.seqs()) == 20, "all sent")
            bench.far.release(twice=True)
            bench.far.repeat()
            await bench.readings(200)
            await bench.drained()
            bench.check_complete()
            assert bench.runner.counters["delivered"] == 220

        self.tell(tmp_path, story)

    def test_a_half_open_connection_is_noticed_and_its_silence_taken_for_nothing(
        self, tmp_path: Path
    ) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            await bench.readings(20)
            await bench.drained()
            bench.far.swallow()
            await bench.readings(100)
            await bench.until(lambda: bench.runner.counters["stalls"] == 1, "silence noticed")
            assert bench.runner.status()["backlog"] == 100
            bench.far.heal()
            await bench.drained()
            bench.check_complete()

        self.tell(tmp_path, story)

    def test_a_refusal_is_no_success_and_the_record_is_offered_again(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.refuse_next(5)
            await bench.readings(30)
            await bench.drained()
            assert set(bench.seqs()) == set(range(1, 31))
            assert bench.runner.counters["refused"] == 5
            assert bench.runner.counters["delivered"] == 30

        self.tell(tmp_path, story)

    def test_a_refused_event_holds_the_cursor_until_it_is_taken(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            bench.far.refuse_next(1)
            first = await bench.event()
            await bench.event()
            await bench.drained()
            # The second may have been on its way already; the first comes after it as resent, and so does the second.
            bench.check_complete()
            assert bench.runner.counters["refused"] == 1
            assert Arrival("0012", bench.node.epoch or 0, first, "event", True) in bench.far.arrivals()

        self.tell(tmp_path, story)

    @pytest.mark.parametrize("kill", [True, False])
    def test_a_gateway_that_goes_down_between_confirmation_and_cursor_delivers_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: bool
    ) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            await bench.readings(40)
            await bench.drained()
            if kill:
                monkeypatch.setattr(bench.south.store, "save_progress", lambda *progress: None)
            await bench.readings(40)
            await bench.event()
            await bench.drained()
            await bench.restart(kill=kill)
            await bench.readings(10)
            await bench.drained()
            bench.check_complete()
            copies = len(bench.seqs()) - bench.node.seq
            assert copies >= 41 if kill else copies == 0

        self.tell(tmp_path, story)

    def test_kills_at_any_moment_lose_nothing(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            rng = random.Random(11)
            bench.begin()
            for _ in range(12):
                await bench.readings(rng.randrange(1, 60))
                if rng.random() < 0.5:
                    await bench.event()
                for _ in range(rng.randrange(40)):
                    await asyncio.sleep(0)
                await bench.restart(kill=True)
            await bench.drained()
            bench.check_complete()

        self.tell(tmp_path, story)

    def test_live_readings_and_events_overtake_a_backlog_that_goes_on_draining(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            await bench.readings(2000)
            bench.begin()
            await bench.connected()
            for _ in range(20):
                await bench.readings(5)
                await bench.event()
            await bench.drained()
            bench.check_complete()
            order = bench.seqs()
            assert order.index(2001) < order.index(2000)
            assert order.index(2006) < order.index(2000)

        self.tell(tmp_path, story)

    def test_what_is_formatted_names_the_record(self, tmp_path: Path) -> None:
        async def story(bench: Bench) -> None:
            bench.begin()
            await bench.connected()
            await bench.readings(1)
            await bench.drained()
            (arrival,) = bench.far.arrivals()
            assert arrival == ("0012", bench.node.epoch, 1, "fresh", False)

        self.tell(tmp_path, story)
