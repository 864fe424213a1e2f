"""The rules of the simulated air, each by two or three antennas and as many packets."""

from __future__ import annotations

import math

import pytest

from boards.virtual.ether import Reception
from hil_tests.errors import RigError
from hil_tests.world.air import air_s
from hil_tests.world.propagation import SNR_MIN_DB, Physics, Spot, link_loss_db, open_air, urban
from tests.world.air_rig import FREQ_HZ, NOISE_DBM, Ear, Rig, signal, tuning

SYMBOL_S = 2**9 / 125_000


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def ear(rig: Rig) -> Ear:
    ear = rig.antenna()
    rig.air.tune(ear, tuning())
    return ear


def near(rig: Rig, ear: Ear, over_noise_db: float = 30.0) -> Ear:
    """An antenna heard so much above the noise at 14 dBm."""
    return rig.at_loss(ear, 14.0 - NOISE_DBM - over_noise_db)


# -- one packet, one receiver --------------------------------------------------------------------------------


def test_a_packet_is_heard_when_it_ends_with_its_power_and_snr(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear, 20.0)
    seconds = rig.air.transmit(sender, signal(b"hello"))
    rig.run()
    assert seconds == air_s(signal(b"hello"))
    assert ear.times == pytest.approx([seconds])
    assert ear.detections == pytest.approx([5 * SYMBOL_S])
    (heard,) = ear.receptions
    assert heard.signal.payload == b"hello"
    assert heard.is_intact
    assert heard.has_header
    assert heard.snr_db == pytest.approx(20.0)
    assert heard.rssi_dbm == pytest.approx(NOISE_DBM + 10 * math.log10(101))


@pytest.mark.parametrize("sf", range(7, 13))
def test_the_snr_limit_of_each_spreading_factor(rig: Rig, sf: int) -> None:
    ear = rig.antenna()
    rig.air.tune(ear, tuning(sf))
    for margin_db, is_heard in ((0.1, True), (-0.1, False)):
        sender = near(rig, ear, SNR_MIN_DB[sf] + margin_db)
        rig.air.transmit(sender, signal(sf=sf))
        rig.run()
        assert len(ear.intact) == is_heard, margin_db
        ear.receptions.clear()


def test_a_power_of_3_db_more_reaches_3_db_farther(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear, SNR_MIN_DB[9] - 2.9)
    rig.air.transmit(sender, signal(dbm=14.0))
    rig.run()
    assert not ear.receptions
    rig.air.transmit(sender, signal(dbm=17.0))
    rig.run()
    assert len(ear.intact) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"freq_hz": FREQ_HZ + 200_000},
        {"sf": 10},
        {"bw_hz": 250_000},
        {"sync_word": 0x34},
        {"is_inverted": True},
    ],
)
def test_what_a_receiver_is_not_tuned_to_does_not_exist_for_it(
    rig: Rig, ear: Ear, change: dict[str, object]
) -> None:
    rig.air.transmit(near(rig, ear), signal(**change))
    rig.run()
    assert not ear.receptions
    assert not ear.detections


def test_a_frequency_a_few_kilohertz_off_is_the_same_channel(rig: Rig, ear: Ear) -> None:
    rig.air.transmit(near(rig, ear), signal(freq_hz=FREQ_HZ + 12_000))
    rig.run()
    assert len(ear.intact) == 1


def test_the_first_three_symbols_of_a_preamble_may_be_missed_and_no_more(rig: Rig) -> None:
    for late_symbols, is_heard in ((2.9, True), (3.1, False)):
        ear = rig.antenna()
        rig.air.transmit(near(rig, ear), signal())
        rig.air.tune(ear, tuning(), after_s=late_symbols * SYMBOL_S)
        rig.run()
        assert len(ear.intact) == is_heard, late_symbols
        assert len(ear.detections) == is_heard


def test_who_stops_listening_hears_nothing_of_what_it_followed(rig: Rig, ear: Ear) -> None:
    rig.air.transmit(near(rig, ear), signal())
    rig.air.tune(ear, None, after_s=0.1)
    rig.air.tune(ear, tuning(), after_s=0.101)
    rig.run()
    assert len(ear.detections) == 1
    assert not ear.receptions


