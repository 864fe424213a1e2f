"""Downlinks begin in the windows of the uplink they answer, on a radio that is free, in order, and never late."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from gateway import limits
from gateway.links import radio as radios
from gateway.links.lora import Way
from gateway.links.radio import RadioClock, Transmission
from protocols.wire import airtime, fragments
from protocols.wire.law import EU868
from tests.gateway.air_rig import FREQ_HZ, AirRig, ask, down, offsets_ms


def answering(rig: AirRig, *frames: bytes, address: int = 0x12, after_s: float = 0.03) -> list[bool]:
    """Have each uplink answered with `frames`; what `send` said of each."""
    said: list[bool] = []

    def later(way: Way) -> None:
        said.extend(way.send(address, frame) for frame in frames)

    rig.answer = lambda way, frame: rig.loop.call_later(after_s, later, way) and None
    return said


def air_ms(frame: bytes, sf: int = 9) -> float:
    return airtime.time_on_air_us(airtime.lora(sf), len(frame)) / 1000


def test_the_first_downlink_begins_after_a_second_and_each_further_one_400_ms_after_the_last() -> None:
    rig = AirRig()
    frames = [down(1), down(2, 30), down(3)]
    said = answering(rig, *frames)
    rig.hear(ask(1), 5.0)
    rig.run(5)
    assert said == [True, True, True]
    second = 1000 + air_ms(frames[0]) + 400
    third = second + air_ms(frames[1]) + 400
    assert offsets_ms(rig) == [1000, round(second), round(third)]
    assert [one.what.packet for one in rig.taken] == frames
    assert all((one.what.freq_hz, one.what.sf, one.what.dbm) == (FREQ_HZ, 9, 17) for one in rig.taken)


def test_the_best_of_the_radios_that_heard_it_answers_and_the_frame_goes_up_once() -> None:
    rig = AirRig(3)
    answering(rig, down(1))
    rig.hear(ask(1), -5.0, 7.0, 2.0)
    rig.run(3)
    assert len(rig.frames) == 1
    assert [one.radio for one in rig.taken] == ["b"]
    assert rig.frames[0][0].best.snr_db == 7.0
    assert rig.frames[0][0].heard_by == 3
    assert rig.link.counters["copies"] == 2


def test_a_copy_that_comes_after_the_answer_was_decided_can_still_be_the_best() -> None:
    """The ack is ready after 30 ms; a radio behind a mobile network tells of the packet after half a second."""
    rig = AirRig(2)
    answering(rig, down(1), after_s=0.001)
    rig.hear(ask(1), -5.0, 7.0, delay_s=0.25)
    rig.run(3)
    assert [one.radio for one in rig.taken] == ["b"]


def test_counters_wrap_and_the_answer_is_on_time_all_the_same() -> None:
    rig = AirRig(2)
    answering(rig, down(1))
    for number in range(4):
        rig.hear(ask(number), None, 5.0, ended_s=8.0 + number * 1.5)
    rig.run(20)
    assert [round(one.begin_s, 3) for one in rig.taken] == [9.0, 10.5, 12.0, 13.5]
    assert (rig.taken[1].what.at_us or 0) < (rig.taken[0].what.at_us or 0)


def test_when_the_best_radio_is_taken_the_next_best_sends_in_the_same_window() -> None:
    rig = AirRig(2)
    answering(rig, down(1))
    rig.hear(ask(1), 9.0, 3.0)
    rig.hear(ask(2), 9.0, 3.0, ended_s=0.05)
    rig.run(4)
    assert [(one.radio, round(one.begin_s * 1000)) for one in rig.taken] == [("a", 1000), ("b", 1050)]


def test_with_no_other_radio_the_second_window_is_used() -> None:
    rig = AirRig()
    answering(rig, down(1))
    rig.hear(ask(1), 9.0)
    rig.hear(ask(2), 9.0, ended_s=0.05)
    rig.run(4)
    assert [round(one.begin_s * 1000) for one in rig.taken] == [1000, 2050]
    assert rig.link.scheduler.counters["second_window"] == 1


@pytest.mark.parametrize("code", [radios.TOO_LATE, radios.BUSY, radios.FAULT, radios.REFUSED])
def test_what_one_radio_can_not_send_another_does_at_once(code: int) -> None:
    rig = AirRig(2)
    rig.radios[0].verdict = lambda transmission: code
    answering(rig, down(1), down(2))
    rig.hear(ask(1), 9.0, 3.0)
    rig.run(4)
    assert [one.radio for one in rig.taken] == ["b", "b"]
    assert offsets_ms(rig)[0] == 1000


def test_what_the_only_radio_could_not_send_goes_into_the_second_window() -> None:
    rig = AirRig()
    verdicts = iter([radios.TOO_LATE, radios.SENT, radios.SENT])
    rig.radios[0].verdict = lambda transmission: next(verdicts)
    answering(rig, down(1), down(2))
    rig.hear(ask(1), 9.0)
    rig.run(6)
    assert [one.what.packet for one in rig.taken] == [down(1), down(2)]
    assert offsets_ms(rig) == [2000, round(2000 + air_ms(down(1)) + 400)]


def test_a_chain_that_broke_is_given_up_for_the_node_no_longer_listens() -> None:
    rig = AirRig()
    verdicts = iter([radios.SENT, radios.BUSY, radios.SENT, radios.SENT])
    rig.radios[0].verdict = lambda transmission: next(verdicts)
    answering(rig, down(1), down(2), down(3))
    rig.hear(ask(1), 9.0)
    rig.run(8)
    assert [one.what.packet for one in rig.taken] == [down(1)]
    assert rig.link.scheduler.counters["dropped"] == 2
    assert not rig.frames[0][0].send(0x12, down(4))


def test_an_ack_that_is_late_for_both_windows_is_not_sent_and_one_for_the_first_takes_the_second() -> None:
    late, later = AirRig(), AirRig()
    said = answering(late, down(1), after_s=1.2)
    too_late = answering(later, down(1), after_s=1.97)
    for rig in (late, later):
        rig.hear(ask(1), 9.0)
        rig.run(5)
    assert (said, offsets_ms(late)) == ([True], [2000])
    assert (too_late, later.taken) == ([False], [])


def test_a_command_that_is_ready_after_the_ack_went_out_follows_it() -> None:
    rig = AirRig()
    answering(rig, down(1))
    rig.hear(ask(1), 9.0)
    rig.loop.call_later(0.9, lambda: rig.frames[0][0].send(0x12, down(2)))
    rig.run(5)
    assert offsets_ms(rig) == [1000, round(1000 + air_ms(down(1)) + 400)]


def test_the_rest_of_a_chain_gives_way_to_the_ack_of_another_node() -> None:
    """Both would need the radio at 1.63 s; the node with the command asks again, the other has nothing yet."""
    rig = AirRig()
    chain = [down(1), down(2, 60)]
    rig.answer = lambda way, frame: (
        [way.send(0x12, one) for one in (chain if frame[2] == 1 else [down(9)])] and None
    )
    rig.hear(ask(1), 9.0)
    rig.hear(ask(2), 9.0, ended_s=0.62)
    rig.run(6)
    assert [one.what.packet for one in rig.taken] == [down(1), down(9)]
    assert round(rig.taken[1].begin_s * 1000) == 1620


def test_a_frame_that_does_not_fit_goes_in_pieces_one_after_the_other() -> None:
    rig = AirRig()
    frame = down(1, 60)
    answering(rig, frame, after_s=0.01)
    rig.hear(ask(1), 9.0, sf=11)
    rig.run(12)
    packets = [one.what.packet for one in rig.taken]
    assert len(packets) > 1
    assert max(map(len, packets)) <= 36
    collector = fragments.Collector(1)
    assert [collector.take(packet, 0) for packet in packets][-1] == frame
    for before, after in pairwise(rig.taken):
        assert after.begin_s - before.end_s == pytest.approx(0.4, abs=1e-5)


def test_a_radio_that_expects_the_rest_of_a_frame_listens_when_another_can_answer() -> None:
    rig = AirRig(2)
    pieces = fragments.split(bytes((0x2A,)) + bytes(150), 0x12, 7, 99)
    assert len(pieces) == 2
    answering(rig, down(1))
    rig.hear(ask(1), 9.0, 3.0)
    rig.hear(pieces[0], 9.0, None, ended_s=0.62, sf=10)
    rig.run(4)
    assert [one.radio for one in rig.taken] == ["b"]


def test_without_a_counter_a_packet_is_taken_and_not_answered() -> None:
    rig = AirRig(2)
    said = answering(rig, down(1))
    rig.hear(ask(1), None, None)
    rig.radios[0].on_uplink(radios.Uplink("a", None, FREQ_HZ, 9, -80.0, 5.0, ask(1)))
    rig.run(4)
    assert len(rig.frames) == 1
    assert rig.taken == []
    assert said == [True]
    assert rig.link.scheduler.counters["dropped"] == 1


def test_in_europe_no_radio_spends_more_than_a_hundredth_of_an_hour_and_another_takes_over() -> None:
    rig = AirRig(2, EU868, (868_100_000,))
    answering(rig, down(1, 50))
    for number in range(400):
        rig.hear(ask(number), 9.0, 3.0, ended_s=number * 8.0, sf=12, freq_hz=868_100_000)
    rig.run(3300)
    for radio in rig.radios:
        spent_s = sum(one.end_s - one.begin_s for one in radio.taken)
        print(f"radio={radio.name} spent_s={spent_s:.1f}")
        assert 30 < spent_s <= 36
    assert rig.link.scheduler.counters["air_refused"] > 0


def test_a_counter_is_known_by_its_fastest_packet_and_followed_when_it_begins_anew() -> None:
    clock = RadioClock()
    clock.heard(1_000_000, 10.3)
    clock.heard(2_000_000, 11.01)
    clock.heard(3_000_000, 12.4)
    assert clock.at_s(3_000_000) == pytest.approx(12.01)
    clock.heard(500, 13.0)
    assert clock.at_s(500) == pytest.approx(13.0)


class Observer:
    """Judges what the radios were told by the uplinks that there were; shares nothing with the scheduler."""

    def __init__(self, rig: AirRig, uplinks: dict[int, tuple[float, int]]) -> None:
        self.rig = rig
        self.uplinks = uplinks
        self.by_uplink: dict[int, list[Any]] = defaultdict(list)
        for one in rig.taken:
            self.by_uplink[int.from_bytes(one.what.packet[1:5], "big") >> 8].append(one)

    def judge(self) -> None:
        self._each_alone_in_time_and_within_the_plan()
        for number, sent in self.by_uplink.items():
            ended_s, sf = self.uplinks[number]
            assert all(one.what.sf == sf for one in sent)
            marks = [one.what.packet[4] for one in sent]
            assert marks == list(range(len(marks))), f"uplink {number}: out of order: {marks}"
            begins = [one.begin_s - ended_s for one in sent]
            assert min(abs(begins[0] - 1), abs(begins[0] - 2)) < 0.001, (
                f"uplink {number} begins at {begins[0]}"
            )
            for before, after in pairwise(sent):
                assert abs(after.begin_s - before.end_s - 0.4) < 0.001
            assert len(sent) <= 16

    def _each_alone_in_time_and_within_the_plan(self) -> None:
        for radio in self.rig.radios:
            order = sorted(radio.taken, key=lambda one: one.begin_s)
            for before, after in pairwise(order):
                assert before.end_s < after.begin_s, f"{radio.name} sends two at once at {after.begin_s}"
            for one in radio.taken:
                assert one.begin_s - one.told_s < 5, f"early at {one.begin_s}"
                assert one.end_s - one.begin_s <= 1.0
                assert one.what.dbm <= self.rig.law.dbm_max
                assert len(one.what.packet) <= self.rig.law.size_max(one.what.sf)


def scripted(rng: random.Random) -> dict[str, int]:
    """Half a minute of any traffic over three radios that refuse, vanish and say nothing now and then."""
    rig = AirRig(3)
    uplinks: dict[int, tuple[float, int]] = {}

    def verdict(transmission: Transmission) -> int | None:
        return rng.choice([None] + [radios.SENT] * 8 + list(range(1, 8)) + [99])

    delays_s = rng.choice(((0.001,), (0.002, 0.02, 0.2)))
    for radio in rig.radios:
        radio.verdict = verdict

    def answer(way: Way, frame: bytes) -> None:
        number = int.from_bytes(frame[1:3], "big")
        for mark in range(rng.choice((0, 1, 1, 1, 2, 3, 5, 16))):
            after_s = (
                rng.choice((0.01, 0.03, 0.06, 0.06, 0.9, 1.5)) if mark == 0 or rng.random() < 0.1 else 0.06
            )
            size = rng.randint(14, 36)
            rig.loop.call_later(after_s + mark / 1000, send, way, number, size)

    counts: dict[int, int] = defaultdict(int)

    def send(way: Way, number: int, size: int) -> None:
        if way.send(0x12, down(number << 8 | counts[number], size)):
            counts[number] += 1

    rig.answer = answer
    for number in range(rng.randint(20, 120)):
        ended_s, sf = rng.uniform(0, 30), rng.choice((7, 9, 9, 10, 11))
        uplinks[number] = (ended_s, sf)
        snrs = [rng.uniform(-15, 10) if rng.random() < 0.6 else None for _ in range(3)]
        rig.hear(ask(number), *snrs, ended_s=ended_s, sf=sf, delay_s=rng.choice(delays_s))
    for _ in range(4):
        radio = rng.choice(rig.radios)
        at_s = rng.uniform(0, 30)
        rig.loop.call_at(at_s, setattr, radio, "is_ready", False)
        rig.loop.call_at(at_s + 3, setattr, radio, "is_ready", True)
    rig.run(60)
    Observer(rig, uplinks).judge()
    if max(delays_s) < 0.01:  # else only the radio knows, and refuses
        assert not any(radio.late for radio in rig.radios)
    scheduler = rig.link.scheduler
    assert scheduler.queued == 0
    assert not scheduler._waiting
    return {"uplinks": len(uplinks), "taken": len(rig.taken), **scheduler.counters}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_no_two_overlap_and_nothing_leaves_its_window_its_order_or_its_plan(seed: int) -> None:
    told = scripted(random.Random(seed))
    print(f"seed={seed}", *(f"{name}={value}" for name, value in told.items()))
    assert told["taken"] > 0


def test_exchanges_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXCHANGES_MAX", 5)
    rig = AirRig()
    said = answering(rig, down(1))
    for number in range(9):
        rig.hear(ask(number), 5.0)
    rig.run(5)
    assert said.count(False) == 4
    assert rig.link.scheduler.counters["overload"] == 4
