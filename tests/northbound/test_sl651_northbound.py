"""SL 651 to a centre: every report once, confirmed by its serial number, whatever the line and the power do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import audit, limits
from gateway.northbound.wire import open_tcp
from hil_tests.world.clock import pass_s
from hil_tests.world.sl_centre import Arrival, SlCentre
from protocols.northbound import sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651_body import Element, Series
from tests.northbound.hj_rig import GOOD_SET, START_S, KillingExecutor, in_world
from tests.northbound.sl_rig import ADDED, HOURLY, STATION, TIMED, SlRig, asked

HOUR = 3600


def queued(rig: SlRig) -> int:
    return sum(one.queued for one in rig.store.read(lambda c: audit.balance(c, ("hydrology",))))


def all_is_there(rig: SlRig, until_s: int) -> None:
    assert rig.ph_got(TIMED) == rig.newest_ph(TIMED, 300, until_s)
    assert rig.ph_got(HOURLY) == rig.newest_ph(HOURLY, HOUR, until_s)
    assert rig.centre.bad_frames == []


def world(tmp_path: Path, story: Callable[[SlRig, SlCentre], Any], **settings: Any) -> None:
    async def whole() -> None:
        centre = SlCentre()
        rig = SlRig(tmp_path, centre, **settings)
        rig.open()
        await story(rig, centre)
        assert rig.failure() is None
        await rig.close()

    in_world(whole())


def test_timed_and_hourly_reports_come_once_with_their_moment(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(2 * HOUR + 1)
        await pass_s(60)
        all_is_there(rig, START_S + 2 * HOUR)
        # A reading of 00:00:00 is the one of the report of 00:00.
        assert (STATION, TIMED, "2609220000") in centre.rows
        assert len(centre.arrivals) == len(centre.rows) == 2 + 24 + 2
        assert centre.most_at_once == 1, "mode M2 waits"
        serials = [arrival.serial for arrival in centre.arrivals]
        assert serials == sorted(serials)
        assert centre.rows[STATION, HOURLY, "2609220100"].at_s >= HOUR + 30, "not before its grace"
        assert queued(rig) == 0
        assert len(centre.link_keeps) >= 2 * HOUR // 40

    world(tmp_path, story)


def test_an_hourly_report_has_twelve_levels_and_values_in_their_order(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        for minute in range(1, 61):
            level = None if 20 < minute <= 25 else -50 if minute > 55 else 1000 + minute * 10
            flags = (*[1] * 7, 9) if level is None else None
            rig.give(START_S + minute * 60, (*GOOD_SET[:7], level), flags)
        await pass_s(HOUR + 60)
        elements = centre.rows[STATION, HOURLY, "2609220100"].elements
        assert list(elements) == [0xF5, 0x03, 0x39, 0x46, 0x47, 0x48, 0x49, 0x4B, 0x4C]
        levels = sl651_body.hour_values(elements[0xF5])
        assert levels == [1.05, 1.10, 1.15, 1.20, None, 1.30, 1.35, 1.40, 1.45, 1.50, 1.55, None]
        z = elements[0x39]
        assert sl651_body.number(z.data, z.definition & 7) == -0.05, "with its sign"

    world(tmp_path, story)


def test_what_does_not_count_is_missing_and_what_counts_before_it_is_told(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rig.give(START_S + 60, GOOD_SET)
        rig.give(START_S + 120, (None, *GOOD_SET[1:]), (9, 4, *[1] * 6))
        rig.give(START_S + 400, (None, *GOOD_SET[1:]), (9, 4, *[1] * 6))
        await pass_s(700)
        first, second = centre.rows[STATION, TIMED, "2609220005"], centre.rows[STATION, TIMED, "2609220010"]
        assert (first.number(0x03), first.number(0x46)) == (15.0, 7.8)
        assert (second.number(0x03), second.number(0x46)) == (None, None)
        assert second.elements[0x46].data == b"\xff\xff"

    world(tmp_path, story, hourly=False)


def test_a_value_too_large_for_its_element_is_missing_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rig.give(START_S + 60, (*GOOD_SET[:4], 12_000, *GOOD_SET[5:]))  # 1200 NTU in N(3)
        await pass_s(400)
        assert centre.rows[STATION, TIMED, "2609220005"].number(0x49) is None
        assert "1200 does not fit N(3)" in caplog.text

    world(tmp_path, story)


# --- added reports ------------------------------------------------------------------------------


def added(centre: SlCentre) -> list[tuple[str, float | None]]:
    return [(one.key[2], one.number(0x39)) for one in centre.arrivals if one.key[1] == ADDED]


def test_a_step_and_a_limit_make_an_added_report_at_once(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        for minute, level in enumerate((1000, 1050, 1099, 1110, 1120, 1300, 1310, 1290)):
            rig.give(START_S + minute * 60 + 1, (*GOOD_SET[:7], level))
            await pass_s(60)
        # 1.099 is no step of 10 cm; 1.110 is, and 1.300 crosses the limit, and it comes back.
        assert added(centre) == [("2609220003", 1.11), ("2609220005", 1.3), ("2609220007", 1.29)]
        first = next(one for one in centre.arrivals if one.key[1] == ADDED)
        assert first.at_s < 3 * 60 + 3
        assert first.elements[0x46].data == bytes.fromhex("0780"), "the whole set"

    world(tmp_path, story, steps={"level": 10.0}, above={"level": 129.5}, timed_s=HOUR)


def test_a_value_that_dances_at_its_limit_is_told_once_a_minute(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        for second in range(300):
            rig.give(START_S + second + 1, (*GOOD_SET[:7], 1400 if second % 2 else 1000))
            await pass_s(1)
        assert 3 <= len(added(centre)) <= 300 // limits.SL_ADDED_GAP_S + 1

    world(tmp_path, story, above={"level": 129.5})


def test_a_limit_that_was_crossed_before_a_start_is_not_told_anew(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rig.give(START_S + 1, (*GOOD_SET[:7], 1400))
        await pass_s(120)
        assert len(added(centre)) == 1
        await rig.close()
        centre.break_lines()
        rig.open()
        rig.give(START_S + 121, (*GOOD_SET[:7], 1401))
        await pass_s(60)
        assert len(added(centre)) == 1
        rig.give(START_S + 181, (*GOOD_SET[:7], 900))
        await pass_s(60)
        assert len(added(centre)) == 2

    world(tmp_path, story, above={"level": 129.5})


# --- a centre that misbehaves -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "value", "counter"),
    [
        ("acks", 2, "foreign_acks"),
        ("ack_after_s", 8.0, ""),
        ("cut_bytes", 3, ""),
        ("noise", b"\x7e\x7e\x00garbage", "bad_frames"),
        ("naks", 3, "naks"),
        ("spoilt_acks", 3, "repeated"),
        ("ends_after", 2, ""),
        ("ack_end", codes.EOT, ""),
        ("ack_end", codes.ACK, ""),
    ],
)
def test_reports_arrive_all_the_same(tmp_path: Path, fault: str, value: Any, counter: str) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        setattr(centre.faults, fault, value)
        await rig.live(HOUR + 1)
        await pass_s(200)
        all_is_there(rig, START_S + HOUR)
        assert queued(rig) == 0
        if counter:
            assert rig.sl_sender.counters[counter] > 0
        if fault in ("acks", "ack_after_s", "cut_bytes", "noise", "ack_end", "naks"):
            assert len(centre.arrivals) == len(centre.rows), "no report came twice"

    world(tmp_path, story)


@pytest.mark.parametrize("fault", ["wrong_serial", "wrong_station", "mute"])
def test_what_confirms_nothing_confirms_nothing(tmp_path: Path, fault: str) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        setattr(centre.faults, fault, True)
        await rig.live(600)
        await pass_s(100)
        assert rig.runner.counters["delivered"] == 0
        assert queued(rig) == 10
        copies = [one.serial for one in centre.arrivals]
        assert copies.count(copies[0]) == 4, "once, and three times again as it was"
        assert centre.connections > 1, "then anew"
        setattr(centre.faults, fault, False)
        await pass_s(HOUR)
        assert rig.ph_got(TIMED) == rig.newest_ph(TIMED, 300, START_S + 600)
        assert queued(rig) == 0

    world(tmp_path, story)


def test_one_report_that_is_always_refused_holds_up_no_other(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        def is_bad(arrival: Arrival) -> bool:
            return arrival.key == (STATION, TIMED, "2609220010")

        centre.faults.nak_for = is_bad
        await rig.live(HOUR)
        await pass_s(100)
        wanted = rig.newest_ph(TIMED, 300, START_S + HOUR)
        missing = wanted.pop((STATION, TIMED, "2609220010"))
        assert rig.ph_got(TIMED) == wanted
        assert 0 < queued(rig) <= 5
        centre.faults.nak_for = lambda arrival: False
        await pass_s(2 * HOUR)
        assert rig.ph_got(TIMED)[STATION, TIMED, "2609220010"] == missing
        assert queued(rig) == 0

    world(tmp_path, story)


def test_several_stations_wait_each_for_its_own(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        centre.faults.ack_after_s = 2.0
        streams = [rig.live(HOUR, node=node) for node in rig.sites]
        await asyncio.gather(*streams)
        await pass_s(200)
        assert len({key[0] for key in centre.rows}) == 5
        all_is_there(rig, START_S + HOUR)
        assert centre.most_at_once == 1

    world(tmp_path, story, sites={0x10 + index: f"s{index}" for index in range(5)})


def test_mode_m1_believes_what_its_connection_outlived(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        centre.faults.mute = True
        await rig.live(HOUR)
        await pass_s(100)
        all_is_there(rig, START_S + HOUR)
        assert queued(rig) == 0
        rig.give(START_S + HOUR + 120)
        await pass_s(300)
        sent = len(centre.arrivals)
        await pass_s(10)
        assert len(centre.arrivals) == sent

    world(tmp_path, story, confirmed=False)


def test_a_silent_line_is_given_up(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(60)
        await pass_s(300)
        before = centre.connections
        centre.faults.deaf = True
        rig.give(START_S + 400)
        await pass_s(600)
        assert centre.connections > before
        centre.faults.deaf = False
        await pass_s(200)
        assert queued(rig) == 0

    world(tmp_path, story, hourly=False)


# --- outage and power ---------------------------------------------------------------------------


def outage(folder: Path, hours: int, *, nodes: int = 1) -> None:
    """The centre is away for so long, then back."""

    async def story(rig: SlRig, centre: SlCentre) -> None:
        streams = [asyncio.ensure_future(rig.live((hours + 3) * HOUR, node=node)) for node in rig.sites]
        await pass_s(HOUR)
        centre.faults.refuses = True
        centre.break_lines()
        await pass_s(hours * HOUR)
        centre.faults.refuses = False
        back_s = asyncio.get_running_loop().time()
        await asyncio.gather(*streams)
        await pass_s(90)
        all_is_there(rig, START_S + (hours + 3) * HOUR)
        assert len(centre.arrivals) == len(centre.rows), "no report came twice"
        assert queued(rig) == 0
        fresh = [one for one in centre.arrivals if due_s(one) > back_s]
        delay_s = max(one.at_s - due_s(one) for one in fresh)
        drained_s = max(one.at_s for one in centre.arrivals if HOUR + 60 < due_s(one) < back_s) - back_s
        rate = round(hours * 60 * nodes / drained_s)
        print(
            f"rows={len(centre.rows)} fresh_delay_s={delay_s:.2f} drained_s={drained_s:.1f} records_per_s={rate}"
        )
        assert delay_s < 5

    world(folder, story, sites={0x12 + index: f"s{index}" for index in range(nodes)}, link_keep_s=600)


def due_s(arrival: Arrival) -> float:
    """When it should go: half a minute after its moment."""
    day, hour, minute = int(arrival.key[2][4:6]) - 22, int(arrival.key[2][6:8]), int(arrival.key[2][8:10])
    return day * 86_400 + hour * HOUR + minute * 60 + 30


def test_an_outage_loses_nothing_and_fresh_reports_do_not_wait_for_its_backlog(tmp_path: Path) -> None:
    outage(tmp_path, 8)


def test_a_centre_that_is_not_there_at_the_start_gets_all_when_it_comes(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(HOUR + 1)
        await pass_s(100)
        assert centre.arrivals == []
        centre.faults.refuses = False
        await pass_s(100)
        all_is_there(rig, START_S + HOUR)
        assert len(centre.arrivals) == len(centre.rows)
        assert queued(rig) == 0

    async def whole() -> None:
        centre = SlCentre()
        centre.faults.refuses = True
        rig = SlRig(tmp_path, centre)
        rig.open()
        await story(rig, centre)
        await rig.close()

    in_world(whole())


@pytest.mark.soak
def test_an_outage_of_72_hours(tmp_path: Path) -> None:
    outage(tmp_path, 72, nodes=8)


@pytest.mark.soak
def test_72_hours_of_eight_stations_over_a_real_connection(tmp_path: Path) -> None:
    """How fast reports are computed, sent, confirmed and noted on this machine, simulator included."""

    async def story() -> None:
        centre = SlCentre()
        rig = SlRig(tmp_path, centre, sites={0x20 + index: f"s{index}" for index in range(8)}, grace_s=0)
        looked = asyncio.Event()
        rig.open()
        rig.sl.host, rig.sl.port = "127.0.0.1", await centre.serve()
        rig.sl_sender._open = open_tcp
        centre.faults.refuses = True
        for minute in range(72 * 60):
            for node in rig.sites:
                rig.give(START_S - 80 * HOUR + 60 * minute, rig.set_of(60 * minute), node=node)
        rig.store.on_commit.append(lambda batch: looked.set())
        while rig.runner._next_reading <= len(rig.given):
            looked.clear()
            await looked.wait()
        centre.faults.refuses = False
        began_s = asyncio.get_running_loop().time()
        while len(centre.rows) < 8 * 72 * 13:
            centre.arrived.clear()
            await centre.arrived.wait()
        took_s = asyncio.get_running_loop().time() - began_s
        rate, rows = len(rig.given) / took_s, len(centre.rows) / took_s
        print(
            f"rows={len(centre.rows)} records={len(rig.given)} rows_per_s={rows:.0f} records_per_s={rate:.0f}"
        )
        await rig.close()
        await centre.close()

    asyncio.run(story())


def test_a_late_reading_sends_its_report_again(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(600)
        await pass_s(1200)
        before = len(centre.arrivals)
        rig.give(START_S + 530, (1500, 700, *GOOD_SET[2:]))  # a newer one was told
        await pass_s(200)
        assert len(centre.arrivals) == before
        rig.give(START_S + 570, (1500, 700, *GOOD_SET[2:]))
        await pass_s(200)
        assert [one.key[1:] for one in centre.arrivals[before:]] == [(TIMED, "2609220010")]
        assert rig.ph_got(TIMED) == rig.newest_ph(TIMED, 300, START_S + 600)

    world(tmp_path, story, hourly=False, timed_s=300)


@pytest.mark.parametrize("before", [False, True])
def test_a_kill_at_each_commit_loses_nothing(tmp_path: Path, before: bool) -> None:
    kills = sum(killed_at(tmp_path / f"{at}", at, before) for at in range(1, 60, 9))
    assert kills >= 5


@pytest.mark.soak
@pytest.mark.parametrize("before", [False, True])
def test_a_kill_at_many_a_commit_loses_nothing(tmp_path: Path, before: bool) -> None:
    kills = sum(killed_at(tmp_path / f"{at}", at, before) for at in range(1, 121, 3))
    print(f"kills={kills}")
    assert kills >= 30


def killed_at(folder: Path, at: int, before: bool) -> bool:
    """An hour of a station, in which the gateway is killed at that commit and started again; whether it was."""
    folder.mkdir()

    async def story() -> bool:
        centre = SlCentre()
        rig = SlRig(folder, centre)
        executor = KillingExecutor(at, before=before)
        rig.open(executor)
        stream = asyncio.ensure_future(rig.live(HOUR + 1))
        killed = asyncio.ensure_future(executor.killed.wait())
        await asyncio.wait({stream, killed}, return_when=asyncio.FIRST_COMPLETED)
        was_killed = killed.done()
        serials = [one.serial for one in centre.arrivals]
        if was_killed:
            await rig.close(kill=True)
            centre.break_lines()
            rig.open()
        await stream
        await pass_s(300)
        killed.cancel()
        assert rig.failure() is None
        all_is_there(rig, START_S + HOUR)
        assert queued(rig) == 0
        later = [one.serial for one in centre.arrivals[len(serials) :]]
        assert not set(serials) & set(later), "a serial number came again after a kill"
        await rig.close()
        return was_killed

    killed: bool = in_world(story())
    return killed


def test_serial_numbers_go_from_65535_to_1(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rig.sl_sender._serials._next = 65_530
        await rig.live(HOUR)
        await pass_s(60)
        serials = [one.serial for one in centre.arrivals]
        assert 0 not in serials
        assert max(serials) <= 65_535
        assert serials[-1] < 100

    world(tmp_path, story, link_keep_s=0)


# --- questions ----------------------------------------------------------------------------------


def test_values_now_and_by_name(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(600)
        centre.ask(codes.QUERY_NOW, STATION)
        centre.ask(codes.QUERY_ELEMENTS, STATION, bytes.fromhex("46123923"))
        centre.ask(codes.QUERY_ELEMENTS, STATION, bytes.fromhex("38"))
        await pass_s(1)
        (now,) = asked(rig, codes.QUERY_NOW)
        assert (now.station, chr(now.kind)) == (STATION, "Q")
        values = {element.id: element for element in now.groups[0].elements}
        assert values[0x46].data == bytes.fromhex(f"{rig.set_of(START_S + 540)[1]:04}")
        two, one = asked(rig, codes.QUERY_ELEMENTS)
        assert [element.id for element in two.groups[0].elements] == [0x46, 0x39]
        assert one.groups[0].elements == (Element(0x38, 0x12, b"\xff\xff"),)
        assert queued(rig) <= 10

    world(tmp_path, story)


def test_a_span_is_answered_in_frames_that_a_centre_can_take(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(2 * HOUR + 1)
        await pass_s(10)
        centre.ask(codes.QUERY_SPAN, STATION, sl651_body.span("26092200", "26092302", 86_400, 0x46, 0x12))
        await pass_s(1)
        (days,) = asked(rig, codes.QUERY_SPAN)
        (series,) = days.groups[0].elements
        at_midnight = f"{rig.set_of(START_S)[1]:04}"
        assert series.data == bytes.fromhex(f"{at_midnight}FFFF"), "the next midnight is to come"
        centre.answers.clear()
        for start, end, step_s in (("26092200", "26092202", HOUR), ("26092200", "26092300", 60)):
            centre.ask(codes.QUERY_SPAN, STATION, sl651_body.span(start, end, step_s, 0x46, 0x12))
        await pass_s(2)
        first, *rest = asked(rig, codes.QUERY_SPAN)
        (series,) = first.groups[0].elements
        assert isinstance(series, Series)
        numbers = [sl651_body.number(value, 2) for value in sl651_body.series_values(series)]
        wanted = [rig.set_of(START_S + hour * HOUR)[1] / 100 for hour in range(3)]
        assert numbers == wanted
        assert first.groups[0].observed == "2609220000"
        assert len(rest) > 2
        ends = [frame.end for frame in centre.answers if frame.function == codes.QUERY_SPAN]
        assert ends == [codes.ETX, *[codes.ETB] * (len(rest) - 1), codes.ETX]
        values = [
            sl651_body.number(value, 2)
            for body in rest
            for value in sl651_body.series_values(body.groups[0].elements[0])
        ]
        assert len(values) == 24 * 60 + 1
        assert values[:121] == [rig.set_of(START_S + minute * 60)[1] / 100 for minute in range(121)]
        assert set(values[121:]) == {None}

    world(tmp_path, story)


def test_the_station_says_what_it_is_and_how_it_is(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        rig.give(START_S, (*GOOD_SET[:7], 2000))
        await pass_s(10)
        for function in (codes.GET_VERSION, codes.GET_STATUS, codes.GET_CLOCK, codes.QUERY_MANUAL):
            centre.ask(function, STATION)
        centre.ask(codes.SET_CLOCK, STATION, sent="260922000100")
        await pass_s(1)
        (version,) = asked(rig, codes.GET_VERSION)
        assert sl651_body.version_of(version) == "tidegate 1"
        (status,) = asked(rig, codes.GET_STATUS)
        told = {
            english: state for _, english, state in sl651_body.status_told(status.groups[0].elements[0].data)
        }
        assert (told["water level"], told["water quality"], told["door"]) == ("alarm", "normal", "closed")
        (clock,) = asked(rig, codes.GET_CLOCK)
        assert clock.sent == "260922000010"
        (clock,) = asked(rig, codes.SET_CLOCK)
        assert clock.sent == "260922000010", "ours stays"
        assert rig.sl_desk.clock_off_s == pytest.approx(-50, abs=0.1)
        (by_hand,) = asked(rig, codes.QUERY_MANUAL)
        assert by_hand.groups[0].elements == (Element(0xF2, 0xF2, b""),)

    world(tmp_path, story, above={"level": 150.0})


def test_what_must_not_be_done_is_not_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(60)
        for function in (
            codes.FACTORY_RESET,
            codes.CLEAR_STORE,
            codes.SET_PASSWORD,
            codes.SET_BASIC,
            0x4E,
            0xEE,
        ):
            centre.ask(function, STATION, bytes.fromhex("0310ABCD"))
        centre.ask(codes.QUERY_NOW, "0099999999")
        centre.ask(codes.QUERY_NOW, STATION, password="0000")
        centre.ask(codes.QUERY_SPAN, STATION, sl651_body.span("26010100", "26123100", 60, 0x46, 0x12))
        centre.ask(codes.QUERY_ELEMENTS, STATION, b"\x7a")
        await pass_s(1)
        assert centre.answers == []
        assert rig.sl_desk.counters == {"questions": 10, "unanswered": 10}
        assert "reset to how it left the factory: no such thing is done here" in caplog.text
        assert "at most 10000 are answered" in caplog.text
        assert "03E8" not in caplog.text

    world(tmp_path, story)


def test_a_flood_of_questions_is_bounded(tmp_path: Path) -> None:
    async def story(rig: SlRig, centre: SlCentre) -> None:
        await rig.live(60)
        for _ in range(500):
            centre.ask(codes.QUERY_NOW, STATION)
        await pass_s(5)
        assert rig.sl_sender.counters["dropped_questions"] > 0
        assert rig.failure() is None

    world(tmp_path, story)
