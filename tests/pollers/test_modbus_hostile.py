"""Devices and media that do what no standard has: each rule on a virtual line, or on sockets where sockets matter."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from pathlib import Path

import pytest

from gateway import limits, log
from gateway.pollers.modbus_bus import Bus
from gateway.pollers.modbus_client import Client
from gateway.pollers.modbus_device import DOWN, UP
from gateway.pollers.modbus_gate import Gate
from gateway.pollers.modbus_ports import parse
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    ANSWERED,
    LOST,
    OTHER_LENGTH,
    UNSENT,
    Device,
    Job,
    Outcome,
    Point,
    Request,
    Wait,
)
from hil_tests.world.modbus_line import request_pdu
from hil_tests.world.modbus_slave import Manner, Slave, block, rtu, truth
from hil_tests.world.modbus_street import PtyStreet, TcpStreet
from tests.pollers.test_modbus_real import READ, TRUTH, Desk, Medium, slave, until
from tests.pollers.test_modbus_scheduler import Desk as VirtualDesk
from tests.pollers.test_modbus_scheduler import one, point

LINE = Line(9600, "E", 1)

# --- answers of another length -------------------------------------------------------------------


def test_a_device_that_answers_long_reads_with_what_it_can_is_asked_for_less() -> None:
    """Some answer 40 registers with 16, and no exception."""
    device = Slave(1, holding=block(1, range(100)))
    device.answers_at_most = 16
    desk = one(tuple(point(4 * i) for i in range(10)), device)
    desk.run(60.0)
    assert {index for _at_s, index, _values in desk.values["d1"]} == set(range(10))
    for _at_s, index, values in desk.values["d1"]:
        assert values == (truth(1, 4 * index),)
    assert max(r.quantity for r in desk.requests()[-3:]) <= 16
    assert not desk.faults
    assert not desk.states, "it answers: it is up"


def test_a_single_point_that_is_answered_with_another_length_is_told_and_its_device_is_up() -> None:
    device = Slave(1, holding=block(1, range(100)))
    device.answers_at_most = 1
    desk = one((point(0), point(50, quantity=2)), device)
    desk.run(30.0)
    assert {reason for _name, _points, reason in desk.faults} == {
        "answers with another length than asked for"
    }
    assert {index for _at_s, index, _values in desk.values["d1"]} == {0}
    assert not desk.states
    assert len([r for r in desk.requests() if r.address == 50]) <= 31, "as often as a busy one, no more"


def test_a_late_answer_of_another_length_teaches_nothing() -> None:
    met = 0
    for delay_ms in range(600, 2400, 20):
        device = Slave(1, holding=block(1, range(100)))
        desk = one((point(0, period_s=1), point(3, period_s=1), point(90, period_s=1)), device)
        desk.run(4.5)
        device.misbehave(Manner("late", delay_s=delay_ms / 1000))
        device.misbehave(Manner("noise", size=0))  # the probe is answered
        device.misbehave(Manner("silence"))  # and all that is heard by the read after it is the late one
        desk.run(20.0)
        met += sum(job.kind == "read" and outcome.note == OTHER_LENGTH for _at_s, job, outcome in desk.jobs)
        assert not desk.scheduler.states[0].refused, f"delay_ms={delay_ms}"
        assert not desk.faults
    assert met, "no delay made one meet a read"


@pytest.mark.parametrize("length", [0, 1, 3, 5, 60])
def test_the_gate_tells_a_whole_answer_of_another_length_from_a_broken_one(length: int) -> None:
    ear = Gate(is_numbered=False)
    ear.expect(READ)
    ear.sent(rtu(READ.unit, request_pdu(READ)))
    frame = rtu(READ.unit, bytes([3, 2 * length]) + bytes(2 * length))
    assert ear.answer(frame) == b""
    assert ear.note == OTHER_LENGTH
    assert ear.answer(frame[:-1]) == b""
    assert ear.note in ("crc", "short")


# --- long late answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["serial", "tcp", "rtu-tcp"])
def test_long_answers_that_come_late_do_not_cost_the_next_device_its_own(kind: str, tmp_path: Path) -> None:
    """Two answers of 255 bytes are more than the library keeps."""

    async def main() -> None:
        slow, quick = Slave(1, holding=block(1, range(300))), Slave(2, holding=block(2, range(300)))
        slow.turnaround_s = quick.turnaround_s = 0.0
        async with Medium(kind, tmp_path, [slow, quick]) as medium:
            await medium.client.open()
            for _ in range(3):
                slow.misbehave(Manner("late", delay_s=0.03))
                quick.misbehave(Manner("late", delay_s=0.06))
                first = await medium.client.exchange(Request(1, 3, 0, 125), 0.01)
                assert first.kind != ANSWERED
                second = await medium.client.exchange(Request(2, 3, 0, 125), 5.0)
                assert second.values == tuple(truth(2, address) for address in range(125))

    asyncio.run(main())


def test_a_serial_server_that_queues_never_has_its_answers_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer comes after its time-out; in the end it speeds up, and all is well."""

    async def main() -> None:
        async with Medium("rtu-tcp", tmp_path, [slave(7), slave(8)]) as medium:
            assert isinstance(medium.street, TcpStreet)
            medium.street.queue_s = 0.12
            async with Desk(medium, [7, 8], timeout_s=0.05) as desk:
                await until(lambda: all(state.counters["silent"] >= 2 for state in desk.scheduler.states))
                medium.street.queue_s = 0.0
                await until(lambda: all(len(desk.values[name]) >= 6 for name in ("d7", "d8")))
                desk.check()

    monkeypatch.setattr(limits, "MODBUS_LATE_S", 0.5)
    monkeypatch.setattr(limits, "MODBUS_PROBE_MIN_S", 0.1)
    asyncio.run(main())


