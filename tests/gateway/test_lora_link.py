"""What a packet on the air is, by its first byte; copies, fragments and foreign traffic stay within their bounds."""

from __future__ import annotations

import random

import pytest

from gateway import limits
from protocols.wire import fragments
from tests.gateway.air_rig import FREQ_HZ, AirRig, ask, down


def piece(address: int, tag: int, index: int = 0, size: int = 20) -> bytes:
    return bytes((0xE0 | index, tag)) + address.to_bytes(2, "big") + bytes(size)


def test_the_links_bits_are_gone_before_a_frame_is_handed_on() -> None:
    rig = AirRig()
    rig.hear(b"\x0aplain", 5.0)
    rig.hear(b"\x2aasking", 5.0, ended_s=0.1)
    rig.run(1)
    assert [(frame, way.wants_answer) for way, frame in rig.frames] == [
        (b"\x0aplain", False),
        (b"\x0aasking", True),
    ]


@pytest.mark.parametrize("first", [0x40, 0x60, 0x80, 0xA0, 0xC0, 0x5F, 0xDF])
def test_any_other_first_byte_is_counted_and_dropped(first: int) -> None:
    rig = AirRig()
    rig.hear(bytes((first,)) + b"something", 5.0)
    rig.run(1)
    assert (rig.frames, rig.link.refused) == ([], {"kind": 1})


def test_what_comes_from_outside_the_nodes_channels_is_dropped_and_a_crystals_error_is_not_outside() -> None:
    rig = AirRig(freqs_hz=(FREQ_HZ, FREQ_HZ + 200_000))
    for number, off_hz in enumerate((0, 19_000, -19_000, 200_000, 100_000, 400_000)):
        rig.hear(ask(number), 5.0, ended_s=number / 10, freq_hz=FREQ_HZ + off_hz)
    rig.run(2)
    assert [way.best.freq_hz - FREQ_HZ for way, _ in rig.frames] == [0, 0, 0, 200_000]
    assert rig.link.refused == {"off_plan": 2}


def test_what_one_radio_hears_twice_is_no_second_reception() -> None:
    rig = AirRig(2)
    rig.hear(ask(1), 3.0, 1.0)
    rig.hear(ask(1), 50.0, ended_s=0.5)
    rig.run(1.5)
    assert len(rig.frames) == 1
    assert (rig.frames[0][0].best.snr_db, rig.frames[0][0].heard_by) == (3.0, 2)


def test_a_replay_to_another_radio_on_another_channel_or_spreading_factor_draws_no_answer_to_itself() -> None:
    other_hz = FREQ_HZ + 200_000
    for sf, freq_hz in ((9, other_hz), (7, FREQ_HZ)):
        rig = AirRig(2, freqs_hz=(FREQ_HZ, other_hz))
        rig.hear(ask(1), -5.0, None)
        rig.hear(ask(1), None, 12.0, ended_s=0.5, sf=sf, freq_hz=freq_hz)
        rig.run(0.01)
        assert rig.frames[0][0].send(0x12, down(1))
        rig.run(5)
        assert rig.link.counters["copies"] == 1
        assert [(one.radio, round(one.begin_s * 1000)) for one in rig.taken] == [("a", 1000)]


def test_the_same_bytes_a_while_later_are_ingests_to_judge() -> None:
    rig = AirRig()
    rig.hear(ask(1), 3.0)
    rig.hear(ask(1), 3.0, ended_s=limits.COPIES_S + 1)
    rig.run(limits.COPIES_S + 2)
    assert len(rig.frames) == 2


def test_fragments_in_any_order_make_a_frame_that_wants_an_answer() -> None:
    rng = random.Random(3)
    frame = b"\x0a" + rng.randbytes(300)
    pieces = fragments.split(frame, 0x12, 9, 99)
    for _ in range(20):
        rig = AirRig()
        rng.shuffle(pieces)
        for number, packet in enumerate(pieces + pieces[:2]):
            rig.hear(packet, 5.0, ended_s=number / 10)
        rig.run(3)
        assert [(one, way.wants_answer) for way, one in rig.frames] == [(frame, True)]


def test_fragments_are_collected_of_registered_nodes_only_and_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FRAGMENTING_NODES_MAX", 8)
    rig = AirRig()
    rig.known = set(range(1, 40))
    count = 0
    for address in range(1, 80):
        for tag in range(6):
            rig.hear(piece(address, tag), 5.0, ended_s=count / 1000)
            count += 1
    rig.run(3)
    link = rig.link
    assert link.refused["fragment"] == 40 * 6
    assert link.refused["fragment_overload"] == 39 - 8
    assert len(link._collectors) == 8
    for collector in link._collectors.values():
        assert len(collector._open) == limits.FRAGMENTED_PER_NODE_MAX
        assert collector.dropped == 6 - limits.FRAGMENTED_PER_NODE_MAX
    for address in range(1, 40):  # ends without a begin
        rig.hear(piece(address, 77, 0x10 | 3), 5.0, ended_s=3 + address / 1000)
    rig.run(4)
    assert len(link._ends) == 8


def test_packets_that_copies_are_looked_for_of_are_bounded_in_number_and_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ARRIVALS_MAX", 50)
    rig = AirRig()
    for number in range(200):
        rig.hear(ask(number), 5.0, ended_s=number / 1000)
    rig.run(1)
    assert len(rig.link._arrivals) == 50
    rig.run(5)
    rig.link._forget()
    assert not rig.link._arrivals


def test_nothing_that_a_radio_can_hear_raises() -> None:
    rng = random.Random(11)
    rig = AirRig(2)
    rig.answer = lambda way, frame: (
        [way.send(0x12, rng.randbytes(rng.randint(1, 512))) for _ in range(3)] and None
    )
    for number in range(3000):
        packet = rng.randbytes(rng.choice((1, 2, 4, 5, 20, 255)))
        rig.hear(packet, rng.uniform(-20, 10), None, ended_s=number / 50, sf=rng.randint(7, 12))
    rig.run(100)
    assert rig.link.scheduler.queued == 0
