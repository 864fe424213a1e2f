"""A node on the air as on a board: compiled, on the real MicroPython, with driver, law and carrier on its heap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.virtual.chips.lis3dh import Lis3dh
from hil_tests.world.street_cover import CoverMotion
from protocols.wire.messages import Event, Hello, Readings, Status
from tests.firmware.lockstep import Lockstep
from tests.firmware.sky import RADIO
from tests.firmware.street import START_MS
from tests.firmware.test_lift_micropython import TRIP, Lift

if TYPE_CHECKING:
    from pathlib import Path

# What each is given, and what it may hold of that between two steps. The lift has more than the 192 kB that a node on
# the air is to run in, as it has more than 160 on a line.
HEAP = {"river": "192k", "cover": "192k", "lift": "200k"}
USED_MAX = {"river": 176_000, "cover": 185_000, "lift": 194_000}


def assert_it_fits(node: Lockstep) -> None:
    used_max = max(node.heap_used)
    print(
        f"\n{node.node_type} on the air: heap={HEAP[node.node_type]} used_max={used_max} steps={node.steps}"
    )
    assert not [line for line in node.log if "failed" in line], node.log
    assert node.peer.joins == 1
    assert len(node.peer.of(Hello)) == 2
    assert node.peer.of(Status)
    assert used_max < USED_MAX[node.node_type]


def test_two_days_of_a_river_on_the_air_in_its_heap(tmp_path: Path) -> None:
    with Lockstep(tmp_path, heap=HEAP["river"], radio=RADIO) as node:
        node.run(2 * 86_400)
        assert len(node.peer.of(Readings)) >= 40
        assert_it_fits(node)


def test_an_alarm_and_its_repeats_of_a_cover_on_the_air_in_its_heap(tmp_path: Path) -> None:
    with Lockstep(tmp_path, node_type="cover", powered=False, heap=HEAP["cover"], radio=RADIO) as node:
        motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=500)
        chip = Lis3dh(
            motion.acceleration, steady_until=motion.steady_until, offset_g=motion.offset_g, noise=20.0
        )
        node.attach(chip, motion=chip.int1)
        node.power_on()
        node.run(3600)
        motion.turn(node.now_ms / 1000, 30, 40, 1)
        chip.changed()
        node.run(300)
        assert [(event.code, event.state) for event in node.peer.of(Event)][-1] == (6, 1)
        node.run(4 * 3600)
        assert node.sleeps > 8
        assert_it_fits(node)


def test_trips_of_a_lift_on_the_air_in_its_heap(tmp_path: Path) -> None:
    lift = Lift(tmp_path, HEAP["lift"], RADIO)
    with lift.node as node:
        lift.serve()
        for floor in (1, 2, 3, 2, 1, 0, 2, 3):
            lift.ride(floor)
        node.run(120)
        assert len(lift.told(TRIP)) >= 8
        assert_it_fits(node)