# --- media that end --------------------------------------------------------------------------------


def test_one_unit_whose_requests_end_the_connection_does_not_keep_the_others_from_theirs(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        slaves = [slave(unit) for unit in (7, 8, 9)]
        async with Medium("tcp", tmp_path, slaves) as medium, Desk(medium, [7, 8, 9]) as desk:
            assert isinstance(medium.street, TcpStreet)
            await until(lambda: all(len(desk.values[f"d{unit}"]) >= 3 for unit in (7, 8, 9)))
            medium.street.deadly = {8}
            await until(lambda: desk.scheduler.states[1].has_lost_often)
            before = {name: len(values) for name, values in desk.values.items()}
            await until(lambda: all(len(desk.values[name]) > before[name] + 9 for name in ("d7", "d9")))
            assert len(desk.values["d8"]) == before["d8"]
            medium.street.deadly = set()
            await until(lambda: len(desk.values["d8"]) > before["d8"])
            desk.check()

    asyncio.run(main())


def test_a_device_that_ends_each_connection_is_asked_with_growing_pauses_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        told = io.StringIO()
        async with Medium("tcp", tmp_path, [slave(7)]) as medium:
            assert isinstance(medium.street, TcpStreet)
            medium.street.is_full = True
            scheduler = Scheduler(
                Line(),
                [Device("d7", 7, (Point("a", 3, 100, 1, 1.0, 1.0),))],
                time.monotonic(),
                is_numbered=True,
            )
            bus = Bus("full", medium.client, scheduler, log.setup("info", "json", told))
            pauses: list[float] = []

            async def pause(pause_s: float) -> None:
                pauses.append(pause_s)
                if len(pauses) == 12:
                    medium.street.is_full = False  # type: ignore[union-attr]

            monkeypatch.setattr(bus, "_pause", pause)
            running = asyncio.create_task(bus.run())
            await until(lambda: scheduler.counters["points_read"] > 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert pauses[:8] == [min(0.5 * 2**i, limits.MODBUS_RECONNECT_MAX_S) for i in range(8)]
            assert bus.last_error == ""
        events = [json.loads(line)["event"] for line in told.getvalue().splitlines()]
        assert events.count("bus_unavailable") == 1
        assert events.count("bus_lost") == 1
        assert events[-1] == "bus_open"

    asyncio.run(main())


def test_a_port_that_came_back_under_its_link_while_the_old_one_lingers_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """USB renumbers without a hang-up: the old tty stays open and deaf, the link names another."""

    async def main() -> None:
        old = slave(7)
        async with Medium("serial", tmp_path, [old]) as medium, Desk(medium, [7]) as desk:
            await until(lambda: len(desk.values["d7"]) >= 3)
            old.is_dead = True
            link = medium.path
            link.unlink()
            async with Medium("serial", tmp_path, [slave(7)]):
                before = len(desk.values["d7"])
                await until(lambda: len(desk.values["d7"]) > before)
                assert desk.bus.counters["opens"] == 2
                desk.check()

    monkeypatch.setattr(limits, "SERIAL_CHECK_S", 0.1)
    monkeypatch.setattr(limits, "MODBUS_PROBE_MIN_S", 0.1)
    asyncio.run(main())


def test_noise_without_end_fills_nothing_and_the_line_works_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        device = slave()
        async with Medium("serial", tmp_path, [device]) as medium:
            await medium.client.open()
            device.is_dead = True
            asking = asyncio.ensure_future(medium.client.exchange(READ, 0.2))
            await until(lambda: bool(device.requests))
            assert isinstance(medium.street, PtyStreet)
            for _ in range(40):
                medium.street._send(os.urandom(400))
                await asyncio.sleep(0)
            assert (await asking).kind != ANSWERED
            held = medium.client._client.ctx.recv_buffer  # type: ignore[union-attr]
            assert len(held) <= 4 * limits.MODBUS_BUFFER_BYTES_MAX
            device.is_dead = False
            assert (await medium.client.exchange(READ, 5.0)).values == TRUTH

    asyncio.run(main())


# --- writes ----------------------------------------------------------------------------------------


def test_a_write_that_comes_to_the_socket_after_its_deadline_does_not_leave(tmp_path: Path) -> None:
    """Whatever holds the process up between the scheduler's look at the clock and the socket."""

    async def main() -> None:
        device = slave()
        async with Medium("tcp", tmp_path, [device]) as medium:
            await medium.client.open()
            order = Request(7, 6, 101, 1, (77,))
            late = await medium.client.exchange(order, 1.0, time.monotonic() - 0.001)
            assert (late.kind, late.note) == (LOST, UNSENT)
            assert not device.requests
            assert medium.client.is_open, "that is nobody's fault"
            not_after_s = time.monotonic() + 5.0
            assert (await medium.client.exchange(order, 5.0, not_after_s)).kind == ANSWERED
            assert medium.client.left_s <= not_after_s

    asyncio.run(main())


def test_a_write_goes_on_no_connection_in_which_older_bytes_are_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        device = slave()
        async with Medium("tcp", tmp_path, [device]) as medium:
            await medium.client.open()
            monkeypatch.setattr("gateway.pollers.modbus_client._unsent", lambda transport: 12)
            outcome = await medium.client.exchange(Request(7, 6, 101, 1, (77,)), 0.5)
            assert (outcome.kind, outcome.note) == (LOST, UNSENT)
            assert not medium.client.is_open
            assert not device.requests

    asyncio.run(main())


def writing(ttl_s: float = 5.0) -> tuple[Scheduler, list[tuple[str, str]], Job]:
    """A scheduler whose first write is about to leave."""
    from gateway.pollers.modbus_types import Write

    scheduler = Scheduler(LINE, [Device("d1", 1, ())], 0.0)
    results: list[tuple[str, str]] = []
    order = Write("d1", 6, 5, (1,), ttl_s, lambda result, detail: results.append((result, detail)))
    assert not scheduler.write(order, 0.0)
    job = scheduler.next(0.0)
    assert isinstance(job, Job)
    return scheduler, results, job


def test_a_write_of_which_nothing_left_is_told_as_never_sent() -> None:
    scheduler, results, job = writing()
    assert 4.9 < job.not_after_s < 5.0, "its last byte is out before it expires"
    scheduler.done(0.1, job, Outcome(LOST, note=UNSENT))
    again = scheduler.next(0.2)
    assert isinstance(again, Job)
    assert again.kind == "write"
    scheduler.done(0.3, again, Outcome(LOST, note=UNSENT))
    assert isinstance(scheduler.next(5.0), Wait)
    assert results == [("expired", "never sent")]


def test_a_write_that_may_have_left_is_not_told_as_never_sent() -> None:
    scheduler, results, job = writing()
    scheduler.done(0.1, job, Outcome(LOST))
    back = scheduler.next(0.2)
    assert isinstance(back, Job)
    assert back.kind == "read_back"
    scheduler.done(0.3, back, Outcome(LOST))
    scheduler.next(5.0 + limits.MODBUS_READ_BACK_S)
    assert results == [("unknown", "sent, not answered")]


def test_a_device_that_acknowledges_a_write_and_takes_its_time_is_read_back_until_it_is_done() -> None:
    """Exception 5 is no refusal: the device has taken the order."""
    device = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=100),), device)
    desk.run(1.0)
    device.misbehave(Manner("exception", code=5))
    desk.write(1, "d1", 5, (77,), desk.now_s, 5.0)

    def carried_out(now_s: float) -> None:
        device.maps[3][5] = 77

    desk.run(30.0, events=[(6.0, carried_out)])
    assert desk.results[1][:2] == ("done", "")
    seen_s = [at_s for at_s, job, _outcome in desk.jobs if job.kind == "read_back"][-1]
    assert 6.0 <= seen_s <= 6.0 + limits.MODBUS_BUSY_RETRY_S + 0.5
    assert len(desk.requests("write")) == 1
    assert len(desk.requests("read_back")) <= 8, "asked once a second, not all the time"


