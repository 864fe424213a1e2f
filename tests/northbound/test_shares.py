"""One station that is not confirmed holds its share of the window and no more; where nothing is confirmed, the window
follows the time-out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway import northbounds
from gateway.limits import UNACKED_WINDOW_MAX
from gateway.northbound.shares import station_share, unacked_window
from gateway.northbound.sl651_settings import SlSettings
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.sl_centre import SlCentre
from tests.northbound.hj_rig import START_S, ZONE, Rig, in_world
from tests.northbound.sl_rig import SlRig

HOUR = 3600
SITES = {0x20 + index: f"s{index}" for index in range(6)}


@pytest.mark.parametrize("timeout_s", [1, 2, 5, 10])
def test_a_backlog_that_nobody_confirms_drains_at_two_thousand_rows_a_second(timeout_s: int) -> None:
    """Three quarters of the window, each row for the time-out."""
    assert unacked_window(timeout_s) * 3 / 4 / timeout_s >= 2000


def test_a_time_out_that_makes_a_backlog_slow_is_told_by_the_check() -> None:
    assert [northbounds._drains(timeout_s) for timeout_s in (1, 10, 20)] == ["", "", ""]
    assert northbounds._drains(600) == "; a backlog goes at 40 rows a second (timeout_s)"


def test_the_window_is_bounded_whatever_the_time_out() -> None:
    assert max(unacked_window(timeout_s) for timeout_s in range(1, 601)) == UNACKED_WINDOW_MAX


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize("stations", [1, 2, 3, 64])
def test_one_of_several_stations_holds_at_most_half_of_the_window(stations: int, confirmed: bool) -> None:
    """Fresh rows included, and those that one turn of the loop found at once."""
    sites = {f"s{index}": f"{index:010d}" for index in range(stations)}
    settings = SlSettings("x", "h", 1, 1, sites, ord("Q"), "03E8", ZONE, confirmed=confirmed)
    for window, share in ((settings.window, settings.share), (64, station_share(64, stations))):
        assert share == window if stations == 1 else 2 * share <= window // 2


class Watch:
    """The most that was under way of each station, and of all."""

    def __init__(self, rig: Rig) -> None:
        self.most: Counter[str] = Counter()
        self.window = 0
        runner = rig.runner
        send = runner._send

        def watched(session: object, row: object) -> None:
            send(session, row)  # type: ignore[arg-type]
            self.window = max(self.window, len(runner._in_flight))
            for site, number in runner._under_way.items():
                self.most[site] = max(self.most[site], number)
            held = Counter(sent.row.key.site for sent in runner._in_flight.values())
            assert +runner._under_way == held

        runner._send = watched  # type: ignore[method-assign]


async def outage(rig: Rig, faults: object) -> None:
    """A day away: of s0, what is owed is the oldest and the most."""
    faults.refuses = True  # type: ignore[attr-defined]
    for minute in range(0, 24 * 60, 5):
        rig.give(START_S - 26 * HOUR + 60 * minute, rig.set_of(60 * minute), node=0x20)
    await pass_s(5)
    for minute in range(0, 4 * 60, 5):
        for node in SITES:
            rig.give(START_S - 4 * HOUR + 60 * minute, rig.set_of(60 * minute), node=node)
    await pass_s(120)
    faults.refuses = False  # type: ignore[attr-defined]


def test_a_station_that_no_centre_confirms_holds_up_no_other(tmp_path: Path) -> None:
    """SL 651 M2: each of its reports takes forty seconds to be given up, and it has three hundred of them."""

    async def story() -> None:
        centre = SlCentre()
        rig = SlRig(tmp_path, centre, sites=SITES)
        rig.open()
        watch = Watch(rig)
        await outage(rig, centre.faults)
        silent = rig.stations()["s0"]
        centre.faults.mute_for = lambda arrival: arrival.key[0] == silent
        await pass_s(60)
        came = Counter(station for station, _, _ in centre.rows)
        others = [came[address] for site, address in rig.stations().items() if site != "s0"]
        assert min(others) >= 48, "four hours of the others, within a minute"
        assert watch.most["s0"] <= 2 * rig.sl.share
        for address in set(rig.stations().values()) - {silent}:
            order = [key[2] for key in centre.rows if key[0] == address and key[1] == "32"]
            assert order == sorted(order)
        centre.faults.mute_for = lambda arrival: False
        await pass_s(2 * HOUR)
        assert rig.runner.status()["backlog"] == 0
        assert len(centre.rows) == len({arrival.key for arrival in centre.arrivals})
        await rig.close()

    in_world(story())


def test_a_station_that_a_platform_does_not_confirm_holds_up_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, sites=SITES, in_flight=16, told={"minute_s": 600})
        rig.open()
        watch = Watch(rig)
        await outage(rig, platform.faults)
        silent = "MNs0"
        platform.faults.mute_for = lambda arrival: arrival.key[0] == silent
        await pass_s(60)
        came = Counter(key[0] for key in platform.rows)
        others = [came[f"MN{site}"] for site in SITES.values() if site != "s0"]
        assert min(others) >= 24, "four hours of the others, within a minute"
        assert watch.most["s0"] <= 8
        await rig.close()

    in_world(story())


def test_rows_that_nobody_confirms_keep_their_bound_their_order_and_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SL 651 M1, its window made small: what a broken connection had not outlived is sent again."""
    monkeypatch.setattr("gateway.northbound.shares.UNACKED_WINDOW_MIN", 16)
    monkeypatch.setattr("gateway.northbound.shares.UNACKED_ROWS_PER_S", 2.4)

    async def story() -> None:
        centre = SlCentre()
        centre.faults.mute = True
        rig = SlRig(tmp_path, centre, sites=SITES, confirmed=False)
        rig.open()
        assert rig.sl.window == 32
        watch = Watch(rig)
        await outage(rig, centre.faults)
        await pass_s(35)
        delivered = rig.runner.counters["delivered"]
        assert 0 < delivered <= 3 * 32
        under_way = {sent.row.key for sent in rig.runner._in_flight.values()}
        assert under_way
        centre.break_lines()
        await pass_s(1200)
        assert rig.runner.status()["backlog"] == 0
        assert watch.window <= 32
        assert max(watch.most.values()) <= 16
        came = Counter(arrival.key for arrival in centre.arrivals)
        assert sum(number > 1 for number in came.values()) == len(under_way), "those that were under way"
        for address in rig.stations().values():
            first = dict.fromkeys(key[2] for key in came if key[0] == address and key[1] == "32")
            assert list(first) == sorted(first)
        await rig.close()

    in_world(story())
