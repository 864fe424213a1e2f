"""The simulated packet forwarder, against the protocol's document; the server is these tests."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest

from boards.virtual.clock import BoardClock
from boards.virtual.hub import Hub
from hil_tests.world.air import Air, air_s
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.forwarder import Forwarder
from hil_tests.world.forwarder_udp import UdpLeg
from hil_tests.world.propagation import Spot, open_air
from tests.world.air_rig import FREQ_HZ, Ear, Rig, signal, tuning

EUI = 0x0102030405060708
FREQS_HZ = [FREQ_HZ + 200_000 * number for number in range(8)]


class Server:
    """Keeps what a forwarder says, and says what it is told to."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self.rig = rig
        self.got: list[bytes] = []
        self.concentrator = Concentrator(rig.air, "roof", Spot(0, 0), FREQS_HZ)
        self.forwarder = Forwarder(
            self.concentrator, rig.clock, EUI, self.got.append, unix_s=lambda: 1_790_000_000.0, **options
        )
        self.forwarder.start()

    def of_kind(self, kind: int) -> list[bytes]:
        return [data for data in self.got if data[3] == kind]

    def pushed(self, name: str) -> list[Any]:
        return [body[name] for data in self.of_kind(0) if name in (body := json.loads(data[12:]))]

    def respond(self, token: int = 7, **txpk: Any) -> None:
        txpk = {
            "freq": 470.3,
            "rfch": 0,
            "powe": 14,
            "modu": "LORA",
            "datr": "SF9BW125",
            "codr": "4/5",
            "ipol": True,
            "size": 4,
            "data": "ZG93bg",
            **txpk,
        }
        body = json.dumps({"txpk": {key: value for key, value in txpk.items() if value is not None}})
        self.forwarder.datagram(b"\x02" + token.to_bytes(2, "big") + b"\x03" + body.encode())

    def verdicts(self) -> list[str]:
        bodies = [data[12:] for data in self.of_kind(5)]
        return [json.loads(body)["txpk_ack"].get("error", "warn") if body else "" for body in bodies]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def server(rig: Rig) -> Server:
    return Server(rig)


@pytest.fixture
def node(rig: Rig) -> Ear:
    node = rig.antenna(100)
    rig.air.tune(node, tuning(is_inverted=True))
    return node


def test_it_pulls_every_ten_seconds_and_tells_its_state_every_thirty(server: Server) -> None:
    server.rig.run(61)
    pulls = server.of_kind(2)
    assert len(pulls) == 7
    assert {data[:1] + data[3:] for data in pulls} == {b"\x02\x02" + EUI.to_bytes(8, "big")}
    assert len({data[1:3] for data in pulls}) == 7
    assert server.pushed("stat") == [
        {
            "time": "2026-09-21 14:13:20 GMT",
            "rxnb": 0,
            "rxok": 0,
            "rxfw": 0,
            "ackr": ackr,
            "dwnb": 0,
            "txnb": 0,
        }
        for ackr in (0.0, 0.0)
    ]


def test_a_packet_is_pushed_as_the_reference_program_prints_it(server: Server, node: Ear) -> None:
    server.rig.air.transmit(node, signal(b"\x00hello\xff", freq_hz=FREQS_HZ[5]))
    server.rig.run(2)
    (data,) = server.of_kind(0)
    assert data[:1] + data[3:12] == b"\x02\x00" + EUI.to_bytes(8, "big")
    tmst = round(air_s(signal(bytes(7))) * 1e6)
    # 100 m of nothing: 14 dBm less 80 dB, over a floor of -116.5 dBm.
    assert data[12:].decode() == (
        f'{{"rxpk":[{{"tmst":{tmst},"chan":5,"rfch":1,"freq":471.300000,"stat":1,"modu":"LORA","datr":"SF9BW125",'
        '"codr":"4/5","lsnr":50.5,"rssi":-66,"size":7,"data":"AGhlbGxv/w=="}]}'
    )


def test_packets_of_ten_milliseconds_share_a_datagram_and_no_more_than_eight(server: Server) -> None:
    rig = server.rig
    for number in range(10):
        # Two at once on some channels, of other spreading factors; all end together.
        sf = 9 if number < 8 else 7
        packet = signal(bytes(5), sf, freq_hz=FREQS_HZ[number % 8])
        rig.air.transmit(rig.antenna(100), packet, after_s=1.0 - air_s(packet))
    server.concentrator.demodulators = 16
    rig.run(2)
    assert [len(packets) for packets in server.pushed("rxpk")] == [8, 2]