def test_who_sends_hears_nothing(rig: Rig, ear: Ear) -> None:
    other = near(rig, ear)
    rig.air.transmit(other, signal())
    rig.air.transmit(ear, signal(bytes(1), freq_hz=FREQ_HZ + 400_000), after_s=0.12)
    rig.run()
    assert len(ear.detections) == 1
    assert not ear.receptions
    # And again as soon as it is done.
    rig.air.transmit(other, signal())
    rig.run()
    assert len(ear.intact) == 1


def test_a_packet_that_is_broken_off_reaches_nobody(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear)
    rig.air.transmit(sender, signal())
    rig.clock.call_later(0.15, lambda: rig.air.stop(sender))
    rig.run()
    (heard,) = ear.receptions
    assert heard.has_header
    assert not heard.is_intact


def test_a_packet_that_is_broken_off_in_its_preamble_leaves_no_header(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear)
    rig.air.transmit(sender, signal())
    rig.clock.call_later(6 * SYMBOL_S, lambda: rig.air.stop(sender))
    rig.run()
    (heard,) = ear.receptions
    assert not heard.has_header
    assert heard.signal.payload == b""
    assert ear.times == pytest.approx([20.25 * SYMBOL_S])


def test_what_was_to_be_sent_later_is_not_after_a_stop(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear)
    rig.air.transmit(sender, signal(), after_s=1.0)
    rig.air.stop(sender)
    rig.run()
    assert not rig.air.counts["sent"]


# -- two packets, one receiver -------------------------------------------------------------------------------


def pair(rig: Rig, ear: Ear, apart_db: float, delay_s: float, **changes: object) -> list[bytes]:
    """Two packets that overlap, the first stronger by so much; which of them are heard."""
    rig.air.transmit(near(rig, ear, 30.0 + apart_db), signal(b"first" * 4))
    rig.air.transmit(near(rig, ear, 30.0), signal(b"other" * 4, **changes), after_s=delay_s)
    rig.run()
    return ear.intact


def test_six_decibels_are_captured_and_less_are_not(rig: Rig, ear: Ear) -> None:
    assert pair(rig, ear, 6.1, 0.05) == [b"first" * 4]
    ear.receptions.clear()
    assert pair(rig, ear, 5.9, 0.05) == []


def test_a_stronger_packet_during_the_first_ones_preamble_is_the_one_that_is_heard(
    rig: Rig, ear: Ear
) -> None:
    assert pair(rig, ear, -10.0, 3 * SYMBOL_S) == [b"other" * 4]


def test_a_stronger_packet_in_the_middle_spoils_the_first_and_is_not_heard_itself(rig: Rig, ear: Ear) -> None:
    assert pair(rig, ear, -10.0, 0.15) == []
    (heard,) = ear.receptions
    assert heard.has_header
    assert not heard.is_intact
    assert heard.signal.payload != b"first" * 4


def test_a_spoiled_header_frees_the_receiver_for_the_packet_that_spoiled_it(rig: Rig, ear: Ear) -> None:
    # The other's preamble still runs when the first one's header is found bad.
    rig.air.transmit(near(rig, ear), signal(b"first" * 4))
    rig.air.transmit(near(rig, ear, 50.0), signal(b"other" * 4, preamble=30), after_s=5.9 * SYMBOL_S)
    rig.run()
    assert [one.has_header for one in ear.receptions] == [False, True]
    assert ear.intact == [b"other" * 4]


def test_the_end_of_a_packet_over_the_first_symbols_of_the_next_does_no_harm(rig: Rig, ear: Ear) -> None:
    seconds = air_s(signal(bytes(20)))
    assert len(pair(rig, ear, 10.0, seconds - 2 * SYMBOL_S)) == 2
    ear.receptions.clear()
    assert len(pair(rig, ear, 10.0, seconds - 4 * SYMBOL_S)) == 1


def test_without_capture_any_overlap_destroys_both() -> None:
    rig = Rig(open_air(capture_db=None))
    ear = rig.antenna()
    rig.air.tune(ear, tuning())
    seconds = air_s(signal(bytes(20)))
    assert pair(rig, ear, 40.0, seconds - 0.001) == []
    ear.receptions.clear()
    assert len(pair(rig, ear, 40.0, seconds + 0.001)) == 2


