"""A gateway with a fleet of light nodes behind it, on a virtual clock: what campaigns are tested in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.keys import NodeKeys
from gateway.node_file import MintedNode
from gateway.registry import By
from hil_tests.sim_rig import SimRig
from hil_tests.street import AREA, FIRST_ADDRESS
from hil_tests.world.fleet import Fleet, Shop
from hil_tests.world.fleet_node import HEALTHY
from hil_tests.world.light_node import NODE_TYPE
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hil_tests.world.fleet_node import FleetNode, Program

_BY = By("rig", "test")


class FleetRig(SimRig):
    """``fates``: one for each node. ``runs``: the release of each; None: the first."""

    def __init__(
        self,
        folder: Path,
        fates: Sequence[str],
        seed: int,
        report_s: float = 3600,
        runs: Mapping[int, int] | None = None,
        releases: int = 1,
        loss: float = 0.0,
    ) -> None:
        self.fates = fates
        self._runs = runs or {}
        self._report_s = report_s
        self._releases = releases
        self._loss = loss
        super().__init__(folder, stations=0, seed=seed)

    def set_up(self) -> None:
        self.shop = Shop(self.folder)
        programs = {number: self._flashed(number) for number in range(1, self._releases + 1)}
        self.fleet = Fleet(self.world, self.random("fleet"), self._loss)
        keys = self.random("keys").randbytes
        for index, fate in enumerate(self.fates):
            secret = NodeKeys(keys(MASTER_SECRET_SIZE), keys(MASTER_SALT_SIZE))
            program = programs[self._runs.get(index, 1)]
            self.fleet.add(FIRST_ADDRESS + index, secret, program, self._report_s, fate)

    def _flashed(self, number: int) -> Program:
        self.shop.release(number)
        return self.shop.program(number)

    def enrol(self) -> None:
        minted = [
            MintedNode(address, NODE_TYPE, AREA, f"site-{address:04x}", node.keys)
            for address, node in self.fleet.nodes.items()
        ]
        self.ask(lambda gateway: gateway.registry.import_nodes(minted, _BY), timeout_s=600)
        self.fleet.switch_on()

    def start_gateway(self) -> None:
        super().start_gateway()
        self.fleet.plug(self.alive)

    def kill_gateway(self) -> None:
        self.fleet.unplug()
        super().kill_gateway()

    def having(self, fate: str = HEALTHY) -> list[FleetNode]:
        return [node for node in self.fleet.nodes.values() if node.fate == fate]