def test_bad_packets_are_told_only_when_asked_for(rig: Rig) -> None:
    for forwards_bad, stats in ((False, []), (True, [-1])):
        server = Server(rig, forwards_bad=forwards_bad)
        rig.air.jammers[:] = [lambda flight: True]
        rig.air.transmit(rig.antenna(100), signal())
        rig.run(2)
        assert [packet["stat"] for packets in server.pushed("rxpk") for packet in packets] == stats
        rig.air.remove(server.concentrator)


def test_acknowledged_pushes_show_in_the_next_state(server: Server, node: Ear) -> None:
    server.rig.air.transmit(node, signal())
    server.rig.run(1)
    (push,) = server.of_kind(0)
    server.forwarder.datagram(push[:3] + b"\x01")
    server.forwarder.datagram(push[:3] + b"\x01")  # a second one counts for nothing
    server.rig.run(30)
    (stat,) = server.pushed("stat")
    assert (stat["ackr"], stat["rxnb"], stat["rxfw"]) == (100.0, 1, 1)


def test_a_response_is_sent_at_its_moment_and_acknowledged_at_once(server: Server, node: Ear) -> None:
    server.rig.run(1)
    server.respond(0x1234, tmst=3_000_000)
    (ack,) = server.of_kind(5)
    assert ack == b"\x02\x12\x34\x05" + EUI.to_bytes(8, "big")
    server.rig.run()
    assert node.intact == [b"down"]
    assert node.times == pytest.approx([3.0 + air_s(signal(bytes(4)))], abs=2e-6)


def test_its_counter_wraps(rig: Rig, node: Ear) -> None:
    server = Server(rig, counter_start_us=(1 << 32) - 1_500_000)
    seconds = rig.air.transmit(node, signal(b"up"))
    rig.run(1.5)
    ((packet,),) = server.pushed("rxpk")
    assert packet["tmst"] == (1 << 32) - 1_500_000 + round(seconds * 1e6)
    server.respond(tmst=(packet["tmst"] + 2_000_000) % (1 << 32))
    assert server.verdicts() == [""]
    rig.run(5)
    assert node.intact == [b"down"]
    assert node.times == pytest.approx([seconds + 2.0 + air_s(signal(bytes(4)))], abs=2e-6)


@pytest.mark.parametrize(
    ("ahead_us", "verdict"),
    [
        (2_500, "TOO_LATE"),
        (2_501, ""),
        (512_000_000, ""),
        (512_000_001, "TOO_EARLY"),
        # Past is far ahead for a counter that wraps; the program calls it so.
        (-1, "TOO_EARLY"),
        (0, "TOO_LATE"),
    ],
)
def test_late_and_early(server: Server, ahead_us: int, verdict: str) -> None:
    server.rig.run(10)
    server.respond(tmst=10_000_000 + ahead_us)
    assert server.verdicts() == [verdict]


def test_two_in_one_moment_collide_and_two_after_each_other_do_not(server: Server, node: Ear) -> None:
    air_us = round(air_s(signal(bytes(4))) * 1e6)
    server.respond(tmst=2_000_000)
    for apart_us in (-air_us, 0, air_us, air_us + 2_500):
        server.respond(tmst=2_000_000 + apart_us)
    server.respond(tmst=2_000_000 + air_us + 32_000)
    assert server.verdicts() == ["", *["COLLISION_PACKET"] * 4, ""]
    server.rig.run()
    assert node.intact == [b"down"] * 2


def test_frequency_power_and_gps(server: Server, rig: Rig) -> None:
    server.respond(tmst=2_000_000, freq=2400.1)
    server.respond(tmst=2_000_000, powe=-20)
    server.respond(time="2026-09-21T14:13:20.000000Z")
    server.respond(tmst=2_000_000, powe=17)
    assert server.verdicts() == ["TX_FREQ", "TX_POWER", "GPS_UNLOCKED", "warn"]
    assert json.loads(server.of_kind(5)[-1][12:]) == {"txpk_ack": {"warn": "TX_POWER", "value": 16}}
    sent = []
    rig.air.taps.append(lambda flight: sent.append(flight.signal.dbm))
    rig.run()
    assert sent == [16.0]
    strict = Server(rig, is_strict=True)
    strict.respond(tmst=20_000_000, powe=17)
    assert strict.verdicts() == ["TX_POWER"]


