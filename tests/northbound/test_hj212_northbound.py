"""HJ 212 to a platform that follows the standard, and to one that does not."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway import report_rows
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from protocols.northbound.hj212 import Hj212Error
from protocols.wire.schemas import FAIL, GOOD, MISSING
from tests.northbound.hj_rig import GOOD_SET, MN, SITE, START_S, Rig, in_world

QN = "20260922000000123"


async def hour(rig: Rig) -> None:
    """One hour of a station, and what it takes to report it."""
    await rig.live(3600)
    await pass_s(150)


def check_hour(rig: Rig) -> None:
    assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 3600)
    assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 3600)


# --- what is said -------------------------------------------------------------------------------


def test_an_hour_says_least_mean_and_greatest_of_each_item_and_its_flag(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"minute_s": 0})
        rig.open()
        for minute, conductivity in enumerate((600, 640, 1425)):
            rig.give(START_S + 60 * minute, (1500 + minute, 780, 850, conductivity, 300, 0, 100, 1000))
        await pass_s(3700)
        assert platform.rows[MN, "2061", "20260922000000"].items == {
            "w01001-Min": "7.80", "w01001-Avg": "7.80", "w01001-Max": "7.80", "w01001-Flag": "N",
            "w01003-Min": "30.0", "w01003-Avg": "30.0", "w01003-Max": "30.0", "w01003-Flag": "N",
            "w01009-Min": "8.5", "w01009-Avg": "8.5", "w01009-Max": "8.5", "w01009-Flag": "N",
            "w01010-Min": "15.0", "w01010-Avg": "15.0", "w01010-Max": "15.0", "w01010-Flag": "N",
            "w01014-Min": "600.0", "w01014-Avg": "888.3", "w01014-Max": "1425.0", "w01014-Flag": "N",
            "w21003-Min": "1.00", "w21003-Avg": "1.00", "w21003-Max": "1.00", "w21003-Flag": "N",
        }  # fmt: skip
        await rig.close()

    in_world(story())


def test_flags_items_and_codes_follow_readings_and_settings(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        report = {"items": {"turbidity": "", "orp": "w99001", "ph": "w01901"}, "sample_s": 600, "day": True}
        rig = Rig(tmp_path, platform, report=report, told={"minute_s": 0})
        rig.open()
        flags = (MISSING, FAIL, FAIL, GOOD, GOOD, GOOD, GOOD, GOOD)
        for ten in range(6):
            rig.give(START_S + 600 * ten, (None, 1500, 850, 600, 300, -40, 100, 1000), flags)
        rig.give(START_S + 3600, GOOD_SET)
        await pass_s(86_400 + 100)
        items = platform.rows[MN, "2061", "20260922000000"].items
        assert {name: value for name, value in items.items() if "Flag" in name} == {
            "w01010-Flag": "B", "w01901-Flag": "T", "w01009-Flag": "D", "w01014-Flag": "N", "w21003-Flag": "N",
            "w99001-Flag": "N",
        }  # fmt: skip
        assert items["w99001-Avg"] == "-40"
        assert "w01009-Avg" not in items, "no sample counts"
        second = platform.rows[MN, "2061", "20260922010000"].items
        assert (second["w01009-Avg"], second["w01009-Flag"]) == ("8.5", "B"), "five of six samples never came"
        assert platform.rows[MN, "2031", "20260922000000"].items["w01009-Flag"] == "B"
        await rig.close()

    in_world(story())


def test_real_time_data_is_told_at_once_and_not_afterwards(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, told={"real_time_s": 30})
        rig.open()
        await rig.live(600, every_s=30)
        now = [one for one in platform.arrivals if one.key[1] == hj212.REAL_TIME]
        assert len(now) >= 18
        assert now[0].items["w01001-Rtd"] == f"{rig.set_of(START_S)[1] / 100:.2f}"
        assert now[0].items["w01001-Flag"] == "N"
        assert all(one.at_s % 30 < 2 for one in now), "within two seconds of the interval's end"
        platform.faults.refuses = True
        platform.break_lines()
        await rig.live(1200, every_s=30)
        platform.faults.refuses = False
        await rig.live(120, every_s=30)
        times = sorted(key[2] for key in platform.rows if key[1] == hj212.REAL_TIME)
        gap = [one for one in times if "20260922001100" <= one < "20260922002950"]
        assert gap == [], "real-time data of the outage is in its minute data"
        assert rig.got(hj212.MINUTE).keys() >= rig.expected(hj212.MINUTE, 600, START_S + 1800).keys()
        await rig.close()

    in_world(story())


@pytest.mark.parametrize("one_ack", [False, True])
def test_a_row_of_several_packets_is_confirmed_by_each_or_by_one_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_ack: bool
) -> None:
    monkeypatch.setattr("gateway.northbound.hj212.AREA_MAX", 150)

    async def story() -> None:
        platform = HjPlatform()
        platform.faults.one_ack = one_ack
        rig = Rig(tmp_path, platform)
        rig.open()
        await hour(rig)
        assert platform.packets >= 3 * len(platform.arrivals)
        check_hour(rig)
        assert rig.runner.status()["backlog"] == 0
        assert rig.sender.counters["repeated"] == 0
        await rig.close()

    in_world(story())


# --- what a platform does -----------------------------------------------------------------------


async def slow(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.ack_after_s = 4.0
    await hour(rig)
    assert rig.sender.counters["repeated"] == 0


async def too_late(rig: Rig, platform: HjPlatform) -> None:
    """An answer after the time-out confirms the first sending; the copy's answer confirms nothing more."""
    platform.faults.ack_after_s = 15.0
    await hour(rig)
    assert rig.sender.counters["repeated"] > 0
    assert rig.sender.counters["foreign_acks"] > 0


