"""Records taken before the gateway's clock was synchronised get their time once it is, and are delivered with it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import audit
from gateway.boots import Boots
from gateway.clock_watch import ClockWatch
from gateway.errors import StoreError
from gateway.fingerprints import of_reading
from gateway.intervals import Intervals
from gateway.northbound import mqtt
from gateway.northbound.runner import Destination, OnConfirm, Runner
from gateway.notices import Notices
from gateway.records import NO_PIV, Reading
from gateway.restamp import Restamp
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from protocols.wire import readings
from protocols.wire.messages import unsynced_time
from tests.gateway.desk import HandClock
from tests.gateway.device_desk import DeviceDesk, device_desk, on_a_loop
from tests.northbound.hj_rig import GOOD_SET, START_S, Rig, in_world

TRUE_S = 1_790_000_000
LOG = structlog.get_logger()


class LostClock(HandClock):
    """As after a power cut: the wall clock begins in 2015, the machine's monotonic one at 20 s."""

    def __init__(self) -> None:
        super().__init__(1_420_070_400)
        self.now_s = 20.0
        self.is_synchronised = False
        self._true_ahead_s = TRUE_S - self.now_s

    def true_s(self) -> float:
        return self.now_s + self._true_ahead_s

    def synchronise(self) -> None:
        self.now_ms = int(self.true_s() * 1000)
        self.is_synchronised = True


def restamp_of(desk: DeviceDesk, boot: str = "boot-a", *northbounds: Any) -> Restamp:
    return Restamp(desk.store, desk.clock, Boots(desk.store), LOG, lambda: northbounds, boot=boot)


async def committed(desk: DeviceDesk) -> None:
    await desk.store.write(lambda connection: None)


async def take(desk: DeviceDesk, clock: LostClock, count: int, every_s: float = 7.3) -> list[float]:
    """Sets of one device; their true times."""
    device = desk.devices.get("level-1")
    times = []
    for number in range(count):
        clock.pass_s(every_s)
        times.append(clock.true_s())
        desk.accept.accept(device, {"level": float(number)})
    await committed(desk)
    return times


def times_of(desk: DeviceDesk) -> list[tuple[int, int, int]]:
    return [(one.seq, one.time, one.tq) for one in desk.store.readings(0, 10_000, 10_000)]


def assert_placed(desk: DeviceDesk, times: list[float], first: int = 1) -> None:
    found = [row for row in times_of(desk) if row[0] >= first][: len(times)]
    for (_, placed_s, tq), true_s in zip(found, times, strict=True):
        assert abs(placed_s - true_s) <= 1.0
        assert tq == 3


@on_a_loop
async def test_sets_of_devices_are_placed_when_the_clock_is_synchronised(tmp_path: Path) -> None:
    clock = LostClock()
    with device_desk(tmp_path, clock=clock) as desk:
        restamp = restamp_of(desk)
        await restamp.begin()
        times = await take(desk, clock, 10)
        assert all(tq == 3 and abs(at - TRUE_S) > 1e8 for _, at, tq in times_of(desk))
        bodies = desk.store.read(lambda c: c.execute("SELECT body, print FROM reading").fetchall())
        await restamp.look()
        assert restamp.counters["restamped"] == 0
        clock.pass_s(3600)
        clock.now_ms += 86_400_000  # somebody sets it by hand, wrong
        times += await take(desk, clock, 5)
        clock.pass_s(100)
        clock.synchronise()
        await restamp.look()
        assert_placed(desk, times)
        assert restamp.counters["restamped"] == 15
        after = desk.store.read(lambda c: c.execute("SELECT body, print FROM reading").fetchall())
        assert after[:10] == bodies
        await take(desk, clock, 1)
        assert times_of(desk)[-1][2] == 1
        await restamp.look()
        assert restamp.counters["restamped"] == 15
    with device_desk(tmp_path, clock=clock) as desk:
        restamp = restamp_of(desk)
        await restamp.begin()
        assert restamp.counters == {"restamped": 0, "never_placed": 0}
        assert_placed(desk, times)


@on_a_loop
async def test_kill_9_loses_no_offset_and_a_restart_of_the_machine_does(tmp_path: Path) -> None:
    clock = LostClock()
    with device_desk(tmp_path, clock=clock) as desk:
        await restamp_of(desk).begin()
        times = await take(desk, clock, 3)
    with device_desk(tmp_path, clock=clock) as desk:  # the daemon again, in the same boot of the machine
        restamp = restamp_of(desk)
        await restamp.begin()
        times += await take(desk, clock, 3)
        clock.synchronise()
        await restamp.look()
        assert_placed(desk, times)
    again = LostClock()
    with device_desk(tmp_path, clock=again) as desk:
        restamp = restamp_of(desk, "boot-b")
        await restamp.begin()
        await take(desk, again, 4)
    third = LostClock()
    with device_desk(tmp_path, clock=third) as desk:
        restamp = restamp_of(desk, "boot-c")
        await restamp.begin()
        assert restamp.counters["never_placed"] == 4
        later = await take(desk, third, 2)
        third.synchronise()
        await restamp.look()
        assert restamp.counters["restamped"] == 2
        assert_placed(desk, later, first=11)
        assert all(abs(at - TRUE_S) > 1e8 for _, at, _ in times_of(desk)[6:10])


