"""What a platform that means harm, or is broken, asks over HJ 212: it costs that request, and no row of anybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.errors import DiskError
from gateway.northbound.seldom import Seldom
from gateway.northbound.wire import open_tcp
from hil_tests.world.clock import pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from tests.northbound.hj_rig import MN, Rig, in_world
from tests.northbound.test_hj212_northbound import DONE, QN, READY, asked, check_hour, hour

NOT_MET, FAILED, NO_DATA = (("9012", f"ExeRtn={code}") for code in (3, 2, 100))


def frame(text: str) -> bytes:
    """With a right length and check sum, whatever it says."""
    segment = text.encode()
    return b"##%04d" % len(segment) + segment + b"%04X\r\n" % hj212.crc16(segment)


def test_too_many_requests_that_no_answer_can_carry_do_not_deafen_a_session(tmp_path: Path) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)
        for line in platform.lines:
            line.say(frame(f"QN=x;ST=21;CN=1061;PW=123456;MN={MN};Flag=5;CP=&&&&") * 1000)
        await hour(rig)
        check_hour(rig)
        assert platform.connections == 1
        assert rig.sender.counters["repeated"] == 0
        await rig.close()

    in_world(story())


def test_history_from_the_begin_of_time_to_its_end_is_what_there_is(tmp_path: Path) -> None:
    spans = (
        ("00010101000000", "00010101000000"),
        ("00010101000000", "99991231235959"),
        ("99991231235959",) * 2,
    )
    requests = [(cn, f"BeginTime={begin};EndTime={end}") for cn in ("2061", "2031") for begin, end in spans]
    *answers, _ = asked(tmp_path, *requests, told={"minute_s": 600})
    assert answers[0] == answers[2] == answers[3] == answers[5] == [READY, NO_DATA]
    assert [cn for cn, _ in answers[1]][-2:] == ["2061", "9012"]
    assert answers[1][-1] == DONE


def test_time_outs_that_would_hold_a_row_for_months_are_not_taken(tmp_path: Path) -> None:
    *answers, kept = asked(
        tmp_path, ("1000", "OverTime=99999;ReCount=99"), ("1000", "OverTime=601;ReCount=3"),
        ("1000", "OverTime=60;ReCount=11"), ("1000", "OverTime=0;ReCount=3"),
    )  # fmt: skip
    assert answers == [[READY, NOT_MET]] * 4
    assert kept == {}


def test_a_setting_that_the_disk_refuses_costs_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise DiskError("the disk is full")

    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)
        with monkeypatch.context() as patched:
            patched.setattr("gateway.report_rows.keep_setting", full)
            platform.ask("1062", MN, QN, "RtdInterval=120")
            platform.ask("2012", MN, f"{int(QN) + 1}")
            await pass_s(5)
        assert platform.answers_to(QN) == [READY, FAILED]
        assert platform.answers_to(f"{int(QN) + 1}") == [], "a notice that was not kept is not confirmed"
        await hour(rig)
        check_hour(rig)
        assert platform.connections == 1
        await rig.close()

    in_world(story())


def test_a_confirmation_of_packets_that_never_were_confirms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.northbound.hj212.AREA_MAX", 150)

    async def story() -> None:
        platform = HjPlatform()
        take: Callable[..., None] = platform.take

        def lie(line: Any, packet: hj212.Frame, whole: hj212.Frame | None) -> None:
            if packet.cn != hj212.HOUR:
                take(line, packet, whole)
                return
            for number in range(40, 60):
                ack = hj212.data_ack(packet)._replace(pnum=99, pno=number)
                line.say(hj212.encode(ack))

        monkeypatch.setattr(platform, "take", lie)
        rig = Rig(tmp_path, platform)
        rig.open()
        await hour(rig)
        assert rig.got(hj212.HOUR) == {}
        assert rig.runner.status()["backlog"] == 1, "the hour's row is still owed"
        assert rig.sender.counters["foreign_acks"] >= 20
        await rig.close()

    in_world(story())


def test_a_far_side_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.wire.REGULATOR_UNREAD_BYTES_MAX", 1 << 20)

    async def story() -> None:
        closed = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await closed.wait()
            writer.close()

        server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
        wire = await open_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        for _ in range(64):  # more than any kernel takes for it
            wire.writer.write(bytes(1 << 20))
        with pytest.raises(OSError, match=r"the far side does not read: [0-9]+ bytes wait"):
            await wire.reader.read(1)
        wire.writer.close()
        closed.set()
        server.close()

    asyncio.run(asyncio.wait_for(story(), 20))
    assert limits.REGULATOR_UNREAD_BYTES_MAX > 16 << 20


def test_what_a_platform_does_wrong_a_thousand_times_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        platform = HjPlatform()
        rig = Rig(tmp_path, platform)
        rig.open()
        await pass_s(1)
        for _ in range(100):
            for line in platform.lines:
                for text in ("CN=1061;PW=wrong", "CN=3012;PW=123456", "CN=1012;PW=123456"):
                    area = "SystemTime=20260922000000"
                    line.say(frame(f"QN={QN};ST=21;{text};MN={MN};Flag=5;CP=&&{area}&&"))
                line.say(frame(f"QN=x;ST=21;CN=1061;PW=123456;MN={MN};Flag=5;CP=&&&&"))
                line.say(b"##9999" * 10)
            await pass_s(0.1)
        await rig.close()

    in_world(story())
    ours = [record for record in caplog.records if record.name.startswith("gateway.northbound.hj212")]
    assert 4 <= len(ours) <= 7


def test_a_line_says_how_many_it_stands_for(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    seldom = Seldom(logging.getLogger("far"), lambda: now_s[0])
    for second in range(0, 121, 10):
        now_s[0] = float(second)
        seldom.warning("one", "%s happened", "it")
    seldom.warning("other", "that happened")
    more = "it happened (5 more like it since the last line)"
    assert [record.getMessage() for record in caplog.records] == [
        "it happened", more, more, "that happened",
    ]  # fmt: skip
