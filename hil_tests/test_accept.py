"""`tidegate node accept` against the real gateway and the real firmware in the simulated world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash_tools.accept import FAILED, OK, SKIPPED, Acceptance, Found, Wanted, record, report
from flash_tools.errors import AcceptanceError
from gateway.operations import answer
from gateway.registry import By
from hil_tests.sim_rig import SimRig
from hil_tests.test_reading_path import wait_for_records


@pytest.fixture
def rig(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[SimRig]:
    with SimRig(tmp_path, stations=1, interval_s=300, seed=pytestconfig.getoption("--seed")) as made:
        wait_for_records(made, 1, timeout_s=1000)
        yield made


def visit(rig: SimRig, wanted: Wanted | None = None) -> tuple[Acceptance, dict[str, Found]]:
    def ask(operation: str, **request: Any) -> dict[str, Any]:
        asked = {"operation": operation, **request}
        said = rig.ask(lambda gateway: answer(gateway.operations, asked, "wang"))
        if "error" in said:
            raise AcceptanceError(said["error"])
        reply: dict[str, Any] = said["reply"]
        return reply

    acceptance = Acceptance(
        ask, rig.nodes[0], wanted or Wanted(), monotonic=lambda: rig.world.now_s, sleep=rig.run_s
    )
    return acceptance, {step.name: step.look() for step in acceptance.steps()}


def test_a_good_river_station_is_accepted_and_its_alarm_reached_the_city(rig: SimRig) -> None:
    acceptance, found = visit(rig, Wanted(firmware="0.1.0"))
    states = {name: one.state for name, one in found.items()}
    expected = dict.fromkeys(("place", "heard", "firmware", "settings", "probe", "alarm", "link"), OK)
    assert states == {**expected, "supply": SKIPPED}
    told = [one["event"] for one in rig.judge.records.values() if "event" in one]
    assert [event["name"] for event in told] == ["test_alarm"]
    details = found["alarm"].details
    print(f"node_to_gateway_s={details['node_to_gateway_s']} node_to_city_s={details['node_to_city_s']}")
    assert details["node_to_city_s"] <= 30
    assert "8 readings, class" in found["probe"].value
    assert found["link"].value.endswith("margin n/a on serial")
    station = record(acceptance, list(found.items()), "wang", rig.world.unix_ms() / 1000)
    assert station["accepted"]
    assert (station["node_type"], station["site"], station["firmware"]) == ("river", "bridge-1", "0.1.0")
    assert all(step["limit"] and step["value"] for step in station["steps"])
    page = report(station)
    assert "node 0010 (river): ACCEPTED" in page
    assert "wang (acceptance at the lid)" in page
    rig.settle(timeout_s=600).balance()


def test_what_is_wrong_is_named_and_nothing_else_is(rig: SimRig) -> None:
    """No city, other firmware, settings that the node has refused."""
    rig.stop_broker()
    rig.ask(lambda gateway: gateway.wishes.set(0x10, {"interval_s": 60}, By("wang", "test")))
    rig.alive.wishes._wishes[0x10].state = "refused"
    _, found = visit(rig, Wanted(firmware="9.9", wait_s=60))
    failed = {name for name, one in found.items() if one.state == FAILED}
    assert failed == {"firmware", "alarm", "settings"}
    assert "city did not confirm it" in found["alarm"].advice
    assert all(one.advice for one in found.values() if one.state == FAILED)


def test_frames_that_the_line_spoils_meanwhile_speak_against_it(rig: SimRig) -> None:
    acceptance, _ = visit(rig)
    (link,) = rig.alive.links
    link._decoder.crc_errors += 3
    (step,) = [step for step in acceptance.steps() if step.name == "link"]
    found = step.look()
    assert found.state == FAILED
    assert found.value.startswith("bad frames up 3,")


def test_a_node_that_is_not_heard_fails_in_bounded_time(rig: SimRig) -> None:
    rig.unplug(rig.nodes[0])
    began_s = rig.world.now_s
    acceptance, found = visit(rig, Wanted(wait_s=20))
    assert found["heard"].state == FAILED
    assert "look at power, cable and port" in found["heard"].advice
    assert rig.world.now_s - began_s < 120
    assert not record(acceptance, list(found.items()), "wang", 0)["accepted"]


def test_a_probe_that_does_not_answer_is_not_accepted(rig: SimRig) -> None:
    station = rig.stations[rig.nodes[0]]
    station.station.sonde.fault = "silent"
    _, found = visit(rig)
    assert found["probe"].state == FAILED
    assert "water_temperature" in found["probe"].value
    assert found["alarm"].state == OK


def test_a_node_that_nobody_imported_is_told_so(rig: SimRig) -> None:
    rig.nodes = ("0099",)
    with pytest.raises(AcceptanceError, match="node 0099 is not registered at gateway rig"):
        visit(rig)


def test_accepting_again_begins_anew(rig: SimRig) -> None:
    for _ in range(2):
        acceptance, found = visit(rig)
        assert record(acceptance, list(found.items()), "wang", 0)["accepted"]
    assert sum("event" in one for one in rig.judge.records.values()) == 2
