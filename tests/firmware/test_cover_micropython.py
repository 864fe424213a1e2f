"""A manhole cover as it is on a board: compiled, on the real MicroPython, a process for each wake, in 160 kB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.virtual.chips.lis3dh import Lis3dh
from hil_tests.world.street_cover import CoverMotion
from protocols.wire.messages import Event, Hello, Readings, Status
from tests.firmware.lockstep import Lockstep, compiled_tree
from tests.firmware.street import START_MS

if TYPE_CHECKING:
    from pathlib import Path

# What a cover starts and joins with (firmware/README.md).
HEAP = "160k"
# Between two steps. It needs all of the 160 kB: the machines, their driver and the nap are 20 kB of objects that are
# twice as large here as on a chip.
USED_MAX = 155_000


def test_days_alarms_and_wakes_in_its_heap(tmp_path: Path) -> None:
    with Lockstep(tmp_path, node_type="cover", powered=False, heap=HEAP) as node:
        motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=500)
        chip = Lis3dh(
            motion.acceleration, steady_until=motion.steady_until, offset_g=motion.offset_g, noise=20.0
        )
        node.attach(chip, motion=chip.int1)
        node.power_on()
        node.run(3600)
        for angle, code in ((30, 6), (170, 7), (8, 8)):
            motion.turn(node.now_ms / 1000, angle, 40, 1)
            chip.changed()
            node.run(700)
            motion.turn(node.now_ms / 1000, 0, 40, 1)
            chip.changed()
            node.run(200)
            told = [(event.code, event.state) for event in node.peer.of(Event)]
            assert told[-2:] == [(code, 1), (code, 0)]
        node.run(2 * 86_400)
        _, mpy_bytes = compiled_tree("cover")
        print(
            f"\ncover: mpy_bytes={mpy_bytes} heap={HEAP} used_max={max(node.heap_used)} "
            f"wakes={node.sleeps} steps={node.steps}"
        )
        assert max(node.heap_used) < USED_MAX
        assert not [line for line in node.log if "failed" in line], node.log
        assert len(node.peer.of(Readings)) >= 3
        assert len(node.peer.of(Hello)) == 2, "those of the join: a wake says no hello"
        health = node.peer.of(Status)[-1].health
        assert health[0] == 1, "boots"
        assert 8 <= health[17] <= node.sleeps