@on_a_loop
async def test_a_clock_that_was_right_all_along_moves_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    clock.is_synchronised = False
    with device_desk(tmp_path, clock=clock) as desk:
        restamp = restamp_of(desk)
        await restamp.begin()
        desk.accept.accept(desk.devices.get("level-1"), {"level": 1.0}, at_ms=clock.now_ms - 2500)
        await committed(desk)
        before = times_of(desk)
        assert before[0][1] == clock.now_ms // 1000 - 3
        clock.pass_s(600)
        clock.is_synchronised = True
        await restamp.look()
        assert restamp.counters["restamped"] == 0
        assert times_of(desk) == before


@on_a_loop
async def test_events_of_the_gateway_are_placed_too(tmp_path: Path) -> None:
    clock = LostClock()
    with device_desk(tmp_path, clock=clock) as desk:
        restamp = restamp_of(desk)
        await restamp.begin()
        Notices(desk.store, clock, desk.epochs).keep(0x12, 100, 1, 90)
        told_s = clock.true_s()
        await committed(desk)
        clock.pass_s(50)
        clock.synchronise()
        await restamp.look()
        (event,) = desk.store.events(0, 10)
        assert abs(event.time - told_s) <= 1.0
        assert event.tq == 3


@on_a_loop
async def test_records_of_nodes_without_a_clock_are_placed_anew(tmp_path: Path) -> None:
    """They were placed by the gateway's clock, which was as lost as theirs."""
    clock = LostClock()
    with device_desk(tmp_path, clock=clock) as desk:
        boots = Boots(desk.store)
        watch = ClockWatch(clock, LOG)
        watch.on_jump.append(boots.clock_jumped)
        restamp = Restamp(desk.store, clock, boots, LOG, before=watch.look, boot="boot-a")
        await restamp.begin()
        ledger = desk.store.add_epoch(0x12, 77, bytes(8), None, 1).ledger
        since_boot_s, booted_s = 40, clock.true_s()
        clock.pass_s(since_boot_s)
        time = unsynced_time(5, since_boot_s)
        placed = boots.place(0x12, time, clock.unix_ms())
        assert abs(placed - TRUE_S) > 1e8
        body = readings.encode(readings.schema(1), 3, (0,), (GOOD_SET,), None)
        fingerprint = of_reading(ledger.row_id, 1, body, time, 1)
        ledger.offer(1, fingerprint)
        desk.store.next_reading += 1
        desk.store.batch.reading_rows.append(
            (1, ledger.row_id, 1, NO_PIV, fingerprint, 0, clock.now_ms, placed, time, 3, 1, None, body)
        )
        desk.store.batch.readings.append(Reading(1, ledger, 1, 0, clock.now_ms, placed, 3, 1, GOOD_SET, None))
        await committed(desk)
        clock.pass_s(7)
        clock.synchronise()
        await restamp.look()
        ((_, at, tq),) = times_of(desk)
        assert (tq, abs(at - (booted_s + since_boot_s)) <= 1.0) == (3, True)


# ---- what is delivered -----------------------------------------------------------------------------------------------


class City:
    """A far side in memory that confirms when it is told to."""

    window = 8

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.unconfirmed: list[int] = []
        self.confirms = True
        self._on_confirm: OnConfirm = lambda token, taken: None
        self._token = 0

    async def connect(self, on_confirm: OnConfirm) -> City:
        self._on_confirm = on_confirm
        return self

    def publish(self, destination: Destination, payload: bytes) -> int:
        self.messages.append(json.loads(payload))
        self._token += 1
        self.unconfirmed.append(self._token)
        if self.confirms:
            asyncio.get_running_loop().call_soon(self.confirm)
        return self._token

    def confirm(self) -> None:
        tokens, self.unconfirmed = self.unconfirmed, []
        for token in tokens:
            self._on_confirm(token, True)

    async def lost(self) -> str:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    def abort(self) -> None: ...


