"""The whole of it in real processes: a cover on real MicroPython, the daemon as its user runs it, killed with -9 again
and again, and `tidegate street orders`: one order, and closed when the cover is back."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hil_tests.hotline import area_tables
from hil_tests.places import CoverPlace
from hil_tests.processes import spawn
from hil_tests.street import AREA, ROOT, Street
from protocols.alarm_rules import CODES
from protocols.wire.codes import SETTING_NAMES
from protocols.wire.messages import NOTE, RAISED

_SETTINGS = {SETTING_NAMES.index("interval_s"): 60, SETTING_NAMES.index("report_s"): 1}
_KILLS = 6
# From the first frame of the alarm to the order: commits, looks, a post, an answer, a note.
_WITHIN_S = 0.4


class Desk:
    """`tidegate street orders`, as its user runs it."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "desk.log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-u", "-m", "tidegate", "street", "orders", "--port", "0"]
            self._process = spawn(command, output=log, cwd=ROOT)
        wait(lambda: "url = " in self.said(), 30, "desk")
        self.url = re.findall(r"http://127\.0\.0\.1:[0-9]+", self.said())[0]

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def tables(self) -> list[str]:
        """What it told its user to put into gateway.toml."""
        told = self.said().partition("[[work_orders]]")[2].partition("\n\n")[0]
        return [*area_tables(AREA, 30), f"[[work_orders]]{told}\nstatus_every_s = 5\n"]

    def orders(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/orders", timeout=5) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


def wait(holds: Callable[[], bool], timeout_s: float, what: str, look_s: float = 0.05) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"after {timeout_s:.0f} s still no {what}"
        time.sleep(look_s)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def _has_event(street: Street, name: str, state: int) -> bool:
    query = "SELECT 1 FROM event_view WHERE code = ? AND state = ?"
    with closing(sqlite3.connect(f"file:{street.gateway.database}?mode=ro", uri=True)) as reader:
        return reader.execute(query, (CODES[name], state)).fetchone() is not None


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_daemon_that_is_killed_all_the_way_makes_one_order_of_a_theft(
    tmp_path: Path, desk: Desk, is_whole: bool
) -> None:
    rng = random.Random(5)
    cover = CoverPlace("lid-1", 5, trucks_a_day=100)
    cover.settings = _SETTINGS
    street = Street(tmp_path / "street", [cover], seed=5, more_tables=desk.tables())
    gateway = street.gateway
    try:
        street.start()
        wait(lambda: _has_event(street, "pose_learned", NOTE), 120, "pose")
        cover.turn(40)
        wait(lambda: _has_event(street, "cover_tilted", RAISED), 60, "alarm")
        for _ in range(_KILLS):
            time.sleep(rng.uniform(0, _WITHIN_S))  # the moments are real ones: there is no other clock here
            gateway.kill()
            gateway.start()
        wait(lambda: len(desk.orders()) == 1, 30, "order")
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
