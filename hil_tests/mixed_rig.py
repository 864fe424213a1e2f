"""A street of several node types on the air, each on the real MicroPython and with releases of its own.

    shop = Workshop(folder)                             two releases of each type, signed
    with MixedRig(folder, shop, NODES, seed) as rig:
        rig.settle_in()
        rig.campaign("add", …)

Gateway, air and chips are those of air_rig.py, in one thread on a virtual clock.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.sx1262 import Sx1262
from flash_tools import release as releasing
from flash_tools import signing
from flash_tools.mint import mint
from flash_tools.release_book import Book, Release
from hil_tests.air_rig import AirRig
from hil_tests.cover_rig import CoverRig
from hil_tests.ota_story import ROOT, SOURCES
from hil_tests.sim_rig import identity_on
from hil_tests.street import AREA, FIRST_ADDRESS
from hil_tests.system import Books, told_by_gateway
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from hil_tests.world.mpy_station import MpyNode
from hil_tests.world.river import River

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hil_tests.world.sim_node import SimNode

BOARD = "virtual"
_HEIGHTS_M = (0.0, 4.5, 7.5, 10.5)
_DOOR_S, _PAUSE_S = 4.0, 2.0
# Reading a flash costs more than what a node does in that time.
_LOOK_S, _PATIENCE = 60.0, 120


class Workshop:
    """A maintainer's source tree, and the releases that were made of it."""

    def __init__(self, folder: Path, node_types: Sequence[str]) -> None:
        self.tree = folder / "source"
        self.node_types = tuple(node_types)
        left_out = shutil.ignore_patterns("__pycache__", "vectors", "*.md")
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.tree / name, ignore=left_out)
        self.book = Book.begin(folder / "releases", "tidegate.example")
        self._signer = signing.generate(folder / "release.key", "es256")
        self.book.add(self._signer.algorithm, self._signer.public, "daily")
        self.book.save()

    def change(self, name: str, before: str, after: str) -> None:
        path = self.tree / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name} has no such line any more: {before}"
        path.write_text(text.replace(before, after), encoding="utf-8")

    def release(self) -> dict[str, Release]:
        """The next one of each type."""
        made = {}
        for node_type in self.node_types:
            made[node_type] = releasing.build(self.book, self.tree, node_type, BOARD)
            releasing.sign(self.book, made[node_type], self._signer)
        return made


@dataclass(frozen=True)
class Member:
    """A node to be: ``settings`` beside those of its type, by key."""

    node_type: str
    site: str
    settings: Mapping[int, int]


class MixedRig(AirRig):
    """``flashed``: the release of each type that its nodes begin with."""

    def __init__(
        self,
        folder: Path,
        flashed: Mapping[str, Release],
        members: Sequence[Member],
        seed: int,
        **options: Any,
    ) -> None:
        self._flashed = {node_type: dict(release.files()) for node_type, release in flashed.items()}
        self.members = members
        self.shafts: dict[str, Shaft] = {}
        super().__init__(folder, 0, seed, **options)
        self.covers = sum(member.node_type == "cover" for member in members)

    def set_up(self) -> None:
        super().set_up()
        for index in range(len(self.members)):
            self._add_station(index)

    def _add_station(self, index: int) -> None:
        member, address = self.members[index], FIRST_ADDRESS + index
        name = f"{address:04x}"
        spot, snr_db = self._spot(name, member.node_type == "cover")
        self._spots[name] = spot
        minted = mint(
            out=self.folder,
            address=address,
            node_type=member.node_type,
            area=AREA,
            site=member.site,
            settings={**self._settled(snr_db), **member.settings},
            radio=self.radio_plan,
            random=self.random(f"mint {index}").randbytes,
        )
        image = minted.state_image.read_bytes()
        self.stations[name] = MpyNode(
            identity_on(image),
            image,
            self.world,
            River(self.seed + index).quantities,
            f"{self.seed} {index}",
            self.folder / f"board-{name}",
            self._flashed[member.node_type],
        )

    def outfit(self, station: SimNode) -> None:
        node_type, board = station.identity.node_type, station.station
        if node_type == "cover":
            CoverRig.outfit(self, station)
        elif node_type == "lift":
            shaft = self.shafts[station.name] = Shaft(_HEIGHTS_M, LiftDrive(1.6, 0.9, 1.2))
            board.attach(Lis3dh(shaft.acceleration, seed=self.seed))
            board.attach(Bmp390(shaft.air, seed=self.seed))
            board.set_pin("door", 1)
        chip = Sx1262(self.air, seed=self.seed)
        self.air.place(chip, station.name, self._spots[station.name])
        board.attach_radio(chip, self.clock)
        self.chips_on_air[station.name] = chip

    def ride(self, name: str, floor: int, at_s: float) -> float:
        """To a floor, from then on, and the door opened and shut there; when that is over. Seconds of the world."""
        shaft, board = self.shafts[name], self.stations[name].station
        end_s = shaft.ride(self.world.start_s + at_s + 0.5, floor) - self.world.start_s + _PAUSE_S
        self.world.at(end_s, lambda: board.set_pin("door", 0))
        self.world.at(end_s + _DOOR_S, lambda: board.set_pin("door", 1))
        return end_s + _DOOR_S + _PAUSE_S

    def settle_in(self) -> None:
        """Joined, and every cover knows how it lies."""
        self.wait_until(lambda: self.poses_learned >= self.covers, 4 * 3600, "poses of the covers")

    # -- who is there ----------------------------------------------------------------------------------------

    @property
    def boards(self) -> dict[str, MpyNode]:
        return {name: node for name, node in self.stations.items() if isinstance(node, MpyNode)}

    def named(self, site: str) -> MpyNode:
        at = next(index for index, member in enumerate(self.members) if member.site == site)
        return self.boards[f"{FIRST_ADDRESS + at:04x}"]

    def campaign(self, operation: str, **words: Any) -> dict[str, Any]:
        request = {"operation": f"campaign.{operation}", **words}
        found: dict[str, Any] = self.ask(lambda gateway: gateway.operations.handle(request, "mei"), 60)
        return found

    def deliver_all(self) -> None:
        """Tell them to measure no more, and wait until the city has every record that lies on a node's flash."""
        for name in self.boards:
            self._quiet(name)
        for _ in range(_PATIENCE):
            self.run_s(_LOOK_S)
            is_done = not self.alive.commands.nodes()
            if is_done and all(node.kept() <= self.judge.records.keys() for node in self.boards.values()):
                return

    # -- the books -------------------------------------------------------------------------------------------

    def books(self) -> Books:
        """What the nodes' flash says was kept, the store and the city, as they stand."""
        delivered = frozenset(self.judge.records)
        kept = frozenset().union(*(node.kept() for node in self.boards.values()))
        own = self.alive.store.read(lambda db: told_by_gateway(db, delivered))
        found = self.alive.store.read(
            lambda db: db.execute(
                "SELECT (SELECT count(*) FROM reading_view) + (SELECT count(*) FROM event_view)"
            ).fetchone()[0]
        )
        return Books(
            kept=kept | own,
            stored=int(found),
            delivered=delivered,
            listed_lost=0,
            copies=self.judge.copies,
            problems=tuple(self.judge.problems),
        )

    def close(self) -> None:
        for node in self.boards.values():
            node.station.power_cut()
        super().close()
