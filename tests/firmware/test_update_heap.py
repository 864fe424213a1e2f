"""A release on trial beside its node at work, judged and confirmed, in a stated heap.

A river station has room for it in the 160 kB of its ordinary life, a cover and a lift have not: DESIGN.md says so.
The starter's few names are not here; test_update_on_board.py has them, with a river station.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from firmware import pending, slots
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.lift_shaft import Shaft
from hil_tests.world.street_cover import CoverMotion
from protocols.wire import codes, outcomes
from protocols.wire.messages import Event
from tests.firmware.lockstep import STATE_BLOCKS, Lockstep
from tests.firmware.street import START_MS
from tests.firmware.test_lift_micropython import HEIGHTS_M, LiftDrive

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCE = 7
HEAPS = {"river": "160k", "cover": "164k", "lift": "176k"}
QUICK = ("cover", "river")


def on_trial(node: Lockstep) -> None:
    """Its state and its slots as a start after an installation finds them."""
    flash = Flash(image=node.state.read_bytes())
    found = pending.Pending(LittleFs(flash))
    found.f[pending.PHASE], found.f[pending.SEQUENCE] = pending.ON_TRIAL, SEQUENCE
    found.save()
    node.state.write_bytes(bytes(flash.image))
    app = Flash(STATE_BLOCKS)
    LittleFs.mkfs(app)
    slots.Slots(LittleFs(app)).save(1, 0, 1, 1, SEQUENCE)
    node.state.with_suffix(".bin.app").write_bytes(bytes(app.image))


def fitted(node: Lockstep) -> None:
    """With the chips of its type."""
    if node.node_type.startswith("cover"):
        motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=500)
        chip = Lis3dh(motion.acceleration, steady_until=motion.steady_until, noise=20.0)
        node.attach(chip, motion=chip.int1)
    if node.node_type == "lift":
        shaft = Shaft(HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2))
        node.attach(Lis3dh(shaft.acceleration, seed=5))
        node.attach(Bmp390(shaft.air, seed=5))
        node.pins["door"] = 1


def judge(node_type: str, folder: Path) -> None:
    heap = HEAPS[node_type]
    with Lockstep(folder, node_type=node_type, powered=False, heap=heap) as node:
        fitted(node)
        on_trial(node)
        node.power_on()
        node.run(600)
        told = [event.detail for event in node.peer.of(Event) if event.code == codes.UPDATE]
        print(
            f"\nnode_type={node_type} heap={heap} trial_used_max={max(node.heap_used)} lives={node.sleeps + 1}"
        )
        assert told == [[SEQUENCE, outcomes.INSTALLED]], node.log
        assert not [line for line in node.log if "failed" in line], node.log
        assert node.resets == 0
        app = Flash(image=node.state.with_suffix(".bin.app").read_bytes())
        assert slots.Slots(LittleFs(app)).record[:2] == [0, slots.NONE]


@pytest.mark.parametrize("node_type", QUICK)
def test_a_trial_fits_beside_the_node(node_type: str, tmp_path: Path) -> None:
    judge(node_type, tmp_path)


@pytest.mark.soak
def test_a_trial_of_a_lift_fits_beside_it(tmp_path: Path) -> None:
    """The chips that other types have besides are not stood in for here."""
    judge("lift", tmp_path)
