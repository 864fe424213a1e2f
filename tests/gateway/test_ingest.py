"""gateway/ingest.py: what becomes of every kind of frame, and that a refused one changes nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import UNCOMMITTED_FRAMES_MAX
from hil_tests.southbound import GOOD_SET, SCHEMA, START_MS, South, TestNode, state_of, tell
from protocols.wire import envelope, messages, readings

# ---- the way of a record -------------------------------------------------------------------------------------------


def test_a_set_is_stored_as_it_was_sent_and_acknowledged(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(time=1_790_000_123))
        assert (await node.last_ack()).cum == 1
        (reading,) = south.store.readings(1, 10, 10)
        assert (reading.seq, reading.time, reading.tq, reading.values, reading.flags) == (
            1, 1_790_000_123, 1, GOOD_SET, None
        )  # fmt: skip
        assert reading.ledger.number == node.epoch

    tell(tmp_path, story)


def test_nothing_is_acknowledged_or_told_before_the_commit_returned(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        node.give(node.reading())
        for _ in range(20):
            await asyncio.sleep(0)
        assert south.store.depth() > 0
        assert not south.link.sent
        assert not south.heard
        south.disk.release()
        assert (await node.last_ack()).cum == 1
        assert len(south.heard) == 1

    tell(tmp_path, story)


def test_a_copy_under_a_new_piv_is_acknowledged_and_stored_once(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        assert (await node.last_ack()).cum == 1
        node.give(node.reading(seq=1))
        assert (await node.last_ack()).cum == 1
        assert south.rows("SELECT count(*) FROM reading") == [(1,)]
        assert [heard.new for heard in south.heard] == [True, False]

    tell(tmp_path, story)


def test_copies_within_one_batch_are_one_record(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(seq=1), node.reading(seq=1), node.reading(seq=1))
        assert (await node.last_ack()).cum == 1
        assert south.rows("SELECT count(*) FROM reading") == [(1,)]

    tell(tmp_path, story)


@pytest.mark.parametrize("restart", [False, True])
def test_the_same_id_with_other_content_is_a_conflict_and_gets_no_ack(tmp_path: Path, restart: bool) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        await node.last_ack()
        if restart:
            south.store.close()
            south.open()
        node.give(node.reading(seq=1, time=1_790_000_001))
        await south.commit()
        assert node.opened() == []
        assert south.ingest.refused == {"conflict": 1}
        assert south.rows("SELECT seq FROM conflict") == [(1,)]
        assert south.rows("SELECT time FROM reading") == [(1_790_000_000,)]

    tell(tmp_path, story)


def test_a_batch_is_so_many_records_and_each_equals_the_one_sent_alone(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        rows = [tuple(value + i for value in GOOD_SET) for i in range(4)]
        times = [1_790_000_000 + 900 * i for i in range(4)]
        body = readings.encode(readings.schema(SCHEMA), 1, times, rows)
        node.give(node.seal(messages.Readings(SCHEMA, 1, 0, times[0], body, None)))
        assert (await node.last_ack()).cum == 4
        assert [(r.seq, r.time, r.values) for r in south.store.readings(1, 9, 9)] == [
            (i + 1, times[i], rows[i]) for i in range(4)
        ]
        node.give(node.reading(seq=3, time=times[2], values=rows[2]))
        await node.last_ack()
        assert south.store.counters["copies"] == 1
        assert south.ingest.refused == {}

    tell(tmp_path, story)


def test_records_out_of_order_are_acknowledged_as_runs_and_marked_as_backlog(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading(seq=seq) for seq in (1, 2, 7, 8, 5)))
        ack = await node.last_ack()
        assert (ack.cum, ack.runs) == (2, ((7, 2), (5, 1)))
        assert south.rows("SELECT seq, backlog FROM reading") == [(1, 0), (2, 0), (7, 0), (8, 0), (5, 1)]

    tell(tmp_path, story)


@pytest.mark.parametrize("restart", [False, True])
def test_sets_that_an_event_overtook_are_fresh(tmp_path: Path, restart: bool) -> None:
    """An alarm kept after them goes out before sets that wait to be batched; that does not make them backlog."""

    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(seq=3))
        node.give(node.event(seq=7))
        await node.last_ack()
        if restart:
            south.store.close()
            south.open()
        node.give(*(node.reading(seq=seq) for seq in (5, 6, 4, 8)))
        await node.last_ack()
        lanes = [(3, 0), (5, 0), (6, 0), (4, 1), (8, 0)]
        assert south.rows("SELECT seq, backlog FROM reading ORDER BY id") == lanes

    tell(tmp_path, story)


def test_an_alarm_behind_ten_thousand_evicted_records_is_acknowledged_at_once(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(seq=1))
        await node.last_ack()
        node.give(node.event(seq=10_502, oldest=10_502))
        assert (await node.last_ack()).cum == 10_502
        assert south.rows("SELECT first, last, elsewhere FROM lost") == [(2, 10_501, 0)]
        assert south.store.counters["lost"] == 10_500

    tell(tmp_path, story)


def test_a_record_overtaken_by_the_news_of_its_loss_is_kept_and_no_longer_listed(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.event(seq=10, oldest=10))
        await node.last_ack()
        node.give(node.reading(seq=4, oldest=1))
        await node.last_ack()
        assert south.rows("SELECT first, last FROM lost") == [(1, 3), (5, 9)]
        assert south.rows("SELECT seq FROM reading") == [(4,)]

    tell(tmp_path, story)


def test_an_event_keeps_what_it_said(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.seal(messages.Event(1, 0, 1_790_000_000, 1, 16, 2, [5, 900], None)))
        node.give(node.seal(messages.Result(2, 1, 1_790_000_001, 1, 42, 1, "too late", None)))
        assert (await node.last_ack()).cum == 2
        event, result = south.store.events(0, 10)
        assert (event.kind, event.code, event.state, event.detail) == (2, 16, 2, [5, 900])
        assert (result.kind, result.code, result.state, result.detail) == (3, 42, 1, "too late")

    tell(tmp_path, story)


def test_the_gateway_adds_flags_and_leaves_values_alone(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        impossible = (9000, *GOOD_SET[1:])  # 90 Cel
        node.give(node.reading(values=impossible))
        await node.last_ack()
        (reading,) = south.store.readings(1, 1, 1)
        assert reading.values == impossible
        assert reading.flags == (readings.FAIL, 1, 1, 1, 1, 1, 1, 1)

    tell(tmp_path, story)


# ---- what is refused -----------------------------------------------------------------------------------------------


def frame_for_nobody(node: TestNode) -> bytes:
    key = envelope.sender_key(b"x" * 16, b"y" * 8, b"z" * 16, envelope.node_kid(0x99))
    return envelope.seal(key, 500, b"\x80")


def foreign_frame(node: TestNode) -> bytes:
    key = envelope.sender_key(b"x" * 16, b"y" * 8, b"z" * 16, envelope.node_kid(node.address))
    return envelope.seal(key, 500, b"\x80")


REFUSALS: dict[str, tuple[str, Callable[[TestNode], bytes]]] = {
    "a version of the far future": ("version", lambda node: b"\xe9" + node.reading(seq=9)[1:]),
    "an empty frame": ("malformed", lambda node: b""),
    "a truncated frame": ("malformed", lambda node: node.reading(seq=9)[:8]),
    "a frame beyond the size limit": ("oversize", lambda node: node.reading(seq=9) + bytes(600)),
    "a node that is not enrolled": ("unknown_node", frame_for_nobody),
    "a frame sealed by somebody else": ("auth", foreign_frame),
    "a flipped bit": ("auth", lambda node: node.reading(seq=9)[:-1] + b"\x00"),
    "CBOR that is none": ("cbor", lambda node: seal_raw(node, b"\xff\xff")),
    "a CBOR bomb": ("cbor", lambda node: seal_raw(node, b"\x81" * 200)),
    "an array of four thousand million items": ("cbor", lambda node: seal_raw(node, b"\x9a\xff\xff\xff\xff")),
    "a kind that only a gateway sends": ("message", lambda node: seal_raw(node, b"\x83\x10\x05\x80")),
    "a schema from a newer registry": (
        "message", lambda node: node.seal(messages.Readings(60_000, 9, 0, 1_790_000_000, b"\x40\x00", None)),
    ),
    "a readings body cut short": (
        "message", lambda node: node.seal(messages.Readings(SCHEMA, 9, 0, 1_790_000_000, b"\x40", None)),
    ),
}  # fmt: skip


def seal_raw(node: TestNode, plain: bytes) -> bytes:
    node.piv += 1
    return envelope.seal(node.key, node.piv, plain)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_frame_is_counted_under_its_reason_and_changes_nothing(tmp_path: Path, case: str) -> None:
    reason, make = REFUSALS[case]

    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        await node.last_ack()
        before = state_of(south)
        node.give(make(node))
        assert south.ingest.refused == {reason: 1}
        assert state_of(south) == before
        await south.commit()
        assert state_of(south) == before

    tell(tmp_path, story)


def test_a_replayed_frame_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        recorded = [node.reading() for _ in range(3)]
        node.give(*recorded)
        await node.last_ack()
        node.give(*recorded)
        assert south.ingest.refused == {"replay": 3}
        south.kill()
        south.open()
        node.give(*recorded)
        assert south.ingest.refused == {"replay": 3}
        assert south.rows("SELECT count(*) FROM reading") == [(3,)]

    tell(tmp_path, story)


def test_the_replay_window_survives_a_kill_for_frames_that_leave_no_row(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        recorded = node.seal(messages.Status(0, 1_790_000_000, 1, {0: 1, 1: 60}))
        node.give(recorded)
        await south.commit()
        south.kill()
        south.open()
        node.give(recorded)
        assert south.ingest.refused == {"replay": 1}

    tell(tmp_path, story)


def test_frames_that_were_reordered_by_the_link_are_all_taken(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        frames = [node.reading() for _ in range(40)]
        random.Random(3).shuffle(frames)
        node.give(*frames)
        assert (await node.last_ack()).cum == 40
        assert south.ingest.refused == {}

    tell(tmp_path, story)


def test_a_node_without_an_epoch_here_must_join(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.use(b"an ID Context 16")
        node.give(node.reading())
        assert south.ingest.refused == {"unknown_epoch": 1}

    tell(tmp_path, story, join=False)


def test_a_disk_that_does_not_keep_up_costs_acks_and_not_memory(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        for _ in range(UNCOMMITTED_FRAMES_MAX + 100):
            node.give(node.reading())
            await asyncio.sleep(0)
        assert south.store.depth() <= UNCOMMITTED_FRAMES_MAX + 1
        assert south.ingest.refused["overload"] > 0
        taken = node.seq - south.ingest.refused["overload"]
        south.disk.release()
        assert (await node.last_ack()).cum == taken

    tell(tmp_path, story)


@given(st.binary(max_size=80))
def test_no_bytes_whatever_raise(data: bytes) -> None:
    SHARED.ingest.frame(SHARED.link, data)


# ---- time ----------------------------------------------------------------------------------------------------------


def test_a_record_made_before_the_clock_was_set_is_placed_by_the_boot_it_names(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.boots = 5
        node.give(node.seal(node.hello_message()))  # booted now
        south.clock.advance(1000)
        node.give(node.reading(tq=3, time=messages.unsynced_time(5, 600)))
        await south.commit()
        assert south.rows("SELECT time, boot_time & 0xffffffff, tq FROM reading") == [
            (START_MS // 1000 + 600, 600, 3)
        ]

    tell(tmp_path, story)


def test_what_a_node_says_of_an_update_is_heard_and_leaves_no_record(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.seal(messages.UpdateStatus(12, 4711, bytes.fromhex("015e00ff01"))))
        await south.commit()
        assert sum(south.ingest.refused.values()) == 0
        assert south.rows("SELECT count(*) FROM event") == [(0,)]

    tell(tmp_path, story)


def test_a_status_places_a_boot_better_than_a_late_hello(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.seal(node.hello_message()))
        node.give(node.seal(messages.Status(0, messages.unsynced_time(1, 5000), 3, {0: 1})))
        node.give(node.reading(tq=3, time=messages.unsynced_time(1, 4000)))
        await south.commit()
        south.kill()
        south.open()  # and the boot is still known
        node.give(node.reading(tq=3, time=messages.unsynced_time(1, 4001)))
        await south.commit()
        start_s = START_MS // 1000 - 5000
        assert south.rows("SELECT time FROM reading") == [(start_s + 4000,), (start_s + 4001,)]

    tell(tmp_path, story)


def test_a_record_of_a_boot_nobody_told_of_is_placed_when_it_came(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(tq=3, time=messages.unsynced_time(77, 600)))
        await south.commit()
        assert south.rows("SELECT time FROM reading") == [(START_MS // 1000,)]

    tell(tmp_path, story)


class _Shared:
    """One gateway for a property that needs none of its state."""

    def __init__(self) -> None:
        self._south: South | None = None

    def __getattr__(self, name: str) -> Any:
        if self._south is None:
            import tempfile

            folder = tempfile.mkdtemp(prefix="tidegate-test-")
            self._south = South(Path(folder) / "gateway.db")
        return getattr(self._south, name)


SHARED = _Shared()