def test_other_spreading_factors_disturb_only_when_they_are_much_stronger(rig: Rig, ear: Ear) -> None:
    """SF9 against SF10 survives 13 dB."""
    assert pair(rig, ear, -12.9, 0.05, sf=10) == [b"first" * 4]
    ear.receptions.clear()
    assert pair(rig, ear, -13.1, 0.05, sf=10) == []


def test_the_other_iq_disturbs_as_another_spreading_factor_does(rig: Rig, ear: Ear) -> None:
    assert pair(rig, ear, -12.9, 0.05, is_inverted=True) == [b"first" * 4]
    ear.receptions.clear()
    assert pair(rig, ear, -13.1, 0.05, is_inverted=True) == []


def test_another_channel_disturbs_not_at_all(rig: Rig, ear: Ear) -> None:
    assert pair(rig, ear, -40.0, 0.05, freq_hz=FREQ_HZ + 200_000) == [b"first" * 4]


def test_two_that_are_8_db_weaker_each_are_too_much_together(rig: Rig, ear: Ear) -> None:
    """8 dB above one, 5 above the two."""
    rig.air.transmit(near(rig, ear, 38.0), signal(b"first"))
    rig.air.transmit(near(rig, ear, 30.0), signal(b"other"), after_s=0.03)
    rig.air.transmit(near(rig, ear, 30.0), signal(b"third"), after_s=0.04)
    rig.run()
    assert ear.intact == []
    # One after the other they are not.
    rig.air.transmit(near(rig, ear, 38.0), signal(b"first" * 8))
    rig.air.transmit(near(rig, ear, 30.0), signal(b"other"), after_s=0.03)
    rig.air.transmit(near(rig, ear, 30.0), signal(b"third"), after_s=0.03 + air_s(signal(b"other")))
    rig.run()
    assert ear.intact == [b"first" * 8]


# -- the channel seen from outside ---------------------------------------------------------------------------


def test_activity_is_seen_whatever_its_iq_and_only_while_it_lasts(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear)
    assert not rig.air.is_active(ear, tuning())
    seconds = rig.air.transmit(sender, signal(is_inverted=True))
    assert rig.air.is_active(ear, tuning())
    assert not rig.air.is_active(ear, tuning(10))
    assert not rig.air.is_active(ear, tuning(freq_hz=FREQ_HZ + 200_000))
    assert not rig.air.is_active(sender, tuning())
    rig.run(seconds)
    assert not rig.air.is_active(ear, tuning())


def test_activity_below_the_limit_is_not_seen(rig: Rig, ear: Ear) -> None:
    rig.air.transmit(near(rig, ear, SNR_MIN_DB[9] - 0.1), signal())
    assert not rig.air.is_active(ear, tuning())


def test_rssi_is_noise_and_what_is_on_the_channel(rig: Rig, ear: Ear) -> None:
    assert rig.air.rssi_dbm(ear, FREQ_HZ, 125_000) == pytest.approx(NOISE_DBM)
    rig.air.transmit(near(rig, ear, 0.0), signal())
    rig.air.transmit(near(rig, ear, 0.0), signal(sf=12))
    assert rig.air.rssi_dbm(ear, FREQ_HZ, 125_000) == pytest.approx(NOISE_DBM + 10 * math.log10(3))


# -- loss, jammers, taps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst_s", [0.0, 30.0])
def test_random_loss_takes_its_part(rig: Rig, ear: Ear, burst_s: float) -> None:
    rig.air.loss, rig.air.burst_s = 0.1, burst_s
    sender = near(rig, ear)
    for number in range(20_000):
        rig.air.transmit(sender, signal(bytes(1)), after_s=number * 1.0)
    rig.run(20_001)
    assert len(ear.intact) / 20_000 == pytest.approx(0.9, abs=0.02)
    runs = sum(later - earlier > 1.5 for earlier, later in zip(ear.times, ear.times[1:], strict=False))
    # Independent: 1,800 gaps of a packet or so. In bursts of half a minute: about 67 gaps.
    assert (runs < 100) if burst_s else (runs > 1_500)


def test_a_jammer_spoils_the_packets_it_chooses(rig: Rig, ear: Ear) -> None:
    rig.air.jammers.append(lambda flight: flight.signal.payload.startswith(b"bad"))
    sender = near(rig, ear)
    for payload in (b"bad one", b"good one"):
        rig.air.transmit(sender, signal(payload))
        rig.run()
    assert [one.is_intact for one in ear.receptions] == [False, True]
    assert ear.receptions[0].signal.payload != b"bad one"
    assert ear.intact == [b"good one"]


