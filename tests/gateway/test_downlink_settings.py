"""Settings that a person wants go down until the node reports them, or has refused them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import limits
from gateway.errors import CommandError
from gateway.registry import By
from protocols.wire import messages
from tests.gateway.desk import BY, Desk, HandClock, desk
from tests.gateway.downlink_rig import NODE, Rig, having, reporting


def wish_state(office: Desk) -> str:
    return office.wishes.reports()[0].state


def test_wanted_settings_are_sent_until_the_node_reports_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(NODE)
            await office.wishes.set(NODE, {"report_s": 3600}, BY)
            version = await office.wishes.set(NODE, {"interval_s": 900}, BY)
            rig = Rig(office)
            await rig.hear(having(1, link=rig.wire))
            await rig.hear(having(1, link=rig.wire))
            [sent] = rig.wire.got(messages.Settings)
            assert (sent.answers, sent.version, sent.document) == (3, version, {0: 900, 1: 3600})
        clock.pass_s(limits.COMMAND_RESEND_S)
        with desk(tmp_path, clock) as office:
            rig = Rig(office)
            await rig.hear(having(1, link=rig.wire))
            assert [again.version for again in rig.wire.got(messages.Settings)] == [version]
            await rig.hear(reporting(version, link=rig.wire))
            assert wish_state(office) == "applied"
            clock.pass_s(limits.COMMAND_RESEND_S)
            await rig.hear(having(version, link=rig.wire))
            assert len(rig.wire.got(messages.Settings)) == 1

    asyncio.run(scenario())


def test_settings_that_a_node_refuses_are_not_pressed_on_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            await office.wishes.set(NODE, {"interval_s": 900}, BY)
            rig = Rig(office)
            await rig.hear(reporting(1, link=rig.wire))
            assert wish_state(office) == "open"  # nothing was sent yet: it answers something else
            for _ in range(limits.SETTINGS_DENIALS):
                assert wish_state(office) == "open"
                await rig.hear(having(1, link=rig.wire))
                await rig.hear(reporting(1, link=rig.wire))
            assert wish_state(office) == "refused"
            office.clock.pass_s(limits.COMMAND_RESEND_S)
            await rig.hear(having(1, link=rig.wire))
            assert len(rig.wire.got(messages.Settings)) == limits.SETTINGS_DENIALS
            await office.wishes.set(NODE, {"interval_s": 600}, BY)
            await rig.hear(having(1, link=rig.wire))
            assert rig.wire.got(messages.Settings)[-1].document == {0: 600}

    asyncio.run(scenario())


def test_a_report_that_crossed_the_settings_on_the_way_is_no_refusal(tmp_path: Path) -> None:
    """A person asked what it has (`node get`) just when they were sent: the answer tells of the time before."""

    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            version = await office.wishes.set(NODE, {"interval_s": 900}, BY)
            rig = Rig(office)
            await rig.hear(having(0, link=rig.wire))
            await rig.hear(reporting(0, link=rig.wire))
            assert wish_state(office) == "open"
            await rig.hear(reporting(version, link=rig.wire))
            assert wish_state(office) == "applied"

    asyncio.run(scenario())


def test_a_node_that_lost_its_settings_gets_them_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            version = await office.wishes.set(NODE, {"interval_s": 900}, BY)
            rig = Rig(office)
            await rig.hear(having(version, link=rig.wire))
            assert (wish_state(office), len(rig.wire.got(messages.Settings))) == ("applied", 1)
            office.clock.pass_s(limits.COMMAND_RESEND_S)
            await rig.hear(having(0, link=rig.wire))
            await rig.hear(having(0, link=rig.wire))
            assert [sent.version for sent in rig.wire.got(messages.Settings)] == [version, version]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"interval": 5},
            "'interval' is no setting of a river node; did you mean interval_s. It has interval_s",
        ),
        (
            {"interval_s": 60, "tilt_deg": 20},
            r"'tilt_deg' is no setting of a river node.* report_s \(1 to 86400\)",
        ),
        ({}, "no setting is named. A river node has interval_s"),
        ({"interval_s": 0}, "interval_s = 0 is not allowed. Allowed are 1 to 86400"),
        ({"interval_s": -5}, "interval_s = -5 is not allowed. Allowed are 1 to 86400"),
        ({"interval_s": 900, "status_s": 1}, "status_s = 1 is not allowed. Allowed are 10 to 604800"),
    ],
)
def test_settings_that_are_not_allowed_are_refused_as_a_whole(
    tmp_path: Path, changes: dict[str, int], told: str
) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            with pytest.raises(CommandError, match=told):
                await office.wishes.set(NODE, changes, BY)
            with pytest.raises(CommandError, match="say why"):
                await office.wishes.set(NODE, {"interval_s": 900}, By("wang", ""))
            assert office.wishes.reports() == []

    asyncio.run(scenario())
