"""An elevator monitor as it is on a board: compiled, on the real MicroPython, in the heap it is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from protocols.wire.codes import TRACEBACK
from protocols.wire.messages import Event, Ping, Status
from tests.firmware.lockstep import Lockstep, compiled_tree

if TYPE_CHECKING:
    from pathlib import Path

HEIGHTS_M = (0.0, 4.5, 7.5, 10.45)
TRAPPED, TRIP, FLOORS_LEARNED = 13, 32, 43
# More than the 160 kB that a node is to run in (firmware/README.md): the detectors are 18 kB on the unix port, whose
# objects are twice a chip's, the drivers of the two chips 7 kB. Lower both figures as the node gets smaller.
HEAP = "160k"
# Of them, what the node may hold between two steps.
USED_MAX = 161_000


class Lift:
    """A lift of four floors; its car stands at the lowest, its door shut."""

    def __init__(
        self, folder: Path, heap: str = HEAP, radio: tuple[int, int, int, int] | None = None
    ) -> None:
        self.node = Lockstep(folder, node_type="lift", powered=False, heap=heap, radio=radio)
        self.shaft = Shaft(HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2))
        self.node.attach(Lis3dh(self.shaft.acceleration, seed=5))
        self.node.attach(Bmp390(self.shaft.air, seed=5))
        self.node.pins["door"] = 1
        self.node.power_on()
        self.node.run(15)

    @property
    def now_s(self) -> float:
        return self.node.now_ms / 1000

    def ride(self, floor: int) -> None:
        self.node.run(self.shaft.ride(self.now_s + 0.5, floor) - self.now_s + 2)
        self.serve()

    def serve(self) -> None:
        self.node.pins["door"] = 0
        self.node.run(4)
        self.node.pins["door"] = 1
        self.node.run(2)

    def told(self, code: int) -> list[Any]:
        return [event.detail for event in self.node.peer.of(Event) if event.code == code]


def test_trips_floors_and_a_trapped_passenger_in_its_heap(tmp_path: Path) -> None:
    lift = Lift(tmp_path)
    with lift.node as node:
        lift.serve()
        for floor in (1, 2, 3, 2, 1, 0, 2, 3):
            lift.ride(floor)
        node.pins["presence"] = 1
        stood_s = lift.shaft.stop_on_the_way(lift.now_s + 0.5, 0, 5.9)
        node.run(stood_s + 60 - lift.now_s)
        assert lift.told(TRAPPED) == []
        node.run(60)
        _, mpy_bytes = compiled_tree("lift")
        print(f"\nlift: mpy_bytes={mpy_bytes} heap={HEAP} used_max={max(node.heap_used)} steps={node.steps}")
        assert [detail[:2] for detail in lift.told(TRIP)][:8] == [
            [0, 1],
            [1, 2],
            [2, 3],
            [3, 2],
            [2, 1],
            [1, 0],
            [0, 2],
            [2, 3],
        ]
        assert lift.told(FLOORS_LEARNED) == [4]
        assert len(lift.told(TRAPPED)) == 1
        assert max(node.heap_used) < USED_MAX
        assert not [line for line in node.log if "failed" in line], node.log
        node.send(node.peer.send(Ping(1)))
        node.run(5)
        assert TRACEBACK not in node.peer.of(Status)[-1].health
