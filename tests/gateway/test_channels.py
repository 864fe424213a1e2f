"""gateway/channels.py by way of ingest: joining, epochs, acks, and downlink PIVs that are never used twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest import ack_of
from gateway.ledger import Ledger
from hil_tests.southbound import South, TestNode, current, keys_of, state_of, tell
from protocols.wire import envelope, messages

# ---- joining -------------------------------------------------------------------------------------------------------


def test_a_node_joins_and_its_epoch_begins_at_its_oldest_record(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.seq, node.oldest = 40, 21
        ack = await node.join()
        assert (ack.cum, ack.runs) == (20, ())
        (epoch,) = south.store.epochs.values()
        assert (epoch.number, epoch.ledger.first_seq) == (node.epoch, 21)

    tell(tmp_path, story, join=False)


def test_the_ack_of_a_join_waits_for_the_commit_of_its_epoch(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        south.disk.hold = True
        joining = asyncio.ensure_future(node.join())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not joining.done()
        assert south.link.sent == []
        south.disk.release()
        await joining
        assert south.rows("SELECT number FROM epoch") == [(node.epoch,)]

    tell(tmp_path, story, join=False)


def test_a_recorded_second_hello_is_refused(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        given_frames: list[bytes] = []
        take = south.ingest.frame
        south.ingest.frame = lambda link, frame: (given_frames.append(frame), take(link, frame))[1]  # type: ignore[method-assign]
        await node.join()
        before = state_of(south)
        take(south.link, given_frames[1])
        assert south.ingest.refused == {"late": 1}
        assert state_of(south) == before

    tell(tmp_path, story, join=False)


def test_a_challenge_expires(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        from protocols.wire.join import NodeJoin

        join = NodeJoin(*keys_of(node.address), node.address)
        south.ingest.frame(south.link, join.start(bytes(8), node.hello_message()))
        ((_, challenge),) = south.link.take()
        second = join.receive(envelope.parse(challenge, 3), challenge, bytes(8), node.hello_message())
        assert second is not None
        south.clock.advance(61)
        south.ingest.frame(south.link, second)
        assert south.ingest.refused == {"late": 1}
        assert south.store.epochs == {}

    tell(tmp_path, story, join=False)


def test_a_first_hello_that_names_a_known_epoch_is_answered_by_an_ack_in_it(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        from protocols.wire.join import NodeJoin

        node.give(node.reading())
        await node.last_ack()
        join = NodeJoin(*keys_of(node.address), node.address)
        south.ingest.frame(south.link, join.start(bytes(range(8)), node.hello_message()))
        assert (await node.last_ack()).cum == 1
        assert len(south.store.epochs) == 1

    tell(tmp_path, story)


def test_records_kept_across_a_change_of_epoch_keep_their_epoch_and_are_acknowledged_in_it(
    tmp_path: Path,
) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(node.reading(), node.reading())
        await node.last_ack()
        first_epoch = node.epoch
        node.seq = 4  # 3 and 4 wait in the outbox, made in the first epoch
        close_epochs(south, node)
        await node.join()
        node.give(
            node.reading(seq=3, epoch=first_epoch),
            node.reading(seq=4, epoch=first_epoch),
            node.reading(seq=5),
        )
        await south.commit()
        acks = {ack.epoch: ack.cum for ack in node.opened() if isinstance(ack, messages.Ack)}
        assert acks == {first_epoch: 4, None: 5}
        assert south.rows("SELECT count(*) FROM lost") == [(0,)]

    tell(tmp_path, story)


def test_records_of_the_epoch_before_are_not_lost_in_the_new_one(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading() for _ in range(5)))
        await node.last_ack()
        first_epoch = node.epoch
        close_epochs(south, node)
        await node.join()  # begins at 6 by the hello, but 6 and 7 are still made in the epoch before
        node.give(node.reading(seq=6, epoch=first_epoch), node.reading(seq=7, epoch=first_epoch))
        await south.commit()
        node.give(node.reading(seq=9, oldest=9))
        acks = [ack for ack in [await node.last_ack()] if ack.epoch is None]
        assert acks[0].cum == 9
        assert south.rows("SELECT first, last, elsewhere FROM lost ORDER BY first") == [(6, 7, 1), (8, 8, 0)]

    tell(tmp_path, story)


def test_a_gateway_that_replaced_another_takes_records_of_epochs_it_never_saw(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.oldest = 30
        node.give(
            node.reading(seq=31, oldest=30, epoch=123_456), node.reading(seq=30, oldest=30, epoch=123_456)
        )
        await south.commit()
        acks = [ack for ack in node.opened() if isinstance(ack, messages.Ack) and ack.epoch == 123_456]
        assert acks[-1].cum == 31
        assert south.rows("SELECT DISTINCT epoch FROM reading_view") == [(123_456,)]

    tell(tmp_path, story)


# ---- acks ----------------------------------------------------------------------------------------------------------


@given(
    st.one_of(st.integers(0, 1 << 32), st.sampled_from([0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1]))
)
def test_the_short_way_to_an_ack_gives_the_bytes_of_the_general_encoder(cum: int) -> None:
    cum = min(cum, (1 << 32) - 1)
    ledger = Ledger(1, 0x12, 77, 1, lambda page: None)
    ledger.cum = cum
    assert ack_of(ledger, ledger) == messages.encode(messages.Ack(cum, (), None))


def test_acks_of_one_commit_are_one_per_node(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        node.give(*(node.reading() for _ in range(50)))
        await south.commit()
        assert [(ack.cum, ack.runs) for ack in node.opened() if isinstance(ack, messages.Ack)] == [(50, ())]

    tell(tmp_path, story)


def test_an_open_channel_never_seals_twice_under_one_piv(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        used: set[int] = set()
        ping = messages.encode(messages.Ping(1))
        for life in range(4):
            for _ in range(6):
                node.give(node.reading())
                await south.commit()
                sealed = [frame for _, frame in south.link.take()]
                sealed += [current(south, node).seal(ping) or b"" for _ in range(300)]
                pivs = [envelope.parse(frame, 3).piv for frame in sealed if frame]
                assert used.isdisjoint(pivs)
                assert len(set(pivs)) == len(pivs)
                used.update(pivs)
            if life % 2:
                south.store.close()
            else:
                south.kill()
            south.open()
        assert len(used) > 4 * 1024  # so every life went through more than one block

    tell(tmp_path, story)


def test_a_channel_without_durable_pivs_seals_nothing(tmp_path: Path) -> None:
    async def story(south: South, node: TestNode) -> None:
        channel = current(south, node)
        south.store.close()
        south.open()
        reopened = current(south, node)
        assert reopened is not channel
        assert reopened.seal(b"\x82\x15\x00") is None

    tell(tmp_path, story)


def close_epochs(south: South, node: TestNode) -> None:
    """The gateway still knows the epochs by name, but has their keys no longer open: a hello is challenged."""
    known = south.channels.node(node.address)
    assert known is not None
    known.open.clear()
