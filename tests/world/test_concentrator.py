"""The simulated concentrator: all spreading factors, eight demodulators, deaf while it sends."""

from __future__ import annotations

from boards.virtual.ether import Reception
from hil_tests.world.air import air_s
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.propagation import Spot
from tests.world.air_rig import Ear, Rig, signal, tuning

FREQS_HZ = [470_300_000 + 200_000 * number for number in range(8)]


def concentrator(rig: Rig, name: str = "roof", x_m: float = 0.0) -> tuple[Concentrator, list[Reception]]:
    heard: list[Reception] = []
    made = Concentrator(rig.air, name, Spot(x_m, 0), FREQS_HZ)
    made.on_packet = heard.append
    return made, heard


def test_every_channel_and_spreading_factor_is_heard() -> None:
    rig = Rig()
    _, heard = concentrator(rig)
    node = rig.antenna(100)
    for freq_hz in FREQS_HZ:
        for sf in range(7, 13):
            rig.air.transmit(node, signal(bytes([sf]), sf, freq_hz=freq_hz))
            rig.run()
    assert sorted((one.signal.freq_hz, one.signal.sf) for one in heard if one.is_intact) == [
        (freq_hz, sf) for freq_hz in FREQS_HZ for sf in range(7, 13)
    ]


def test_the_ninth_packet_at_once_is_lost_and_counted() -> None:
    rig = Rig()
    gateway, heard = concentrator(rig)
    # One SF12 packet on each channel, and one at SF7 on the first, loud enough beside the SF12 one.
    for freq_hz in FREQS_HZ:
        rig.air.transmit(rig.antenna(100), signal(sf=12, freq_hz=freq_hz))
    rig.air.transmit(rig.antenna(100), signal(sf=7), after_s=0.5)
    rig.run()
    assert sorted(one.signal.freq_hz for one in heard if one.is_intact) == FREQS_HZ
    assert gateway.counts["no demodulator"] == 1
    # It is not that the ninth could not be heard.
    rig.air.transmit(rig.antenna(100), signal(sf=7))
    rig.run()
    assert heard[-1].signal.sf == 7
    assert heard[-1].is_intact


def test_two_on_one_channel_and_spreading_factor_are_followed_both_and_the_stronger_survives() -> None:
    """A chip with one receiver would have lost the second; see test_air.py."""
    rig = Rig()
    _, heard = concentrator(rig)
    rig.air.transmit(rig.antenna(1000), signal(b"far" * 9))
    rig.air.transmit(rig.antenna(10), signal(b"near"), after_s=0.11)
    rig.run()
    assert [one.signal.payload for one in heard if one.is_intact] == [b"near"]
    assert [one.is_intact for one in heard] == [False, True]


def test_it_is_deaf_while_it_sends() -> None:
    rig = Rig()
    gateway, heard = concentrator(rig)
    node = rig.antenna(100)
    listener = Ear(rig)
    rig.air.place(listener, "listener", Spot(50, 0))
    rig.air.tune(listener, tuning(is_inverted=True))
    seconds = air_s(signal())
    rig.air.transmit(node, signal(b"cut off" * 4))
    rig.clock.call_later(0.1, lambda: gateway.send(signal(b"down" * 9, is_inverted=True)))
    rig.air.transmit(node, signal(b"missed"), after_s=0.1 + seconds * 0.9)
    rig.air.transmit(node, signal(b"heard"), after_s=2.0)
    rig.run()
    assert [one.signal.payload for one in heard] == [b"heard"]
    assert listener.intact == [b"down" * 9]
    assert gateway.counts["interrupted"] == 1
    assert gateway.busy == 0


def test_two_gateways_hear_one_packet_each_with_its_own_power() -> None:
    rig = Rig()
    _, near = concentrator(rig, "near", 100)
    _, far = concentrator(rig, "far", -1000)
    rig.air.transmit(rig.antenna(), signal())
    rig.run()
    assert near[0].snr_db - far[0].snr_db == 20.0
