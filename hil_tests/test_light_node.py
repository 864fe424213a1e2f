"""Light nodes say of an update what the firmware says: one of each, behind one gateway, in one campaign.

What is compared is what the gateway heard: hellos with the release that runs, answers about updates, and how they
ended, in their order. The same thing said again, because nobody answered, is one thing.
"""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING

import pytest

from flash_tools.mint import MINT_FILE, mint
from gateway.campaign_files import read_folder
from gateway.node_file import parse
from gateway.registry import By
from hil_tests.fleet_rig import FleetRig
from hil_tests.sim_rig import identity_on
from hil_tests.street import AREA
from hil_tests.world.fleet_node import HEALTHY, UNHEALTHY
from hil_tests.world.light_node import NODE_TYPE
from hil_tests.world.river import River
from hil_tests.world.sim_line import SimLine
from hil_tests.world.sim_node import SimNode
from hil_tests.world.sim_slots import SlotStation
from protocols.wire import codes, outcomes
from protocols.wire.messages import Event, Hello
from protocols.wire.update import UpdateStatus

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.ingest import Heard

_HOUR_S = 3600
_REAL = 0x0100
_RELEASE = 2
_REPORT_S = 600


class Pair(FleetRig):
    """A light node, and a real one on a line of its own."""

    def __init__(self, folder: Path, fate: str, seed: int = 1) -> None:
        self.said: dict[int, list[str]] = {}
        self._fate = fate
        self.cuts_lines = False  # of each node, as soon as it is on trial
        super().__init__(folder, [fate], seed, _REPORT_S)
        gc.freeze()  # a node on trial collects garbage every ten seconds: not that of all tests before this one

    def close(self) -> None:
        gc.unfreeze()
        super().close()

    def set_up(self) -> None:
        super().set_up()
        self.newest = self.shop.release(_RELEASE)
        minted = mint(
            out=self.folder, address=_REAL, node_type=NODE_TYPE, area=AREA, site="real",
            settings={0: _REPORT_S, 1: 1, 2: _REPORT_S}, random=self.random("mint").randbytes,
        )  # fmt: skip
        image = minted.state_image.read_bytes()
        name = f"{_REAL:04x}"
        self.lines[name] = line = SimLine(name, self.world, self.random("line"))
        files = dict(self.shop.program(1).files)
        self.real = SimNode(
            identity_on(image), image, self.world, line, River(self.seed).quantities, f"{self.seed} real",
            functools.partial(SlotStation, files=files),
        )  # fmt: skip
        self.stations[name] = self.real
        self.slots.on_release = self._released

    @property
    def slots(self) -> SlotStation:
        assert isinstance(self.real.station, SlotStation)
        return self.real.station

    def _released(self, sequence: int) -> None:
        """A release of this world differs in what its sensors say, and in nothing else."""
        if sequence == _RELEASE and self.cuts_lines:
            self.lines[f"{_REAL:04x}"].unplug()
        is_bad = sequence == _RELEASE and self._fate == UNHEALTHY
        self.real.station.sonde.fault = "silent" if is_bad else None

    @property
    def is_cut(self) -> bool:
        """Whether both are on trial, and cut off."""
        for address, node in self.fleet.nodes.items():
            if node.is_installing:
                self.fleet.unplugged.add(address)
        return bool(self.fleet.unplugged) and not self.lines[f"{_REAL:04x}"].plugged

    def join_lines(self) -> None:
        self.cuts_lines = False
        self.fleet.unplugged.clear()
        self.lines[f"{_REAL:04x}"].replug()

    def enrol(self) -> None:
        super().enrol()
        minted = parse((self.folder / MINT_FILE).read_text(encoding="utf-8"), MINT_FILE)
        self.ask(lambda gateway: gateway.registry.import_nodes(minted, By("rig", "test")))

    def start_gateway(self) -> None:
        super().start_gateway()
        downlink = self.alive.downlink
        on_heard = downlink.on_heard

        def hear(heard: list[Heard]) -> None:
            for one in heard:
                self._note(one)
            on_heard(heard)

        downlink.on_heard = hear  # type: ignore[method-assign]

    def _note(self, one: Heard) -> None:
        message, said = one.message, self.said.setdefault(one.node.address, [])
        told = ""
        if isinstance(message, Hello):
            told = f"hello {message.firmware.partition('+')[2]}"
        elif isinstance(message, UpdateStatus):
            told = f"update {message.release} {message.answer.hex()}"
        elif isinstance(message, Event) and message.code == codes.UPDATE:
            told = f"ended {message.detail}"
        if told and said[-1:] != [told]:
            said.append(told)

    def begin(self) -> None:
        request = {
            "operation": "campaign.add", "why": "test", "name": "one", "releases": [read_folder(self.newest.folder)],
            "canary": 0, "shares": [1.0], "by": "", "types": [], "areas": [], "boards": [], "nodes": [],
            "windows": [], "zone": "", "air_share": 0.05, "halt_share": 1.0, "halt_count": 3,
            "patience_s": 5 * 24 * _HOUR_S, "soak_s": 0,
        }  # fmt: skip
        self.ask(lambda gateway: gateway.operations.handle(request, "mei"))

    def both(self) -> tuple[list[str], list[str]]:
        light = next(iter(self.fleet.nodes))
        return self.said[_REAL], self.said[light]


def _outcome(said: list[str]) -> int:
    ended = [one for one in said if one.startswith("ended")]
    assert len(ended) == 1, said
    return int(ended[0].rstrip("]").split()[-1])


@pytest.mark.parametrize(
    ("fate", "outcome"), [(HEALTHY, outcomes.INSTALLED), (UNHEALTHY, outcomes.UNHEALTHY)]
)
def test_an_update_that_is_kept_and_one_that_is_given_up(tmp_path: Path, fate: str, outcome: int) -> None:
    with Pair(tmp_path, fate) as pair:
        pair.run_s(120)
        pair.begin()
        pair.run_s(2 * _HOUR_S)
        real, light = pair.both()
        assert real == light
        assert _outcome(real) == outcome


@pytest.mark.soak
@pytest.mark.parametrize(("off_h", "outcome"), [(24, outcomes.INSTALLED), (74, outcomes.SILENT)])
def test_nobody_answers_while_it_is_on_trial(tmp_path: Path, off_h: int, outcome: int) -> None:
    with Pair(tmp_path, HEALTHY) as pair:
        pair.cuts_lines = True
        pair.run_s(120)
        pair.begin()
        pair.wait_until(lambda: pair.is_cut, 2 * _HOUR_S, "trial of both")
        pair.run_s(off_h * _HOUR_S)
        pair.join_lines()
        pair.run_s(_HOUR_S)
        # Answers that were under way when the line was unplugged are not compared.
        real, light = ([one for one in said if not one.startswith("update")] for said in pair.both())
        assert real == light
        assert _outcome(real) == outcome
