"""Sequences of harmless steps: what an attacker, a kill or a full disk makes of two good features at once."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from gateway.limits import DN_PIV_RESTORED_MARGIN
from hil_tests.southbound import GOOD_SET, SCHEMA, South, TestNode, current, keys_of, tell
from protocols.wire import envelope, messages, readings
from protocols.wire.join import NodeJoin
from protocols.wire.limits import MAX_SEQ
from tests.gateway.test_channels import close_epochs

OTHER = 0x13


def first_hello(node: TestNode, r1: bytes) -> bytes:
    return NodeJoin(*keys_of(node.address), node.address).start(r1, node.hello_message())


# ---- epochs and the replay window ----------------------------------------------------------------------------------


def test_a_record_that_names_its_epoch_is_not_accepted_again_after_a_kill(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading())
        await node.last_ack()
        first_epoch = node.epoch
        close_epochs(south, node)
        await node.join()
        node.piv = 500
        recorded = node.reading(epoch=first_epoch)
        node.give(recorded)
        await south.commit()
        south.kill()
        south.open()
        highest = {epoch.number: epoch.window.highest for epoch in south.store.epochs.values()}
        assert highest == {first_epoch: 1, node.epoch: 501}, "each PIV belongs to the channel that carried it"
        node.give(recorded)
        assert south.ingest.refused == {"replay": 1}

    tell(tmp_path, story)


def test_records_of_an_epoch_whose_commit_failed_meanwhile_are_kept_with_it(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        node.give(node.reading(seq=5, oldest=5, epoch=123))
        for _ in range(20):
            await asyncio.sleep(0)
        node.give(node.reading(seq=6, oldest=5, epoch=123))  # joins the batch behind the one that will fail
        south.disk.fail_with = sqlite3.OperationalError("database or disk is full")
        south.disk.release()
        for _ in range(20):
            await asyncio.sleep(0)
        south.disk.fail_with = None
        await south.commit()
        node.give(node.reading(seq=5, oldest=5, epoch=123))
        await south.commit()
        acks = [ack for ack in node.opened() if isinstance(ack, messages.Ack)]
        assert (acks[-1].epoch, acks[-1].cum) == (123, 6)
        assert south.rows("SELECT epoch, seq FROM reading_view ORDER BY seq") == [(123, 5), (123, 6)]
        south.kill()
        south.open()
        assert {epoch.number: epoch.ledger.cum for epoch in south.store.epochs.values()}[123] == 6

    tell(tmp_path, story)


def test_a_node_that_counts_past_the_last_seq_is_refused_and_holds_up_no_other(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        other = TestNode(south, OTHER, seed=2)
        await other.join()
        body = readings.encode(readings.schema(SCHEMA), 1, (0, 60), (GOOD_SET, GOOD_SET))
        node.give(node.seal(messages.Readings(SCHEMA, MAX_SEQ, 0, 1_790_000_000, body, None)))
        assert south.ingest.refused == {"message": 1}
        node.give(node.reading())
        other.give(other.reading())
        await south.commit()
        assert {address for address, _ in south.link.take()} == {node.address, OTHER}

    tell(tmp_path, story, addresses=(0x12, OTHER))


def test_what_waits_in_the_epoch_before_is_not_lost_by_news_of_the_new_one(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        first_epoch = node.epoch
        node.seq = 9  # 1 to 9 wait, and while the node joins, 10 is made: still in the first epoch
        close_epochs(south, node)
        await node.join()
        node.give(node.reading(seq=11, oldest=11))
        await node.last_ack()
        node.give(node.reading(seq=1, oldest=1, epoch=first_epoch))
        ack = await node.last_ack()
        assert (ack.epoch, ack.cum, ack.runs) == (first_epoch, 1, ()), "2 to 10 are still on the node"

    tell(tmp_path, story)


# ---- first hellos, which may be recordings -------------------------------------------------------------------------


def test_a_recorded_first_hello_does_not_end_the_silence_after_a_restore(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        recorded = first_hello(node, bytes(8))
        channel = current(south, node)
        channel.epoch.dn_hold = True
        channel._recount()
        south.ingest.frame(south.link, recorded)
        await south.commit()
        ((_, frame),) = south.link.take()
        assert envelope.parse(frame, 3).kid_context, "a challenge: only a node that is there can answer it"
        assert channel.epoch.dn_hold
        assert channel.seal(b"\x82\x15\x00") is None

    tell(tmp_path, story)


def test_a_recorded_first_hello_cannot_burn_downlink_pivs(tmp_path: Path) -> None:
    """Acks that it draws go to its player: the node's dn_piv would never tell of them, nor a restored database."""

    async def story(south: South, node: TestNode) -> None:
        recorded = first_hello(node, bytes(8))
        channel = current(south, node)
        before = channel._next
        for _ in range(2000):
            south.ingest.frame(south.link, recorded)
            await south.commit()
            south.clock.advance(0.1)
        a_day = 24 * 3600 / 200
        assert 0 < channel._next - before < DN_PIV_RESTORED_MARGIN / 4 / a_day

    tell(tmp_path, story)


def test_the_oldest_of_a_hello_says_nothing_of_epochs_before(tmp_path: Path) -> None:
    """A node has waiting records of two epochs, and its hello tells the oldest of the one that it names."""

    async def story(south: South, node: TestNode) -> None:
        first_epoch = node.epoch
        node.seq = 9  # 1 to 9 wait in the first epoch
        close_epochs(south, node)
        await node.join()
        node.seq, node.oldest = 19, 10  # 10 to 19 in the second
        node.give(node.seal(node.hello_message()))
        await south.commit()
        close_epochs(south, node)
        await node.join()
        node.give(node.reading(seq=1, oldest=1, epoch=first_epoch))
        ack = await node.last_ack()
        assert (ack.epoch, ack.cum, ack.runs) == (first_epoch, 1, ()), "2 to 9 are still on the node"

    tell(tmp_path, story)
