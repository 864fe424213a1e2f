"""The smallest street with a bridge, as everything ships and in real time: MicroPython at both ends of the air, a
serial port, and the daemon in its own process.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.clock import BoardClock
from boards.virtual.hub import shared_hub
from boards.virtual.supervisor import VirtualBoard
from flash_tools.mint import MINT_FILE, mint
from hil_tests.outbox_reader import OutboxContents, read_outbox
from hil_tests.places import HEAP_ON_AIR, RiverPlace
from hil_tests.street import AREA, GatewayProcess, app_image
from hil_tests.world.air import Air
from hil_tests.world.propagation import Spot, open_air

_RADIO = (0, 80, 1, 7)
_BRIDGE, _NODE = 0xB001, 0x0010
_AIR_TABLES = """
[lora]
plan = "cn470"
channel = 80
channels = 1
sf = 7

[[bridge]]
name = "roof"
path = "{path}"
"""


class BridgedGateway(GatewayProcess):
    def __init__(self, folder: Path, bridge: Path) -> None:
        self._bridge = bridge
        super().__init__(folder, {}, None)

    def _toml(self, links: dict[str, Path], mqtt: tuple[str, int] | None) -> str:
        return super()._toml(links, mqtt) + _AIR_TABLES.format(path=self._bridge)


class BridgedStreet:
    """One river station on the air, one bridge that hears it, one gateway."""

    def __init__(self, folder: Path) -> None:
        self._hub = shared_hub()
        self._clock = BoardClock(time.time())
        self._hub.call(lambda: self._hub.add_clock(self._clock))
        self.air = Air(self._clock, open_air())
        self.river = self._board(folder, "river", _NODE, Spot(600, 0), HEAP_ON_AIR)
        RiverPlace("weir-1", seed=1).attach(self.river)
        self.bridge = self._board(folder, "bridge", _BRIDGE, Spot(0, 0, is_high=True), "160k")
        self.gateway = BridgedGateway(folder / "gateway", self.bridge.link_path)
        self.gateway.cli("node", "import", str(folder / MINT_FILE))

    def _board(self, folder: Path, node_type: str, address: int, spot: Spot, heap_size: str) -> VirtualBoard:
        is_bridge = node_type == "bridge"
        minted = mint(
            out=folder,
            address=address,
            node_type=node_type,
            area=None if is_bridge else AREA,
            site=None if is_bridge else "weir-1",
            settings={} if is_bridge else {0: 2, 1: 2, 2: 10},
            radio=_RADIO,
        )
        image = minted.state_image.read_bytes()
        board = VirtualBoard(
            folder / node_type, app_image=app_image(node_type), state_image=image, heap_size=heap_size
        )
        chip = Sx1262(self.air)
        self._hub.call(lambda: self.air.place(chip, node_type, spot))
        board.attach_radio(chip)
        return board

    def start(self) -> None:
        self.gateway.start()
        self.bridge.power_on()
        self.river.power_on()

    def outbox(self) -> OutboxContents:
        return read_outbox(f"{_NODE:04x}", self.river.read_partition("state", live=True))

    def stored(self) -> int:
        with closing(sqlite3.connect(f"file:{self.gateway.database}?mode=ro", uri=True)) as reader:
            (count,) = reader.execute(
                "SELECT (SELECT count(*) FROM reading) + (SELECT count(*) FROM event)"
            ).fetchone()
        return int(count)

    def is_ready(self) -> bool:
        """Whether the daemon says that the bridge hears what it should."""
        return self.gateway.metrics().get('tidegate_radio_open{radio="roof"}') == 1

    def wait(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                consoles = [board.console[-800:] for board in (self.river, self.bridge)]
                raise TimeoutError(
                    f"no {what}; {consoles} {dict(self.air.counts)}\n{self.gateway.log_tail()}"
                )
            time.sleep(0.1)

    def close(self) -> None:
        self.river.close()
        self.bridge.close()
        self.gateway.kill()
        self._hub.call(lambda: self._hub.remove_clock(self._clock))
