"""A campaign among nodes that lie, and with a group key that somebody stole."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway import campaign_books, campaign_files, campaign_steps
from gateway import campaign_making as making
from gateway import campaign_rows as rows
from gateway.campaign_books import is_overdue
from gateway.campaign_limits import EVENTS_CHUNK, SESSION_JUMP_MAX, SESSION_MAX, TRIAL_PATIENCE_S, TRIES_MAX
from gateway.campaign_operations import CampaignOperations
from gateway.campaign_reasons import is_failure
from gateway.campaign_talk import Budget
from gateway.errors import CommandError
from gateway.store_settings import StoreSettings
from protocols.wire import ota, outcomes, update
from tests.gateway.campaign_world import AIR, CABLE, EVERYBODY, PLAN, SimNode, World
from tests.gateway.desk import BY, desk
from tests.gateway.release_files import write_release

AT_ONCE = StoreSettings(linger_ms=0)


def play(folder: Path, story: Callable[[World], Awaitable[None]], nodes: int = 5) -> None:
    async def go() -> None:
        with desk(folder, settings=AT_ONCE) as office:
            await story(World(office, 1, nodes))

    asyncio.run(go())


def row_of(world: World, node: SimNode) -> rows.Member:
    found = world.desk.store.read(lambda reader: rows.member(reader, 1, node.address))
    assert found is not None
    return found


ANSWERS = {
    "missing": bytes((ota.MISSING,)) + b"\1\0" + b"\xff" * ota.BITMAP,
    "missing from nowhere": bytes((ota.MISSING,)) + b"\0\0" + b"\xff" * ota.BITMAP,
    "missing from the end": bytes((ota.MISSING,)) + b"\xff\xff" + b"\xff" * ota.BITMAP,
    "has nothing": ota.status(0, 255, ota.NO_MEMORY),
    "has it all": ota.status(9, 0),
    "took it": bytes((ota.SETUP, 0)),
    "refuses all": bytes((ota.SETUP, 255)),
    "comes": bytes((update.COME, 0)),
    "comes in a way that is none": bytes((update.COME, 255)),
    "deleted": bytes((ota.DELETE, 4)),
    "says nothing": b"\xff" * 64,
}


@pytest.mark.parametrize("session", [0, 1, 2, 0xFFFF])
@pytest.mark.parametrize("way", [CABLE, AIR], ids=["cable", "air"])
def test_a_node_that_says_anything_of_any_session_breaks_nothing_for_the_others(
    tmp_path: Path, way: object, session: int
) -> None:
    async def story(world: World) -> None:
        await world.begin()
        liar, *others = world.nodes.values()
        for answer in ANSWERS.values():
            await world.engine.heard(liar.address, 1, session, answer)
            await world.engine.for_node(liar.address, way)  # type: ignore[arg-type]
        await world.live(40, way)  # type: ignore[arg-type]
        assert {world.states()[one.address] for one in others} == {rows.INSTALLED}
        assert {one.release for one in others} == {2}

    play(tmp_path, story)


def test_a_node_that_names_the_last_session_there_is_does_not_use_up_all_of_them(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        liar, *others = world.nodes.values()
        await world.begin()
        for number in (0xFFFF, 0xFFFE, SESSION_JUMP_MAX + 1):
            await world.engine.heard(liar.address, 1, number, b"\x00\x03\x01")
        await world.live(20)
        assert {world.states()[one.address] for one in others} == {rows.INSTALLED}
        assert world.desk.store.read(rows.cursor)[1] < SESSION_JUMP_MAX

    play(tmp_path, story)


def test_nodes_that_name_higher_sessions_again_and_again_leave_half_of_them(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        await world.live(20)

        def name_and_open(connection: sqlite3.Connection) -> None:
            first = rows.session(connection, 1)
            assert first is not None
            for attempt in range(1, 33):
                last = rows.next_session(connection) - 1
                rows.named_session(connection, last + SESSION_JUMP_MAX)
                number = rows.next_session(connection)
                rows.add_session(connection, first._replace(session=number, attempt=attempt))

        await world.desk.store.write(name_and_open)
        left = SESSION_MAX - world.desk.store.read(rows.next_session)
        assert left > SESSION_MAX // 2 - 64

    play(tmp_path, story)


def test_what_nodes_know_of_an_earlier_gateway_is_believed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for node in world.nodes.values():
            node.flash.put(ota.HEAD, (700).to_bytes(2, "little"))
            node.boot()
        await world.begin()
        await world.live(20)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story)


def test_rows_that_somebody_spoils_under_a_stolen_group_key_cost_a_second_transfer_and_no_halt(
    tmp_path: Path,
) -> None:
    """Who has the key of a session sends rows of noise; then the update that came is none, and nodes refuse it."""

    async def story(world: World) -> None:
        await world.begin()
        nodes = world.nodes.values()
        for node in nodes:
            node.health = outcomes.number("payload")
        for _ in range(40):
            await world.turn(way=AIR)
            for node in nodes:
                if node.ending is not None:
                    node.health = outcomes.INSTALLED
        spoilt = {frame.session for frame in world.cast}
        assert spoilt
        assert {row_of(world, node).tries for node in nodes} == {2}
        # Each alone the second time: the thief has the key of the next session, too.
        assert spoilt.isdisjoint(row_of(world, node).session for node in nodes)
        assert set(world.states().values()) == {rows.INSTALLED}

    play(tmp_path, story)


def test_what_is_no_payload_twice_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        for node in world.nodes.values():
            node.health = outcomes.number("payload")
        await world.live(60)
        assert set(world.states().values()) <= {rows.REFUSED, rows.WAITING}
        assert world.campaign() == rows.HALTED

    play(tmp_path, story)


def test_a_release_of_steps_that_say_nothing_is_refused_before_they_are_all_read(tmp_path: Path) -> None:
    """A megabyte of deflate holds a thousand million of them: an hour of a gateway, for one word over the API."""
    folder = write_release(tmp_path)
    given = campaign_files.read_folder(folder)
    nothing = zlib.compressobj(9, zlib.DEFLATED, -10)
    steps = nothing.compress(b"\x01" * 3_000_000) + nothing.flush()
    payload = bytes((1, 10)) + bytes(8) + steps
    given["files"]["full.bin"] = payload.hex()
    given["files"]["full.suit"] = hashlib.sha256(payload).digest().hex()
    with pytest.raises(CommandError, match="0 files at once"):
        campaign_files.parse(given)


@pytest.mark.parametrize("state", rows.NODE_STATES)
def test_a_node_on_trial_is_waited_for_as_long_as_it_may_take_however_short_the_patience(state: str) -> None:
    """It decides within three days; that it was given up before would count as a failure of the release."""
    plan = PLAN._replace(patience_s=60)
    member = rows.Member(1, 0x100, 0, state, "", 2, 1, None, None, None, 0, 0, "", 0, 1000)
    waits_s = [
        s
        for s in (60, 61, 86_400, TRIAL_PATIENCE_S, TRIAL_PATIENCE_S + 1)
        if is_overdue(member, plan, 1000 + s)
    ]
    if state in (*rows.FINAL, rows.GONE):
        assert waits_s == []
    else:
        is_on_trial = state in (rows.RECEIVED, rows.TRYING)
        assert waits_s[0] == (TRIAL_PATIENCE_S + 1 if is_on_trial else 61)


def test_patience_begins_anew_with_each_step_forward_and_not_with_each_word(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async def go_by(seconds: int) -> str:
            for _ in range(seconds // 50):
                world.desk.clock.pass_s(50)
                await world.engine.tick()
            return world.states()[node.address]

        (node,) = world.nodes.values()
        await world.begin(EVERYBODY, PLAN._replace(patience_s=300))
        assert await go_by(250) == rows.WAITING
        await world.engine.heard(node.address, 1, 0, update.I_AM)
        assert await go_by(250) == rows.ASKED
        await world.engine.heard(node.address, 1, 0, update.I_AM)  # which is nothing new
        assert await go_by(100) == rows.GONE

    play(tmp_path, story, nodes=1)


@pytest.mark.parametrize("lie", ["what it lacks", "what it runs"])
def test_one_that_goes_to_and_fro_makes_no_progress(tmp_path: Path, lie: str) -> None:
    """It would hold its wave up for good: with one row less and one more, or with one program and another."""

    async def story(world: World) -> None:
        liar, *others = world.nodes.values()
        await world.begin(making.Choice(canary=(liar.address,)), PLAN._replace(patience_s=3600))
        for turn in range(100):
            world.desk.clock.pass_s(50)
            await world.engine.for_node(liar.address, CABLE)
            session = row_of(world, liar).session or 0
            release = turn % 2 if lie == "what it runs" else 1
            answer = ota.status(9, 5 + turn % 2) if turn else bytes((ota.SETUP, 0))
            await world.engine.heard(liar.address, release, session, answer)
            await world.engine.tick()
        assert world.engine.books.campaigns[1].wave == 1
        await world.live(20)
        assert {world.states()[one.address] for one in others} == {rows.INSTALLED}

    play(tmp_path, story)


def test_one_that_forgets_unasked_is_offered_it_anew_and_not_for_ever(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        liar, *others = world.nodes.values()
        await world.begin()
        for _ in range(2 * TRIES_MAX):
            for answer in (update.I_AM, bytes((ota.SETUP, 0)), bytes((ota.DELETE, 0))):
                world.desk.clock.pass_s(60)
                await world.engine.for_node(liar.address, CABLE)
                await world.engine.heard(liar.address, 1, row_of(world, liar).session or 0, answer)
        assert (row_of(world, liar).state, row_of(world, liar).reason) == (rows.REFUSED, "unsteady-link")
        await world.live(20)
        assert {world.states()[one.address] for one in others} == {rows.INSTALLED}

    play(tmp_path, story)


def test_a_gateway_that_stood_still_has_waited_for_nobody(tmp_path: Path) -> None:
    """A machine that slept, or a disk that took a week for a write: its clock went on, and nobody was spoken to."""

    async def story(world: World) -> None:
        await world.begin(EVERYBODY, PLAN._replace(patience_s=300))
        for _ in range(3):
            world.desk.clock.pass_s(7 * 86_400)
            await world.engine.tick()
        assert set(world.states().values()) == {rows.WAITING}

    play(tmp_path, story, nodes=2)


def test_records_that_were_looked_at_are_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the ending of an earlier campaign would be taken for that of a later one, after a restart."""
    last, asked = [7], []

    def endings(reader: object, after: int, upto: int) -> list[tuple[int, int, int]]:
        asked.append((after, upto))
        return []

    monkeypatch.setattr(campaign_books, "_last_event", lambda reader: last[0])
    monkeypatch.setattr(campaign_books, "_endings", endings)

    async def story(world: World) -> None:
        await world.begin()
        await world.engine.look()
        world.start()
        await world.engine.look()
        last[0] = EVENTS_CHUNK + 9
        await world.engine.look()
        assert asked == [(0, 7), (7, EVENTS_CHUNK + 7), (EVENTS_CHUNK + 7, EVENTS_CHUNK + 9)]

    play(tmp_path, story, nodes=2)