async def twice(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.acks = 2
    await hour(rig)
    assert rig.sender.counters["foreign_acks"] == len(platform.arrivals)


async def out_of_order(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.shuffles = True
    await hour(rig)


async def in_pieces(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.cut_bytes = 7
    platform.faults.noise = b"\r\n garbage ##12"
    await hour(rig)


async def broken(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.ends_after = 3
    await hour(rig)
    assert platform.connections == 2


async def spoilt(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.spoilt_acks = 2
    await hour(rig)
    assert rig.sender.counters["bad_frames"] >= 2
    assert rig.sender.counters["repeated"] >= 2


async def away_at_first(rig: Rig, platform: HjPlatform) -> None:
    platform.faults.refuses = True
    stream = asyncio.ensure_future(rig.live(3600))
    await pass_s(2000)
    platform.faults.refuses = False
    await stream
    await pass_s(150)


@pytest.mark.parametrize(
    "story", [slow, too_late, twice, out_of_order, in_pieces, broken, spoilt, away_at_first]
)
def test_what_a_platform_does_costs_no_row(tmp_path: Path, story: Any) -> None:
    async def told() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await story(rig, platform)
        assert rig.failure() is None
        check_hour(rig)
        await rig.close()

    in_world(told())


@pytest.mark.parametrize("fault", ["mute", "deaf", "wrong_qn", "wrong_mn"])
def test_what_was_not_confirmed_is_not_delivered(tmp_path: Path, fault: str) -> None:
    """Ten seconds and three resends, then the connection is made anew, and so on until it is well."""

    async def story() -> None:
        platform = HjPlatform()
        setattr(platform.faults, fault, True)
        rig = Rig(tmp_path, platform)
        rig.open()
        await hour(rig)
        assert rig.runner.counters["delivered"] == 0
        assert rig.runner.status()["backlog"] == 6 + 1
        assert platform.connections > 10
        tries = [one.at_s for one in platform.arrivals if one.key[2] == "20260922000000"][:4]
        if tries:
            assert [round(later - sooner) for sooner, later in pairwise(tries)] == [
                10,
                10,
                10,
            ]
        setattr(platform.faults, fault, False)
        await pass_s(60)
        check_hour(rig)
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())


def test_a_row_that_a_platform_never_confirms_holds_up_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        platform.faults.mute_for = lambda arrival: arrival.key[2].endswith("001000")
        rig = Rig(tmp_path, platform)
        rig.open()
        await rig.live(7200)
        await pass_s(150)
        assert rig.got(hj212.HOUR) == rig.expected(hj212.HOUR, 3600, START_S + 7200)
        assert rig.runner.status()["backlog"] == 1
        assert rig.runner._refusals[next(iter(rig.runner._refusals))] > 3
        assert platform.connections < 30, "until another row was confirmed, nobody could know"
        await rig.close()

    in_world(story())


def test_a_platform_that_confirms_nothing_by_agreement_is_believed_after_the_time_out(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, wants_ack=False)
        rig.open()
        await hour(rig)
        assert len([one for one in platform.answers if one.cn == hj212.MINUTE]) == 6
        assert all(not frame.wants_ack and frame.flag == 4 for frame in platform.answers)
        assert rig.runner.status()["backlog"] == 0
        await rig.close()

    in_world(story())


def test_heartbeats_keep_a_connection_and_end_one_without_a_sign(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, heartbeat_s=60)
        rig.open()
        rig.settings.version = hj212.VERSION_2025
        await pass_s(3600)
        assert len(platform.heartbeats) == 59
        assert all((one.flag, one.cn, one.area) == (9, "9015", "") for one in platform.heartbeats)
        assert platform.connections == 1
        platform.faults.deaf = True
        await pass_s(600)
        assert platform.connections > 2
        await rig.close()

    in_world(story())


def test_a_platform_that_hangs_up_at_once_is_not_stormed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # another test of this process may have wanted more

    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        for _ in range(600):
            platform.break_lines()
            await pass_s(0.1)
        assert platform.connections < 120
        assert len(caplog.records) < 5
        await rig.close()

    in_world(story())


# --- what a platform asks -----------------------------------------------------------------------


def asked(folder: Path, *requests: tuple[str, str], mn: str = MN, pw: str = "", **settings: Any) -> list[Any]:
    """The answers to each request in turn: [(CN, data area), …], after an hour of data; then the rig."""

    async def story() -> list[Any]:
        platform = HjPlatform()
        rig = Rig(folder, platform, **settings)
        rig.open()
        await hour(rig)
        found = []
        for number, (cn, area) in enumerate(requests):
            qn = f"{int(QN) + number}"
            platform.ask(cn, mn, qn, area, pw=pw)
            await pass_s(5)
            found.append(platform.answers_to(qn))
        check_hour(rig)
        kept = rig.store.read(lambda c: report_rows.settings(c, "river-city"))
        await rig.close()
        return [*found, kept]

    result: list[Any] = in_world(story())
    return result


DONE = ("9012", "ExeRtn=1")
READY = ("9011", "QnRtn=1")


def test_intervals_and_time_outs_are_told_set_and_kept(tmp_path: Path) -> None:
    *answers, kept = asked(
        tmp_path,
        ("1061", ""), ("1062", "RtdInterval=120"), ("1061", ""), ("1063", ""), ("1064", "MinInterval=5"),
        ("1000", "OverTime=5;ReCount=2"), ("1062", "RtdInterval=7"), ("1064", "MinInterval=7"), ("1062", "x"),
        told={"real_time_s": 30},
    )  # fmt: skip
    assert answers[0] == [READY, ("1061", "RtdInterval=30"), DONE]
    assert answers[1] == [READY, DONE]
    assert answers[2] == [READY, ("1061", "RtdInterval=120"), DONE]
    assert answers[3] == [READY, ("1063", "MinInterval=10"), DONE]
    assert answers[4] == answers[5] == [READY, DONE]
    assert answers[6] == answers[7] == answers[8] == [READY, ("9012", "ExeRtn=3")]
    assert kept == {"real_time_s": "120", "minute_s": "300", "timeout_s": "5", "resends": "2"}


def test_what_a_platform_set_holds_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)
        platform.ask("1064", MN, QN, "MinInterval=30")
        platform.ask("2012", MN, f"{int(QN) + 1}")
        await pass_s(5)
        assert platform.answers_to(f"{int(QN) + 1}") == [("9013", "")]
        await rig.close(kill=True)
        rig.open()
        assert (rig.told.minute_s, rig.told.real_time_on) == (1800, False)
        assert "minute_s is 1800, as the platform has set it; gateway.toml has 600" in caplog.text
        await rig.close()

    in_world(story())


def test_what_a_platform_may_not_set_is_refused(tmp_path: Path) -> None:
    *answers, kept = asked(tmp_path, ("1062", "RtdInterval=120"), ("2012", ""), ("1061", ""), may_set=False)
    assert answers[0] == answers[1] == [("9011", "QnRtn=2")]
    assert answers[2][0] == READY
    assert kept == {}


def test_the_clock_is_told_and_not_set(tmp_path: Path) -> None:
    answers = asked(tmp_path, ("1011", ""), ("1012", "SystemTime=20260922020000"))
    assert answers[0] == [READY, ("1011", "SystemTime=20260922010230"), DONE]
    assert answers[1] == [("9011", "QnRtn=2")]


def test_history_is_worked_out_from_the_store(tmp_path: Path) -> None:
    span = "BeginTime=20260922001000;EndTime=20260922003000"
    answers = asked(tmp_path, ("2051", span), ("2061", "BeginTime=20260922000000;EndTime=20260922000000"),
                    ("2051", "BeginTime=20250101000000;EndTime=20250101010000"), ("2051", ""),
                    ("2031", span))  # fmt: skip
    assert [cn for cn, _ in answers[0]] == ["9011", "2051", "2051", "2051", "9012"]
    assert [area.split(";")[0] for _, area in answers[0][1:4]] == [
        f"DataTime=202609220{minutes}00" for minutes in ("010", "020", "030")
    ]
    assert [cn for cn, _ in answers[1]] == ["9011", "2061", "9012"]
    assert answers[2] == [READY, ("9012", "ExeRtn=100")]
    assert answers[3] == [READY, ("9012", "ExeRtn=3")]
    assert answers[4] == [READY, ("9012", "ExeRtn=100")], "no day begins in that span"


def test_what_is_not_ours_to_do_is_refused_with_its_reason(tmp_path: Path) -> None:
    answers = asked(tmp_path, ("1072", "NewPW=654321"), ("3012", ""), ("2021", ""), ("3020", "PolId=w01018"))
    assert answers[0] == [("9011", "QnRtn=2")]
    assert answers[1] == [("9011", "QnRtn=8")]
    assert answers[2] == answers[3] == [READY, ("9012", "ExeRtn=100")]


def test_a_wrong_password_or_station_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert asked(tmp_path / "a", ("1061", ""), pw="000000")[0] == [("9011", "QnRtn=3")]
    assert asked(tmp_path / "b", ("1061", ""), mn="ELSEWHERE")[0] == [("9011", "QnRtn=4")]


def test_a_password_that_the_platform_may_set_is_used_from_then_on(tmp_path: Path) -> None:
    kept: list[str] = []
    answers = asked(tmp_path, ("1072", "NewPW=654321"), set_password=kept.append)
    assert answers[0] == [READY, DONE]
    assert kept == ["654321"]


def test_requests_in_between_and_broken_ones_do_no_harm(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)
        for number in range(40):  # more than are answered at once
            platform.ask("2061", MN, f"{int(QN) + number}", "BeginTime=20260101000000;EndTime=20260922000000")
        for line in platform.lines:
            line.say(b"##0020QN=;ST=;CN=;PW=;MN=;CP=&&&&0000\r\n" + bytes(range(256)))
            segment = f"QN=x;ST=1;CN=1061;PW=123456;MN={MN};Flag=5;CP=&&&&".encode()
            line.say(b"##%04d" % len(segment) + segment + b"%04X\r\n" % hj212.crc16(segment))
        await hour(rig)
        assert rig.failure() is None
        check_hour(rig)
        refused = [
            area for _, area in (pair for n in range(40) for pair in platform.answers_to(f"{int(QN) + n}"))
        ]
        assert "ExeRtn=5" in refused or "QnRtn=2" in refused
        await rig.close()

    in_world(story())


def test_over_tcp_as_in_the_street(tmp_path: Path) -> None:
    """The real sender on a real port; time is real, so the rows are of yesterday."""
    from gateway.northbound.wire import open_tcp

    async def story() -> None:
        platform = HjPlatform()
        port = await platform.serve()
        rig = Rig(tmp_path, platform, report={"grace_s": 0}, told={"minute_s": 0})
        rig.open()
        rig.settings.host, rig.settings.port = "127.0.0.1", port
        rig.sender._open = open_tcp
        for minute in range(60):
            rig.give(START_S - 7200 + 60 * minute, rig.set_of(START_S + 60 * minute))
        async with asyncio.timeout(20):
            await platform.arrived.wait()
        assert rig.got(hj212.HOUR).keys() == {(MN, "2061", "20260921220000")}
        await rig.close()
        await platform.close()

    asyncio.run(story())


def test_a_site_keeps_its_mn_when_its_node_is_swapped(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform, sites={0x12: SITE, 0x34: SITE})
        rig.open()
        await rig.live(1200, node=0x12)
        await rig.live(2400, node=0x34)
        await pass_s(150)
        assert {key[0] for key in platform.rows} == {MN}
        assert rig.got(hj212.MINUTE).keys() == rig.expected(hj212.MINUTE, 600, START_S + 3600).keys()
        await rig.close()

    in_world(story())


def test_a_row_that_no_frame_can_carry_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        encode = hj212.encode

        def refuse(frame: hj212.Frame) -> bytes:
            if frame.cn == hj212.HOUR:
                raise Hj212Error("too long")
            return encode(frame)

        monkeypatch.setattr(hj212, "encode", refuse)
        await hour(rig)
        assert rig.got(hj212.MINUTE) == rig.expected(hj212.MINUTE, 600, START_S + 3600)
        assert rig.got(hj212.HOUR) == {}
        assert rig.runner.counters["refused"] >= 1
        monkeypatch.setattr(hj212, "encode", encode)
        await pass_s(120)
        check_hour(rig)
        await rig.close()

    in_world(story())
