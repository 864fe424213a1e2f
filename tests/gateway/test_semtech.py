"""Whatever a network sends to the packet-forwarder port: what can be understood is taken, only whole packets are, and
nothing raises.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import structlog.testing

from gateway import limits
from gateway.links import radio as radios
from gateway.links import semtech_wire
from gateway.links.radio import Transmission, Uplink
from gateway.links.semtech import SemtechServer
from gateway.links.semtech_wire import Refused
from tests.gateway.desk import HandClock
from tests.gateway.fake_forwarder import EUI, FakeForwarder, rxpk

OTHER_EUI = "aa555a0000000102"
PACKET = bytes.fromhex("2a000f001200ff7e") + bytes(range(200, 214))


def taken(*packets: Any, body: bytes | None = None) -> tuple[list[Uplink], list[str]]:
    """What a PUSH_DATA gives, and what was counted; a refusal of the whole is counted, too."""
    counted: list[str] = []
    found: list[Uplink] = []
    try:
        text = json.dumps({"rxpk": packets}).encode() if body is None else body
        found.extend(semtech_wire.packets(text, "roof", counted.append))
    except Refused as refusal:
        counted.append(refusal.reason)
    return found, counted


def test_a_packet_is_taken_with_all_that_is_known_of_it() -> None:
    assert taken(rxpk(PACKET, 4_294_967_295)) == (
        [Uplink("roof", 4_294_967_295, 474_300_000, 9, -71.0, 7.5, PACKET)],
        [],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"data": base64.b64encode(PACKET).decode().rstrip("=")},
        {"data": base64.urlsafe_b64encode(PACKET).decode()},
        {"data": base64.urlsafe_b64encode(PACKET).decode().rstrip("=") + "\n"},
        {"datr": 9},
        {"datr": 9.0},
        {"datr": "SF9"},
        {"datr": "sf9bw125"},
        {"freq": 474.300003},
        {"stat": 1.0},
        {"size": None, "modu": None, "codr": None, "chan": None, "rfch": None},
        {"time": "2026-11-28T01:02:03.000004Z", "tmms": 1_300_000_000_000, "jver": 1, "mid": 8, "foff": 12},
        {"rsig": [{"ant": 0, "chan": 7, "rssic": -75}, {"ant": 1, "chan": 7, "rssic": -78}]},
    ],
)
def test_what_forwarders_really_send_is_understood(changes: dict[str, Any]) -> None:
    found, counted = taken(rxpk(PACKET, **changes))
    assert counted == []
    assert [(one.packet, one.sf) for one in found] == [(PACKET, 9)]
    assert abs(found[0].freq_hz - 474_300_000) < 10


@pytest.mark.parametrize("stat", [-1, 0, None, 2, "1", True, [1], 1.5])
def test_only_a_packet_whose_crc_is_known_to_be_good_is_taken(stat: Any) -> None:
    assert taken(rxpk(PACKET, stat=stat)) == ([], ["crc"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modu": "FSK", "datr": 50_000}, "foreign"),
        ({"datr": 50_000}, "foreign"),
        ({"datr": "SF9BW250"}, "foreign"),
        ({"datr": "SF6BW125"}, "foreign"),
        ({"datr": "SF99999999999999999999BW125"}, "foreign"),
        ({"datr": None}, "foreign"),
        ({"datr": "SF９BW125"}, "foreign"),
        ({"freq": None}, "malformed"),
        ({"freq": "474.3"}, "malformed"),
        ({"freq": 1e300}, "malformed"),
        ({"freq": -5}, "malformed"),
        ({"data": None}, "malformed"),
        ({"data": ""}, "malformed"),
        ({"data": "A"}, "malformed"),
        ({"data": "AAAA*AAA", "size": None}, "malformed"),
        ({"data": "AA=A", "size": None}, "malformed"),
        ({"data": "é" * 8, "size": None}, "malformed"),
        ({"data": "A" * 344, "size": None}, "malformed"),
        ({"data": "A" * 100_000, "size": None}, "malformed"),
        ({"data": 7}, "malformed"),
        ({"size": 21}, "malformed"),
        ({"size": "22"}, "malformed"),
    ],
)
def test_what_is_no_packet_of_ours_is_counted_under_its_reason(changes: dict[str, Any], reason: str) -> None:
    assert taken(rxpk(PACKET, **changes)) == ([], [reason])


@pytest.mark.parametrize("tmst", [None, -1, 2**32, 1.5, "7", True, 10**400])
def test_a_packet_without_a_usable_counter_is_taken_and_can_not_be_answered(tmst: Any) -> None:
    found, counted = taken(rxpk(PACKET) | {"tmst": tmst})
    assert counted == []
    assert [one.at_us for one in found] == [None]


@pytest.mark.parametrize("level", [None, "loud", True, 10**400, [], -1e300])
def test_a_packet_without_levels_is_weaker_than_any_other(level: Any) -> None:
    found, _ = taken(rxpk(PACKET) | {"rssi": level, "lsnr": level})
    assert -200 <= found[0].rssi_dbm <= -140
    assert -200 <= found[0].snr_db <= -25


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"rxpk"',
        b"\xff\xfe{}",
        b'{"rxpk":7}',
        b'{"rxpk":{"data":"AA=="}}',
        b'{"rxpk":[NaN]}',
        b'{"rxpk":[{"freq":Infinity}]}',
        b'{"rxpk":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b'{"rxpk":[{"tmst":' + b"9" * 9000 + b"}]}",
    ],
)
def test_a_body_that_is_no_list_of_packets_is_refused_as_a_whole(body: bytes) -> None:
    assert taken(body=body) == ([], ["malformed"])


def test_one_bad_packet_does_not_cost_the_others_and_too_many_are_cut() -> None:
    found, counted = taken(7, rxpk(PACKET), None, [], rxpk(PACKET, stat=-1), rxpk(PACKET[:-1]))
    assert [one.packet for one in found] == [PACKET, PACKET[:-1]]
    assert counted == ["malformed", "malformed", "malformed", "crc"]
    found, counted = taken(*[rxpk(PACKET)] * 80)
    assert (len(found), counted) == (limits.DATAGRAM_PACKETS_MAX, ["oversize"])


def test_a_status_alone_and_a_body_with_the_nul_of_its_string_are_in_order() -> None:
    assert taken(body=b'{"stat":{"time":"2026-11-28 01:02:03 GMT","rxnb":2,"ackr":100.0}}\0') == ([], [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", radios.SENT),
        (b"\0", radios.SENT),
        (b"{}", radios.SENT),
        (b'{"txpk_ack":{"error":"NONE"}}', radios.SENT),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":20}}', radios.SENT),
        (b'{"txpk_ack":{"error":"TOO_LATE"}}', radios.TOO_LATE),
        (b'{"txpk_ack":{"error":"TOO_EARLY"}}', radios.TOO_EARLY),
        (b'{"txpk_ack":{"error":"COLLISION_PACKET"}}', radios.BUSY),
        (b'{"txpk_ack":{"error":"TX_FREQ"}}', radios.REFUSED),
        (b'{"txpk_ack":{"error":"something new"}}', radios.FAULT),
        (b'{"txpk_ack":{"error":7}}', radios.FAULT),
    ],
)
def test_every_answer_to_a_downlink_is_understood(body: bytes, code: int) -> None:
    assert semtech_wire.code_of(semtech_wire.result(body)) == code


# --- the server -------------------------------------------------------------------------------------------------------


class Bench:
    """A server on a free port, with what its radios heard and how their transmissions ended."""

    def __init__(self, *euis: str) -> None:
        self.clock = HandClock()
        self.server = SemtechServer(
            "roof", ("127.0.0.1", 0), euis or (EUI,), structlog.get_logger(), now_s=self.clock.monotonic
        )
        self.heard: list[Uplink] = []
        self.ended: list[tuple[str, int, int]] = []
        self.changed = asyncio.Event()
        for forwarder in self.server.radios:
            forwarder.on_uplink = self._heard
            forwarder.on_result = self._ended

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the end of a transmission that makes `condition` true."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def _heard(self, uplink: Uplink) -> None:
        self.heard.append(uplink)

    def _ended(self, name: str, number: int, code: int) -> None:
        self.ended.append((name, number, code))
        self.changed.set()


@asynccontextmanager
async def listening(*euis: str) -> AsyncIterator[Bench]:
    bench = Bench(*euis)
    listens = asyncio.Event()
    bench.server.on_listening = listens.set
    task = asyncio.create_task(bench.server.run())
    await listens.wait()
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def transmission(number: int, at_us: int = 7_000_000, dbm: int = 17) -> Transmission:
    return Transmission(number, at_us, 474_300_000, 9, dbm, b"\x09down")


def test_a_downlink_goes_to_the_socket_that_asked_and_its_end_comes_back() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            forwarder = await FakeForwarder(bench.server.port).open()
            radio = bench.server.radios[0]
            assert not radio.is_ready
            assert not radio.send(transmission(1))
            await forwarder.push(rxpk(PACKET))
            assert not radio.is_ready
            await forwarder.pull()
            assert radio.is_ready
            for number, error in ((2, "NONE"), (3, "TOO_LATE"), (4, "")):
                forwarder.tx_error = error
                assert radio.send(transmission(number))
                assert (await forwarder.downlink())["tmst"] == 7_000_000
                await bench.until(lambda number=number: len(bench.ended) >= number - 1)  # type: ignore[misc]
            assert bench.ended == [
                ("roof", 2, radios.SENT),
                ("roof", 3, radios.TOO_LATE),
                ("roof", 4, radios.SENT),
            ]
            bench.clock.pass_s(limits.FORWARDER_GONE_S + 1)
            assert not radio.is_ready
            assert "PULL_DATA" in radio.problem
            assert not radio.send(transmission(5))
            forwarder.close()

    asyncio.run(scenario())


def test_a_downlink_that_answers_nothing_goes_at_once() -> None:
    body = semtech_wire.pull_resp(2, b"ab", transmission(1)._replace(at_us=None))[4:]
    txpk = json.loads(body)["txpk"]
    assert txpk["imme"] is True
    assert "tmst" not in txpk


def test_a_power_that_is_not_in_the_forwarders_table_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            forwarder = await FakeForwarder(bench.server.port).open()
            await forwarder.pull()
            powers = []
            for number, error in enumerate(("TX_POWER", "NONE", "NONE")):
                forwarder.tx_error = error
                assert bench.server.radios[0].send(transmission(number))
                powers.append((await forwarder.downlink())["powe"])
                await bench.until(lambda number=number: len(bench.ended) > number)  # type: ignore[misc]
            assert powers == [17, 16, 16]
            assert [code for _, _, code in bench.ended] == [radios.REFUSED, radios.SENT, radios.SENT]
            forwarder.close()

    asyncio.run(scenario())


def test_each_forwarder_is_a_radio_of_its_own_and_an_unknown_one_is_counted_and_not_answered() -> None:
    async def scenario() -> None:
        async with listening(EUI, OTHER_EUI) as bench:
            port = bench.server.port
            first, second = await FakeForwarder(port).open(), await FakeForwarder(port, OTHER_EUI).open()
            stranger = await FakeForwarder(port, "0000000000000001").open()
            stranger.up.send(stranger.head(0) + b"{}", port)
            stranger.down.send(stranger.head(2), port)
            await first.push(rxpk(PACKET))
            await second.push(rxpk(PACKET))
            await second.pull()
            assert [one.radio for one in bench.heard] == [f"roof/{EUI}", f"roof/{OTHER_EUI}"]
            assert [one.is_ready for one in bench.server.radios] == [False, True]
            assert bench.server.refused == {"unknown_eui": 2}
            assert stranger.up.inbox == stranger.down.inbox == []
            for forwarder in (first, second, stranger):
                forwarder.close()

    asyncio.run(scenario())


def test_who_takes_a_forwarders_name_gets_neither_its_downlinks_nor_an_ear_until_that_is_silent() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            real = await FakeForwarder(bench.server.port, seed=1).open()
            forger = await FakeForwarder(bench.server.port, seed=2).open()
            await real.push(rxpk(PACKET))
            await real.pull()
            radio = bench.server.radios[0]
            forger.up.send(
                forger.head(0) + json.dumps({"rxpk": [rxpk(b"\x2aforged")]}).encode(), bench.server.port
            )
            forger.down.send(forger.head(2), bench.server.port)
            await real.push(rxpk(PACKET[:-1]))
            await real.pull()
            assert [one.packet for one in bench.heard] == [PACKET, PACKET[:-1]]
            assert radio.counters["other_address"] == 2
            contested = [entry for entry in logged if entry["event"] == "forwarder_contested"]
            assert [entry["radio"] for entry in contested] == [radio.name], "once a minute, not with each"
            assert radio.send(transmission(1))
            await real.downlink()
            await bench.until(lambda: bool(bench.ended))  # its TX_ACK is a word of it, too
            assert forger.down.inbox == forger.up.inbox == []
            # A restart: other ports, and nothing more from the old ones.
            bench.clock.pass_s(limits.FORWARDER_SILENT_S + 1)
            await forger.pull()
            await forger.push(rxpk(PACKET))
            assert radio.send(transmission(2))
            await forger.downlink()
            for forwarder in (real, forger):
                forwarder.close()

    with structlog.testing.capture_logs() as logged:
        asyncio.run(scenario())


def test_a_forwarder_of_the_first_version_is_spoken_to_in_it() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            forwarder = await FakeForwarder(bench.server.port, version=1).open()
            forwarder.tx_error = None  # it has no TX_ACK
            await forwarder.push(rxpk(PACKET))
            await forwarder.pull()
            assert bench.server.radios[0].send(transmission(1))
            await forwarder.downlink()
            assert {data[0] for data in forwarder.up.inbox + forwarder.down.inbox} == {1}
            forwarder.close()

    asyncio.run(scenario())


def test_a_flood_is_cut_and_a_forged_answer_to_a_downlink_is_counted() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            server, source = bench.server, ("127.0.0.1", 9)
            head = bytes((2, 1, 2, 0)) + bytes.fromhex(EUI)
            for _ in range(limits.FORWARDER_PER_S_MAX + 7):
                server.datagram_received(head + b"{}", source)
            assert server.refused == {"flood": 7}
            bench.clock.pass_s(1)
            server.datagram_received(bytes((2, 7, 7, 5)) + bytes.fromhex(EUI), source)
            assert server.refused == {"flood": 7, "stray_tx_ack": 1}
            assert bench.ended == []

    asyncio.run(scenario())


def test_a_flood_in_the_name_of_one_forwarder_silences_no_other_and_its_packets_count() -> None:
    async def scenario() -> None:
        async with listening(EUI, OTHER_EUI) as bench:
            server = bench.server
            few = json.dumps({"rxpk": [rxpk(PACKET)] * 40}).encode()
            for _ in range(limits.FORWARDER_PER_S_MAX):
                server.datagram_received(bytes((2, 1, 2, 0)) + bytes.fromhex(EUI) + few, ("127.0.0.1", 9))
            assert limits.FORWARDER_PER_S_MAX * 0.9 < len(bench.heard) < limits.FORWARDER_PER_S_MAX
            before = len(bench.heard)
            one = json.dumps({"rxpk": [rxpk(PACKET)]}).encode()
            server.datagram_received(bytes((2, 1, 2, 0)) + bytes.fromhex(OTHER_EUI) + one, ("127.0.0.2", 9))
            assert len(bench.heard) == before + 1

    asyncio.run(scenario())


def test_a_port_in_use_is_told_with_what_may_hold_it() -> None:
    async def scenario() -> None:
        async with listening() as bench:
            second = SemtechServer(
                "b", ("127.0.0.1", bench.server.port), (EUI,), structlog.get_logger(), now_s=lambda: 0.0
            )
            with pytest.raises(Exception, match="Is another program"):
                await second.run()

    asyncio.run(scenario())


# As forwarders of either generation send them, with our frame in it.
RECORDED_OLD = (
    b'{"rxpk":[{"tmst":3512348611,"chan":2,"rfch":0,"freq":474.300000,"stat":1,"modu":"LORA","datr":"SF9BW125",'
    b'"codr":"4/5","lsnr":6.8,"rssi":-97,"size":22,"data":"KgAPABIA/37IycrLzM3Oz9DR0tPU1Q"}]}'
)
RECORDED_NEW = (
    b'{"rxpk":[{"jver":1,"tmst":4294967290,"freq":474.3,"stat":1,"modu":"LORA","datr":9,"lsnr":-11.2,"rssi":-121,'
    b'"size":22,"data":"KgAPABIA_37IycrLzM3Oz9DR0tPU1Q"},{"tmst":12,"freq":474.3,"stat":-1,"modu":"LORA",'
    b'"datr":"SF9BW125","codr":"4/5","lsnr":-9,"rssi":-109,"size":4,"data":"3q2+7w=="}],'
    b'"stat":{"time":"2026-11-28 01:02:03 GMT","rxnb":3,"rxok":2,"rxfw":2,"ackr":100.0,"dwnb":0,"txnb":0}}'
)
_WORDS = (b"[", b"{", b'"', b",", b"null", b"-", b"1e999", b"true", b"\\u0000", b"\x00", b"9" * 20)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A datagram with a few bytes changed, cut out, doubled or put in; often at the letters that JSON lives by."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(6)
        if what == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del out[at : at + rng.choice((1, 2, 5, 40))]
        elif what == 2:
            out[at:at] = rng.choice(
                (b"[", b"{", b'"', b",", b"null", b"-", b"1e9", b"true", b"\\u0000", b"\x00", b"9" * 20)
            )
        elif what == 3:
            out[at:at] = out[at : at + rng.choice((3, 30, 300))]
        elif what == 4:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 60)))
        elif at < len(out):
            out[at] = rng.choice(b'[]{}",:-0129eE')
    return bytes(out)


def fuzz(count: int, seed: int) -> dict[str, int]:
    """Mutated datagrams of every kind from the forwarder's own address; counts of what became of them."""
    rng = random.Random(seed)
    bench = Bench()
    server, radio = bench.server, bench.server.radios[0]
    radio.budget.take = lambda: True  # type: ignore[method-assign]
    eui = bytes.fromhex(EUI)
    heads = [bytes((2, 0x12, 0x34, kind)) + eui for kind in (0, 0, 0, 2, 5)]
    bodies = [
        RECORDED_OLD,
        RECORDED_NEW,
        json.dumps({"rxpk": [rxpk(PACKET)] * 3}).encode(),
        b"",
        b'{"txpk_ack":{"error":"TOO_LATE"}}',
    ]
    for number in range(count):
        data = mutated(rng, rng.choice(heads) + rng.choice(bodies))
        radio._out[b"\x12\x34"] = transmission(number)
        server.datagram_received(data, ("127.0.0.1", 9))
    for one in bench.heard:
        assert 0 < len(one.packet) <= 255
        assert 7 <= one.sf <= 12
        assert one.at_us is None or 0 <= one.at_us < 2**32
        assert 1_000_000 <= one.freq_hz <= 3_000_000_000
        assert math.isfinite(one.snr_db)
        assert math.isfinite(one.rssi_dbm)
    assert all(0 <= code < len(radios.RESULT_NAMES) for _, _, code in bench.ended)
    return {"datagrams": count, "heard": len(bench.heard), "ended": len(bench.ended), **server.refused}


def test_thousands_of_mutated_datagrams_raise_nothing_and_give_only_whole_packets() -> None:
    told = fuzz(6000, seed=4)
    print(*(f"{name}={value}" for name, value in told.items()))
    assert told["heard"] > 300
    assert {"malformed", "unknown_eui", "version", "crc", "foreign"} <= set(told)


@pytest.mark.soak
def test_hundreds_of_thousands_of_mutated_datagrams_raise_nothing() -> None:
    for seed in range(5):
        told = fuzz(80_000, seed=100 + seed)
        print(f"seed={100 + seed}", *(f"{name}={value}" for name, value in told.items()))


def test_random_bytes_raise_nothing() -> None:
    rng = random.Random(9)
    bench = Bench()
    for _ in range(5000):
        bench.server.datagram_received(rng.randbytes(rng.choice((0, 3, 11, 12, 13, 80))), ("127.0.0.1", 9))
    bench.server.datagram_received(bytes((2, 0, 0, 0)) + bytes.fromhex(EUI) + bytes(65_000), ("127.0.0.1", 9))
    assert bench.heard == []
    assert bench.server.refused["oversize"] == 1
