"""Campaigns end with every node where it says it is, whatever is lost, killed or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaign_operations import CampaignOperations
from gateway.campaign_talk import Frame, Pass, Way, air_s
from gateway.store_settings import StoreSettings
from protocols.wire import ota, outcomes, update
from tests.gateway.campaign_world import AIR, CABLE, PLAN, World, release
from tests.gateway.desk import BY, desk

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
        second.release = 2
        await world.begin(making.Choice(), PLAN, release(3))
        whole, small = (part.data for part in release(3).parts)
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
        await world.live(600, AIR, kill_each=40 if seed % 2 else 0)
        assert set(world.states().values()) == {rows.INSTALLED}, f"seed {seed}"
        used = [(frame.key, frame.piv) for frame in world.cast]
        assert len(used) == len(set(used))
        sent = [(frame.session, frame.command) for frame in world.cast if frame.command[0] == ota.DATA]
        assert len(sent) == len(set(sent))
        alone = sum(one.command[0] == ota.DATA for _, one in world.said)
        print(f"broadcast_rows={len(sent)} rows_alone={alone}")
        assert len(sent) > 0

    play(tmp_path, story, seed, nodes=12, loss=0.2)


@pytest.mark.parametrize("way", [CABLE, AIR], ids=["cable", "air"])
@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(8, 208), marks=pytest.mark.soak)], ids=["sample", "all"]
)
def test_a_gateway_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, seeds: range, way: Way
) -> None:
    kills = 0

    async def story(world: World) -> None:
        nonlocal kills
        first, second, *_ = world.nodes.values()
        first.health, second.health = outcomes.CRASHED, outcomes.number("space")
        await world.begin(making.Choice(canary=2, shares=(0.5, 1.0)), PLAN._replace(halt_count=5))
        await world.live(600, way, kill_each=6)
        wanted = dict.fromkeys(world.nodes, rows.INSTALLED)
        wanted |= {first.address: rows.ROLLED_BACK, second.address: rows.REFUSED}
        assert world.states() == wanted
        assert world.campaign() == rows.ENDED
        assert {node.release for node in world.nodes.values()} == {1, 2}
        kills += world.kills

    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            play(folder, story, seed, nodes=8, loss=0.1)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    print(f"campaigns={len(seeds)} kills={kills}")
    assert kills > 2 * len(seeds)


def test_a_node_that_can_not_receive_now_is_asked_again_and_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        (node,) = world.nodes.values()
        node.is_busy = True
        await world.begin()
        await world.live(4)
        member = world.desk.store.read(lambda reader: rows.member(reader, 1, node.address))
        assert member is not None
        assert (member.state, member.reason) == (rows.RECEIVING, "not-now")
        node.is_busy = False
        await world.live(20)
        member = world.desk.store.read(lambda reader: rows.member(reader, 1, node.address))
        assert member is not None
        assert (member.state, member.reason) == (rows.INSTALLED, "")

    play(tmp_path, story, nodes=1)


def test_an_alarm_that_lasts_holds_nobody_up(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, second, third = world.nodes.values()
        first.is_busy = third.is_busy = True
        await world.begin(
            making.Choice(canary=(first.address, second.address)), PLAN._replace(patience_s=300)
        )
        await world.live(30)
        member = world.desk.store.read(lambda reader: rows.member(reader, 1, first.address))
        assert member is not None
        assert (member.state, member.reason, member.vanished) == (rows.GONE, "not-now", rows.RECEIVING)
        assert third.receiver.setup is not None  # the wave after that of the first is open
        assert world.campaign() == rows.ENDED

    play(tmp_path, story, nodes=3)


def test_one_that_waits_for_a_broadcast_is_not_gone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.engine.passes._heartbeat_s = lambda address: 86_400
        await world.begin(making.Choice(), PLAN._replace(patience_s=3600))
        await world.live(3, AIR)
        for _ in range(25):
            for _ in range(61):  # a tick passes over no more than a minute
                world.desk.clock.pass_s(59)
                await world.engine.tick()
            assert set(world.states().values()) == {rows.RECEIVING}
        await world.live(200, AIR)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story, nodes=3)


def test_a_gateway_that_is_off_for_a_day_has_waited_for_nobody(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, *_ = world.nodes.values()
        await world.begin(making.Choice(), PLAN._replace(patience_s=3600))
        first.is_there = False
        await world.live(3)
        world.desk.clock.pass_s(86_400)
        world.start()
        await world.live(3)
        assert world.states()[first.address] == rows.WAITING  # not gone: nobody was there to hear it
        first.is_there = True
        await world.live(20)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story)


@pytest.mark.parametrize("step_s", [-86_400 * 400, 86_400 * 400])
def test_a_clock_that_is_set_ages_nobody(tmp_path: Path, step_s: int) -> None:
    async def story(world: World) -> None:
        first, *_ = world.nodes.values()
        first.is_there = False
        await world.begin(making.Choice(), PLAN._replace(patience_s=3600))
        await world.live(3)
        world.desk.clock.now_ms += step_s * 1000
        await world.live(3)
        assert world.states()[first.address] == rows.WAITING
        first.is_there = True
        await world.live(20)
        assert world.campaign() == rows.ENDED

    play(tmp_path, story)


def test_nothing_begins_outside_of_its_hours_or_while_the_clock_is_not_in_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        at_night = PLAN._replace(windows=((22 * 60, 5 * 60),), zone="Asia/Shanghai")
        await world.begin(making.Choice(), at_night)
        world.desk.clock.now_ms = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 4 * 3_600_000  # noon there
        await world.live(3)
        assert not world.said
        world.desk.clock.now_ms += 11 * 3_600_000
        world.desk.clock.is_synchronised = False
        await world.live(3)
        assert not world.said
        world.desk.clock.is_synchronised = True
        await world.live(20)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story)


def test_the_air_of_a_campaign_has_its_bound(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin(making.Choice(), PLAN._replace(air_share=0.002))
        began_s = world.desk.clock.now_s
        await world.live(400, AIR)
        taken_s = sum(air_s(7, len(one.command)) for _, one in world.said)
        taken_s += sum(air_s(7, len(frame.command)) for frame in world.cast)
        passed_s = world.desk.clock.now_s - began_s
        print(f"airtime_s={taken_s:.1f} share={taken_s / passed_s:.5f}")
        # What is begun with air that is left may overdraw by one exchange.
        assert taken_s <= 0.002 * passed_s + 16 * air_s(7, 200)

    play(tmp_path, story, nodes=4)


def test_a_node_without_a_radio_for_it_gets_its_rows_alone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, *_ = world.nodes.values()
        first.has_radio = False
        await world.begin()
        await world.live(60, AIR)
        assert set(world.states().values()) == {rows.INSTALLED}
        assert {address for address, one in world.said if one.command[0] == ota.DATA} == {first.address}

    play(tmp_path, story)


def test_one_that_was_gone_goes_on_where_it_was(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, second = world.nodes.values()
        await world.begin(making.Choice(canary=(first.address,)), PLAN._replace(patience_s=300))
        first.is_there = second.is_there = False
        await world.live(12)
        assert world.states()[first.address] == rows.GONE
        first.is_there = second.is_there = True
        await world.live(20)
        assert world.states() == {first.address: rows.INSTALLED, second.address: rows.INSTALLED}

    play(tmp_path, story, nodes=2)


def test_what_was_halted_goes_on_and_is_halted_again_by_as_much_more(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.health = outcomes.CRASHED
        await world.begin(making.Choice(canary=3, shares=(0.3, 0.6, 1.0)))
        await world.live(20)
        assert world.campaign() == rows.HALTED
        operations = CampaignOperations(
            world.desk.store, world.desk.registry, world.desk.clock, world.engine.reload
        )
        await operations._do_resume({"campaign": 1}, BY)
        assert world.campaign() == rows.RUNNING
        await world.live(40)
        assert world.campaign() == rows.HALTED
        states = list(world.states().values())
        assert states.count(rows.ROLLED_BACK) >= 6
        assert states.count(rows.WAITING) > 0

    play(tmp_path, story, nodes=20)


def test_a_delta_that_does_not_fit_is_followed_by_the_whole(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first, *_ = world.nodes.values()
        await world.begin()
        first.health = outcomes.number("base")
        await world.live(1)
        first.health = outcomes.INSTALLED
        sent = len(world.said)
        await world.live(20)
        assert set(world.states().values()) == {rows.INSTALLED}
        setups = [
            one.command
            for at, one in world.said[sent:]
            if at == first.address and one.command[0] == ota.SETUP
        ]
        whole = next(len(part.data) for part in release().parts if part.base is None)
        assert {ota.decode_setup(command).length for command in setups} == {whole}
        assert world.desk.store.read(lambda reader: rows.member(reader, 1, first.address)).tries == 1  # type: ignore[union-attr]

    play(tmp_path, story, nodes=2)


def test_a_campaign_that_is_over_announces_no_broadcast(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        operations = CampaignOperations(
            world.desk.store,
            world.desk.registry,
            world.desk.clock,
            world.engine.reload,
            lambda campaign: [{}],
        )
        await world.begin()
        assert (await operations._do_show({"campaign": 1}, BY))["passes"] == [{}]
        await world.live(20)
        assert world.campaign() == rows.ENDED
        assert (await operations._do_show({"campaign": 1}, BY))["passes"] == []

    play(tmp_path, story, nodes=2)


def test_a_node_that_checks_in_before_a_pass_is_told_of_it_anew(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        first, second = world.nodes.values()
        await world.turn(way=AIR)
        await world.turn(way=AIR)
        (found,) = world.engine.passes._passes.values()
        assert found.coming == {first.address, second.address}
        await world.engine.heard(first.address, 1, found.session, b"\x41\x00")
        (call,) = await world.engine.for_node(first.address, AIR)
        told = update.decode_pass(call.command)
        assert told.secret == found.key
        assert abs(told.begins_in / 10 - (found.begins_s - world.desk.clock.now_s)) < 1
        assert found.coming == {second.address}
        await world.engine.heard(first.address, 1, found.session, b"\x41\x00")
        assert found.coming == {first.address, second.address}
        assert await world.engine.for_node(first.address, AIR) == []

    play(tmp_path, story, nodes=2)


def test_a_pass_is_called_for_when_there_is_air_for_its_rows(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin(making.Choice(), PLAN._replace(air_share=0.01), release(2, size=30_000))
        await world.live(2, AIR)
        (found,) = world.engine.passes._passes.values()
        fragments = 30_000 // 5 // 194 + 1
        assert found.begins_s - world.desk.clock.now_s > (fragments - 4) * air_s(7, 197) / 0.01
        await world.live(300, AIR)
        assert set(world.states().values()) == {rows.INSTALLED}
        print(f"rows={sum(one.command[0] == ota.DATA for one in world.cast)} fragments={fragments}")

    play(tmp_path, story, nodes=3)


@pytest.mark.parametrize(
    ("room", "most", "size"), [(222, 222, 194), (99, 60, 32), (99, 20, 71), (40, 40, 0), (512, 1 << 16, 240)]
)
def test_a_fragment_fits_what_carries_it(room: int, most: int, size: int) -> None:
    assert Way(False, room, most=most).fragment == size


def test_each_row_of_a_broadcast_is_charged_to_its_campaign(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin(making.Choice(), PLAN, release(2, size=30_000))
        charged = []
        frame = world.engine.frame

        async def watched(found: Pass) -> Frame | None:
            budget, now_s = world.engine._budget(1), world.desk.clock.monotonic()
            before_s = budget.left_s(now_s)
            made = await frame(found)
            if made is not None:
                charged.append((before_s - budget.left_s(now_s), air_s(made.sf, len(made.command))))
            return made

        world.engine.frame = watched  # type: ignore[method-assign]
        await world.live(100, AIR)
        assert len(charged) > 20
        assert [spent_s for spent_s, _ in charged] == pytest.approx([air for _, air in charged])

    play(tmp_path, story, nodes=3)


def test_a_campaign_that_is_paused_names_no_further_pass(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin(making.Choice(), PLAN, release(2, size=30_000))
        operations = CampaignOperations(
            world.desk.store, world.desk.registry, world.desk.clock, world.engine.reload
        )
        asked, question = [], world.engine.question

        async def paused_between_two(found: Pass) -> Frame | None:
            first = await question(found)
            await operations._do_pause({"campaign": 1}, BY)
            second = await question(found)
            assert first is not None
            assert second is not None
            asked.extend((first.command[0], second.command[0]))
            return second

        world.engine.question = paused_between_two  # type: ignore[method-assign]
        await world.live(20, AIR)
        assert asked == [update.NEXT, ota.STATUS], "a campaign that is paused has no further pass"

    play(tmp_path, story, nodes=3)
