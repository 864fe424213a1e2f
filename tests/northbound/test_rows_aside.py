"""A station that is left out of the configuration, by mistake or for a while: what is owed of it waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway import audit, report_rows
from gateway.intervals import Intervals
from gateway.limits import REPORT_KEPT_S
from gateway.report_rows import Key, Mark, Row
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from tests.northbound.hj_rig import SITE, START_S, Rig, in_world

STAYS = "010001"


def books(rig: Rig) -> list[tuple[int, int, int, bool]]:
    found = rig.store.read(lambda c: audit.balance(c, ("river-city",)))
    return [(one.node, one.delivered, one.queued, one.holds) for one in found]


async def outage(rig: Rig, platform: HjPlatform) -> None:
    """An hour of two stations that nobody takes."""
    platform.faults.refuses = True
    rig.open()
    await asyncio.gather(rig.live(3600), rig.live(3600, node=0x13))
    await pass_s(100)
    await rig.close()
    platform.faults.refuses = False


async def left_out(folder: Path) -> Rig:
    """A rig in which the rows of an hour of one station are aside: it is no longer in the configuration."""
    platform = HjPlatform()
    rig = Rig(folder, platform, sites={0x12: SITE, 0x13: STAYS})
    await outage(rig, platform)
    rig.sites = {0x13: STAYS}
    rig.open()
    await pass_s(100)
    assert rows_aside(rig) == 7
    return rig


def rows_aside(rig: Rig) -> int:
    query = "SELECT count(*) FROM report_row WHERE state = 2"
    return int(rig.store.read(lambda c: c.execute(query).fetchone())[0])


def test_what_is_owed_of_a_station_that_is_left_out_comes_when_it_is_named_again(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, sites={0x12: SITE, 0x13: STAYS})
        await outage(rig, platform)
        everything = dict(rig.sites)
        rig.sites = {0x13: STAYS}
        rig.open()
        await pass_s(100)
        assert {key[0] for key in platform.rows} == {f"MN{STAYS}"}
        assert rig.runner.status()["backlog"] == 0
        assert books(rig) == [(0x12, 0, 60, True), (0x13, 60, 0, True)], "not delivered, whatever is reported"
        await rig.close(kill=True)
        rig.open()
        await pass_s(100)
        assert books(rig) == [(0x12, 0, 60, True), (0x13, 60, 0, True)]
        await rig.close()
        rig.sites = everything
        rig.open()
        await pass_s(100)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 3600)
        assert len(platform.arrivals) == len(platform.rows), "each once"
        assert all(one.resent for one in platform.arrivals)
        assert books(rig) == [(0x12, 60, 0, True), (0x13, 60, 0, True)]
        assert rig.store.read(lambda c: report_rows.sites_aside(c, "river-city")) == []
        await rig.close()

    in_world(story())


def test_what_is_aside_leaves_when_confirmed_rows_do(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await left_out(tmp_path)
        rig.clock.step_s(REPORT_KEPT_S + 7200)
        await pass_s(130)
        assert rows_aside(rig) == 0
        await rig.close()

    in_world(story())


def test_day_data_gives_way_after_minute_data_though_its_number_is_lower(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path, HjPlatform())
        rig.open_store(None)
        periods_s = {hj212.DAY: 86_400, hj212.MINUTE: 600, hj212.HOUR: 3600}
        marks = {
            Mark(Key(SITE, kind, 1000 * (START_S - period_s)), 1000 * START_S, 0): 1
            for kind, period_s in periods_s.items()
        }
        left = []
        await rig.store.write(lambda c: report_rows.mark_rows(c, "river-city", marks, 1000 * START_S))
        for _ in marks:
            await rig.store.write(lambda c: report_rows.give_up(c, "river-city", [SITE], 1))
            rows = rig.store.read(lambda c: c.execute("SELECT kind FROM report_row").fetchall())
            left.append({kind for (kind,) in rows})
        assert left == [{hj212.HOUR, hj212.DAY}, {hj212.DAY}, set()]
        rig.store.close()

    in_world(story())


def test_a_station_that_has_room_again_goes_on_where_it_was_passed_over(tmp_path: Path) -> None:
    """Of rows that were read ahead: a later one of it would overtake the one before."""

    async def story() -> None:
        rig = Rig(tmp_path, HjPlatform())
        rig.open()
        keys = [Key(site, hj212.MINUTE, number) for number, site in enumerate((SITE, STAYS, SITE, STAYS))]
        rig.runner._ahead.extend(Row(key, 1, False, 0, 0, b"", 1) for key in keys)
        found = rig.runner._from_ahead(1, (), {SITE})
        found += rig.runner._from_ahead(2, (), set())
        assert [row.key for row in found] == [keys[1], keys[3]], "the index gives those of the other again"
        await rig.close()

    in_world(story())


def test_readings_that_move_in_time_make_nothing_due_of_a_station_that_is_left_out(tmp_path: Path) -> None:
    """There would be nobody to send it to, and the northbound would begin anew over it."""

    async def story() -> None:
        rig = await left_out(tmp_path)
        moved = Intervals()
        moved.add(1, rig.store.last_reading)
        times = START_S, START_S + 3600
        await rig.runner.restamped(moved, times, times)
        await pass_s(100)
        assert rig.failure() is None
        assert rows_aside(rig) == 7
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())
