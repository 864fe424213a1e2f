"""Rows of reports: nothing is lost and nothing stands twice, whatever the far side and the power do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import audit
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from tests.northbound.hj_rig import GOOD_SET, MN, START_S, KillingExecutor, Rig, in_world


def queued(rig: Rig) -> int:
    return sum(one.queued for one in rig.store.read(lambda c: audit.balance(c, ("river-city",))))


def test_minute_and_hour_rows_come_once_with_the_begin_of_their_period(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await rig.live(2 * 3600)
        await pass_s(90)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 7200)
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 7200)
        assert len(platform.arrivals) == len(platform.rows) == 2 + 12
        assert not any(arrival.resent for arrival in platform.arrivals)
        assert platform.rows[MN, hj212.HOUR, "20260922010000"].at_s >= 7200 + 60, "not before its grace"
        assert queued(rig) == 0
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())


def test_a_reading_is_owed_until_each_of_its_rows_is_confirmed(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        platform.faults.mute_for = lambda arrival: arrival.key[1] == hj212.HOUR
        rig = Rig(tmp_path, platform)
        rig.open()
        await rig.live(1800)
        assert queued(rig) == 30
        await pass_s(1800 + 3600)
        assert len(rig.got(hj212.MINUTE)) == 3
        assert queued(rig) == 30, "the hour is not confirmed"
        platform.faults.mute_for = lambda arrival: False
        await pass_s(120)
        assert queued(rig) == 0
        balance = rig.store.read(lambda c: audit.balance(c, ("river-city",)))
        assert all(one.holds for one in balance)
        assert sum(one.delivered for one in balance) == 30
        await rig.close()

    in_world(story())


def test_a_late_reading_sends_its_rows_again_with_the_mark(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await rig.live(3600)
        await pass_s(1800)
        before = len(platform.arrivals)
        rig.give(START_S + 30, (1500, 700, *GOOD_SET[2:]))
        await pass_s(200)
        assert [(one.key[1:], one.resent) for one in platform.arrivals[before:]] in (
            [((hj212.MINUTE, "20260922000000"), True), ((hj212.HOUR, "20260922000000"), True)],
            [((hj212.HOUR, "20260922000000"), True), ((hj212.MINUTE, "20260922000000"), True)],
        )
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        assert platform.rows[MN, hj212.HOUR, "20260922000000"].items["w01001-Min"] == "7.00"
        # One that changes no figure is not worth a message.
        before = len(platform.arrivals)
        rig.give(START_S + 40, (None,) * 8, (9,) * 8)
        await pass_s(200)
        assert len(platform.arrivals) == before
        assert queued(rig) == 0
        await rig.close()

    in_world(story())


def test_a_reading_that_comes_while_its_row_is_under_way_is_told_afterwards(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"minute_s": 0})
        rig.open()
        await rig.live(3600)
        platform.faults.ack_after_s = 5.0
        await pass_s(62)
        assert rig.runner.status()["in_flight"] == 1
        rig.give(START_S + 30, (1500, 700, *GOOD_SET[2:]))
        await pass_s(3)
        assert rig.runner.status()["in_flight"] == 1, "it was looked at before the confirmation came"
        assert queued(rig) == 61
        await pass_s(200)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        assert [arrival.resent for arrival in platform.arrivals] == [False, True]
        assert queued(rig) == 0
        await rig.close()

    in_world(story())


def test_readings_that_trickle_in_late_do_not_send_their_row_each_time(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"minute_s": 0})
        rig.open()
        await pass_s(2 * 3600)
        for minute in range(30):
            rig.give(START_S + 60 * minute, rig.set_of(START_S + 60 * minute))
            await pass_s(10)
        await pass_s(120)
        assert len(platform.arrivals) <= 300 / 60 + 1
        assert all(arrival.resent for arrival in platform.arrivals)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        await rig.close()

    in_world(story())


def test_a_row_is_not_told_anew_of_a_part_of_its_readings(tmp_path: Path) -> None:
    """Readings leave the store after their days; one that comes then for an old hour changes nothing."""

    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"minute_s": 0})
        rig.open()
        await rig.live(3600)
        assert rig.runner.held()[2].count() == 60
        await pass_s(100)
        assert rig.runner.held()[1] == 61
        assert not rig.runner.held()[2]
        before = dict(platform.rows)
        await rig.store.write(lambda writer: writer.execute("DELETE FROM reading WHERE id <= 30"))
        rig.give(START_S + 30, (1500, 700, *GOOD_SET[2:]))
        await pass_s(200)
        assert platform.rows == before
        assert rig.runner.counters["incomplete"] == 1
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())


def test_a_platform_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        near, far = HjPlatform(), HjPlatform()
        far.faults.refuses = True
        rig = Rig(tmp_path, near)
        rig.open()
        other = rig.another("province", far)
        running = asyncio.ensure_future(other.run())
        await rig.live(3600)
        await pass_s(100)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        books = rig.store.read(lambda c: audit.balance(c, ("river-city", "province")))
        assert [(one.northbound, one.delivered, one.queued) for one in books] == [
            ("province", 0, 60), ("river-city", 60, 0),
        ]  # fmt: skip
        far.faults.refuses = False
        await pass_s(10)
        assert {key: one.items for key, one in far.rows.items()} == {
            key: one.items for key, one in near.rows.items()
        }
        assert all(one.resent for one in far.arrivals)
        running.cancel()
        await rig.close()

    in_world(story())


def outage(folder: Path, hours: int, *, nodes: int = 1) -> dict[str, float]:
    """The platform is away for so long, then back; what became of it."""

    async def story() -> dict[str, float]:
        platform = HjPlatform()
        sites = {0x12: "lishui-3", **{0x20 + index: f"site{index}" for index in range(nodes - 1)}}
        rig = Rig(folder, platform, sites=sites)
        rig.open()
        streams = [asyncio.ensure_future(rig.live((hours + 5) * 3600, node=node)) for node in sites]
        await pass_s(2 * 3600 + 90)
        fresh = len(platform.arrivals)
        assert not any(arrival.resent for arrival in platform.arrivals)
        platform.faults.refuses = True
        platform.break_lines()
        await pass_s(hours * 3600)
        platform.faults.refuses = False
        back_s = asyncio.get_running_loop().time()
        await asyncio.gather(*streams)
        await pass_s(90)
        until_s = rig.clock.unix_ms() // 1000 - 80
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, until_s)
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, until_s)
        assert len(platform.arrivals) == len(platform.rows), "no row stands twice"
        after = platform.arrivals[fresh:]
        backlog = [one for one in after if one.resent]
        assert backlog
        closed_s = {one.key: rig_due_s(one.key) for one in after}
        assert all(one.resent == (closed_s[one.key] < back_s) for one in after), (
            "RF is for what was due meanwhile"
        )
        delay_s = max(one.at_s - closed_s[one.key] for one in after if not one.resent)
        drained_s = max(one.at_s for one in backlog) - back_s
        assert delay_s < 5
        assert queued(rig) == 0
        await rig.close()
        return {
            "rows": len(platform.rows), "resent": len(backlog), "fresh_delay_s": round(delay_s, 2),
            "drained_s": round(drained_s, 1), "records_per_s": round(len(sites) * hours * 60 / drained_s),
        }  # fmt: skip

    def rig_due_s(key: tuple[str, str, str]) -> float:
        day, hour, minute = int(key[2][6:8]) - 22, int(key[2][8:10]), int(key[2][10:12])
        return day * 86_400 + hour * 3600 + minute * 60 + (3600 if key[1] == hj212.HOUR else 600) + 60

    result: dict[str, float] = in_world(story())
    print(" ".join(f"{name}={value}" for name, value in result.items()))
    return result


def test_an_outage_loses_nothing_and_fresh_rows_do_not_wait_for_its_backlog(tmp_path: Path) -> None:
    outage(tmp_path, 8)


@pytest.mark.soak
def test_72_hours_of_eight_stations_over_a_real_connection(tmp_path: Path) -> None:
    """How fast rows are computed, sent, confirmed and noted on this machine, simulator included."""
    from gateway.northbound.wire import open_tcp

    async def story() -> None:
        platform = HjPlatform()
        sites = {0x20 + index: f"s{index}" for index in range(8)}
        rig = Rig(tmp_path, platform, sites=sites, report={"grace_s": 0})
        looked = asyncio.Event()
        rig.open()
        rig.settings.host, rig.settings.port = "127.0.0.1", await platform.serve()
        rig.sender._open = open_tcp
        platform.faults.refuses = True
        for minute in range(72 * 60):
            for node in sites:
                rig.give(START_S - 80 * 3600 + 60 * minute, rig.set_of(60 * minute), node=node)
        rig.store.on_commit.append(lambda batch: looked.set())
        while rig.runner._next_reading <= len(rig.given):
            looked.clear()
            await looked.wait()
        platform.faults.refuses = False
        began_s = asyncio.get_running_loop().time()
        while len(platform.rows) < 8 * 72 * 7:
            platform.arrived.clear()
            await platform.arrived.wait()
        took_s = asyncio.get_running_loop().time() - began_s
        print(
            f"rows={len(platform.rows)} records={len(rig.given)} records_per_s={len(rig.given) / took_s:.0f}"
        )
        await rig.close()
        await platform.close()

    asyncio.run(story())


@pytest.mark.soak
def test_an_outage_of_72_hours(tmp_path: Path) -> None:
    outage(tmp_path, 72, nodes=8)


@pytest.mark.parametrize("before", [False, True])
def test_a_kill_at_each_commit_loses_nothing(tmp_path: Path, before: bool) -> None:
    kills = 0
    for at in range(1, 60, 7):
        kills += killed_at(tmp_path / f"{at}", at, before)
    assert kills >= 8


@pytest.mark.soak
@pytest.mark.parametrize("before", [False, True])
def test_a_kill_at_every_commit_loses_nothing(tmp_path: Path, before: bool) -> None:
    kills = 0
    while killed_at(tmp_path / f"{kills}", kills + 1, before):
        kills += 1
    print(f"kills={kills} before_commit={before}")
    assert kills > 120


def killed_at(folder: Path, at: int, before: bool) -> bool:
    """An hour of a station, in which the gateway is killed at that commit and started again; whether it was."""
    folder.mkdir()

    async def story() -> bool:
        platform = HjPlatform()
        rig = Rig(folder, platform)
        executor = KillingExecutor(at, before=before)
        rig.open(executor)

        async def hour() -> None:
            await rig.live(3600)
            await pass_s(200)

        stream = asyncio.ensure_future(hour())
        killed = asyncio.ensure_future(executor.killed.wait())
        await asyncio.wait({stream, killed}, return_when=asyncio.FIRST_COMPLETED)
        was_killed = killed.done()
        executor.disarm()
        if was_killed:
            await rig.close(kill=True)
            platform.break_lines()
            rig.open()
        await stream
        await pass_s(200)  # a kill in its last moment
        killed.cancel()
        assert rig.failure() is None
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600), f"killed at {at}"
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 3600), f"killed at {at}"
        seen: set[object] = set()
        for arrival in platform.arrivals:
            assert arrival.resent or arrival.key not in seen, f"killed at {at}: a copy without the mark"
            seen.add(arrival.key)
        assert queued(rig) == 0
        await rig.close()
        return was_killed

    killed: bool = in_world(story())
    return killed
