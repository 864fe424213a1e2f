"""From a node's driver through the air, a concentrator and its forwarder to the daemon's link, and back in time.

Both ends of the Semtech protocol were written from its document, each without the other. Between them are datagrams;
what the daemon has for a socket is a list here.
"""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from firmware.radios import HEARD, SENT
from gateway.links.radio import COUNTER, TOO_EARLY, Transmission, Uplink
from gateway.links.radio import SENT as TAKEN
from gateway.links.semtech import SemtechServer
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.forwarder import Forwarder
from hil_tests.world.propagation import Spot
from protocols.wire.airtime import lora, time_on_air_us
from tests.firmware.radio_rig import FREQ_HZ, Rig, Station

EUI = 0xAA555A0000000101
FORWARDER_AT = ("192.0.2.7", 40000)
BEFORE_MS, WINDOW_MS = 60, 120
ANSWER = bytes(range(22))


class Datagrams:
    """The server's side of a socket; a datagram takes two milliseconds."""

    def __init__(self, rig: Rig, forwarder: Forwarder) -> None:
        self._rig = rig
        self._forwarder = forwarder

    def sendto(self, data: bytes, address: Any) -> None:
        assert address == FORWARDER_AT
        self._rig.agenda.call_later(0.002, lambda: self._forwarder.datagram(data))


class Gateway:
    """Answers each packet a second after its end."""

    def __init__(self, rig: Rig, counter_start_us: int = 0) -> None:
        self.uplinks: list[Uplink] = []
        self.results: list[int] = []
        self.late_us = 0
        self.server = SemtechServer(
            "roof", ("127.0.0.1", 0), (f"{EUI:016x}",), structlog.get_logger(), now_s=rig.agenda.now_s
        )
        freqs_hz = [FREQ_HZ + 200_000 * number for number in range(8)]
        self.forwarder = Forwarder(
            Concentrator(rig.air, "roof", Spot(500.0, 0.0, is_high=True), freqs_hz),
            rig.agenda,
            EUI,
            lambda data: rig.agenda.call_later(
                0.002, lambda: self.server.datagram_received(data, FORWARDER_AT)
            ),
            unix_s=rig.agenda.now_s,
            counter_start_us=counter_start_us,
        )
        self.server._transport = Datagrams(rig, self.forwarder)  # type: ignore[assignment]
        (self.radio,) = self.server.radios
        self.radio.on_uplink = self._heard
        self.radio.on_result = lambda name, number, code: self.results.append(code)
        self.forwarder.start()

    def _heard(self, uplink: Uplink) -> None:
        self.uplinks.append(uplink)
        assert uplink.at_us is not None
        at_us = (uplink.at_us + 1_000_000 - self.late_us) % COUNTER
        assert self.radio.send(Transmission(1, at_us, uplink.freq_hz, uplink.sf, 17, ANSWER))


def exchange(rig: Rig, station: Station, sf: int) -> bytes | None:
    """A packet up, and what came in the first window."""
    station.radio.start_send(FREQ_HZ, sf, 14, b"up" * 8, False)
    sent = station.event()
    assert sent is not None
    assert sent.kind == SENT
    rig.run((1000 - BEFORE_MS) / 1000)
    station.radio.start_listen(FREQ_HZ, sf, True, WINDOW_MS)
    found = station.event()
    return found.payload if found is not None and found.kind == HEARD else None


@pytest.mark.parametrize("sf", range(7, 12))
def test_a_driver_is_answered_in_its_window_through_a_concentrator(sf: int) -> None:
    rig = Rig()
    gateway = Gateway(rig)
    station = rig.station(0.0)
    assert exchange(rig, station, sf) == ANSWER
    (uplink,) = gateway.uplinks
    assert (uplink.packet, uplink.sf, uplink.freq_hz) == (b"up" * 8, sf, FREQ_HZ)
    assert gateway.results == [TAKEN]
    assert gateway.server.refused == {}


def test_the_counter_may_wrap_between_question_and_answer() -> None:
    rig = Rig()
    gateway = Gateway(rig, COUNTER - time_on_air_us(lora(9), 16) - 700_000)
    station = rig.station(0.0)
    assert exchange(rig, station, 9) == ANSWER
    assert gateway.uplinks[0].at_us is not None
    assert gateway.uplinks[0].at_us > COUNTER - 800_000


def test_a_gateway_that_is_too_late_is_told_so_and_the_window_stays_empty() -> None:
    """Past is far ahead for the forwarder's counter: what it calls too early."""
    rig = Rig()
    gateway = Gateway(rig)
    gateway.late_us = 1_500_000
    station = rig.station(0.0)
    assert exchange(rig, station, 9) is None
    assert gateway.results == [TOO_EARLY]