def test_one_that_acknowledges_and_never_does_it_is_told_as_unknown() -> None:
    device = Slave(1, holding=block(1, range(10)))
    desk = one((point(0, period_s=100),), device)
    desk.run(1.0)
    device.misbehave(Manner("exception", code=5))
    desk.write(1, "d1", 5, (77,), desk.now_s, 2.0)
    desk.run(60.0)
    assert desk.results[1][:2] == (
        "unknown",
        "taken by the device, which wanted its time; not seen to be done",
    )
    assert len(desk.requests("write")) == 1


# --- devices that are started ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "again_s"), [(6, limits.MODBUS_BUSY_RETRY_S), (2, limits.MODBUS_REFUSED_RETRY_S)]
)
def test_what_cannot_be_started_is_not_read_as_if_it_measured(code: int, again_s: float) -> None:
    probe = Slave(1, holding=block(1, range(10)))
    probe.switches, probe.is_measuring = {(3, 0x2500, 0): True}, False
    desk = one((point(0, period_s=5),), probe, warm_up_s=2.0, start=(Request(1, 3, 0x2500, 0),))
    probe.misbehave(Manner("exception", code=code))
    desk.run(again_s - 0.5)
    assert not desk.values["d1"]
    assert desk.faults == [("d1", (0,), f"cannot be started: exception {code}")]
    desk.run(again_s + 20.0)
    assert desk.values["d1"][0][2] == (truth(1, 0),)


