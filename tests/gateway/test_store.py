"""gateway/store.py: what is committed survives, what is not is nobody's, and a database that is not ours is noticed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import incarnation, limits, recovery
from gateway.errors import StoreError
from gateway.limits import DN_PIV_RESTORED_MARGIN
from hil_tests.southbound import South, TestNode, current, tell
from protocols.wire import envelope, messages


def knowledge(south: South) -> dict[int, tuple[object, ...]]:
    """What the ledgers and windows know, epoch by epoch."""
    return {
        epoch.number: (
            epoch.ledger.cum, list(epoch.ledger.runs), epoch.window.highest, epoch.window.bitmap, epoch.dn_reserved
        )
        for epoch in south.store.epochs.values()
    }  # fmt: skip


# ---- restarts ------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(["next", "skip", "late", "event", "evict", "commit", "kill", "close"]), max_size=40
    )
)
def test_a_restart_at_any_point_knows_exactly_what_was_committed(steps: list[str]) -> None:
    """Sweeps every few rows, so that every mixture of written ledgers and rows behind them comes up."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.store.SWEEP_ROWS", 3)
        tell(Path(folder), lambda south, node: _live(south, node, steps))


async def _live(south: South, node: TestNode, steps: list[str]) -> None:
    skipped: list[int] = []
    for step in steps:
        if step == "next":
            node.give(node.reading())
        elif step == "skip":
            node.seq += 1
            skipped.append(node.seq)
        elif step == "late" and skipped:
            node.give(node.reading(seq=skipped.pop(0)))
        elif step == "event":
            node.give(node.event())
        elif step == "evict":
            skipped.clear()
            node.seq += 1
            node.give(node.reading(seq=node.seq, oldest=node.seq))
        elif step == "commit":
            await south.commit()
        else:
            await south.commit()
            before = knowledge(south)
            stored = south.rows(RECORDS)
            (south.stop if step == "close" else south.kill)()
            south.open()
            assert knowledge(south) == before
            assert south.rows(RECORDS) == stored
            assert not south.store.restored
            await _send_all_again(south, node)
            assert south.rows(RECORDS) == stored
    await south.commit()
    assert south.ingest.refused == {}


RECORDS = "SELECT seq, 1 AS kind FROM reading UNION ALL SELECT seq, kind FROM event ORDER BY seq"


async def _send_all_again(south: South, node: TestNode) -> None:
    """As after acks that were all lost: every record is known, so each is a copy."""
    copies = south.store.counters["copies"]
    records = south.rows(RECORDS)
    for seq, kind in records:
        node.give(node.reading(seq=seq) if kind == 1 else node.event(seq=seq))
    await south.commit()
    assert south.store.counters["copies"] - copies == len(records)


