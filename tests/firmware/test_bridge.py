"""The bridge role: what it hears goes up with its microsecond; what comes down leaves at its own, or is answered."""

from __future__ import annotations

import random
import struct

import pytest

from firmware.bridge import (
    ANOTHER,
    BUSY,
    FAULT,
    QUEUE_MAX,
    REFUSED,
    SENT,
    TOO_EARLY,
    TOO_LATE,
    Bridge,
)
from firmware.no_start import NoIdentity
from hil_tests.world.air import air_s
from protocols.wire import framing
from protocols.wire.airtime import lora, time_on_air_us
from tests.firmware.bridge_rig import BridgeBench, GatewayEnd, Hal, identity
from tests.firmware.radio_rig import FREQ_HZ, Clock, Rig

_HALF = 1 << 31


def apart_us(one: int, other: int) -> int:
    return (one - other + _HALF) % (1 << 32) - _HALF


@pytest.fixture
def bench() -> BridgeBench:
    return BridgeBench()


def test_it_tells_its_state_when_it_starts_and_when_it_is_asked(bench: BridgeBench) -> None:
    bench.say(bench.gateway.ask())
    bench.run(0.1)
    first, second = bench.gateway.states
    assert (first.form, first.plan_id, first.channel, first.sf) == (1, 0, 0, 9)
    assert apart_us(second.at_us, first.at_us) > 0
    assert bench.chip.mode == "rx"


@pytest.mark.parametrize("start_us", [0, (1 << 32) - 500_000])
def test_what_it_hears_goes_up_with_the_microsecond_of_its_end(start_us: int) -> None:
    bench = BridgeBench(start_us=start_us)
    bench.run(0.1)
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"an uplink", False)
    bench.run(1.0)
    (flight,) = bench.rig.flights
    (heard,) = bench.gateway.heard
    assert (heard.freq_hz, heard.sf, heard.packet) == (FREQ_HZ, 9, b"an uplink")
    assert -30 < heard.rssi_dbm < -20
    assert heard.snr_tenth_db == 317
    ago_us = round((bench.rig.agenda.now_s() - flight.end_s) * 1e6)
    late_us = apart_us(heard.at_us, bench.now_us() - ago_us)
    assert 0 <= late_us < 4000
    print(f"start_us={start_us} stamped_late_us={late_us}")


def test_downlinks_of_others_and_spoiled_packets_are_not_handed_on(bench: BridgeBench) -> None:
    bench.run(0.1)
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"a downlink", True)
    bench.run(0.5)
    bench.rig.air.jammers.append(lambda flight: True)
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"an uplink", False)
    bench.run(0.5)
    assert len(bench.rig.flights) == 2
    assert not bench.gateway.heard
    assert bench.chip.mode == "rx"


@pytest.mark.parametrize("sf", range(7, 12))
@pytest.mark.parametrize("start_us", [0, (1 << 32) - 1_000_000])
def test_a_packet_leaves_at_its_microsecond_with_inverted_iq(sf: int, start_us: int) -> None:
    bench = BridgeBench(start_us=start_us)
    bench.run(0.2)
    at_us = bench.now_us() + 1_000_000
    at_s = bench.rig.agenda.now_s() + 1.0
    bench.say(bench.gateway.send(7, at_us, b"a downlink", sf=sf))
    bench.run(3.0)
    (flight,) = bench.rig.flights
    assert bench.gateway.results == [(7, SENT, "")]
    assert flight.signal.is_inverted
    assert (flight.signal.sf, flight.signal.payload, flight.signal.dbm) == (sf, b"a downlink", 14)
    late_us = round((flight.begin_s - at_s) * 1e6)
    assert abs(late_us) < 3000
    assert bench.chip.mode == "rx", "and it listens again"
    print(f"sf={sf} begins_late_us={late_us}")


def test_an_answer_in_the_window_of_an_uplink_is_heard_by_its_node(bench: BridgeBench) -> None:
    """SPEC.md 7.3: 1000 ms after the uplink's end, by the counter of the bridge."""
    bench.run(0.1)
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"an uplink", False)
    bench.run(0.4)
    (heard,) = bench.gateway.heard
    bench.say(bench.gateway.send(1, heard.at_us + 1_000_000, b"an ack"))
    sent = bench.node.events.pop(0)
    assert sent.kind == 0
    opens_s = bench.rig.flights[0].end_s + 0.94
    bench.run(opens_s - bench.rig.agenda.now_s())
    bench.node.radio.start_listen(FREQ_HZ, 9, True, 120)
    bench.run(1.0)
    assert [event.payload for event in bench.node.events] == [b"an ack"]
    begins_ms = 1000 * (bench.rig.flights[1].begin_s - bench.rig.flights[0].end_s)
    assert abs(begins_ms - 1000) < 10
    print(f"window_begins_ms={begins_ms:.2f}")


