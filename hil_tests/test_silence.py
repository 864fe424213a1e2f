"""A node that stops talking is told of by the gateway: once, in time, through kills, never for its own faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import ABSENCE_MIN_S, HEARTBEAT_MIN_S, RETURN_S
from hil_tests.sim_rig import SimRig
from hil_tests.system import GATEWAY_EPOCHS
from hil_tests.test_reading_path import wait_for_records

# Sets and reports every five minutes: the heartbeat.
BEAT_S = 300
DAY_S = 86_400


@pytest.fixture
def rig(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[SimRig]:
    with SimRig(tmp_path, stations=2, interval_s=BEAT_S, seed=pytestconfig.getoption("--seed")) as made:
        yield made


def told(rig: SimRig, node: str | None = None) -> list[dict[str, Any]]:
    """Every `node_silent` event that the city has, in order."""
    return [
        record
        for (at, epoch, _), record in rig.judge.records.items()
        if epoch >= GATEWAY_EPOCHS and node in (None, at)
    ]


def states(rig: SimRig, node: str | None = None) -> list[str]:
    assert all(record["event"]["name"] == "node_silent" for record in told(rig, node))
    return [record["event"]["state"] for record in told(rig, node)]


def unplug(rig: SimRig, node: str) -> float:
    """Cut the line right after the gateway heard the node; the instant it was heard."""
    address = int(node, 16)

    def heard_s() -> float:
        seen = rig.alive.presence.of(address)
        return -1.0 if seen is None else seen.heard_s

    before_s = heard_s()
    rig.wait_until(lambda: heard_s() > before_s, 2 * BEAT_S, "frame of the node")
    rig.unplug(node)
    rig.run_s(1)
    return heard_s()


def test_a_silent_node_is_told_once_within_two_and_a_half_heartbeats_and_again_when_it_is_back(
    rig: SimRig,
) -> None:
    wait_for_records(rig, 2, timeout_s=1000)
    gone, there = rig.nodes
    heard_s = unplug(rig, gone)
    rig.run_s(heard_s + 2 * BEAT_S - rig.world.now_s)
    assert states(rig) == []
    rig.wait_until(lambda: bool(told(rig)), BEAT_S, "event at the city")
    waited_s = rig.world.now_s - heard_s
    assert waited_s <= 2.5 * BEAT_S, f"seed {rig.seed}"
    (event,) = told(rig)
    assert event["node"] == gone
    assert event["site"] == "bridge-1"
    assert 2 * BEAT_S < event["event"]["detail"] <= waited_s
    print(f"heartbeat_s={BEAT_S} told_after_s={waited_s:.1f} beats={waited_s / BEAT_S:.3f}")
    assert rig.metrics()["nodes_silent"] == 1
    rig.run_s(10 * BEAT_S)
    assert states(rig) == ["raised"]
    rig.replug(gone)
    rig.wait_until(lambda: len(told(rig)) == 2, 2 * BEAT_S, "end of the silence")
    assert states(rig, gone) == ["raised", "cleared"]
    assert states(rig, there) == []
    assert rig.metrics()["nodes_silent"] == 0
    rig.settle(timeout_s=600).balance()


def test_kills_while_it_waits_neither_begin_the_waiting_anew_nor_tell_twice(rig: SimRig) -> None:
    """A gateway that is killed every minute still tells in time: only its own absence is taken off."""
    wait_for_records(rig, 2, timeout_s=1000)
    gone = rig.nodes[0]
    heard_s = unplug(rig, gone)
    away_s = 0.0
    while not told(rig):
        assert rig.world.now_s - heard_s - away_s <= 2.5 * BEAT_S + 60, f"seed {rig.seed}: never told"
        rig.run_s(61)
        rig.kill_gateway()
        rig.run_s(3)
        away_s += 3 + 60  # and what it listened since its last note, at most a minute
        rig.start_gateway()
    kills = away_s / 63
    print(f"kills={kills:.0f} told_after_s={rig.world.now_s - heard_s:.1f}")
    assert kills >= 5
    for _ in range(5):
        rig.run_s(61)
        rig.kill_gateway()
        rig.start_gateway()
    rig.run_s(BEAT_S)
    assert states(rig) == ["raised"]
    rig.replug(gone)
    rig.wait_until(lambda: len(told(rig)) == 2, 2 * BEAT_S, "end of the silence")
    rig.settle(timeout_s=600).balance()


def test_a_gateway_that_was_off_for_a_day_blames_no_node_for_it_but_finds_the_one_that_died(
    rig: SimRig,
) -> None:
    wait_for_records(rig, 2, timeout_s=1000)
    dead, alive = rig.nodes
    rig.run_s(1.5 * BEAT_S)
    rig.kill_gateway()
    rig.stations[dead].power_off()
    rig.run_s(DAY_S)
    rig.start_gateway()
    began_s = rig.world.now_s
    rig.run_s(RETURN_S - 1)
    assert states(rig) == []
    rig.wait_until(lambda: bool(told(rig)), 3 * BEAT_S, "event at the city")
    print(f"told_after_start_s={rig.world.now_s - began_s:.1f}")
    assert rig.world.now_s - began_s <= 2.5 * BEAT_S
    rig.run_s(3 * BEAT_S)
    assert states(rig, dead) == ["raised"]
    assert states(rig, alive) == []


@pytest.mark.parametrize("jump_s", [3600, DAY_S, -3600, -DAY_S])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_clock_that_jumps_makes_nobody_silent(
    rig: SimRig, monkeypatch: pytest.MonkeyPatch, jump_s: int, is_trusted: bool
) -> None:
    wait_for_records(rig, 2, timeout_s=1000)
    rig.clock_is_synchronised = is_trusted
    real = rig.world.unix_ms
    monkeypatch.setattr(rig.world, "unix_ms", lambda: real() + jump_s * 1000)
    rig.run_s(4 * BEAT_S)
    rig.kill_gateway()
    rig.start_gateway()
    rig.clock_is_synchronised = True
    rig.run_s(4 * BEAT_S)
    monkeypatch.setattr(rig.world, "unix_ms", real)
    rig.run_s(4 * BEAT_S)
    assert states(rig) == [], f"seed {rig.seed}"


def test_without_a_trusted_clock_a_restart_waits_from_the_beginning(rig: SimRig) -> None:
    rig.clock_is_synchronised = False
    wait_for_records(rig, 2, timeout_s=1000)
    gone = rig.nodes[0]
    unplug(rig, gone)
    rig.run_s(2 * BEAT_S - 30)
    rig.kill_gateway()
    rig.start_gateway()
    began_s = rig.world.now_s
    rig.run_s(2 * BEAT_S)
    assert states(rig) == []
    rig.wait_until(lambda: bool(told(rig)), BEAT_S, "event at the city")
    assert rig.world.now_s - began_s <= 2.5 * BEAT_S


def test_a_gateway_restored_from_a_backup_gives_its_events_new_ids(rig: SimRig) -> None:
    wait_for_records(rig, 2, timeout_s=1000)
    gone = rig.nodes[0]
    backup = rig.backup_gateway()
    for _ in range(2):
        heard_s = unplug(rig, gone)
        before = len(told(rig))
        rig.run_s(2.5 * BEAT_S)
        assert len(told(rig)) == before + 1
        assert rig.world.now_s - heard_s > 2 * BEAT_S
        rig.kill_gateway()
        rig.restore_gateway(backup)
        rig.replug(gone)
        rig.start_gateway()
        rig.run_s(3 * BEAT_S)
    assert states(rig) == ["raised", "raised"]
    assert len({epoch for _, epoch, _ in rig.judge.records if epoch >= GATEWAY_EPOCHS}) == 2
    rig.settle(timeout_s=600).balance()


def test_no_heartbeat_counts_as_shorter_than_a_minute(tmp_path: Path) -> None:
    """A line that is out for a moment calls nobody out, however fast a node reports."""
    with SimRig(tmp_path, stations=1, interval_s=3, seed=5) as rig:
        wait_for_records(rig, 3)
        node = rig.nodes[0]
        rig.unplug(node)
        rig.run_s(HEARTBEAT_MIN_S)  # and as long again, until the node has another try
        rig.replug(node)
        rig.run_s(HEARTBEAT_MIN_S)
        assert states(rig) == []
        rig.unplug(node)
        rig.run_s(2.5 * HEARTBEAT_MIN_S)
        assert states(rig) == ["raised"]
        rig.replug(node)
        rig.settle(timeout_s=600).balance()


def test_a_gateway_that_was_stopped_for_an_hour_hears_first_and_judges_then(rig: SimRig) -> None:
    """SIGSTOP, a laptop's lid, a starved machine: what came meanwhile still waits to be read."""
    wait_for_records(rig, 2, timeout_s=1000)
    silence = rig.alive.silence
    silence._looked_s -= 3600  # as if the look before this one had been an hour ago
    for seen in (rig.alive.presence.of(int(node, 16)) for node in rig.nodes):
        assert seen is not None
        seen.heard_s -= 3600
    silence.look()
    rig.run_s(ABSENCE_MIN_S)
    assert states(rig) == []
    rig.run_s(4 * BEAT_S)
    assert states(rig) == []
