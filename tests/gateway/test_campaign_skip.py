"""A node that is lost while on trial holds its wave up for days: who looks sees that, and can go on without it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import tidegate
from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway import campaign_skip
from gateway.campaign_limits import TRIAL_PATIENCE_S
from protocols.wire import ota, outcomes
from tests.gateway.campaign_world import PLAN, World
from tests.gateway.desk import HandClock, desk, stopped_gateway
from tests.gateway.test_campaign_cli import CONFIG, lines, told_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST = 0x100
DAY_S = 86_400
WHY = ("--why", "its shaft is flooded")


async def lost_on_trial(world: World) -> None:
    """The canary has all of it, starts the new release, and is not heard again."""
    node = world.nodes[FIRST]
    await world.begin(
        making.Choice(canary=(FIRST,)), PLAN._replace(halt_count=1, halt_share=0.0, patience_s=3600)
    )
    engine = world.engine
    await world.uplink(node)
    status = bytes((ota.STATUS, 0, 0, 0, 0))
    assert node.receiver.setup is not None
    await engine.heard(FIRST, 1, node.receiver.session, status)
    await engine.hello(FIRST, "virtual", "0.1.0+r2")
    node.is_there = False
    assert world.states()[FIRST] == rows.TRYING


async def wait(world: World, seconds: int) -> None:
    """So much time in which the gateway works on it, and the minute in which that is noticed."""
    world.engine.books._active[1] += seconds - 60
    for _ in range(2):
        world.desk.clock.pass_s(60)
        await world.engine.tick()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stopped_gateway(Path(), CONFIG)
    return lambda *words: CliRunner().invoke(tidegate.app, ["campaign", *words])


def play(story: Callable[[World], Awaitable[None]]) -> None:
    """Some of it, with the gateway running; then it stops, and what a person types finds its rows."""

    async def go() -> None:
        with desk(Path("data"), HandClock()) as office:
            await story(World(office, 1, nodes=4))

    asyncio.run(go())


def test_it_is_said_who_holds_a_wave_up_and_how_long_still(cli: Callable[..., Any]) -> None:
    async def story(world: World) -> None:
        await lost_on_trial(world)
        await wait(world, DAY_S)

    play(story)
    said = lines(cli("show", "1"))
    assert "  wave 1 waits for 0100 (trying), 3 d 23 h more" in said, said
    assert "  To go on without it: tidegate campaign skip 1 0100 --why …" in said


def test_a_person_goes_on_without_it(cli: Callable[..., Any]) -> None:
    play(lost_on_trial)
    assert "say why with --why" in told_of(cli("skip", "1", "0100"))
    assert "is not in campaign 1" in told_of(cli("skip", "1", "0999", *WHY))
    assert "is in wave 2, which is not open yet" in told_of(cli("skip", "1", "0101", *WHY))
    assert lines(cli("skip", "1", "0100", *WHY)) == [
        "campaign 1 (fix) goes on without 0100, which was trying."
    ]
    assert "it holds nobody up" in told_of(cli("skip", "1", "0100", *WHY))
    said = "\n".join(lines(cli("show", "1", "--nodes")))
    assert "skipped" in said
    assert "RUNNING" in said, "it speaks not against the release, though one failure would halt this campaign"


@pytest.mark.parametrize("ends", [outcomes.INSTALLED, outcomes.UNHEALTHY])
def test_the_next_wave_opens_within_a_minute_and_one_that_returns_is_told_as_it_is(
    tmp_path: Path, ends: int
) -> None:
    async def story(world: World) -> None:
        await lost_on_trial(world)
        await wait(world, 3600)
        assert world.engine.books.campaigns[1].wave == 0
        clock = world.desk.clock
        await world.desk.store.write(
            lambda connection: campaign_skip.skip(
                connection, world.engine.books.campaigns[1], FIRST, clock.unix_ms()
            )
        )
        world.engine.reload()
        await wait(world, 100)
        assert world.engine.books.campaigns[1].wave == 1
        await world.engine.ended(FIRST, 2, ends)
        expected = rows.INSTALLED if ends == outcomes.INSTALLED else rows.ROLLED_BACK
        assert world.states()[FIRST] == expected
        if ends != outcomes.INSTALLED:
            assert world.campaign() == rows.HALTED, "now it does speak against it"

    async def go() -> None:
        with desk(tmp_path, HandClock()) as office:
            await story(World(office, 1, nodes=4))

    asyncio.run(go())


def test_left_alone_it_is_given_up_after_five_days_and_that_halts_the_campaign(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await lost_on_trial(world)
        await wait(world, TRIAL_PATIENCE_S - 7200)
        assert world.states()[FIRST] == rows.TRYING, "other silence is suffered for an hour here"
        await wait(world, 14_400)
        member = world.desk.store.read(lambda reader: rows.member(reader, 1, FIRST))
        assert member is not None
        assert (member.state, member.reason) == (rows.GONE, "lost-on-trial")
        assert world.campaign() == rows.HALTED

    async def go() -> None:
        with desk(tmp_path, HandClock()) as office:
            await story(World(office, 1, nodes=4))

    asyncio.run(go())