def test_who_receives_is_told_of_an_abort_at_its_next_word_and_forgets(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        first, second = world.nodes.values()
        second.is_there = False
        await world.uplink(first)
        assert world.states() == {first.address: rows.RECEIVING, second.address: rows.WAITING}
        desk = world.desk
        await CampaignOperations(desk.store, desk.registry, desk.clock, world.engine.reload)._do_abort(
            {"campaign": 1}, BY
        )
        first.in_pass = False
        second.is_there = True
        sent = len(world.said)
        for _ in range(3):
            world.desk.clock.pass_s(60)
            for node in (first, second):
                await world.uplink(node)
        assert first.receiver.setup is None
        assert [(node, one.command) for node, one in world.said[sent:]] == [
            (first.address, bytes((ota.DELETE, 0)))
        ]
        assert second.receiver.session == 0

    play(tmp_path, story, nodes=2)


RECEIVES = rows.Member(1, 0x100, 0, rows.RECEIVING, "", 9, 1, 3, 5, 40, 60, 0, "", 0, 1000)


def test_what_was_chosen_for_another_program_than_it_runs_now_is_given_up() -> None:
    """A technician flashed it meanwhile: the delta starts from a base that is gone."""
    same = campaign_steps.on_status(RECEIVES, 1, 5, ota.status(20, 30))
    assert (same.state, same.session, same.deficit) == (rows.RECEIVING, 5, 30)
    other = campaign_steps.on_status(RECEIVES, 4, 5, ota.status(20, 30))
    assert (other.state, other.session, other.payload, other.ran, other.rows) == (
        rows.ASKED,
        None,
        None,
        4,
        0,
    )


def test_an_ending_of_another_release_and_a_second_one_change_nothing() -> None:
    for outcome in range(len(outcomes.OUTCOMES)):
        assert campaign_steps.on_ending(RECEIVES, 8, outcome) == RECEIVES
        after = campaign_steps.on_ending(RECEIVES, 9, outcome)
        assert after != RECEIVES
        if after.state in rows.FINAL:
            for second in range(len(outcomes.OUTCOMES)):
                assert campaign_steps.on_ending(after, 9, second) == after
            assert campaign_steps.on_status(after, 1, 5, ota.status(20, 30)) == after


def test_when_all_sessions_are_used_up_it_is_said(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        await world.desk.store.write(lambda connection: rows.note_session(connection, 0xFFFE))
        (node,) = world.nodes.values()
        await world.engine.heard(node.address, 1, 0, update.I_AM)
        (setup,) = await world.engine.for_node(node.address, CABLE)
        assert setup.session == 0xFFFF
        await world.engine.heard(node.address, 1, 0xFFFF, bytes((ota.SETUP, ota.NOT_WANTED)))
        with pytest.raises(CommandError, match="all 65535 sessions"):
            await world.engine.for_node(node.address, CABLE)

    play(tmp_path, story, nodes=1)


def test_nothing_is_said_of_a_campaign_that_is_paused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.begin()
        desk, (node,) = world.desk, world.nodes.values()
        asked = CampaignOperations(desk.store, desk.registry, desk.clock, world.engine.reload)
        await asked._do_pause({"campaign": 1}, BY)
        for _ in range(3):
            await world.turn(60)
        assert world.said == []
        await asked._do_resume({"campaign": 1}, BY)
        await world.live(10)
        assert world.states()[node.address] == rows.INSTALLED

    play(tmp_path, story, nodes=1)


def test_air_is_saved_for_an_hour_and_no_longer() -> None:
    budget = Budget(0.05, 1000.0)
    assert budget.left_s(1000.0) == 0
    assert budget.left_s(1000.0 + 600) == pytest.approx(30)
    assert budget.left_s(1000.0 + 30 * 86_400) == pytest.approx(180)
    budget.spend(1000.0 + 30 * 86_400, 200)
    assert budget.wait_s(1000.0 + 30 * 86_400, 10) == pytest.approx(600)


@pytest.mark.parametrize("vanished", rows.NODE_STATES)
def test_who_vanished_on_trial_speaks_against_the_release_and_nobody_else_who_vanished(vanished: str) -> None:
    assert is_failure(rows.GONE, "lost", vanished) == (vanished in (rows.RECEIVED, rows.TRYING))
