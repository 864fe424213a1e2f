"""The whole of it in real processes: a cover on real MicroPython, the daemon as its user runs it, killed with -9 again
and again, and `tidegate street orders`: one order, and closed when the cover is back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hil_tests.desk_process import DeskProcess
from hil_tests.places import CoverPlace
from hil_tests.street import AREA, Street
from hil_tests.waiting import wait
from protocols.alarm_rules import CODES
from protocols.wire.codes import SETTING_NAMES
from protocols.wire.messages import NOTE, RAISED

pytestmark = pytest.mark.xdist_group("real_time")

_SETTINGS = {SETTING_NAMES.index("interval_s"): 60, SETTING_NAMES.index("report_s"): 1}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DeskProcess]:
    made = DeskProcess(tmp_path)
    yield made
    made.close()


def _count(street: Street, what: str) -> int:
    with closing(sqlite3.connect(f"file:{street.gateway.database}?mode=ro", uri=True)) as reader:
        return int(reader.execute(f"SELECT count(*) FROM {what}").fetchone()[0])


def _has_event(street: Street, name: str, state: int) -> bool:
    query = "SELECT 1 FROM event_view WHERE code = ? AND state = ?"
    with closing(sqlite3.connect(f"file:{street.gateway.database}?mode=ro", uri=True)) as reader:
        return reader.execute(query, (CODES[name], state)).fetchone() is not None


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_daemon_that_is_killed_all_the_way_makes_one_order_of_a_theft(
    tmp_path: Path, desk: DeskProcess, is_whole: bool
) -> None:
    cover = CoverPlace("lid-1", 5, trucks_a_day=100)
    cover.settings = _SETTINGS
    street = Street(tmp_path / "street", [cover], seed=5, more_tables=desk.tables())
    gateway = street.gateway
    try:
        street.start()
        wait(lambda: _has_event(street, "pose_learned", NOTE), 120, "pose")
        cover.turn(40)
        steps = (
            ("event", lambda: _has_event(street, "cover_tilted", RAISED)),
            ("event once more", lambda: True),
            ("alarm", lambda: _count(street, "alarm") == 1),
            ("order", lambda: len(desk.orders()) == 1),
            ("note that it was delivered", lambda: _count(street, "order_sent WHERE alarm > 0") == 1),
        )
        for what, holds in steps:
            wait(holds, 60, what, look_s=0.002)
            gateway.kill()
            gateway.start()
        if is_whole:
            cover.turn(0)
            wait(lambda: desk.orders()[0]["state"] == 2, 180, "order that is closed")
            gateway.kill()
            gateway.start()
            wait(lambda: _delivered(street), 30, "end of what is owed")
        (order,) = desk.orders()
        assert order["place"] == "lid-1"
        assert [told["state"] for told in order["history"]] == ([0, 2] if is_whole else [0])
        assert {told["area"] for told in order["history"]} == {AREA}, "nothing had to go further up"
        assert desk.said().count(order["workordercode"]) == len(order["history"]), desk.said()
        listed = gateway.cli("alarm", "list", "--which", "all")
        assert listed.count("cover_open") == 1, listed
    finally:
        street.close()


def _delivered(street: Street) -> bool:
    return street.gateway.metrics().get('tidegate_northbound_backlog_records{northbound="hotline"}') == 0