def test_at_once_means_after_what_is_planned(server: Server, node: Ear) -> None:
    server.respond(imme=True)
    server.respond(imme=True, data="bmV4dA==")
    assert server.verdicts() == ["", ""]
    server.rig.run()
    assert node.intact == [b"down", b"next"]
    assert node.times[1] - node.times[0] == pytest.approx(air_s(signal(bytes(4))) + 0.031, abs=1e-5)


def test_what_is_due_while_another_goes_out_is_dropped(server: Server, node: Ear) -> None:
    """Accepted, for the queue no longer held the one that was handed over."""
    server.respond(tmst=2_000_000)
    server.rig.run(1.99)
    server.respond(tmst=2_040_000)
    server.rig.run()
    assert server.verdicts() == ["", ""]
    assert node.intact == [b"down"]
    assert server.forwarder.counts["dropped, still sending"] == 1


def test_what_it_can_not_read_is_met_with_silence(server: Server) -> None:
    server.got.clear()
    wrong: list[dict[str, Any]] = [
        {"tmst": 2_000_000, name: value}
        for name, value in [
            ("freq", None),
            ("freq", "470.3"),
            ("rfch", None),
            ("modu", "FSK"),
            ("modu", None),
            ("datr", "SF5BW125"),
            ("datr", 50_000),
            ("datr", "fast"),
            ("codr", None),
            ("size", None),
            ("size", float("inf")),
            ("data", "*"),
            ("data", None),
            ("tmst", None),
            ("tmst", "soon"),
            ("freq", float("nan")),
        ]
    ]
    for txpk in wrong:
        server.respond(**txpk)
    for body in (b"", b"{}", b"[]", b"null", b"{", b'{"txpk":[]}', b'{"txpk":7}', b"\xff", b"[" * 100_000):
        server.forwarder.datagram(b"\x02\x00\x07\x03" + body)
    assert server.forwarder.counts["unreadable"] == len(wrong) + 9
    for data in (b"", b"\x02\x00\x00", b"\x01\x00\x00\x04", b"\x02\x00\x00\x05"):
        server.forwarder.datagram(data)
    assert server.forwarder.counts["ignored"] == 4
    assert server.got == []


def test_extremes_are_cut_to_what_the_chip_takes(server: Server) -> None:
    data = base64.b64encode(bytes(300)).decode()
    server.respond(tmst=2_000_000.0, size=300, data=data, prea=-3, powe=99)
    assert server.verdicts() == ["warn"]
    sent = []
    server.rig.air.taps.append(lambda flight: sent.append(flight.signal))
    server.rig.run()
    ((size, preamble, dbm),) = [(len(one.payload), one.preamble, one.dbm) for one in sent]
    assert (size, preamble, dbm) == (255, 6, 27.0)


def test_without_power_it_says_nothing_and_forgets_what_it_was_to_send(server: Server, node: Ear) -> None:
    server.respond(tmst=2_000_000)
    server.forwarder.stop()
    server.got.clear()
    server.rig.air.transmit(node, signal())
    server.respond(tmst=2_500_000)
    server.rig.run(60)
    assert server.got == []
    assert node.intact == []
    server.forwarder.start()
    server.rig.run(1)
    assert [data[3] for data in server.got] == [2]


def test_it_speaks_over_a_socket_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        hub, clock = Hub(), BoardClock(0.0)
        hub.add_clock(clock)
        air = Air(clock, open_air())
        leg = UdpLeg(hub, server.getsockname())

        def assemble() -> None:
            concentrator = Concentrator(air, "roof", Spot(0, 0), FREQS_HZ)
            forwarder = Forwarder(concentrator, clock, EUI, leg.send, unix_s=clock.now_s)
            leg.attach(forwarder)
            forwarder.start()
            node = Ear(Rig())
            air.place(node, "node", Spot(10, 0))
            air.transmit(node, signal(b"real", 7))

        hub.call(assemble)
        pull, address = server.recvfrom(2048)
        assert pull[3] == 2
        push = server.recv(2048)
        assert json.loads(push[12:])["rxpk"][0]["data"] == "cmVhbA=="
        body = {
            "txpk": {
                "imme": True,
                "freq": 470.3,
                "rfch": 0,
                "powe": 14,
                "modu": "LORA",
                "datr": "SF7BW125",
                "codr": "4/5",
                "size": 1,
                "data": "AA==",
            }
        }
        server.sendto(b"\x02\x00\x09\x03" + json.dumps(body).encode(), address)
        assert server.recv(2048) == b"\x02\x00\x09\x05" + EUI.to_bytes(8, "big")
        hub.call(leg.close)
        hub.remove_clock(clock)
    assert hub.failures == 0
