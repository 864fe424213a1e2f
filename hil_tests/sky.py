"""The air over a street of virtual nodes, in real time: a concentrator on a roof, and its packet forwarder on loopback.

    sky = Sky(seed=1)
    sky.join(board, "lid-1", Spot(150, 80, is_under_iron=True))     before power on
    sky.start()
    sky.air.taps.append(flights.append)                             see hil_tests/README.md, "The simulated air"

All of it lives on the thread of the virtual boards' hub: `sky.call` for what touches the air.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.clock import BoardClock
from boards.virtual.hub import shared_hub
from boards.virtual.supervisor import VirtualBoard
from flash_tools.radio_plan import Radio
from hil_tests.world.air import Air, Flight
from hil_tests.world.air_socket import AirServer
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.forwarder import Forwarder
from hil_tests.world.forwarder_udp import UdpLeg
from hil_tests.world.propagation import Spot, open_air
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS

_T = TypeVar("_T")

# As a node is minted (SPEC.md 7.1): CN470, eight channels from 80 on, any spreading factor.
RADIO: Radio = (0, 80, 8, 0)
EUI = 0xAA555A0000000001
ROOF = Spot(0, 0, is_high=True)
# A gateway that was restarted hears of its roof again that soon.
_KEEPALIVE_S = 2.0


class Sky:
    """``server``: where the gateway listens; else a free port on loopback, which it is to bind."""

    def __init__(self, seed: int, radio: Radio = RADIO, server: tuple[str, int] | None = None) -> None:
        self.server = server or ("127.0.0.1", _free_udp_port())
        self.radio = radio
        self._seed = seed
        self._hub = shared_hub()
        self._clock = BoardClock(time.time())
        self.chips: dict[str, Sx1262] = {}
        self.air = Air(self._clock, open_air(), seed)
        law = Law(radio[0])
        freqs_hz = [law.freq_hz(radio[1] + index) for index in range(radio[2])]
        self._leg = UdpLeg(self._hub, self.server)
        self.forwarder = Forwarder(
            Concentrator(self.air, "roof", ROOF, freqs_hz),
            self._clock,
            EUI,
            self._leg.send,
            unix_s=time.time,
            seed=seed,
            keepalive_s=_KEEPALIVE_S,
        )
        self.call(lambda: self._hub.add_clock(self._clock))
        self.call(lambda: self._leg.attach(self.forwarder))

    def join(self, board: VirtualBoard, name: str, spot: Spot) -> None:
        """Give a board a radio, and its antenna a place."""
        chip = self.chips[name] = Sx1262(self.air, seed=self._seed + len(self.chips))
        self.call(lambda: self.air.place(chip, name, spot))
        board.attach_radio(chip)

    def serve(self, folder: Path) -> AirServer:
        """Let boards of other processes join, by a socket in that folder."""
        return AirServer(self._hub, self.air, folder, self.radio)

    def start(self) -> None:
        self.call(self.forwarder.start)

    def call(self, function: Callable[[], _T]) -> _T:
        """Do something to the air: on the thread on which it lives."""
        return self._hub.call(function)

    def say_again(self, name: str, flight: Flight) -> None:
        """Somebody with a transmitter on the spot of that antenna sends what was recorded."""
        self.call(lambda: self.air.transmit(self.chips[name], flight.signal))

    def tables(self) -> list[str]:
        """What the gateway's configuration has to say of it."""
        plan, channel, channels, _ = self.radio
        bind = f"{self.server[0]}:{self.server[1]}"
        return [
            f'[lora]\nplan = "{PLANS[plan][0]}"\nchannel = {channel}\nchannels = {channels}\n',
            f'[[semtech]]\nname = "roof"\nbind = "{bind}"\ngateways = ["{EUI:016x}"]\n',
        ]

    def close(self) -> None:
        def end() -> None:
            self.forwarder.stop()
            self._leg.close()
            self._hub.remove_clock(self._clock)

        self.call(end)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