def northbound(desk: DeviceDesk, city: City) -> Runner:
    def text(record: Any, site: str, resent: bool) -> bytes:
        return mqtt.format(record, site, resent=resent, devices=desk.devices)

    places = desk.office.registry.place_of
    return Runner("city", desk.store, text, city, places, desk.clock, random.Random(1))


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn."""
    async with asyncio.timeout(30):
        turn = asyncio.Event()
        while not is_so():
            turn.clear()
            asyncio.get_running_loop().call_later(0.001, turn.set)
            await turn.wait()


async def drained(runner: Runner, city: City, count: int) -> None:
    def is_done() -> bool:
        status = runner.status()
        return len(city.messages) >= count and not status["in_flight"] and not status["backlog"]

    await until(is_done)


@on_a_loop
async def test_what_was_delivered_with_an_estimate_comes_again_with_its_time(tmp_path: Path) -> None:
    clock = LostClock()
    city = City()
    with device_desk(tmp_path, clock=clock) as desk:
        await desk.devices.begin(desk.office.registry)
        runner = northbound(desk, city)
        running = asyncio.ensure_future(runner.run())
        restamp = restamp_of(desk, "boot-a", runner)
        await restamp.begin()
        times = await take(desk, clock, 6)
        await drained(runner, city, 6)
        city.confirms = False
        times += await take(desk, clock, 3)  # these are under way when the clock is set
        await until(lambda: len(city.messages) == 9)
        clock.synchronise()
        await restamp.look()
        city.confirms = True
        city.confirm()
        await drained(runner, city, 18)
        assert len(city.messages) == 18, "each once more"
        last = {one["seq"]: one for one in city.messages}
        assert sorted(last) == list(range(1, 10))
        for seq, true_s in enumerate(times, start=1):
            assert abs(last[seq]["time"] - true_s) <= 1.0
            assert last[seq]["resent"] is True
            assert last[seq]["tq"] == 3
        runner._save(force=True)
        await committed(desk)
        (balance,) = desk.store.read(lambda c: audit.balance(c, ("city",)))
        assert balance.holds
        assert balance.delivered == 9
        running.cancel()


@on_a_loop
async def test_what_comes_back_with_its_time_is_not_overtaken_by_what_was_read_behind_it(
    tmp_path: Path,
) -> None:
    clock = LostClock()
    city = City()
    with device_desk(tmp_path, clock=clock) as desk:
        await desk.devices.begin(desk.office.registry)
        restamp = restamp_of(desk)
        await restamp.begin()
        await take(desk, clock, 12)
        clock.synchronise()
        await take(desk, clock, 6)
        runner = northbound(desk, city)
        city.confirms = False
        running = asyncio.ensure_future(runner.run())
        await until(lambda: len(city.messages) == city.window)  # the others are read, and wait for room
        await restamp_of(desk, "boot-a", runner).look()
        city.confirms = True
        city.confirm()
        await drained(runner, city, 18 + city.window)
        first_seen = list(dict.fromkeys(one["seq"] for one in city.messages))
        assert first_seen == list(range(1, 19))
        assert len(city.messages) == 18 + city.window
        running.cancel()


class Killed:
    """A northbound beside which the power goes."""

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        raise StoreError("killed")


@on_a_loop
async def test_a_kill_between_the_times_and_the_telling_is_made_good(tmp_path: Path) -> None:
    clock = LostClock()
    city = City()
    with device_desk(tmp_path, clock=clock) as desk:
        await desk.devices.begin(desk.office.registry)
        runner = northbound(desk, city)
        running = asyncio.ensure_future(runner.run())
        restamp = restamp_of(desk, "boot-a", Killed())
        await restamp.begin()
        times = await take(desk, clock, 4)
        await drained(runner, city, 4)
        runner._save(force=True)
        await committed(desk)
        clock.synchronise()
        with pytest.raises(StoreError):
            await restamp.look()
        running.cancel()
    with device_desk(tmp_path, clock=clock) as desk:
        runner = northbound(desk, city)
        running = asyncio.ensure_future(runner.run())
        await restamp_of(desk, "boot-a", runner).begin()
        await drained(runner, city, 8)
        for one, true_s in zip(city.messages[4:], times, strict=True):
            assert abs(one["time"] - true_s) <= 1.0
        running.cancel()


def test_rows_of_reports_move_with_their_readings(tmp_path: Path) -> None:
    """Half an hour of sets by a clock that was a day behind: the right rows are sent, the wrong ones not again."""

    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        for _ in range(30):
            now_s = rig.clock.unix_ms() // 1000
            rig.give(now_s - 86_400, rig.set_of(now_s))
            await pass_s(60)
        await pass_s(600)
        wrong = set(rig.got(hj212.MINUTE))
        assert len(wrong) == 3
        arrivals = len(platform.arrivals)
        await rig.store.write(lambda c: c.execute("UPDATE reading SET boot_time = time, time = time + 86400"))
        rows = Intervals()
        rows.add(1, 30)
        await rig.runner.restamped(
            rows, (START_S - 86_400, START_S - 86_400 + 1740), (START_S, START_S + 1740)
        )
        rig.given = [given._replace(time_s=given.time_s + 86_400) for given in rig.given]
        await pass_s(3600)
        expected = rig.expected(hj212.MINUTE, 600, START_S + 1800)
        assert {key: rig.got(hj212.MINUTE)[key] for key in expected} == expected
        assert set(rig.got(hj212.MINUTE)) == wrong | set(expected)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600) | {
            key: row for key, row in rig.got(hj212.HOUR).items() if key[2].startswith("20260921")
        }
        again = [one.key for one in platform.arrivals[arrivals:] if one.key in wrong]
        assert not again
        assert sum(one.queued for one in rig.store.read(lambda c: audit.balance(c, ("river-city",)))) == 0
        await rig.close()

    in_world(story())