def test_what_a_tap_recorded_can_be_sent_again(rig: Rig, ear: Ear) -> None:
    recorded = []
    rig.air.taps.append(lambda flight: recorded.append((flight.site.name, flight.begin_s, flight.signal)))
    rig.air.transmit(near(rig, ear), signal(b"open"), after_s=2.0)
    rig.run()
    assert recorded == [("antenna 2", 2.0, signal(b"open"))]
    rig.air.transmit(near(rig, ear), recorded[0][2])
    rig.run()
    assert ear.intact == [b"open", b"open"]


def test_an_antenna_without_a_place_is_refused(rig: Rig) -> None:
    with pytest.raises(RigError, match="place"):
        rig.air.transmit(Ear(rig), signal())


def test_an_antenna_that_is_removed_is_gone(rig: Rig, ear: Ear) -> None:
    sender = near(rig, ear)
    rig.air.remove(ear)
    rig.air.transmit(sender, signal())
    rig.run()
    assert not ear.receptions


def test_a_receiver_may_do_anything_when_it_is_told(rig: Rig) -> None:
    """Answer, retune, switch off: from within heard() and detected()."""
    ears: list[Ear] = []

    class Restless(Ear):
        def heard(self, reception: Reception) -> None:
            super().heard(reception)
            rig.air.transmit(self, signal(b"answer", is_inverted=True))
            for ear in ears:
                rig.air.tune(ear, tuning(is_inverted=True))

        def detected(self) -> None:
            super().detected()
            rig.air.rssi_dbm(self, FREQ_HZ, 125_000)

    for number in range(3):
        ears.append(Restless(rig))
        rig.air.place(ears[-1], f"restless {number}", Spot(number, 0))
        rig.air.tune(ears[-1], tuning())
    rig.air.transmit(rig.antenna(5), signal())
    rig.run()
    assert ears[0].receptions[0].signal.payload == bytes(20)
    assert ears[1].receptions[0].signal.payload == b"answer"
    assert not ears[2].receptions  # retuned each time, while it followed one


# -- path loss -----------------------------------------------------------------------------------------------


def test_hata_at_490_mhz() -> None:
    """By hand: 69.55 + 70.37 - 20.41 at 1 km, 35.2 dB a decade, and never less than free space."""
    physics = urban(490_000_000)
    assert physics.loss_1km_db == pytest.approx(119.52, abs=0.01)
    assert physics.median_loss_db(10_000) - physics.median_loss_db(1_000) == pytest.approx(35.22, abs=0.01)
    assert physics.median_loss_db(1) == pytest.approx(32.44 + 20 * math.log10(490) - 60)


def test_shadowing_stays_with_a_pair_and_is_the_same_both_ways() -> None:
    physics = urban(490_000_000)
    here, there = Spot(0, 0, is_high=True), Spot(1000, 0)
    forth = link_loss_db(physics, 7, ("a", "b"), (here, there))
    assert forth == link_loss_db(physics, 7, ("b", "a"), (there, here))
    drawn = [link_loss_db(physics, 7, ("a", f"node {n}"), (here, there)) for n in range(2_000)]
    mean = sum(drawn) / len(drawn)
    assert mean == pytest.approx(119.5, abs=0.6)
    assert math.sqrt(sum((one - mean) ** 2 for one in drawn) / len(drawn)) == pytest.approx(8.0, abs=0.4)


@pytest.mark.parametrize(
    ("change", "more_db"),
    [({"is_under_iron": True}, 20.0), ({"is_high": False}, 18.0), ({"gain_dbi": 3.0}, -3.0)],
)
def test_iron_height_and_gain(change: dict[str, object], more_db: float) -> None:
    physics: Physics = urban(490_000_000).with_(shadowing_sd_db=0.0)
    high, low = Spot(0, 0, is_high=True), Spot(1000, 0)
    plain = link_loss_db(physics, 1, ("a", "b"), (high, low))
    changed = high._replace(**change)  # type: ignore[arg-type]
    assert link_loss_db(physics, 1, ("a", "b"), (changed, low)) - plain == pytest.approx(more_db)
