"""A fleet of light nodes on one gateway, and releases for them: what a campaign of a thousand nodes is tested with.

    shop = Shop(folder)                          signed releases, small, of the real tools
    fleet = Fleet(world, random)
    fleet.add(address, keys, shop.program(1), fate)
    fleet.plug(gateway)                          after each start of it; fleet.unplug() before its end
    fleet.switch_on()

Each node has a serial line of its own as far as it can tell; to the gateway they are one link, so that a thousand nodes
cost no thousand ports.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flash_tools import release as releasing
from flash_tools import signing
from flash_tools.naming import Names
from flash_tools.release_book import Book, Release
from gateway.links.port import Counters
from hil_tests.world.fleet_node import HEALTHY, FleetNode, Program
from hil_tests.world.light_node import NODE_TYPE
from protocols.wire.limits import MAX_FRAME
from protocols.wire.release import FILE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.keys import NodeKeys
    from hil_tests.world.sim_gateway import SimGateway
    from hil_tests.world.sim_world import World

BOARD = "virtual"
# 115200 baud, and what an operating system and a USB bridge add.
_BYTE_S = 10 / 115_200
_LATENCY_S = (0.001, 0.016)
# Nodes are not switched on all at the same moment.
_SWITCH_ON_S = 60.0


class Shop:
    """Releases of a program in small. What they are signed, packed and described by is what ships."""

    def __init__(self, folder: Path, files: int = 40) -> None:
        self.book = Book.begin(folder / "releases", "tidegate.example")
        self._signer = signing.generate(folder / "release.key", "es256")
        self.book.add(self._signer.algorithm, self._signer.public, "daily")
        self.book.save()
        self._files = files

    def release(self, sequence: int) -> Release:
        """The next one, signed, with deltas from the two before it."""
        bases = self.book.releases(NODE_TYPE, BOARD)
        said: dict[str, Any] = {
            "notes": "",
            "commit": None,
            "after": bases[-1].sequence if bases else None,
            "names": Names().dump(),
        }
        files = dict(self._contents(sequence))
        made = releasing.put(self.book, NODE_TYPE, BOARD, sequence, files, bases[-releasing.DELTAS :], said)
        releasing.sign(self.book, made, self._signer)
        return made

    def _contents(self, sequence: int) -> Iterator[tuple[str, bytes]]:
        """A few modules change with each release, the others do not."""
        yield "main.py", b"from firmware import main\n"
        yield FILE, self.book.release_file(sequence, NODE_TYPE, BOARD)
        for number in range(self._files):
            noise = b"".join(hashlib.sha256(b"%d %d" % (number, part)).digest() for part in range(60))
            if number % 4 == 0:
                noise = (
                    noise[:900] + hashlib.sha256(b"%d of %d" % (number, sequence)).digest() * 4 + noise[900:]
                )
            yield f"firmware/module_{number}.mpy", noise

    def program(self, sequence: int) -> Program:
        """A node that was flashed with it."""
        found = self.book.find(f"{NODE_TYPE}-{BOARD}/{sequence}")
        return Program(tuple(sorted(found.files().items())))


class FleetLink:
    """The gateway's end of all lines of a fleet. One for each life of a gateway."""

    listens = True
    can_answer = True
    wants_answer = True
    room = MAX_FRAME
    is_open = True
    last_error = ""
    queued = 0
    name = "fleet"

    def __init__(self, fleet: Fleet, gateway: SimGateway) -> None:
        self.counters = Counters()
        self._fleet = fleet
        self._gateway = gateway

    def send(self, address: int, frame: bytes) -> bool:
        self.counters.frames_out += 1
        self._fleet.down(address, frame)
        return True

    def heard(self, frame: bytes) -> None:
        self.counters.frames_in += 1
        self._gateway.loop.call_soon(self._gateway.ingest.frame, self, frame)


class Fleet:
    def __init__(self, world: World, rng: random.Random, loss: float = 0.0) -> None:
        self.world = world
        self.rng = rng
        self.loss = loss  # of frames, either way
        self.nodes: dict[int, FleetNode] = {}
        self.unplugged: set[int] = set()  # nodes whose line leads nowhere
        self.frames_up = self.frames_down = 0
        self._link: FleetLink | None = None
        self._free_s: dict[int, float] = {}

    def add(
        self, address: int, keys: NodeKeys, program: Program, report_s: float, fate: str = HEALTHY
    ) -> FleetNode:
        line = _Line(self, address)
        node = FleetNode(line, address, keys, self.rng, report_s, program, fate)
        self.nodes[address] = node
        return node

    def switch_on(self) -> None:
        for node in self.nodes.values():
            self.world.after(self.rng.uniform(0, _SWITCH_ON_S), node.power_on)

    # -- the lines ---------------------------------------------------------------------------------------------------

    @property
    def is_heard(self) -> bool:
        return self._link is not None

    def plug(self, gateway: SimGateway) -> None:
        self._link = FleetLink(self, gateway)

    def unplug(self) -> None:
        self._link = None

    def up(self, frame: bytes) -> None:
        """What is on its way when a gateway ends is lost with it."""
        self.frames_up += 1
        link = self._link
        if link is None or self.rng.random() < self.loss:
            return
        self.world.after(self._takes_s(frame), lambda: link.heard(frame) if link is self._link else None)

    def down(self, address: int, frame: bytes) -> None:
        """Frames to one node keep their order, and take their time."""
        self.frames_down += 1
        if self.rng.random() < self.loss or address not in self.nodes or address in self.unplugged:
            return
        begins_s = max(self.world.now_s, self._free_s.get(address, 0.0))
        self._free_s[address] = arrives_s = begins_s + self._takes_s(frame)
        self.world.at(arrives_s, lambda: self.nodes[address].hear(frame))

    def _takes_s(self, frame: bytes) -> float:
        return len(frame) * _BYTE_S + self.rng.uniform(*_LATENCY_S)


class _Line:
    """A node's end of its line."""

    def __init__(self, fleet: Fleet, address: int) -> None:
        self.world = fleet.world
        self._fleet = fleet
        self._address = address

    @property
    def is_heard(self) -> bool:
        return self._fleet.is_heard and self._address not in self._fleet.unplugged

    def up(self, frame: bytes) -> None:
        if self.is_heard:
            self._fleet.up(frame)
        else:
            self._fleet.frames_up += 1