def test_what_comes_too_late_or_far_too_early_is_answered_and_not_sent(bench: BridgeBench) -> None:
    bench.run(0.2)
    now_us = bench.now_us()
    bench.say(bench.gateway.send(1, now_us - 5000, b"yesterday"))
    bench.say(bench.gateway.send(2, now_us + 5000, b"no time to listen"))
    bench.say(bench.gateway.send(3, now_us + 60_000_000, b"next week"))
    bench.run(1.0)
    assert [(result.number, result.code) for result in sorted(bench.gateway.results)] == [
        (1, TOO_LATE),
        (2, TOO_LATE),
        (3, TOO_EARLY),
    ]
    assert not bench.rig.flights


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"packet": bytes(198)}, "time: "),
        ({"dbm": 22}, "power: "),
        ({"freq_hz": 433_000_000}, "channel: "),
        ({"sf": 12, "packet": bytes(11)}, "time: "),
        ({"sf": 5}, "SF5: "),
        ({"sf": 255}, "SF255: "),
    ],
)
def test_what_the_plan_forbids_is_refused_and_the_answer_names_the_rule(
    bench: BridgeBench, change: dict[str, object], rule: str
) -> None:
    bench.run(0.2)
    arguments: dict[str, object] = {"packet": b"x", **change}
    bench.say(bench.gateway.send(9, bench.now_us() + 300_000, **arguments))  # type: ignore[arg-type]
    bench.run(1.0)
    (result,) = bench.gateway.results
    assert (result.number, result.code) == (9, REFUSED)
    assert result.detail.startswith(rule)
    assert not bench.rig.flights
    assert bench.chip.mode == "rx"


@pytest.mark.parametrize(("ends_s", "code"), [(-0.005, SENT), (0.3, BUSY)])
def test_a_channel_in_use_is_waited_for_within_the_window_and_no_longer(ends_s: float, code: int) -> None:
    """Somebody's packet ends so long after the moment for ours."""
    bench = BridgeBench()
    bench.run(0.2)
    at_us, at_s = bench.now_us() + 1_000_000, bench.rig.agenda.now_s() + 1.0
    bench.say(bench.gateway.send(4, at_us, b"an ack"))
    on_air_s = time_on_air_us(lora(9), 100) / 1e6
    bench.run(at_s + ends_s - on_air_s - bench.rig.agenda.now_s())
    bench.node.radio.start_send(FREQ_HZ, 9, 14, bytes(100), False)
    bench.run(3.0)
    (result,) = bench.gateway.results
    assert (result.number, result.code) == (4, code)
    ours = [flight for flight in bench.rig.flights if flight.signal.payload == b"an ack"]
    assert len(ours) == (code == SENT)
    if ours:
        assert -0.003 < ours[0].begin_s - at_s < 0.045
        theirs = next(flight for flight in bench.rig.flights if flight not in ours)
        assert ours[0].begin_s >= theirs.end_s


def test_it_holds_eight_packets_and_sends_them_in_the_order_of_their_moments(bench: BridgeBench) -> None:
    bench.run(0.2)
    now_us = bench.now_us()
    order = [3, 0, 7, 1, 6, 2, 5, 4, 8]
    for number in order:
        bench.say(bench.gateway.send(number, now_us + 500_000 + 400_000 * number, bytes([number])))
    bench.run(5.0)
    assert bench.gateway.results[0][:2] == (8, TOO_EARLY)
    assert "8 packets wait" in bench.gateway.results[0].detail
    assert [result[:2] for result in bench.gateway.results[1:]] == [(n, SENT) for n in range(QUEUE_MAX)]
    assert [flight.signal.payload[0] for flight in bench.rig.flights] == list(range(QUEUE_MAX))


