"""Campaigns on the links: what is more urgent goes first, and a node is spoken to when it can hear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaigns import Campaigns
from gateway.store_settings import StoreSettings
from gateway.updating import Updating
from protocols.wire import messages, ota, update
from tests.gateway.campaign_world import PLAN, release
from tests.gateway.desk import BY, desk
from tests.gateway.downlink_rig import NODE, Heard, Rig, status


class UpdateRig(Rig):
    """The rig of the downlink, with a campaign for its one node."""

    async def begin(self) -> None:
        await self.desk.enrol(NODE)
        self.engine = Campaigns(
            self.desk.store, self.desk.registry, self.desk.clock, lambda size: b"k" * size
        )
        self.updating = Updating(
            self.engine, self.downlink._routes, lambda address: self.channel, structlog.get_logger()
        )
        self.downlink.updates = self.updating
        await making.make(
            self.desk.store,
            self.desk.registry,
            self.desk.clock,
            [release()],
            making.Choice(),
            PLAN,
            "fix",
            BY,
        )
        self.engine.reload()

    session = 0  # of what the node was told last

    async def answer(self, answer: bytes, piv: int = 9) -> None:
        heard: Any = Heard(self.wire, update.UpdateStatus(1, self.session, answer), piv)
        await self.hear(heard)

    def commands(self) -> list[bytes]:
        found = self.wire.got(update.Update)
        self.wire.sent.clear()
        self.session = found[-1].session if found else self.session
        return [one.command for one in found]

    def node_state(self) -> str:
        found = self.desk.store.read(lambda reader: rows.member(reader, 1, NODE))
        assert found is not None
        return found.state


def play(folder: Path, story: Callable[[UpdateRig], Awaitable[None]]) -> None:
    async def go() -> None:
        with desk(folder, settings=StoreSettings(linger_ms=0)) as office:
            rig = UpdateRig(office)
            await rig.begin()
            await story(rig)

    asyncio.run(go())


def test_a_node_on_a_cable_is_asked_offered_called_and_fed(tmp_path: Path) -> None:
    async def story(rig: UpdateRig) -> None:
        await rig.hear(status(link=rig.wire))
        assert rig.commands() == [b"\x00"]
        await rig.answer(update.I_AM)
        (setup,) = rig.commands()
        assert ota.decode_setup(setup).descriptor == 2
        await rig.answer(b"\x02\x00")
        (call,) = rig.commands()
        assert update.decode_pass(call) == update.Pass(9, 0, 240, 0, 0, b"")
        await rig.answer(b"\x41\x00")
        assert rig.commands() == []
        rig.desk.clock.pass_s(4)
        await rig.updating.look()
        assert [one[0] for one in rig.commands()] == [ota.STATUS]  # it is there when it answers
        rig.desk.clock.pass_s(6)
        await rig.updating.look()
        assert [one[0] for one in rig.commands()] == [ota.STATUS]
        await rig.answer(ota.status(0, 4))
        assert [one[0] for one in rig.commands()] == [ota.DATA] * 4 + [ota.STATUS]
        await rig.answer(ota.status(4, 0))
        assert rig.node_state() == rows.RECEIVED
        assert rig.commands() == []

    play(tmp_path, story)


def test_a_command_and_settings_go_first(tmp_path: Path) -> None:
    async def story(rig: UpdateRig) -> None:
        await rig.add()
        await rig.desk.wishes.set(NODE, {"interval_s": 900}, BY)
        await rig.hear(status(link=rig.wire))
        assert rig.wire.got(messages.Command)
        assert rig.commands() == []

    play(tmp_path, story)


def test_what_the_line_does_not_take_is_asked_for_later(tmp_path: Path) -> None:
    async def story(rig: UpdateRig) -> None:
        rig.wire.is_up = False
        await rig.hear(status(link=rig.wire))
        assert rig.updating.counters["not_sent"] == 1
        rig.wire.is_up = True
        rig.desk.clock.pass_s(31)
        await rig.hear(status(link=rig.wire))
        assert rig.commands() == [b"\x00"]

    play(tmp_path, story)


def test_an_aborted_campaign_has_its_nodes_forget(tmp_path: Path) -> None:
    async def story(rig: UpdateRig) -> None:
        await rig.hear(status(link=rig.wire))
        await rig.answer(update.I_AM)
        await rig.answer(b"\x02\x00")
        rig.commands()

        def abort(connection: Any) -> None:
            campaign = rows.get(connection, 1)
            assert campaign is not None
            rows.change_state(connection, campaign, rows.ABORTED, "wrong", 0, BY)

        await rig.desk.store.write(abort)
        rig.engine.reload()
        rig.desk.clock.pass_s(31)
        await rig.hear(status(link=rig.wire))
        assert rig.commands() == [b"\x03\x00"]
        await rig.answer(b"\x03\x00")
        rig.desk.clock.pass_s(31)
        await rig.hear(status(link=rig.wire))
        assert rig.commands() == []

    play(tmp_path, story)
