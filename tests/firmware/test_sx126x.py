"""The driver of the SX1262 against the simulated chip: what it says, what it hears, and what it never does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from firmware.radios import BAD, BUSY, FREE, HEARD, SENT, SILENCE
from protocols.wire.airtime import lora, time_on_air_us
from tests.firmware.radio_rig import FREQ_HZ, Rig, Station


@pytest.fixture(params=["cpython", "micropython"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(is_micropython=request.param == "micropython")
    yield made
    made.close()


def test_a_packet_goes_from_one_chip_to_another_with_its_power_and_snr(rig: Rig) -> None:
    one, two = rig.station(), rig.station()
    two.radio.start_listen(FREQ_HZ, 9, False, 1000)
    one.radio.start_send(FREQ_HZ, 9, 14, b"a reading", False)
    assert one.kind == SENT
    heard = two.event()
    assert heard is not None
    assert (heard.kind, heard.payload) == (HEARD, b"a reading")
    (flight,) = rig.flights
    site = two.site
    power_dbm = rig.air.power_dbm(flight, site)
    assert heard.rssi_dbm == pytest.approx(power_dbm, abs=1)
    snr_tenth_db = 10 * (power_dbm - rig.air.physics.noise_dbm(125_000))
    assert heard.snr_tenth_db == pytest.approx(min(snr_tenth_db, 317), abs=3), (
        "a byte of quarters has no more"
    )
    assert flight.signal.sync_word == 0x12
    assert not one.chip.complaints
    assert not two.chip.complaints
    assert one.radio.errors == two.radio.errors == 0


# -- what is heard -----------------------------------------------------------------------------------------------


def test_nothing_within_the_time_out_is_silence_and_the_chip_rests(rig: Rig) -> None:
    one = rig.station()
    one.radio.start_listen(FREQ_HZ, 9, True, 120)
    began_s = rig.agenda.now_s()
    assert one.kind == SILENCE
    assert rig.agenda.now_s() - began_s == pytest.approx(
        0.15, abs=0.005
    )  # and 5 ms for the TCXO, 6 symbols to detect
    assert one.chip.mode == "standby"
    assert one.radio.poll() is None


@pytest.mark.parametrize("late_ms", [-60, 0, 59])
def test_a_packet_that_begins_within_a_short_window_is_heard_to_its_end(rig: Rig, late_ms: int) -> None:
    """SPEC.md 7.3: SF11 takes 0.9 s, the window 120 ms."""
    one, two = rig.station(), rig.station()
    rig.agenda.call_later(0.1, lambda: two.radio.start_listen(FREQ_HZ, 11, False, 120))
    rig.agenda.call_later(0.165 + late_ms / 1000 - one.radio.lead_us(11) / 1e6, lambda: send(one))

    def send(station: Station) -> None:
        at_us = station.port.ticks_us() + station.radio.lead_us(11)
        station.radio.start_send(FREQ_HZ, 11, 14, bytes(30), False, at_us)

    rig.run(0.1)
    heard = two.event()
    assert heard is not None
    assert (heard.kind, heard.payload) == (HEARD, bytes(30))


def test_an_endless_window_hears_one_packet_after_another_wherever_the_buffer_has_it(rig: Rig) -> None:
    one, two = rig.station(), rig.station()
    two.radio.start_listen(FREQ_HZ, 7, False, 0)
    for number in range(12):
        payload = bytes([number]) * (20 + 9 * number)  # 834 bytes in all: three times round
        one.radio.start_send(FREQ_HZ, 7, 14, payload, False)
        assert one.kind == SENT
        heard = two.event()
        assert heard is not None
        assert heard.payload == payload
    assert two.chip.mode == "rx"
    assert not two.chip.complaints


@pytest.mark.parametrize("endless", [False, True])
def test_a_packet_with_a_wrong_crc_is_told_and_never_delivered(rig: Rig, endless: bool) -> None:
    one, two = rig.station(), rig.station()
    rig.air.jammers.append(lambda flight: True)
    two.radio.start_listen(FREQ_HZ, 9, False, 0 if endless else 1000)
    one.radio.start_send(FREQ_HZ, 9, 14, b"spoiled on its way", False)
    assert one.kind == SENT
    bad = two.event()
    assert bad is not None
    assert (bad.kind, bad.payload) == (BAD, b"")
    assert two.radio.bad == 1
    assert two.radio.errors == 0
    assert two.chip.mode == ("rx" if endless else "standby")


@pytest.mark.parametrize("endless", [False, True])
def test_a_header_that_is_wrong_ends_a_window_which_the_chip_itself_would_not(
    rig: Rig, endless: bool
) -> None:
    """Two packets at once: the header of the first is spoiled."""
    one, other, two = rig.station(plan_id=None), rig.station(plan_id=None), rig.station()
    two.radio.start_listen(FREQ_HZ, 9, False, 0 if endless else 1000)
    one.radio.start_send(FREQ_HZ, 9, 14, bytes(40), False)
    rig.run(0.05)  # most of the preamble
    other.radio.start_send(FREQ_HZ, 9, 22, bytes(40), False)
    bad = two.event()
    assert bad is not None
    assert bad.kind == BAD
    assert two.chip.mode == ("rx" if endless else "standby")
    rig.run(2.0)
    assert two.radio.errors == 0


def test_a_preamble_that_was_none_does_not_keep_it_listening(rig: Rig) -> None:
    one = rig.station()
    one.radio.start_listen(FREQ_HZ, 9, True, 120)
    rig.run(0.05)
    one.chip.detected()  # noise: nothing follows
    began_s = rig.agenda.now_s()
    assert one.kind == SILENCE
    longest_s = time_on_air_us(lora(9), 255) / 1e6
    assert rig.agenda.now_s() - began_s < longest_s + 0.2
    assert one.chip.mode == "standby"
    assert one.radio.errors == 0


def test_weak_packets_have_a_negative_snr_and_loud_ones_no_sign_error(rig: Rig) -> None:
    for loss_db in (110.0, 136.0, 140.5):
        one, two = rig.station(), rig.station()
        sites = one.site, two.site
        sites[0].losses[sites[1]] = sites[1].losses[sites[0]] = loss_db
        two.radio.start_listen(FREQ_HZ, 9, False, 1000)
        one.radio.start_send(FREQ_HZ, 9, 14, bytes(20), False)
        heard = two.event()
        assert heard is not None
        noise_dbm = rig.air.physics.noise_dbm(125_000)
        assert heard.snr_tenth_db == pytest.approx(10 * (14 - loss_db - noise_dbm), abs=3)
        assert (heard.snr_tenth_db < 0) == (loss_db > 131)
        assert -125 < heard.rssi_dbm < -90


def test_uplinks_and_downlinks_do_not_hear_each_other(rig: Rig) -> None:
    one, node, gateway = rig.station(), rig.station(), rig.station()
    node.radio.start_listen(FREQ_HZ, 9, True, 0)
    gateway.radio.start_listen(FREQ_HZ, 9, False, 0)
    for is_inverted, hears, is_deaf in ((False, gateway, node), (True, node, gateway)):
        one.radio.start_send(FREQ_HZ, 9, 14, b"hello", is_inverted)
        assert one.kind == SENT
        assert hears.kind == HEARD
        assert not is_deaf.events
    assert not one.chip.complaints, "the polarity register goes with the IQ (data sheet 15.4)"


# -- the law -----------------------------------------------------------------------------------------------------


def test_a_channel_in_use_is_left_alone_and_a_free_one_is_used(rig: Rig) -> None:
    one, other = rig.station(), rig.station()
    one.radio.start_cad(FREQ_HZ, 9)
    assert one.kind == FREE
    other.radio.start_send(FREQ_HZ, 9, 14, bytes(60), False)
    rig.run(0.1)  # it has begun
    one.radio.start_cad(FREQ_HZ, 9)
    assert one.kind == BUSY
    one.radio.start_send(FREQ_HZ, 9, 14, b"me too", False)
    assert one.kind == BUSY
    rig.run(2.0)
    assert [len(flight.signal.payload) for flight in rig.flights] == [60]
    one.radio.start_send(FREQ_HZ, 9, 14, b"me too", False)
    assert one.kind == SENT


@pytest.mark.parametrize("sf", range(7, 13))
def test_activity_is_looked_for_with_what_the_application_note_says(rig: Rig, sf: int) -> None:
    """AN1200.48, best settings for 125 kHz."""
    one = rig.station()
    one.radio.start_cad(FREQ_HZ, sf)
    symbols, peak = {7: (2, 22), 8: (2, 22), 9: (4, 23), 10: (4, 24), 11: (4, 25), 12: (4, 28)}[sf]
    assert (1 << one.chip._cad[0], *one.chip._cad[1:3]) == (symbols, peak, 10)
    began_s = rig.agenda.now_s()
    assert one.kind == FREE
    symbol_s = 2**sf / 125_000
    assert (symbols + 0.5) * symbol_s <= rig.agenda.now_s() - began_s <= (symbols + 0.5) * symbol_s + 0.01
