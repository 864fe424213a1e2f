"""What goes up over LoRa, and when: which reports ask, what an ack leaves out, what did not go out, all over sleeps."""

from __future__ import annotations

from typing import Any

import pytest

from firmware.air_uplink import ASK_AFTER_S, ASK_EVERY
from firmware.outbox import READINGS
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S
from protocols.wire.law import EU868
from protocols.wire.messages import Event, Readings, Status, Time
from tests.firmware.peer import contents
from tests.firmware.sky import RADIO, Sky
from tests.firmware.test_node_on_air import covers_chip

DAY_S = 86400
REPORTS = {INTERVAL_S: 300, REPORT_S: 300, STATUS_S: DAY_S}
HOURLY = {INTERVAL_S: 3600, REPORT_S: 1, STATUS_S: 7 * DAY_S}


def until_answered(sky: Sky, step_s: float = 60) -> int:
    """The next report is the first of four after an answer; how many uplinks there were so far."""
    sky.run(1000)
    while not sky.gateway.wanted[-1]:
        sky.run(step_s)
    sky.run(10)
    return len(sky.gateway.wanted)


def asleep(**more: Any) -> Sky:
    """A cover that sleeps between its reports and knows its clock, so that it has no more need to ask for the time."""
    sky = Sky(settings=HOURLY, node_type="cover", boot_ms=800, prepare=covers_chip, **more)
    sky.run(3 * 3600)
    sky.gateway.says.append(lambda piv: Time(piv, sky.now_ms() // 1000 + 1, 0))
    sky.run(5 * 3600)
    return sky


def times_heard(sky: Sky) -> dict[int, int]:
    """How often each record came."""
    count: dict[int, int] = {}
    for message in sky.peer.of(Readings):
        for seq, _ in contents(message):
            count[seq] = count.get(seq, 0) + 1
    return count


def assert_each_came_once(sky: Sky) -> None:
    seqs = sky.peer.seqs()
    assert seqs == set(range(1, max(seqs) + 1))
    assert set(times_heard(sky).values()) == {1}


@pytest.mark.parametrize("is_asleep", [False, True])
def test_every_fourth_report_asks_and_over_sleeps_too(is_asleep: bool) -> None:
    sky = asleep() if is_asleep else Sky(settings=HOURLY)
    first = until_answered(sky)
    sky.run(8 * 3600 + 1800)
    assert sky.gateway.wanted[first:][:8] == ([False] * (ASK_EVERY - 1) + [True]) * 2
    assert_each_came_once(sky)


def test_a_report_that_follows_six_hours_without_an_answer_asks() -> None:
    sky = Sky(settings={INTERVAL_S: 3600, REPORT_S: 4 * 3600, STATUS_S: 7 * DAY_S})
    first = until_answered(sky, 600)
    assert 4 * 3600 < ASK_AFTER_S < 8 * 3600
    sky.run(34 * 3600)
    assert sky.gateway.wanted[first:][:6] == [False, True] * 3


@pytest.mark.parametrize("lost", range(ASK_EVERY - 1))
def test_what_an_ack_leaves_out_is_sent_again_and_nothing_comes_twice(lost: int) -> None:
    sky = Sky(settings=REPORTS)
    sent = until_answered(sky) + lost
    while len(sky.gateway.wanted) < sent:
        sky.run(10)
    before = len(sky.uplinks())
    sky.peer.deaf = True
    while len(sky.uplinks()) == before:
        sky.run(1)
    sky.run(2)
    sky.peer.deaf = False
    missing = sky.node.outbox.next_seq - 1
    assert missing not in sky.peer.seqs()
    while not sky.gateway.wanted[-1]:
        assert missing not in sky.peer.seqs(), "nobody asked yet"
        sky.run(1)
    sky.run(60)
    assert missing in sky.peer.seqs()
    assert_each_came_once(sky)
    assert sky.node.outbox.count(READINGS) == 0


def test_a_report_that_does_not_go_out_stays_fresh_and_those_before_it_are_not_sent_again() -> None:
    sky = Sky(settings=REPORTS)
    until_answered(sky)
    while sky.gateway.wanted[-2:] != [False, False]:
        sky.run(10)
    sky.run(10)
    heard = len(sky.gateway.wanted)
    sky.chip.fault = "dead"
    errors = sky.node.carrier.errors
    while sky.node.carrier.errors == errors:
        sky.run(1)
    sky.chip.fault = None
    sky.run(100)
    assert sky.gateway.wanted[heard:] == [False], "the third of four, half a minute late"
    sky.run(1500)
    assert sky.gateway.wanted[heard:][:2] == [False, True]
    assert_each_came_once(sky)


def test_a_sleeper_whose_report_the_law_holds_back_knows_after_its_sleep_that_it_did_not_go_out() -> None:
    sky = asleep(radio=(EU868, 0, 1, 0))
    until_answered(sky)
    lives: list[Any] = []

    def spend(node: Any) -> None:
        if not lives:  # what the node sent in its hour, all at once
            law = node.carrier._law
            law.sent(node.hal.clock.uptime_s(), law.freq_hz(0), 35_950_000)
        lives.append(node)

    sky.station.on_start = spend
    heard = len(times_heard(sky))
    sky.run(3600 + 1800)
    assert lives[0].carrier.held_back > 0
    assert len(times_heard(sky)) == heard
    assert sky.station.sleep is not None, "it sleeps until it may"
    sky.run(7 * 3600)
    assert len(times_heard(sky)) >= heard + 7
    assert_each_came_once(sky)
    in_order = list(times_heard(sky))
    assert in_order == sorted(in_order), "it went first, and not as a gap that an ack told of"


def test_a_status_is_repeated_until_it_is_answered_and_a_newer_one_takes_its_place() -> None:
    sky = Sky(settings=REPORTS)
    until_answered(sky)
    before = len(sky.peer.of(Status))
    sky.peer.mute = True
    sky.node.status_at_s = 0
    sky.run(30)
    told = sky.peer.of(Status)[before:]
    assert len(told) >= 2
    assert len({status.health[1] for status in told}) == 1, "the same one"
    sky.node.status_at_s = 0
    sky.peer.mute = False
    sky.run(60)
    assert sky.peer.of(Status)[-1].health[1] > told[0].health[1]
    count = len(sky.peer.of(Status))
    sky.run(200)
    assert len(sky.peer.of(Status)) == count, "it was answered"


def test_an_alarm_waits_for_no_status_that_nobody_answered() -> None:
    """Its spaces become hours long, and what happens meanwhile is told at once."""
    sky = Sky(settings=REPORTS)
    until_answered(sky)
    sky.peer.mute = True
    sky.node.status_at_s = 0
    sky.run(250)
    before = len(sky.peer.of(Event))
    sky.node.maintain(60)  # an event like any other
    sky.run(5)
    assert len(sky.peer.of(Event)) > before


def test_reports_of_many_nodes_do_not_leave_at_once() -> None:
    """Sets stand on the raster of the clock; a report is put off by up to a twelfth of its time."""
    begun = []
    for seed in range(8):
        sky = Sky(settings={INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: DAY_S}, seed=seed, radio=RADIO)
        sky.run(600)
        before = len(sky.uplinks())
        sky.run(2 * 3600)
        begun.append(sky.uplinks()[before].begin_s)
    assert 60 < max(begun) - min(begun) <= 300
    assert len({round(at_s) for at_s in begun}) >= 7
