"""A bridge on CPython with a simulated chip, and the gateway's end of its line."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from firmware.bridge import CHANNEL, Bridge
from firmware.hal.lines import Lines
from hil_tests.world.flash import LittleFs
from hil_tests.world.sim_hal import blank_flash
from protocols.wire import framing
from protocols.wire.identity import Identity
from tests.firmware.radio_rig import Clock, Rig

_US = 1 << 32


def identity(radio: tuple[int, int, int, int] | None = (0, 0, 1, 9), node_type: str = "bridge") -> Identity:
    return Identity(0x0B01, bytes(16), bytes(8), node_type, "virtual", None, radio)


class Heard(NamedTuple):
    at_us: int
    freq_hz: int
    sf: int
    rssi_dbm: int
    snr_tenth_db: int
    packet: bytes


class Result(NamedTuple):
    number: int
    code: int
    detail: str


class State(NamedTuple):
    form: int
    plan_id: int
    channel: int
    sf: int
    at_us: int
    firmware: str


class GatewayEnd:
    """What a gateway says and hears, by SPEC.md section 8 and nothing else."""

    def __init__(self) -> None:
        self._decoder = framing.Decoder()
        self.heard: list[Heard] = []
        self.results: list[Result] = []
        self.states: list[State] = []

    def feed(self, data: bytes) -> None:
        for channel, payload in self._decoder.feed(data):
            assert channel == CHANNEL
            if payload[0] == 1:
                self.heard.append(Heard(*struct.unpack_from(">IIBhh", payload, 1), payload[14:]))
            elif payload[0] == 2:
                number, code = struct.unpack_from(">HB", payload, 1)
                assert len(payload) <= 4 + 64
                self.results.append(Result(number, code, payload[4:].decode()))
            else:
                assert payload[0] == 3, payload
                self.states.append(State(*struct.unpack_from(">BBBBI", payload, 1), payload[9:].decode()))

    @property
    def log(self) -> list[str]:
        return self._decoder.take_log()

    @staticmethod
    def send(
        number: int,
        at_us: int,
        packet: bytes,
        *,
        freq_hz: int = 470_300_000,
        sf: int = 9,
        dbm: int = 14,
    ) -> bytes:
        head = struct.pack(">BHIIBb", 0x11, number, at_us % _US, freq_hz, sf, dbm)
        return framing.encode(head + packet, CHANNEL)

    @staticmethod
    def tune(freq_hz: int, sf: int) -> bytes:
        return framing.encode(struct.pack(">BIB", 0x12, freq_hz, sf), CHANNEL)

    @staticmethod
    def ask() -> bytes:
        return framing.encode(b"\x13", CHANNEL)


class Hal:
    """Implements firmware.hal.Hal, as far as a bridge needs it."""

    def __init__(self, who: Identity, port: Any, clock: Any, gateway: GatewayEnd) -> None:
        self.clock = clock
        self.lines = Lines()
        self.state_fs = LittleFs(blank_flash(who))
        self.link = self
        self._port = port
        self._gateway = gateway
        self.pending = bytearray()

    def configure(self, board: str) -> None:
        pass

    def radio(self) -> Any:
        return self._port

    def log(self, text: str) -> None:
        self.lines.keep(text)

    def read(self) -> bytes:
        data = bytes(self.pending[:256])
        del self.pending[:256]
        return data

    def write(self, data: bytes) -> None:
        self._gateway.feed(data)


class BridgeBench:
    def __init__(self, radio: tuple[int, int, int, int] = (0, 0, 1, 9), *, start_us: int = 0) -> None:
        self.rig = Rig()
        self.rig.agenda.run_until(1.0)
        station = self.rig.station(begin=False)
        self.rig.stations.remove(station)  # the bridge drives it
        self.chip = station.chip
        self.gateway = GatewayEnd()
        self.hal = Hal(identity(radio), station.port, Clock(self.rig.agenda), self.gateway)
        self.bridge = Bridge(self.hal)  # type: ignore[arg-type]
        self.bridge._now_us = start_us
        self.bridge.begin()
        self.node = self.rig.station(plan_id=None)
        self.waits: list[int] = []

    def say(self, data: bytes) -> None:
        self.hal.pending += data

    def run(self, seconds: float) -> None:
        """Steps as main does: it waits as long as it was told, less when something is on the line."""
        end_s = self.rig.agenda.now_s() + seconds
        while self.rig.agenda.now_s() < end_s:
            wait_ms = self.bridge.step()
            self.waits.append(wait_ms)
            self.rig.run(0.0 if self.hal.pending else min(wait_ms / 1000, end_s - self.rig.agenda.now_s()))
            self.rig.run(0.0002)  # the loop itself

    def now_us(self) -> int:
        """The bridge's counter, as it would say it now."""
        self.bridge._count()
        return self.bridge._now_us
