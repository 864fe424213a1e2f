"""A disk that is full: readings stay in their nodes, events get through, and it heals by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from gateway.config_store import StoreSection
from gateway.errors import StoreError
from gateway.log import get
from gateway.space import Space
from gateway.upkeep import Upkeep
from hil_tests.southbound import South, TestNode, tell

MIB = 1 << 20


class Disk:
    """As much room as a test says."""

    def __init__(self, south: South) -> None:
        self.free = 1000 * MIB
        self.south = south
        self.space = Space(south.store, MIB, south.clock, free_bytes=lambda folder: self.free)

    def fill(self) -> None:
        """The file cannot grow by a page; the next commit that needs one is told so by SQLite itself."""
        self.free = 0
        (pages,) = self.south.rows("PRAGMA page_count")[0]
        self.south.store._connection.execute(f"PRAGMA max_page_count = {pages}")

    def let_grow(self) -> None:
        self.south.store._connection.execute("PRAGMA max_page_count = 1000000")


async def until_full(south: South, node: TestNode, space: Space) -> None:
    """Readings until one commit fails."""
    with pytest.raises(StoreError, match="full"):
        await fill(south, node)
    assert space.full_since_ms is not None


async def fill(south: South, node: TestNode) -> None:
    for _ in range(1000):
        node.give(*(node.reading() for _ in range(20)))
        await south.commit()


def test_on_a_full_disk_readings_are_not_acknowledged_and_events_are(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        disk = Disk(south)
        assert disk.space.has_reserve
        assert south.path.with_name("reserve").stat().st_blocks * 512 >= MIB
        disk.fill()
        await until_full(south, node, disk.space)
        assert not south.path.with_name("reserve").exists(), "given to whoever needs it"
        disk.let_grow()  # what the reserve was good for
        stored = south.rows("SELECT count(*) FROM reading")[0][0]
        node.opened()
        south.heard.clear()

        node.seq = stored
        node.give(node.reading(seq=stored + 1))
        await south.commit()
        assert node.opened() == [], "not acknowledged"
        assert south.ingest.refused["disk_full"] == 1
        assert len(south.heard) == 1, "but the node was heard: it is not silent"
        node.give(node.event(seq=stored + 2))
        assert (await node.last_ack()).cum == stored
        assert south.rows("SELECT seq FROM event") == [(stored + 2,)]
        assert "the disk is full" in (disk.space.reason() or "")

        disk.space.look()
        assert not south.store.takes_readings, "there is no room yet"
        disk.free = 100 * MIB
        disk.space.look()
        assert south.store.takes_readings
        assert disk.space.reason() is None
        assert south.path.with_name("reserve").exists()
        node.give(node.reading(seq=stored + 1))
        assert (await node.last_ack()).cum == stored + 2
        assert disk.space.counters["full"] == 1

    tell(tmp_path, story)


def test_room_inside_the_database_is_room(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        disk = Disk(south)
        disk.fill()
        await until_full(south, node, disk.space)
        disk.space.look()
        assert not south.store.takes_readings
        disk.let_grow()
        await south.store.write(
            lambda db: (
                db.execute("CREATE TABLE heap (x)")
                and db.execute(f"INSERT INTO heap VALUES (zeroblob({2 * MIB}))")
            )
        )
        await south.store.write(lambda db: db.execute("DROP TABLE heap"))
        disk.fill()
        disk.space.look()
        assert south.store.takes_readings
        assert not disk.space.has_reserve

    tell(tmp_path, story)


async def turns() -> None:
    """Let everything happen that is due."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_disk_that_cannot_be_written_is_tried_again_without_any_traffic(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        upkeep = Upkeep(south.store, south.clock, StoreSection(), get(), list, dict)
        node.give(node.reading())
        await node.last_ack()
        south.store._connection.execute("PRAGMA query_only = ON")
        node.give(node.reading())
        with pytest.raises(StoreError, match="readonly"):
            await south.commit()
        assert south.store.failing_code == sqlite3.SQLITE_READONLY
        assert upkeep.space.full_since_ms is None
        assert node.opened() == []
        upkeep.look()
        await turns()
        assert south.store.failing is not None, "the try was a real one"
        south.store._connection.execute("PRAGMA query_only = OFF")
        upkeep.look()
        await turns()
        assert south.store.failing is None
        node.give(node.reading(seq=2))
        assert (await node.last_ack()).cum == 2

    tell(tmp_path, story)
