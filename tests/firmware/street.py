"""One simulated station, its gateway's end and the time between them, for tests of the node's behaviour on CPython."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hil_tests.world.flash import LittleFs
from hil_tests.world.sim_hal import SimStation
from protocols.wire import cbor, identity
from protocols.wire.document import encode as encode_document
from tests.firmware.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_MS = 1_790_000_000_000
IDENTITY = identity.Identity(0x10, b"master secret 16", b"salt 008", "river", "virtual", None, None)
CALM = {
    "water_temperature": 7.48,
    "ph": 8.37,
    "dissolved_oxygen": 9.80,
    "conductivity": 1258.0,
    "turbidity": 142.3,
    "orp": -210.0,
    "ammonia_nitrogen": 0.42,
    "level": 123.4,
}


class Street:
    """``water`` may be changed at any time; ``line`` may damage what passes (bytes, is it up) -> bytes."""

    def __init__(
        self,
        *,
        settings: Mapping[int, int] | None = None,
        powered: bool = True,
        node_type: str = "river",
        make_station: Callable[..., SimStation] = SimStation,
    ) -> None:
        self.now_ms = START_MS
        self.water = dict(CALM)
        self.line: Callable[[bytes, bool], bytes] = lambda data, _: data
        self.down: list[bytes] = []  # every write down the line, for playing it again
        self._nonces = 0
        who = IDENTITY._replace(node_type=node_type)
        self.station = make_station(who, now_ms=lambda: self.now_ms, water=lambda _: self._wobbling(), seed=1)
        self.peer = Peer(who, self._nonce, lambda: self.now_ms // 1000)
        self.station.to_gateway = self._up
        if settings is not None:
            mint(self.station, settings)
        if powered:
            self.station.power_on()

    @property
    def node(self) -> Any:
        assert self.station.node is not None, self.station.log[-1:]
        return self.station.node

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end_ms = self.now_ms + round(seconds * 1000)
        while self.now_ms < end_ms:
            wait_ms = self.station.step()
            if self.station.hal is not None and self.station.hal.link.pending:
                wait_ms = min(wait_ms, 2)
            self.now_ms = min(end_ms, self.now_ms + max(1, wait_ms))

    def say(self, message: Any) -> None:
        """The gateway sends a message of its own accord."""
        self.inject(self.peer.send(message))

    def inject(self, data: bytes) -> None:
        """Bytes that come down the line from wherever, and the node's reaction to them."""
        self._send(data)
        self.run(0.2)

    def _up(self, data: bytes) -> None:
        self._send(self.peer.feed(self.line(data, True)))

    def _send(self, data: bytes) -> None:
        if data:
            self.down.append(data)
            self.station.from_gateway(self.line(data, False))

    def _nonce(self, count: int) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(count, "big")

    def _wobbling(self) -> dict[str, float]:
        """The water with its last digit alive: a value that never moves is a fault of its own."""
        step = self.now_ms // 60_000 % 5 - 2
        return {name: value * (1 + 0.002 * step) for name, value in self.water.items()}


def mint(station: SimStation, settings: Mapping[int, int]) -> None:
    """Give a station settings before its first start."""
    fs = LittleFs(station.flash)
    data = cbor.dumps([0, dict(settings)])
    for folder in ("/a", "/b"):
        fs.mkdir(folder)
        with fs.open(folder + "/settings", "wb") as file:
            file.write(encode_document("settings", 1, data))
