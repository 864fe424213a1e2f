"""Listening first, however long ahead a packet is given to the driver."""

from __future__ import annotations

import pytest

from firmware.radios import BUSY, SENT
from tests.firmware.radio_rig import FREQ_HZ, Rig, Station

_TICKS = (1 << 30) - 1


def ahead(one: Station, seconds: float) -> int:
    return (one.port.ticks_us() + round(seconds * 1e6)) & _TICKS


@pytest.mark.parametrize("ahead_s", [0.2, 3.0, 60.0])
def test_a_channel_is_looked_at_right_before_it_is_used_and_not_when_the_packet_came(ahead_s: float) -> None:
    """Somebody else begins in between: the packet stays here."""
    rig = Rig()
    one, other = rig.station(), rig.station()
    one.radio.start_send(FREQ_HZ, 9, 14, b"later", False, ahead(one, ahead_s))
    rig.run(ahead_s - 0.15)
    other.radio.start_send(FREQ_HZ, 9, 14, bytes(150), False)
    assert one.kind == BUSY
    assert other.kind == SENT
    assert [len(flight.signal.payload) for flight in rig.flights] == [150]


@pytest.mark.parametrize("sf", [7, 9, 11])
@pytest.mark.parametrize("ahead_s", [0.5, 3.0])
def test_what_is_given_long_ahead_begins_in_time(ahead_s: float, sf: int) -> None:
    rig = Rig()
    one = rig.station()
    at_s = rig.agenda.now_s() + ahead_s
    one.radio.start_send(FREQ_HZ, sf, 14, b"later", False, ahead(one, ahead_s))
    assert one.kind == SENT
    assert rig.flights[0].begin_s == pytest.approx(at_s, abs=0.002)


def test_another_packet_takes_the_place_of_one_that_waits() -> None:
    rig = Rig()
    one = rig.station()
    one.radio.start_send(FREQ_HZ, 9, 14, b"later", False, ahead(one, 3.0))
    rig.run(0.5)
    one.radio.start_send(FREQ_HZ, 9, 14, b"at once", False)
    assert one.kind == SENT
    rig.run(4.0)
    assert [flight.signal.payload for flight in rig.flights] == [b"at once"]
