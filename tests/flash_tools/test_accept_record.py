"""The command `tidegate node accept` itself: what it says when it can not begin, and that records are only added."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flash_tools import accept, cli, control
from flash_tools.accept import Acceptance, Wanted
from flash_tools.errors import AcceptanceError, FlashToolError

runner = CliRunner()


def straw(node_type: str, **changes: Any) -> Any:
    """A gateway of straw: every command is done at once, and its event is there and confirmed."""
    shown = {
        "node": "0012", "type": node_type, "site": "lid-1", "area": "330110", "gateway": "gw", "enrolled": True,
        "now_ms": 5_000, "board": "virtual", "firmware": "0.1.0", "link": "a", "health": {"frames_refused": 0},
        "link_counters": {"refused_crc": 0, "refused_oversize": 0}, "wish": None, "last_event": 7,
        "confirmed": {"city": 99}, "set": cover_set(0.4, 3.62),
        "events": [
            {"id": 8, "name": "pose_learned", "detail": [3, -5, 1000], "time": 4, "received_ms": 4500},
            {"id": 9, "name": "test_alarm", "detail": None, "time": 4, "received_ms": 4500},
        ],
        **changes,
    }  # fmt: skip

    def ask(operation: str, **request: Any) -> dict[str, Any]:
        if operation == "command.send":
            return {"id": 1}
        if operation == "command.list":
            return {"commands": [{"state": "done", "detail": "3"}]}
        return shown

    return ask


def cover_set(tilt: float, volts: float) -> dict[str, Any]:
    return {"seq": 3, "readings": {"tilt": {"v": tilt, "q": 1}, "supply_voltage": {"v": volts, "q": 1}}}


def looked_at(node_type: str, **changes: Any) -> dict[str, str]:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    made = Acceptance(straw(node_type, **changes), "0012", Wanted(), monotonic=lambda: now_s[0], sleep=sleep)
    return {step.name: step.look().state for step in made.steps()}


def test_each_node_type_has_its_own_steps() -> None:
    first, last = ["place", "heard", "firmware", "settings"], ["supply", "alarm", "link"]
    assert list(looked_at("cover")) == [*first, "pose", "tilt", *last]
    assert list(looked_at("lift")) == [*first, "floors", *last]
    assert list(looked_at("river_solar")) == [*first, "probe", *last]


def test_a_cover_is_accepted_level_charged_and_with_its_pose() -> None:
    assert set(looked_at("cover").values()) == {accept.OK}


@pytest.mark.parametrize(
    ("failing", "changes"),
    [
        ({"tilt"}, {"set": cover_set(2.0, 3.62)}),
        ({"supply"}, {"set": cover_set(0.4, 3.39)}),
        ({"place"}, {"site": "unassigned"}),
        ({"alarm"}, {"confirmed": {}}),
        ({"alarm"}, {"confirmed": {"city": 8}}),
        ({"alarm"}, {"now_ms": 34_600}),
        ({"pose", "alarm"}, {"events": []}),
    ],
)
def test_each_limit_can_fail(failing: set[str], changes: dict[str, Any]) -> None:
    states = looked_at("cover", **changes)
    assert {name for name, state in states.items() if state == accept.FAILED} == failing


def test_a_lift_need_not_know_its_floors_yet() -> None:
    assert looked_at("lift")["floors"] == accept.OPEN
    learned = [{"id": 8, "name": "lift_floors_learned", "detail": 12, "time": 4, "received_ms": 4500}]
    assert looked_at("lift", events=learned)["floors"] == accept.OK


def test_a_node_that_is_not_heard_is_waited_for_once_and_nothing_good_is_said_of_it() -> None:
    gateway = straw("cover", health={}, set=None, events=[])
    asked: list[str] = []

    def ask(operation: str, **request: Any) -> dict[str, Any]:
        if operation == "command.list":
            return {"commands": [{"state": "expired", "detail": "no result by the deadline"}]}
        if operation == "command.send":
            asked.append(request["command"])
        return gateway(operation, **request)

    made = Acceptance(ask, "0012", Wanted())
    found = {step.name: step.look() for step in made.steps()}
    assert asked == ["read-now"]
    assert found["heard"].state == accept.FAILED
    assert {found[name].state for name in ("settings", "pose", "alarm")} == {accept.OPEN}
    assert found["alarm"].value == "not asked: the node was not heard"


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, ["accept", *arguments])


def test_without_a_gateway_it_says_what_to_do(tmp_path: Path) -> None:
    missing = invoke("0012", "--config", str(tmp_path / "gateway.toml"))
    assert isinstance(missing.exception, AcceptanceError)
    assert "Run this on the gateway's machine" in str(missing.exception)
    (tmp_path / "gateway.toml").write_text("[gateway]\n")
    off = invoke("0012", "--config", str(tmp_path / "gateway.toml"))
    assert "Start it with `tidegate gateway run`" in str(off.exception)
    assert "Nothing was recorded" in str(off.exception)
    assert isinstance(invoke("zz").exception, FlashToolError)


def test_records_are_added_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[gateway]\n")
    now_s = [1_790_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    arguments = ("0012", "--config", str(config), "--out", str(tmp_path / "records"), "--who", "wang")
    gateway = [straw("cover", set=cover_set(5.0, 3.62))]
    monkeypatch.setattr(control.Control, "ask", lambda self, name, **request: gateway[0](name, **request))
    refused = invoke(*arguments)
    assert refused.exit_code == 1
    assert "NOT accepted; put right what failed and run this again" in refused.output
    assert "→ put it right" in refused.output
    now_s[0] += 60
    gateway[0] = straw("cover")
    accepted = invoke(*arguments)
    assert (accepted.exit_code, "node 0012: accepted." in accepted.output) == (0, True)
    files = sorted((tmp_path / "records").glob("*.json"))
    stations = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert [station["accepted"] for station in stations] == [False, True]
    assert {station["who"] for station in stations} == {"wang"}
    assert stations[1]["steps"][4]["details"] == {"gravity_mg": [3, -5, 1000]}
    assert ": ACCEPTED" in files[1].with_suffix(".txt").read_text(encoding="utf-8")
    before = files[1].read_bytes()
    again = invoke(*arguments)  # within the same second
    assert isinstance(again.exception, FlashToolError)
    assert files[1].read_bytes() == before
