"""Covers and a river station behind a bridge: the firmware at both ends of the air and of the line, and the daemon."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from boards.virtual.line import LineFaults
from gateway.links.bridge import Bridge
from gateway.registry import By
from hil_tests.air_rig import AirRig
from protocols.wire import framing
from protocols.wire.codes import IDENTIFY

_BY = By("rig", "test")
_NAME = "bridge-1"


@pytest.fixture
def rig(tmp_path: Path, base_seed: int) -> Iterator[AirRig]:
    with AirRig(tmp_path, covers=2, rivers=1, towers=0, bridges=1, channels=1, sf=9, seed=base_seed) as made:
        made.settle_in()
        yield made


def radio_of(rig: AirRig) -> Bridge:
    assert rig.alive.air is not None
    (radio,) = rig.alive.air.radios
    assert isinstance(radio, Bridge)
    return radio


def balance(rig: AirRig) -> None:
    """What has been kept so far arrives, record for record: within days, where a cover has one set a day."""
    due = {record for station in rig.stations.values() for record in station.held()}
    for _ in range(8 * 24):
        rig.run_s(3600)
        if due <= rig.judge.records.keys():
            break
    books = rig.books()
    missing = sorted(due - books.delivered)
    assert not missing, f"seed {rig.seed}, {len(missing)} of {len(due)}: {missing[:5]}\n{rig.describe()}"
    assert not books.problems, books.problems
    assert not books.invented, books.line()


def assert_told(rig: AirRig, latency_max_s: float) -> None:
    latencies = [round(opening.latency_s, 1) for opening in rig.openings]
    print(f"seed={rig.seed} latencies_s={latencies}")
    assert max(latencies) <= latency_max_s, f"seed {rig.seed}"
    assert not [alarm for alarm in rig.false_alarms if "cover" in alarm], f"seed {rig.seed}"


def test_readings_alarms_and_a_command_go_through_a_bridge(rig: AirRig) -> None:
    assert radio_of(rig).problem == ""
    assert rig.poses_learned == 2
    rig.play(openings=4)
    assert_told(rig, 30)
    river = next(name for name in rig.stations if name not in rig.motions)
    rig.ask(lambda gateway: gateway.commands.add(int(river, 16), IDENTIFY, 3, 2 * 3600, _BY))
    rig.run_s(2 * 3600)
    assert True in rig.stations[river].station.identified
    assert not rig.alive.commands.nodes()
    balance(rig)
    radio = radio_of(rig)
    assert radio.air["malformed"] == radio.refused["crc"] == 0
    assert radio.air["results"] == radio.air["packets_out"] > 0


def test_nothing_is_lost_when_a_bridge_loses_its_power_and_comes_back(rig: AirRig) -> None:
    rig.bridges[_NAME].power_off()
    rig.storm(within_s=60)
    rig.run_s(120)
    assert "does not tell its state" in radio_of(rig).problem
    assert all(opening.raised_ms is None for opening in rig.openings)
    rig.bridges[_NAME].power_on()
    rig.run_s(1)
    assert radio_of(rig).problem == ""
    balance(rig)
    assert_told(rig, 1200)  # a cover leaves a gateway that does not answer alone for ten minutes


def test_a_bridge_that_starts_anew_unnoticed_answers_in_the_windows_again(rig: AirRig) -> None:
    """Its counter begins at 0, and what the gateway knew of it is wrong at once."""
    bridge = rig.bridges[_NAME]
    for _ in range(3):
        bridge.power_off()
        bridge.power_on()
        rig.run_s(3600)
    rig.play(openings=2)
    assert_told(rig, 30)
    assert bridge.starts == 4
    balance(rig)


def test_a_bridge_that_was_unplugged_is_told_everything_again(rig: AirRig) -> None:
    line = rig.bridge_lines[_NAME]
    line.unplug()
    rig.run_s(10)
    assert radio_of(rig).problem == "unplugged"
    rig.storm(within_s=30)
    rig.run_s(60)
    line.replug()
    rig.run_s(10)
    assert radio_of(rig).problem == ""
    balance(rig)
    assert_told(rig, 1200)


def test_a_bridge_on_the_wrong_channel_is_tuned_to_the_one_of_the_nodes(rig: AirRig) -> None:
    line = rig.bridge_lines[_NAME]
    line.write("down", framing.encode(struct.pack(">BIB", 0x12, 470_300_000, 11), 2))
    rig.run_s(15)
    assert radio_of(rig).air["tunes"] == 1
    assert radio_of(rig).problem == ""
    rig.play(openings=1)
    assert_told(rig, 30)


def test_garbage_on_the_line_of_a_bridge_only_costs_time(rig: AirRig) -> None:
    line = rig.bridge_lines[_NAME]
    line.faults = LineFaults(rig.seed, corrupt=0.002, drop=0.002, duplicate=0.002, reorder=0.002)
    rng = random.Random(f"{rig.seed} garbage")
    for _ in range(200):
        line.write("down", rng.randbytes(rng.randrange(1, 300)))
        line.write("up", rng.randbytes(rng.randrange(1, 300)))
        rig.run_s(rng.uniform(1, 30))
    rig.play(openings=2)
    line.faults = None
    balance(rig)
    radio = radio_of(rig)
    assert radio.refused["crc"] > 0
    assert rig.bridges[_NAME].starts == 1
    assert rig.bridges[_NAME].bridge.radio.errors == 0


def test_nothing_is_lost_when_the_gateway_behind_a_bridge_is_killed(rig: AirRig) -> None:
    moments = random.Random(f"{rig.seed} kills")
    rig.storm(within_s=60)
    for _ in range(6):
        rig.run_s(moments.uniform(1, 40))
        rig.kill_gateway()
        rig.run_s(moments.uniform(0, 5))
        rig.start_gateway()
    balance(rig)
    assert_told(rig, 1200)
    assert rig.bridges[_NAME].starts == 1
