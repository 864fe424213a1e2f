"""Steps of the wall clock are told and counted, slewing is not; what was learned by the old time holds in the new."""

from __future__ import annotations

from pathlib import Path

import structlog
from structlog.testing import capture_logs

from gateway.clock_watch import ClockWatch
from hil_tests.southbound import South, TestNode, tell
from protocols.wire.messages import Status
from tests.gateway.desk import HandClock

DAY_MS = 86_400_000
UNSYNCED = 3


def test_a_step_is_told_once_and_slewing_never() -> None:
    clock = HandClock()
    watch = ClockWatch(clock, structlog.get_logger())
    heard: list[int] = []
    watch.on_jump.append(heard.append)
    with capture_logs() as logs:
        for _ in range(1000):  # half a second in a thousand looks
            clock.pass_s(5)
            clock.now_ms += 1
            watch.look()
        assert logs == []
        clock.now_ms -= DAY_MS
        for _ in range(3):
            watch.look()
            clock.pass_s(5)
        clock.now_ms += DAY_MS
        watch.look()
    assert heard == [-DAY_MS, DAY_MS]
    assert watch.jumps == 2
    assert [line["by_s"] for line in logs] == [-86400.0, 86400.0]
    assert logs[0]["from_utc"] != logs[0]["to_utc"]


def test_an_hour_on_a_wrong_clock_does_not_move_records_without_a_clock_for_good(tmp_path: Path) -> None:
    """Boots that were placed a day too early would stay there: the earliest is believed."""

    async def story(south: South, node: TestNode) -> None:
        boots = south.ingest.boots

        def status(uptime_s: int) -> Status:
            return Status(0, (1 << 32) | uptime_s, UNSYNCED, {0: 1, 1: uptime_s})

        right_ms = south.clock.unix_ms()
        boots.hear_status(0x12, status(100), right_ms)
        placed = boots.place(0x12, (1 << 32) | 50, right_ms)
        boots.clock_jumped(-DAY_MS)
        wrong_ms = right_ms - DAY_MS
        boots.hear_status(0x12, status(100), wrong_ms)
        assert boots.place(0x12, (1 << 32) | 50, wrong_ms) == placed - 86_400
        boots.clock_jumped(DAY_MS)
        assert boots.place(0x12, (1 << 32) | 50, right_ms) == placed

    tell(tmp_path, story)