def test_of_two_at_the_same_time_one_is_sent_and_the_other_is_answered(bench: BridgeBench) -> None:
    bench.run(0.2)
    at_us = bench.now_us() + 500_000
    bench.say(bench.gateway.send(1, at_us, bytes(40)) + bench.gateway.send(2, at_us + 50_000, bytes(40)))
    bench.run(2.0)
    assert sorted((result.number, result.code) for result in bench.gateway.results) == [
        (1, SENT),
        (2, ANOTHER),
    ]
    assert len(bench.rig.flights) == 1


def test_it_listens_where_it_is_told_to_if_the_plan_has_such_a_place() -> None:
    bench = BridgeBench((0, 0, 1, 0))
    bench.run(0.3)
    assert bench.gateway.states[-1].sf == 0
    assert bench.chip.mode == "standby", "the gateway says where"
    for freq_hz, sf, channel, told in (
        (470_900_000, 10, 3, 10),
        (470_950_000, 9, 3, 10),
        (470_900_000, 13, 3, 10),
        (489_300_000, 7, 95, 7),
    ):
        bench.say(bench.gateway.tune(freq_hz, sf))
        bench.run(0.2)
        assert (bench.gateway.states[-1].channel, bench.gateway.states[-1].sf) == (channel, told)
    bench.node.radio.start_send(489_300_000, 7, 14, b"there", False)
    bench.run(0.5)
    assert bench.gateway.heard[0][1:3] == (489_300_000, 7)


def test_garbage_oversize_and_half_messages_on_the_line_change_nothing(bench: BridgeBench) -> None:
    rng = random.Random(3)
    bench.run(0.2)
    for _ in range(60):
        noise = rng.randbytes(rng.randrange(1, 700))
        match rng.randrange(4):
            case 0:
                bench.say(noise)
            case 1:
                bench.say(framing.encode(noise[:512], 2))
            case 2:
                bench.say(bench.gateway.send(1, 0, b"cut off")[: rng.randrange(1, 20)])
            case _:
                bench.say(framing.encode(noise[:512], rng.randrange(1, 9)))
        bench.run(0.02)
    bench.say(bytes(2))
    sane = [flight for flight in bench.rig.flights if air_s(flight.signal) <= 1.0]
    assert sane == bench.rig.flights
    bench.gateway.results.clear()
    bench.run(0.2)
    bench.say(bench.gateway.send(5, bench.now_us() + 200_000, b"still there"))
    bench.run(1.0)
    assert (5, SENT, "") in bench.gateway.results
    assert bench.bridge.radio.errors == 0


def test_a_packet_of_nothing_and_messages_of_another_length_are_skipped(bench: BridgeBench) -> None:
    bench.run(0.1)
    nothing = struct.pack(">BHIIBb", 0x11, 1, 0, FREQ_HZ, 9, 14)
    for message in (b"\x11", b"\x11\0\1", nothing, b"\x12\0", b"\x13\0", b"\xff"):
        bench.say(framing.encode(message, 2))
    bench.run(0.5)
    assert not bench.gateway.results
    assert len(bench.gateway.states) == 1


@pytest.mark.parametrize("fault", ["dead", "broken", "stuck"])
def test_a_radio_that_fails_is_answered_and_comes_back_by_itself(bench: BridgeBench, fault: str) -> None:
    bench.run(0.2)
    bench.chip.fault = fault
    bench.say(bench.gateway.send(6, bench.now_us() + 200_000, b"lost"))
    bench.run(12.0)
    assert (6, FAULT) in [result[:2] for result in bench.gateway.results]
    bench.chip.fault = None
    bench.run(20.0)
    assert bench.chip.mode == "rx"
    bench.node.radio.start_send(FREQ_HZ, 9, 14, b"heard again", False)
    bench.run(0.5)
    assert bench.gateway.heard[-1].packet == b"heard again"
    assert "radio fault" in (bench.hal.lines.line(0) or "")


def test_it_never_waits_longer_than_it_may(bench: BridgeBench) -> None:
    bench.run(1.0)
    assert max(bench.waits) <= 2


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (identity(None), "mint it with one"),
        (identity(node_type="river"), "that of a river node"),
    ],
)
def test_what_is_no_bridge_is_told_why(who: object, said: str) -> None:
    rig = Rig()
    station = rig.station(begin=False)
    hal = Hal(who, station.port, Clock(rig.agenda), GatewayEnd())  # type: ignore[arg-type]
    with pytest.raises(NoIdentity, match=said):
        Bridge(hal)  # type: ignore[arg-type]