# --- many of everything ------------------------------------------------------------------------------


def test_hundreds_of_points_of_a_street_that_was_silent_are_put_off_without_running_out_of_stack() -> None:
    """After noise each device may answer late; with one register a read no request can be told from another."""
    points = tuple(point(2 * i, period_s=1) for i in range(60))
    devices = [Device(f"d{unit}", unit, points, registers_max=1) for unit in range(1, 31)]
    desk = VirtualDesk(devices, [Slave(unit, holding=block(unit, range(200))) for unit in range(1, 31)])
    for state in desk.scheduler.states:
        state.unheard(0.0, Request(state.device.unit, 3, 0, 1))
    assert isinstance(desk.scheduler.next(0.0), Wait)
    desk.run(limits.MODBUS_LATE_S + 5.0)
    assert desk.values


def test_a_probe_that_ends_the_connection_lets_the_others_go_first() -> None:
    points = (point(0, period_s=1),)
    devices = [Device("d1", 1, points), Device("d2", 2, points)]
    scheduler = Scheduler(Line(), devices, 0.0, is_numbered=True)
    scheduler.line_down(0.0)
    asked: list[int] = []
    now_s = 0.0
    while now_s < 30.0:
        scheduler.line_up(now_s)
        step = scheduler.next(now_s)
        if isinstance(step, Job):
            asked.append(step.request.unit)
            now_s += 0.01
            scheduler.done(now_s, step, Outcome(LOST) if step.request.unit == 1 else Outcome(ANSWERED, (1,)))
        else:
            now_s = max(step.until_s, now_s + 0.001)
    assert [state.state for state in scheduler.states] == [DOWN, UP]
    assert asked.count(1) <= 8
    assert asked.count(2) >= 25


def test_a_missing_port_is_told_with_where_to_look(tmp_path: Path) -> None:
    client = Client(parse(f"serial:{tmp_path}/nothing"))
    bus = Bus("b", client, Scheduler(LINE, [], 0.0), log.setup("error", "json"))
    assert not asyncio.run(bus._open())
    assert "no such port" in bus.last_error
    assert "/dev/serial/by-id" in bus.last_error