def test_what_was_not_committed_when_the_process_died_is_new_again(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        await node.last_ack()
        south.disk.hold = True
        lost_frame = node.reading()
        node.give(lost_frame)
        await asyncio.sleep(0)
        south.kill()
        south.disk = type(south.disk)()
        south.open()
        assert south.store.epochs[1].ledger.cum == 1
        node.give(node.reading(seq=2))
        assert (await node.last_ack()).cum == 2

    tell(tmp_path, story)


def test_close_commits_what_is_waiting(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(), node.event())
        south.store.close()
        south.open()
        assert south.store.epochs[1].ledger.cum == 2

    tell(tmp_path, story)


def test_close_while_a_commit_is_under_way_keeps_it_in_the_ledger(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        node.give(node.reading())
        for _ in range(5):
            await asyncio.sleep(0)
        assert south.store.depth() > 0
        south.disk.release()  # the callback has not run yet
        south.store.close()
        south.open()
        assert south.store.epochs[1].ledger.cum == 1
        assert south.store.next_reading == 2

    tell(tmp_path, story)


def test_a_start_after_a_kill_reads_no_more_rows_than_a_sweep_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.SWEEP_ROWS", 10)

    async def story(south: South, node: TestNode) -> None:
        for _ in range(100):
            node.give(node.reading())
            await south.commit()
        marks = dict(south.rows("SELECT key, value FROM meta WHERE key LIKE 'replay_%'"))
        assert 100 - marks["replay_reading"] <= 10 + 3
        assert south.store.counters["sweeps"] >= 8

    tell(tmp_path, story)


def test_fingerprints_are_kept_within_their_bound_and_late_copies_are_copies_before_and_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.SWEEP_ROWS", 100)
    monkeypatch.setattr("gateway.ledger.PAGES_KEPT", 2)

    async def story(south: South, node: TestNode) -> None:
        for _ in range(20):
            node.give(*(node.reading() for _ in range(64)))
            await south.commit()
        assert 2 <= south.rows("SELECT count(*), 0 FROM seen")[0][0] <= 2 + 3
        for _ in range(2):
            rows = south.rows("SELECT count(*), 0 FROM reading")
            copies = south.store.counters["copies"]
            node.give(*(node.reading(seq=seq) for seq in (1, 2, 700, node.seq - 1)))
            await south.commit()
            assert south.store.counters["copies"] - copies == 4
            assert south.rows("SELECT count(*), 0 FROM reading") == rows
            before = knowledge(south)
            south.kill()
            south.open()
            assert knowledge(south) == before

    tell(tmp_path, story)


def test_a_store_from_before_the_bound_comes_down_to_it_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.SWEEP_ROWS", 10)
    monkeypatch.setattr("gateway.ledger.PAGES_KEPT", 10_000)

    async def story(south: South, node: TestNode) -> None:
        for _ in range(60):
            node.give(*(node.reading() for _ in range(64)))
            await south.commit()
        monkeypatch.setattr("gateway.ledger.PAGES_KEPT", 1)
        counts = [south.rows("SELECT count(*), 0 FROM seen")[0][0]]
        for _ in range(8):
            node.give(*(node.reading() for _ in range(11)))
            await south.commit()
            counts.append(south.rows("SELECT count(*), 0 FROM seen")[0][0])
        assert counts[0] > 50
        assert max(before - after for before, after in pairwise(counts)) <= limits.SEEN_DELETED + 2 * 2
        assert counts[-1] <= 4

    tell(tmp_path, story)


# ---- commits that fail ---------------------------------------------------------------------------------------------


def test_a_full_disk_acknowledges_nothing_and_heals_by_itself(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        await node.last_ack()
        before = knowledge(south)
        south.disk.fail_with = sqlite3.OperationalError("database or disk is full")
        node.give(node.reading(), node.event())
        with pytest.raises(StoreError, match="disk is full"):
            await south.commit()
        assert south.link.sent == []
        assert south.store.failing == "database or disk is full"
        assert {number: known[:2] for number, known in knowledge(south).items()} == {
            number: known[:2] for number, known in before.items()
        }
        south.disk.fail_with = None
        node.give(node.reading(seq=2), node.event(seq=3))
        assert (await node.last_ack()).cum == 3
        assert south.store.failing is None
        assert south.rows("SELECT seq FROM reading") == [(1,), (2,)]

    tell(tmp_path, story)


def test_a_real_disk_that_is_full_behaves_so_too(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        pages = south.rows("PRAGMA page_count")[0][0]
        south.store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="full"):
            await fill(south, node)
        stored = south.rows("SELECT count(*) FROM reading")[0][0]
        south.store._connection.execute("PRAGMA max_page_count = 1000000")
        assert south.store.epochs[1].ledger.cum == stored
        node.give(node.reading(seq=stored + 1))
        assert (await node.last_ack()).cum == stored + 1

    tell(tmp_path, story)


async def fill(south: South, node: TestNode) -> None:
    for _ in range(200):
        node.give(*(node.reading() for _ in range(20)))
        await south.commit()


def test_an_epoch_whose_commit_failed_does_not_exist_and_the_node_joins_again(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.fail_with = sqlite3.OperationalError("database or disk is full")
        with pytest.raises(StoreError):
            await node.join()
        assert south.store.epochs == {}
        south.disk.fail_with = None
        assert (await node.join()).cum == 0

    tell(tmp_path, story, join=False)


# ---- other people's writes -----------------------------------------------------------------------------------------


def test_a_write_resolves_after_its_commit(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        writing = asyncio.ensure_future(
            south.store.write(lambda db: db.execute("CREATE TABLE mine (x)") and 5)
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert not writing.done()
        south.disk.release()
        assert await writing == 5

    tell(tmp_path, story)


def test_a_write_that_raises_undoes_only_itself(tmp_path: Path) -> None:
    def bad(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('mine', 1)")
        raise ValueError("no")

    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        other = asyncio.ensure_future(
            south.store.write(lambda db: db.execute("INSERT INTO meta VALUES ('yours', 2)") and 1)
        )
        with pytest.raises(ValueError, match="no"):
            await south.store.write(bad)
        assert await other == 1
        assert south.rows("SELECT key FROM meta WHERE key IN ('mine', 'yours')") == [("yours",)]
        assert (await node.last_ack()).cum == 1

    tell(tmp_path, story)


def test_progress_is_durable_and_alone_is_reason_enough_for_a_commit(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        from gateway.intervals import Intervals

        owed = Intervals()
        owed.add(3, 9)
        south.store.save_progress("mqtt", 4, 10, owed.pack())
        for _ in range(20):
            await asyncio.sleep(0)
        south.kill()
        south.open()
        cursor, next_reading, found = south.store.progress("mqtt")
        assert (cursor, next_reading, list(found)) == (4, 10, [(3, 9)])

    tell(tmp_path, story)


# ---- databases that are not the one we ran with ----------------------------------------------------------------------


def test_an_ordinary_restart_is_no_restore(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        for end in (south.stop, south.kill, south.stop, south.kill, south.kill):
            end()
            south.open()
            assert not south.store.restored
            assert south.store.notes == []

    tell(tmp_path, story)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_kill_within_the_change_of_names_is_no_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.store.close()
        real, calls = incarnation._write, 0

        def write(database: Path, names: dict[str, str]) -> None:
            nonlocal calls
            calls += 1
            if (step, calls) in ((1, 1), (3, 2)):
                raise KeyboardInterrupt
            real(database, names)
            if (step, calls) == (2, 1):
                raise KeyboardInterrupt

        monkeypatch.setattr(incarnation, "_write", write)
        with pytest.raises(KeyboardInterrupt):
            south.open()
        monkeypatch.setattr(incarnation, "_write", real)
        south.open()
        assert not south.store.restored

    tell(tmp_path, story)


def test_a_database_whose_side_file_is_gone_is_taken_for_a_restored_one(tmp_path: Path) -> None:
    """What SECURITY.md advises for a machine that was put back as a whole disk image."""

    async def story(south: South, node: TestNode) -> None:
        south.stop()
        incarnation.side_file(south.path).unlink()
        south.open()
        assert south.store.restored
        assert all(epoch.dn_hold for epoch in south.store.epochs.values())

    tell(tmp_path, story)


def backup(south: South, target: Path) -> None:
    south.store.close()
    shutil.copy(south.path, target)
    south.open()


def put_back(south: South, source: Path, *, whole_folder: bool) -> None:
    """As an administrator would: the file alone, under the side file; or everything that was saved that day."""
    south.store.close()
    for suffix in ("-wal", "-shm"):
        south.path.with_name(south.path.name + suffix).unlink(missing_ok=True)
    if whole_folder:
        names = json.loads(incarnation.side_file(source).read_text())
        south.path.rename(south.path.with_name("old"))  # keeps its inode taken, as a copied folder would
        shutil.copy(source, south.path)
        incarnation.side_file(south.path).write_text(json.dumps(names))
    else:
        shutil.copy(source, south.path)
    south.open()


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_restored_gateway_says_nothing_until_it_knows_what_was_heard_and_then_skips_ahead(
    tmp_path: Path, whole_folder: bool
) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading() for _ in range(5)))
        await node.last_ack()
        yesterday = tmp_path / "yesterday" / "gateway.db"
        yesterday.parent.mkdir()
        south.store.close()
        shutil.copy(south.path, yesterday)
        shutil.copy(incarnation.side_file(south.path), incarnation.side_file(yesterday))
        south.open()
        for _ in range(3):
            node.give(node.reading())
            await node.last_ack()
        used_up_to = node.dn_piv
        put_back(south, yesterday, whole_folder=whole_folder)

        assert south.store.restored
        assert "told what they heard" in south.store.notes[0]
        node.give(node.reading())
        await south.commit()
        assert south.link.sent == []
        assert current(south, node).seal(b"\x82\x15\x00") is None

        node.give(node.seal(messages.Status(node.dn_piv - 1, 1_790_000_000, 1, {})))
        node.give(node.reading())
        await south.commit()
        ((_, frame),) = south.link.sent
        assert envelope.parse(frame, 3).piv >= used_up_to + DN_PIV_RESTORED_MARGIN
        (ack,) = [message for message in node.opened() if isinstance(message, messages.Ack)]
        # The rows of today are gone here; the ack says so, and the node offers them again.
        assert (ack.cum, ack.runs) == (5, ((9, 2),))
        node.give(node.reading(seq=6), node.reading(seq=7), node.reading(seq=8))
        assert (await node.last_ack()).cum == 10

    tell(tmp_path, story)


def test_silence_after_a_restore_outlives_restarts(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        copy = tmp_path / "copy.db"
        backup(south, copy)
        put_back(south, copy, whole_folder=False)
        assert south.store.restored
        south.kill()
        south.open()
        assert not south.store.restored
        node.give(node.reading())
        await south.commit()
        assert south.link.sent == []

    tell(tmp_path, story)


# ---- databases that cannot be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["no database at all", "a page overwritten"])
def test_a_corrupt_database_is_set_aside_whole_and_the_gateway_goes_on(tmp_path: Path, damage: str) -> None:
    async def story(south: South, node: TestNode) -> None:
        for _ in range(20):
            node.give(*(node.reading() for _ in range(20)))
            await south.commit()
        south.store.close()
        data = bytearray(south.path.read_bytes())
        if damage == "a page overwritten":
            root = root_page_of("meta", south.path)
            data[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
        else:
            data = bytearray(b"this is not a database" * 1000)
        south.path.write_bytes(data)
        south.open()
        assert south.store.restored
        (aside,) = [path for path in found(tmp_path, "corrupt") if path.name.endswith("Z")]
        assert aside.read_bytes() == data
        assert str(aside) in south.store.notes[0]
        if damage == "a page overwritten":
            assert [epoch.ledger.cum for epoch in south.store.epochs.values()] == [400]
            assert len(south.store.readings(1, 1000, 1000)) == 400
            node.give(node.seal(messages.Status(5000, 1_790_000_000, 1, {})), node.reading(seq=401))
            assert (await node.last_ack()).cum == 401
        else:
            assert south.store.epochs == {}
            node.epoch = None
            await node.join()

    tell(tmp_path, story)


def found(folder: Path, name: str) -> list[Path]:
    return list(folder.glob(f"*{name}*"))


def root_page_of(table: str, path: Path) -> int:
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    return int(root)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        await south.store.write(
            lambda db: db.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'") and None
        )
        south.store.close()
        before = south.path.read_bytes()
        with pytest.raises(StoreError, match="newer version"):
            south.open()
        assert south.path.read_bytes() == before
        assert found(tmp_path, "corrupt") == []

    tell(tmp_path, story)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere.*check the disk"):
        South(tmp_path / "nowhere" / "gateway.db")


def test_only_damage_counts_as_corruption() -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(":memory:").execute("SELECT * FROM nothing")
    assert not recovery.is_corruption(caught.value)


# ---- what the hot path costs the disk ------------------------------------------------------------------------------


def test_a_commit_of_many_nodes_dirties_few_pages(tmp_path: Path) -> None:
    """512 frames of 64 nodes: the rows and no index; one leaf per node would be 64 pages and more."""
    addresses = tuple(range(1, 65))

    async def run() -> None:
        south = South(tmp_path / "gateway.db", addresses)
        nodes = [TestNode(south, address) for address in addresses]
        for node in nodes:
            await node.join()
            node.give(node.reading())
            await node.last_ack()
        wal = south.path.with_name("gateway.db-wal")
        south.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for node in nodes:
            node.give(*(node.reading() for _ in range(8)))
        await south.commit()
        pages = wal.stat().st_size // 4120
        assert pages <= 20
        south.store.close()

    asyncio.run(run())


def test_the_limits_fit_each_other() -> None:
    assert limits.DN_PIV_LOW < limits.DN_PIV_BLOCK
    assert limits.BACKLOG_CHUNK < limits.LIVE_QUEUE_MAX
    assert limits.RECONNECT_MIN_S < limits.RECONNECT_MAX_S <= 1.0
