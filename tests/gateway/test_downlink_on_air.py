"""What goes down on the air, where a node hears only after it spoke."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protocols.wire import messages
from tests.gateway.desk import desk
from tests.gateway.downlink_rig import NODE, Rig, Wire, no_time, status


def test_a_status_on_the_air_that_asks_is_answered_with_an_ack_when_there_is_nothing_else(
    tmp_path: Path,
) -> None:
    """The node sends it, and nothing behind it, until something comes."""

    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            rig.channel.ledger = "the ledger"
            plain = messages.encode(messages.Ack(4, (), None))
            rig.downlink.attach(
                lambda heard: [(entry.link, NODE, plain) for entry in heard if entry.ledger is not None]
            )
            await no_time(rig)
            for listens, wants_answer, got in ((False, True, 1), (False, False, 0), (True, True, 0)):
                rig.wire = Wire(listens=listens, wants_answer=wants_answer)
                heard = status(1, link=rig.wire)
                heard.channel = rig.channel
                await rig.hear(heard)
                assert len(rig.wire.got(messages.Ack)) == got, (listens, wants_answer)
            rig.wire = Wire(listens=False, wants_answer=True)
            told = status(1, link=rig.wire)
            told.channel, told.message = rig.channel, messages.UpdateStatus(3, 1, b"\x00\x03\x01")
            await rig.hear(told)
            assert len(rig.wire.got(messages.Ack)) == 1
            await rig.add()
            rig.wire = Wire(listens=False)
            await rig.hear(status(2, link=rig.wire))
            assert [type(one) for one in rig.wire.sent] == [messages.Command]

    asyncio.run(scenario())
