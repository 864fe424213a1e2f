"""What leaves the database: what was delivered, and the rest only when there is no room; and the books balance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway import audit
from gateway.config_store import StoreSection
from gateway.held import Held
from gateway.intervals import Intervals
from gateway.records import Reading
from gateway.retention import Retention
from hil_tests.southbound import South, TestNode, tell
from protocols.wire import codes

DAY_S = 86_400


def held(event_cursor: int, next_reading: int, *owed: tuple[int, int]) -> Held:
    runs = Intervals()
    for run in owed:
        runs.add(*run)
    return Held(event_cursor, next_reading, runs)


class Room:
    """A store with a retention, and the northbounds it asks."""

    def __init__(self, south: South, **settings: Any) -> None:
        self.south = south
        self.holders: dict[str, Held] = {}
        self.retention = Retention(
            south.store, south.clock, StoreSection(**{"max_mib": 16, **settings}), lambda: self.holders
        )
        self.evicted = Intervals()
        self.retention.on_evicted = lambda runs: [self.evicted.add(*run) for run in runs] and None

    async def settle(self) -> None:
        """Work until there is nothing to do; ledgers are written first, as they are now and then."""
        self.south.store.want_sweep = True
        for _ in range(3):
            await self.south.commit()
        while await self.retention.step():
            pass
        await self.south.commit()

    def save(self, name: str) -> None:
        cursor, next_reading, owed = self.holders[name][:3]
        self.south.store.save_progress(name, cursor, next_reading, owed.pack())

    def books(self) -> dict[str, audit.Balance]:
        return {row.northbound: row for row in self.south.store.read(audit.balance)}

    def ids(self, table: str = "reading") -> list[int]:
        return [row[0] for row in self.south.rows(f"SELECT id FROM {table} ORDER BY id")]


async def give(south: South, node: TestNode, count: int) -> None:
    for _ in range(count):
        node.give(node.reading())
    await south.commit()


def test_delivered_readings_go_after_their_days_and_nothing_else(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        room = Room(south, keep_days=2)
        await give(south, node, 100)
        node.give(node.event())
        south.clock.now_ms += 3 * DAY_S * 1000
        await give(south, node, 10)
        room.holders = {"city": held(1, 111, (40, 59)), "lake": held(0, 105)}
        room.save("city")
        room.save("lake")
        await room.settle()
        assert room.ids() == [*range(40, 60), *range(101, 111)], "owed, or not old enough"
        assert room.ids("event") == [1]
        assert room.evicted.count() == 0
        city, lake = room.books()["city"], room.books()["lake"]
        assert city[2:] == (111, 111, 91, 20, 0, 0, 0)
        assert lake[2:] == (111, 111, 104, 7, 0, 0, 0)
        assert city.holds
        assert lake.holds

    tell(tmp_path, story)


def test_what_a_clock_says_that_nobody_trusts_deletes_nothing(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        room = Room(south, keep_days=0)
        await give(south, node, 20)
        room.holders = {"city": held(0, 21)}
        south.clock.now_ms += 400 * DAY_S * 1000
        south.clock.is_synchronised = False
        await room.settle()
        assert len(room.ids()) == 20
        south.clock.is_synchronised = True
        await room.settle()
        assert room.ids() == [20], "the newest row carries the next id"
        south.stop()
        south.open()
        assert south.store.next_reading == 21

    tell(tmp_path, story)


async def overfill(south: South, node: TestNode, room: Room) -> None:
    """A node that is away for a hundred sets and hands them in after the next hundred, until the bound is passed."""
    while room.retention.used_bytes() < 1 << 20:
        node.give(node.event(code=codes.URGENT_CODES + 1))
        missed = node.seq
        for index in (*range(101, 201), *range(1, 101)):
            node.give(node.reading(seq=missed + index))
        node.seq += 200
        await south.commit()


def test_over_its_bound_it_gives_up_in_the_reverse_order_of_priority(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        room = Room(south, max_mib=16)
        room.retention._settings = room.retention._settings.model_copy(update={"max_mib": 1})
        await overfill(south, node, room)
        readings, events = len(room.ids()), len(room.ids("event"))
        room.holders = {"city": held(0, 301, (201, 300)), "new": held(0, 1)}
        room.save("city")
        await room.settle()
        left = south.rows("SELECT backlog, count(*) FROM reading GROUP BY backlog ORDER BY backlog")
        assert left[0][1] == readings // 2, "fresh readings stay while there is backlog"
        assert left[1][1] < readings // 2
        assert len(room.ids("event")) == events
        assert room.retention.used_bytes() <= 1 << 20
        assert room.evicted.count() == readings - len(room.ids())
        books = room.books()["city"]
        assert books.holds, books
        assert books.lost == sum(
            row[0]
            for row in south.rows("SELECT sum(last - first + 1) FROM evicted WHERE northbound = 'city'")
        )
        assert 0 < books.lost < readings - len(room.ids()), "the city had some of them"
        print(f"evicted={books.lost} longest_ms={room.retention.longest_ms:.2f}")

    tell(tmp_path, story)


def test_without_a_northbound_the_oldest_give_way_and_are_listed(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        room = Room(south)
        room.retention._settings = room.retention._settings.model_copy(update={"max_mib": 1})
        while room.retention.used_bytes() < 1 << 20:
            await give(south, node, 200)
        total = node.seq
        await room.settle()
        books = room.books()[""]
        assert books.produced == total
        assert books.lost == total - len(room.ids()) > 0
        assert books.holds
        south.store.save_progress("late", 0, room.ids()[0], b"")
        await south.commit()
        late = room.books()["late"]
        assert late.produced == len(room.ids()), "of what went before it was there it knows nothing"
        assert late.holds

    tell(tmp_path, story)


def test_a_kill_between_two_steps_leaves_books_that_balance(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        room = Room(south, keep_days=0)
        await give(south, node, 600)
        room.holders = {"city": held(0, 601)}
        room.save("city")
        south.store.want_sweep = True
        for _ in range(3):
            await south.commit()
        south.clock.now_ms += 1000
        assert await room.retention.step()
        south.kill()
        south.open()
        assert south.store.epochs[1].ledger.cum == 600
        (books,) = south.store.read(audit.balance)
        assert books[2:] == (600, 600, 600, 0, 0, 0, 0)
        assert len(south.rows("SELECT id FROM reading")) == 600 - 256

    tell(tmp_path, story)


@pytest.mark.soak
def test_retention_and_vacuum_of_a_large_backlog_stall_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300,000 delivered readings leave and their pages go back to the disk; how long each step held the loop."""

    async def story(south: South, node: TestNode) -> None:
        monkeypatch.setattr("gateway.retention.VACUUM_KEEP_BYTES", 1 << 20)
        room = Room(south, keep_days=0)
        commits: list[float] = []
        for start in range(0, 300_000, 500):
            give_many(south, start, 500)
            await south.commit()
        size = south.path.stat().st_size
        room.holders = {"city": held(0, 300_001)}
        room.save("city")
        south.clock.now_ms += 1000
        south.store.want_sweep = True
        for _ in range(3):
            await south.commit()
        while True:
            began_s = time.perf_counter()
            if not await room.retention.step():
                break
            commits.append(time.perf_counter() - began_s)
        await south.store.write(lambda db: None)
        south.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        commits.sort()
        print(
            f"rows=300000 steps={len(commits)} longest_loop_ms={room.retention.longest_ms:.2f} "
            f"longest_writer_pause_ms={commits[-1] * 1000:.1f} p99_ms={commits[-len(commits) // 100] * 1000:.2f} "
            f"file_before={size} file_after={south.path.stat().st_size}"
        )
        assert room.ids() == [300_000]
        assert south.path.stat().st_size < size / 2

    tell(tmp_path, story)


def give_many(south: South, start: int, count: int) -> None:
    """Rows as ingest makes them, without sealing each."""
    store = south.store
    ledger = store.epochs[1].ledger
    body = bytes(120)
    for seq in range(start + 1, start + count + 1):
        ledger.offer(seq, 1)
        row_id = store.next_reading
        store.next_reading += 1
        now_ms = south.clock.now_ms
        store.batch.sets += 1
        store.batch.reading_rows.append((row_id, 1, seq, -1, 1, 0, now_ms, 1, None, 1, 1, None, body))
        store.batch.readings.append(Reading(row_id, ledger, seq, 0, now_ms, 1, 1, 1, (), None))
    store.schedule()
