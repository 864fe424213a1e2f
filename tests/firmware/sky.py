"""A node on the air, and as much of a gateway as SPEC.md section 7 asks of one, on a clock that jumps.

Firmware and driver are the real ones; chip and air are simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.ether import Reception, Signal
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, AirClock, Flight, air_s
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.propagation import Spot, open_air
from hil_tests.world.sim_hal import SimStation
from protocols.wire import fragments
from protocols.wire.law import CN470, Law
from tests.firmware.peer import Peer
from tests.firmware.street import CALM, IDENTITY, START_MS, mint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hil_tests.world.flash import BlockDevice

RADIO = (CN470, 80, 8, 0)


class Place(Protocol):
    """Where a gateway stands: an air, its clock, and what is allowed there."""

    @property
    def air(self) -> Air: ...
    @property
    def agenda(self) -> AirClock: ...
    @property
    def law(self) -> Law: ...


class AirPeer:
    """A gateway: a concentrator in its place, and answers in the windows.

    ``spoils``: whether a downlink is to be lost, by its packet. ``says``: what else it has to say to the next uplink.
    """

    def __init__(self, sky: Place, peer: Peer, freqs_hz: list[int]) -> None:
        self.sky = sky
        self.peer = peer
        self.concentrator = Concentrator(sky.air, "gateway", Spot(300.0, 0.0), freqs_hz)
        self.concentrator.on_packet = self._heard
        self.collector = fragments.Collector(4)
        self.spoils: Callable[[bytes], bool] = lambda frame: False
        self.says: list[Callable[[int], Any]] = []  # made of the PIV that it answers
        self.late_ms = 0  # of the first downlink
        self.packets: list[Signal] = []  # uplinks that were heard whole
        self.sent: list[bytes] = []  # packets, in order
        self.wanted: list[bool] = []  # of each frame
        self._tag = 0

    def _heard(self, reception: Reception) -> None:
        if not reception.is_intact:
            return
        self.packets.append(reception.signal)
        packet = reception.signal.payload
        if packet[0] & fragments.KIND == fragments.FRAGMENT:
            frame = self.collector.take(packet, int(self.sky.agenda.now_s()))
            wants = True
        else:
            wants = packet[0] & fragments.KIND == fragments.WANTS_ANSWER
            frame = bytes((packet[0] & ~fragments.WANTS_ANSWER,)) + packet[1:]
        if frame is not None:
            self.wanted.append(wants)
            self._answer(reception.signal, frame, wants)

    def _answer(self, signal: Signal, frame: bytes, wants: bool) -> None:
        peer = self.peer
        count = len(peer.messages)
        replies = peer.answers(frame)
        if len(peer.messages) == count or peer.mute:
            return
        if not frame[0] & 0x10:  # not the first hello of a join, which a challenge answers
            replies = (replies or [peer.epoch.seal(peer.ack())]) if wants else []
            replies += [peer.epoch.seal(says(peer.latest_piv)) for says in self.says]
            self.says = []
        room = self.sky.law.size_max(signal.sf)
        packets: list[bytes] = []
        for reply in replies:
            self._tag = (self._tag + 1) & 0xFF
            packets += fragments.split(reply, peer.identity.address, self._tag, room)
        self._send(signal, packets, 1.0 + self.late_ms / 1000)

    def _send(self, up: Signal, packets: list[bytes], after_s: float) -> None:
        if not packets:
            return
        payload, *rest = packets
        signal = up._replace(is_inverted=True, payload=payload, dbm=17.0)
        lost = self.spoils(payload)

        def begin() -> None:
            self.sent.append(payload)
            if not lost:
                self.concentrator.send(signal)
            self.sky.agenda.call_later(air_s(signal), lambda: self._send(up, rest, 0.4))

        self.sky.agenda.call_later(after_s, begin)


class Sky:
    """``chips``: what the radio is made with. ``node``: when it is awake."""

    def __init__(
        self,
        *,
        settings: Mapping[int, int] | None = None,
        node_type: str = "river",
        radio: tuple[int, int, int, int] = RADIO,
        seed: int = 1,
        sleep_drift: float = 0.0,
        boot_ms: int = 0,
        powered: bool = True,
        flash: BlockDevice | None = None,
        prepare: Callable[[SimStation], None] = lambda station: None,
        make_station: Callable[..., SimStation] = SimStation,
    ) -> None:
        self.agenda = Agenda()
        self.law = Law(radio[0])
        self.air = Air(self.agenda, open_air(), seed)
        self.flights: list[Flight] = []  # what anybody sent
        self.air.taps.append(self.flights.append)
        self.water = dict(CALM)
        who = IDENTITY._replace(node_type=node_type, radio=radio)
        self.station = make_station(
            who,
            now_ms=self.now_ms,
            water=lambda _: self._wobbling(),
            seed=seed,
            sleep_drift=sleep_drift,
            flash=flash,
        )
        self.station.boot_ms = boot_ms
        self.chip = Sx1262(self.air, seed=seed)
        self.air.place(self.chip, "node", Spot(0.0, 0.0))
        self.station.attach_radio(self.chip, self.agenda)
        freqs_hz = [self.law.freq_hz(radio[1] + index) for index in range(radio[2])]
        self._nonces = 0
        self.peer = Peer(who, self._nonce, lambda: self.now_ms() // 1000)
        self.gateway = AirPeer(self, self.peer, freqs_hz)
        self.steps = 0
        prepare(self.station)
        if settings is not None:
            mint(self.station, settings)
        if powered:
            self.station.power_on()

    def now_ms(self) -> int:
        return START_MS + int(self.agenda.now_s() * 1000 + 1e-6)

    @property
    def node(self) -> Any:
        assert self.station.node is not None, self.station.log[-1:]
        return self.station.node

    def uplinks(self) -> list[Flight]:
        return [flight for flight in self.flights if not flight.signal.is_inverted]

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end_s = self.agenda.now_s() + seconds
        while self.agenda.now_s() < end_s:
            self.steps += 1
            wait_s = max(1, self.station.step()) / 1000
            self.agenda.run_until(min(end_s, self.agenda.now_s() + wait_s))

    def _nonce(self, count: int) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(count, "big")

    def _wobbling(self) -> dict[str, float]:
        """The water with its last digit alive: a value that never moves is a fault of its own."""
        step = self.now_ms() // 60_000 % 5 - 2
        return {name: value * (1 + 0.002 * step) for name, value in self.water.items()}
