"""Campaigns end with every node where it says it is, whatever is lost, killed or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaign_talk import Way
from gateway.store_settings import StoreSettings
from protocols.wire import ota, outcomes
from tests.gateway.campaign_world import AIR, CABLE, PLAN, World, release
from tests.gateway.desk import desk

AT_ONCE = StoreSettings(linger_ms=0)


def play(
    folder: Path, story: Callable[[World], Awaitable[None]], seed: int = 1, nodes: int = 5, loss: float = 0.0
) -> None:
    async def go() -> None:
        with desk(folder, settings=AT_ONCE) as office:
            await story(World(office, seed, nodes, loss))

    asyncio.run(go())


def test_every_node_of_a_cable_gets_the_update_and_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        await world.live(20)
        assert set(world.states().values()) == {rows.INSTALLED}
        assert world.campaign() == rows.ENDED
        assert {node.release for node in world.nodes.values()} == {2}

    play(tmp_path, story)


@pytest.mark.parametrize("seed", range(4))
def test_losses_cost_time_and_nothing_else(tmp_path: Path, seed: int) -> None:
    async def story(world: World) -> None:
        await world.begin()
        await world.live(400)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story, seed, loss=0.3)


def test_a_node_gets_the_smallest_payload_that_it_can_follow(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, second, *_ = world.nodes.values()
        second.release = 0
        await world.begin()
        whole, small = (part.data for part in release().parts)
        seen = {}
        for _ in range(6):
            await world.turn()
            for node in (first, second):
                if node.receiver.setup is not None:
                    seen[node.address] = node.receiver.setup.length
        sessions = {
            one.node: one.payload for one in world.desk.store.read(lambda reader: rows.members(reader, 1))
        }
        sizes = {one.id: one.size for one in world.desk.store.read(lambda reader: rows.payloads(reader, 1))}
        assert sizes[sessions[first.address]] == len(small)  # type: ignore[index]
        assert sizes[sessions[second.address]] == len(whole)  # type: ignore[index]

    play(tmp_path, story, nodes=2)


def test_too_many_failures_halt_it_and_it_goes_on_when_told(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for node in list(world.nodes.values())[:4]:
            node.health = outcomes.UNHEALTHY
        await world.begin(making.Choice(canary=tuple(list(world.nodes)[:4]), shares=(0.5, 1.0)))
        await world.live(20)
        assert world.campaign() == rows.HALTED
        states = list(world.states().values())
        assert states.count(rows.ROLLED_BACK) >= 3
        assert states.count(rows.WAITING) == 16  # nobody else was spoken to
        assert {address for address, _ in world.said} == set(list(world.nodes)[:4])

    play(tmp_path, story, nodes=20)


def test_who_never_returns_holds_nobody_up_and_is_told_apart(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, second, *others = world.nodes.values()
        first.is_there = False
        await world.begin(
            making.Choice(canary=(first.address, second.address)), PLAN._replace(patience_s=600)
        )
        for _ in range(5):
            await world.turn()
        assert world.states()[second.address] == rows.INSTALLED
        assert {world.states()[one.address] for one in others} == {rows.WAITING}
        await world.live(60)
        assert world.states()[first.address] == rows.GONE
        assert {world.states()[one.address] for one in others} == {rows.INSTALLED}
        assert world.campaign() == rows.ENDED

    play(tmp_path, story)


@pytest.mark.parametrize("seed", range(6))
def test_a_broadcast_brings_it_to_all_and_no_piv_is_used_twice(tmp_path: Path, seed: int) -> None:
    async def story(world: World) -> None:
        await world.begin()
        await world.live(300, AIR, kill_each=40 if seed % 2 else 0)
        assert set(world.states().values()) == {rows.INSTALLED}, f"seed {seed}"
        used = [(frame.key, frame.piv) for frame in world.cast]
        assert len(used) == len(set(used))
        sent = [(frame.session, frame.command) for frame in world.cast if frame.command[0] == ota.DATA]
        assert len(sent) == len(set(sent))
        alone = sum(one.command[0] == ota.DATA for _, one in world.said)
        print(f"broadcast_rows={len(sent)} rows_alone={alone} fragments=4")
        assert len(sent) > 0

    play(tmp_path, story, seed, nodes=12, loss=0.2)


@pytest.mark.parametrize("way", [CABLE, AIR], ids=["cable", "air"])
@pytest.mark.parametrize("seed", range(8))
def test_a_gateway_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, seed: int, way: Way
) -> None:
    async def story(world: World) -> None:
        first, second, *_ = world.nodes.values()
        first.health, second.health = outcomes.CRASHED, outcomes.number("space")
        await world.begin(making.Choice(canary=2, shares=(0.5, 1.0)), PLAN._replace(halt_count=5))
        await world.live(600, way, kill_each=6)
        wanted = dict.fromkeys(world.nodes, rows.INSTALLED)
        wanted |= {first.address: rows.ROLLED_BACK, second.address: rows.REFUSED}
        assert world.states() == wanted, f"seed {seed}"
        assert world.campaign() == rows.ENDED
        assert {node.release for node in world.nodes.values()} == {1, 2}

    play(tmp_path, story, seed, nodes=8, loss=0.1)
