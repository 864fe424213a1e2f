"""Commands are carried out once, never late, and answered for; time is given only by a clock that is in
time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.commands import OPERATIONS
from gateway.errors import CommandError
from gateway.registry import By
from gateway.store import Store
from protocols.wire import codes, messages
from tests.gateway.desk import BY, HandClock, desk
from tests.gateway.downlink_rig import (
    IDENTIFY,
    NODE,
    Heard,
    Rig,
    Wire,
    no_time,
    result,
    status,
    turn,
)


def test_a_command_answers_the_uplink_it_follows_and_ends_with_its_result(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add(IDENTIFY, 5, ttl_s=60)
            office.clock.pass_s(10.5)
            await rig.hear(status(77, link=rig.wire))
            [command] = rig.wire.got(messages.Command)
            assert (command.answers, command.op, command.args) == (77, IDENTIFY, 5)
            assert command.ttl_s == 49
            assert rig.state(number) == "open"
            await rig.hear(result(command.command_id, link=rig.wire))
            assert rig.state(number) == "done"
            office.clock.pass_s(5)
            await rig.hear(status(78, link=rig.wire))
            assert len(rig.wire.got(messages.Command)) == 1

    asyncio.run(scenario())


def test_a_command_is_noted_as_sent_before_it_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add()
            noted: list[object] = []
            send = rig.wire.send

            def watched(address: int, frame: bytes) -> bool:
                noted.append(office.commands.reports(number)[0].sent_ms)
                return send(address, frame)

            rig.wire.send = watched  # type: ignore[method-assign]
            await no_time(rig)
            await rig.hear(status(link=rig.wire))
            assert noted == [office.clock.now_ms]

    asyncio.run(scenario())


def test_a_command_is_never_sent_after_its_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add(ttl_s=60)
            office.clock.pass_s(59.1)  # less than a whole second is left: the node could only begin late
            await rig.hear(status(link=rig.wire))
            office.clock.pass_s(1)
            await office.commands.expire()
            await rig.hear(status(link=rig.wire))
            assert rig.wire.got(messages.Command) == []
            assert rig.state(number) == "expired"

    asyncio.run(scenario())


def test_a_jump_of_the_wall_clock_moves_no_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add(ttl_s=60)
            office.clock.now_ms -= 3600_000
            office.clock.now_s += 61
            await office.commands.expire()
            assert rig.state(number) == "expired"
            number = await rig.add(ttl_s=60)
            office.clock.now_ms += 7200_000
            await office.commands.expire()
            assert rig.state(number) == "open"

    asyncio.run(scenario())


def test_a_command_without_an_answer_ends_as_unanswered_and_a_late_result_still_counts(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add(ttl_s=30)
            await rig.hear(status(link=rig.wire))
            [command] = rig.wire.got(messages.Command)
            office.clock.pass_s(31)
            await office.commands.expire()
            assert rig.state(number) == "unanswered"
            await rig.hear(result(command.command_id, messages.EXPIRED, link=rig.wire, detail="too busy"))
            report = office.commands.reports(number)[0]
            assert (report.state, report.detail) == ("expired_on_node", "too busy")
            await rig.hear(result(command.command_id, messages.DONE, link=rig.wire))
            assert rig.state(number) == "expired_on_node"

    asyncio.run(scenario())


def test_one_command_at_a_time_in_order_and_again_only_after_a_pause(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await rig.add(args=1)
            await rig.add(args=2)
            for piv in range(5):
                await rig.hear(status(piv, link=rig.wire))
            assert [command.args for command in rig.wire.got(messages.Command)] == [1]
            office.clock.pass_s(limits.COMMAND_RESEND_S)
            await rig.hear(status(9, link=rig.wire))
            first, again = rig.wire.got(messages.Command)
            assert (again.args, again.command_id, again.answers) == (1, first.command_id, 9)
            await rig.hear(result(first.command_id, link=rig.wire))
            second = rig.wire.got(messages.Command)[-1]
            assert second.args == 2
            assert second.command_id > first.command_id

    asyncio.run(scenario())


def test_command_ids_grow_even_when_the_database_is_an_old_backup(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        ids = []
        for folder in ("today", "restored"):
            (tmp_path / folder).mkdir()
            with desk(tmp_path / folder, clock) as office:
                await office.enrol(NODE)
                rig = Rig(office)
                await rig.add()
                await rig.hear(status(link=rig.wire))
                ids.append(rig.wire.got(messages.Command)[0].command_id)
            clock.pass_s(60)
        assert ids[1] > ids[0]

    asyncio.run(scenario())


def test_open_commands_survive_a_restart_with_what_is_left_of_their_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(NODE)
            await office.commands.add(NODE, IDENTIFY, 1, 60, BY)
            short = await office.commands.add(NODE, IDENTIFY, 2, 10, BY)
        clock.pass_s(20)
        with desk(tmp_path, clock) as office:
            assert await office.commands.recover() == 1
            rig = Rig(office)
            await rig.hear(status(link=rig.wire))
            [command] = rig.wire.got(messages.Command)
            assert (command.args, command.ttl_s) == (1, 40)
            assert rig.state(short) == "expired"

    asyncio.run(scenario())


@pytest.mark.parametrize("stepped_s", [-86400, 0, 30])
def test_after_a_restart_without_a_trusted_clock_no_command_goes_out(tmp_path: Path, stepped_s: int) -> None:
    """How long the gateway was off is not known then, so whether it is too late is not either."""

    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(NODE)
            number = await office.commands.add(NODE, IDENTIFY, 1, 60, BY)
        clock.now_ms += stepped_s * 1000
        clock.is_synchronised = False
        with desk(tmp_path, clock) as office:
            assert await office.commands.recover() == 0
            rig = Rig(office)
            await rig.hear(status(link=rig.wire))
            assert rig.wire.got(messages.Command) == []
            assert rig.state(number) == "expired"

    asyncio.run(scenario())


def test_a_deadline_never_grows_by_a_clock_set_back_during_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HandClock()
        with desk(tmp_path, clock) as office:
            await office.enrol(NODE)
            await office.commands.add(NODE, IDENTIFY, 1, 60, BY)
        clock.now_ms -= 86_400_000
        with desk(tmp_path, clock) as office:
            await office.commands.recover()
            rig = Rig(office)
            await rig.hear(status(link=rig.wire))
            assert [command.ttl_s for command in rig.wire.got(messages.Command)] == [60]

    asyncio.run(scenario())


def test_results_of_no_command_of_ours_are_counted_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            number = await rig.add()
            await rig.hear(result(1, link=rig.wire))
            assert rig.downlink.counters["stray_result"] == 1
            assert rig.state(number) == "open"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("op", "args", "ttl_s", "why", "told"),
    [
        (OPERATIONS["identify"], None, 60, "test", "identify takes 0 to 65535 seconds"),
        (OPERATIONS["set-interval"], 86401, 60, "test", "set interval takes 1 to 86400 seconds"),
        (OPERATIONS["reboot"], 1, 60, "test", "takes null"),
        (OPERATIONS["reboot"], None, 0, "test", "Allowed are 1 to 65535 s"),
        (OPERATIONS["reboot"], None, 65536, "test", "Allowed are 1 to 65535 s"),
        (OPERATIONS["reboot"], None, 60, " ", "say why"),
        (OPERATIONS["reboot"], None, 60, "x" * 201, "say why in 1 to 200 characters"),
    ],
)
def test_a_command_that_is_not_allowed_is_refused_before_it_is_kept(
    tmp_path: Path, op: int, args: int | None, ttl_s: int, why: str, told: str
) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            with pytest.raises(CommandError, match=told):
                await office.commands.add(NODE, op, args, ttl_s, By("wang", why))
            assert office.commands.reports() == []

    asyncio.run(scenario())


def test_commands_for_strangers_and_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            with pytest.raises(CommandError, match="node 0099 is not registered"):
                await office.commands.add(0x99, IDENTIFY, 1, 60, BY)
            for _ in range(limits.COMMANDS_OPEN_MAX):
                await office.commands.add(NODE, IDENTIFY, 1, 60, BY)
            with pytest.raises(CommandError, match="open commands already"):
                await office.commands.add(NODE, IDENTIFY, 1, 60, BY)

    asyncio.run(scenario())


def test_a_command_goes_at_once_to_a_node_that_was_heard_just_now_and_may_soon_sleep(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await rig.hear(status(77, link=rig.wire))
            office.clock.pass_s(limits.COMMAND_FRESH_S)
            first = await rig.add()
            await rig.settle()
            [command] = rig.wire.got(messages.Command)
            assert command.answers == 77
            assert not rig.wire.got(messages.Ping)
            await rig.hear(result(command.command_id, link=rig.wire))
            assert rig.state(first) == "done"
            office.clock.pass_s(limits.COMMAND_FRESH_S + 0.1)
            await rig.add()
            await rig.settle()
            assert len(rig.wire.got(messages.Command)) == 1, "what was heard is too old to be answered"

    asyncio.run(scenario())


def test_every_command_and_its_end_is_in_the_audit_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            await office.commands.add(NODE, codes.REBOOT, None, 10, By("li", "stuck since noon"))
            office.clock.pass_s(11)
            await office.commands.expire()
            rows = office.store.read(
                lambda db: db.execute("SELECT who, why, action, target FROM audit ORDER BY id").fetchall()
            )
            assert rows[1:] == [
                ("li", "stuck since noon", "command.send", "0012"),
                ("gateway", "end of a command", "command.expired", "0012"),
            ]

    asyncio.run(scenario())


# --- pings --------------------------------------------------------------------------------------


def test_a_node_that_listens_is_pinged_while_a_command_waits_but_not_too_often(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await turn(rig)
            await rig.hear(status(link=rig.wire))
            await turn(rig)
            assert rig.wire.got(messages.Ping) == []
            await rig.add()
            for _ in range(4):
                await turn(rig)
                office.clock.pass_s(limits.PING_S / 2)
            assert len(rig.wire.got(messages.Ping)) == 2
            rig.wire.listens = False
            office.clock.pass_s(limits.PING_S)
            await turn(rig)
            assert len(rig.wire.got(messages.Ping)) == 2

    asyncio.run(scenario())


def test_pings_that_nobody_answers_become_rare_and_are_as_before_once_the_node_is_heard(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await rig.hear(status(link=rig.wire))
            await office.wishes.set(NODE, {"interval_s": 900}, BY)
            for _ in range(24 * 3600):
                rig.downlink._ping(NODE)
                office.clock.pass_s(1)
            silent = len(rig.wire.got(messages.Ping))
            assert 24 * 12 <= silent < 24 * 13
            await rig.hear(status(link=rig.wire))
            for _ in range(4):
                rig.downlink._ping(NODE)
                office.clock.pass_s(limits.PING_S / 2)
            assert len(rig.wire.got(messages.Ping)) == silent + 2

    asyncio.run(scenario())


# --- time ---------------------------------------------------------------------------------------


def test_a_node_is_given_the_time_after_boot_when_it_is_off_and_every_few_hours(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            now = lambda: office.clock.now_ms // 1000  # noqa: E731
            hello = messages.Hello(0, 1, 1, 1, "river", "virtual", "1", 1, 1)

            async def given(heard: Any) -> bool:
                before = len(rig.wire.got(messages.Time))
                await rig.hear(heard)
                return len(rig.wire.got(messages.Time)) > before

            office.clock.now_ms += 345
            assert await given(Heard(rig.wire, hello, 5))
            [time] = rig.wire.got(messages.Time)
            assert (time.answers, time.seconds, time.millis) == (5, 1_790_000_000, 345)
            assert not await given(status(time=now(), tq=messages.SYNCHRONISED, link=rig.wire))
            assert not await given(status(time=now() + 2, tq=messages.SYNCHRONISED, link=rig.wire))
            assert await given(status(time=now() + 3, tq=messages.SYNCHRONISED, link=rig.wire))
            assert await given(status(time=now(), tq=messages.RTC_HOLDOVER, link=rig.wire))
            assert await given(status(time=7, tq=messages.UNSYNCHRONISED, link=rig.wire))
            assert not await given(status(time=now() + 999, tq=messages.GNSS, link=rig.wire))
            office.clock.pass_s(limits.TIME_PERIOD_S + 1)
            assert await given(status(time=now(), tq=messages.SYNCHRONISED, link=rig.wire))
            assert await given(Heard(rig.wire, hello, 6))

    asyncio.run(scenario())


def test_no_time_is_given_while_the_gateways_own_clock_is_not_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await no_time(rig)
            await rig.hear(status(time=7, tq=messages.UNSYNCHRONISED, link=rig.wire))
            assert rig.wire.sent == []
            office.clock.is_synchronised = True
            await rig.hear(status(time=7, tq=messages.UNSYNCHRONISED, link=rig.wire))
            assert len(rig.wire.got(messages.Time)) == 1

    asyncio.run(scenario())


def test_what_cannot_be_sent_is_counted_and_tried_at_the_next_uplink(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            rig.wire.is_up = False
            await rig.hear(status(link=rig.wire))
            rig.wire.is_up = True
            no_piv = status(link=rig.wire)
            no_piv.channel.has_piv = False
            await rig.hear(no_piv)
            assert (rig.downlink.counters["not_sent"], rig.wire.sent) == (2, [])
            await rig.hear(status(link=rig.wire))
            assert len(rig.wire.got(messages.Time)) == 1

    asyncio.run(scenario())


# --- who is heard -------------------------------------------------------------------------------


def test_a_recorded_first_hello_draws_no_downlink(tmp_path: Path) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await rig.add()
            await no_time(rig)
            await rig.hear(status(link=rig.wire))
            sent = len(rig.wire.sent)
            office.clock.pass_s(limits.COMMAND_RESEND_S)
            thief = Wire("thief")
            hello = messages.Hello(0, 1, 1, 1, "river", "virtual", "1", 1, 1)
            await rig.hear(Heard(thief, hello, 0, new=False))
            await turn(rig)
            assert thief.sent == []
            assert len(rig.wire.sent) > sent

    asyncio.run(scenario())


def test_a_store_that_refuses_stops_no_acks_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        with desk(tmp_path) as office:
            await office.enrol(NODE)
            rig = Rig(office)
            await rig.add()
            rig.downlink.attach(lambda heard: [(rig.wire, NODE, messages.encode(messages.Ack(7, (), None)))])

            async def refuse(self: Store, work: object) -> None:
                raise CommandError("disk full")

            monkeypatch.setattr(Store, "write", refuse)
            await no_time(rig)
            await rig.hear(status(link=rig.wire))
            assert [type(message) for message in rig.wire.sent] == [messages.Ack]
            assert rig.downlink.counters["errors"] == 1
            monkeypatch.undo()
            office.clock.pass_s(limits.COMMAND_RESEND_S)
            await rig.hear(status(link=rig.wire))
            assert len(rig.wire.got(messages.Command)) == 1

    asyncio.run(scenario())
