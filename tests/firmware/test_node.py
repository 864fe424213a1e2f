"""What a node does, from its probe to its gateway, on a virtual clock: the firmware's own files on CPython."""

from __future__ import annotations

import pytest

from firmware.node import Node
from firmware.outbox import READINGS
from hil_tests.world.sim_hal import SimStation
from protocols.wire import codes, framing, messages
from protocols.wire.messages import (
    Ack,
    Command,
    Event,
    Hello,
    Ping,
    Readings,
    Result,
    Settings,
    SettingsReport,
    Status,
    Time,
)
from tests.firmware.street import Street

MINUTE = {0: 60, 1: 60, 2: 3600}


def raised(street: Street) -> list[tuple[int, int]]:
    return [(event.code, event.state) for event in street.peer.of(Event)]


# -- the reading's way -------------------------------------------------------------------------------------------------


def test_a_new_node_joins_and_its_first_set_reaches_the_gateway() -> None:
    street = Street(settings=MINUTE)
    street.run(120)
    first, second, *rest = street.peer.messages
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert (first.epoch, first.oldest, first.next_seq, first.boots) == (None, 1, 1, 1)
    told, reading, *_ = rest
    assert isinstance(told, Status), "whoever answers a hello hears how the node is, and how often it reports"
    assert {11: 60, 21: 60}.items() <= told.health.items()
    assert isinstance(reading, Readings)
    assert street.peer.joins == 1
    epoch = street.peer.epoch.number
    schema, tq, time, row, _ = street.peer.records[epoch, 1]
    assert (schema, tq) == (1, messages.SYNCHRONISED)
    assert time == 1_790_000_000  # measured before the clock was set, placed by it
    assert row[0] == pytest.approx(748, abs=5)
    assert row[3] == pytest.approx(1258, abs=6)


def test_sets_wait_for_each_other_and_go_out_as_one_batch_an_hour() -> None:
    street = Street()
    street.run(4 * 3600)
    count = len(street.peer.records)
    assert street.peer.seqs() == set(range(1, count + 1))
    assert len(street.peer.of(Readings)) == 3
    assert count >= 12


def test_a_set_stands_on_the_raster_of_the_clock() -> None:
    street = Street(settings={0: 900, 1: 1, 2: 3600})
    street.run(7200)
    times = [content[2] for (_, seq), content in sorted(street.peer.records.items()) if seq > 1]
    assert len(times) == 8
    assert all(time % 900 == 0 for time in times)


def test_a_lost_ack_costs_one_repetition_with_the_same_id_and_a_new_piv() -> None:
    street = Street(settings=MINUTE)
    street.run(90)
    street.peer.mute = True
    street.run(75)
    street.peer.mute = False
    street.run(300)
    assert street.node.health.frames_resent > 0
    assert street.node.outbox.count(READINGS) <= 1


def test_a_gateway_restored_from_a_backup_gets_again_what_it_lost() -> None:
    street = Street(settings=MINUTE)
    street.run(1800)
    before = max(street.peer.seqs())
    street.peer.forget_since(10)
    street.node.uplink.must_hello = True  # what a silence would bring about
    street.run(300)
    assert street.peer.seqs() >= set(range(1, before + 1))
    assert street.peer.joins == 1


def test_a_line_that_loses_a_tenth_of_its_bytes_delays_and_loses_nothing() -> None:
    street = Street(settings=MINUTE)

    def leaky(data: bytes, _: bool) -> bytes:
        return bytes(byte for byte in data if street.station.rng.random() > 0.004)

    street.line = leaky
    street.run(4 * 3600)
    street.line = lambda data, _: data
    street.run(600)
    kept = street.node.outbox.next_seq - 1
    assert kept >= 240
    assert set(range(1, kept)) <= street.peer.seqs()
    assert street.node.carrier.line_errors > 0


# -- alarms ------------------------------------------------------------------------------------------------------------


def low_oxygen() -> Street:
    """A station an hour from its next report, whose water has just run out of oxygen."""
    street = Street(
        settings={0: 60, 1: 86400, 2: 86400, 13: 5}
    )  # class V will do: the oxygen alone is what is told
    street.run(300)
    street.water["dissolved_oxygen"] = 2.1
    return street


def test_an_alarm_goes_at_once_and_takes_its_set_along() -> None:
    street = low_oxygen()
    assert not street.peer.of(Readings)
    street.run(130)  # two sets: the on-delay
    assert raised(street) == [(1, messages.RAISED)]
    event = street.peer.of(Event)[0]
    assert event.detail == pytest.approx(210, abs=2)
    assert street.peer.messages.index(event) < street.peer.messages.index(street.peer.of(Readings)[0])
    assert max(street.peer.seqs()) == street.node.outbox.next_seq - 1


def test_an_alarm_that_lasts_is_told_once_and_cleared_once() -> None:
    street = low_oxygen()
    street.run(3600)
    street.water["dissolved_oxygen"] = 9.0
    street.run(3600)
    assert raised(street) == [(1, messages.RAISED), (1, messages.CLEARED)]


def test_a_reset_neither_repeats_nor_forgets_an_alarm() -> None:
    street = low_oxygen()
    street.run(130)
    street.station.power_cut()
    street.station.power_on()
    street.run(600)
    assert raised(street) == [(1, messages.RAISED)]
    street.water["dissolved_oxygen"] = 9.0
    street.run(600)
    assert raised(street) == [(1, messages.RAISED), (1, messages.CLEARED)]


def test_a_power_cut_between_the_alarm_state_and_its_event_loses_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    street = low_oxygen()
    street.run(70)

    def cut(*_: object) -> int:
        street.station.power_cut()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("firmware.outbox.Outbox.keep", cut)
        with pytest.raises(KeyboardInterrupt):
            street.run(60)
    street.station.power_on()
    street.run(600)
    assert raised(street) == [(1, messages.RAISED)]


def test_a_silent_sonde_is_missing_readings_one_probe_fault_and_no_other_alarm() -> None:
    street = Street(settings=MINUTE)
    street.run(120)
    street.station.sonde.fault = "silent"
    street.run(600)
    assert raised(street) == [(4, messages.RAISED)]
    *_, (_, _, _, row, flags) = (
        content for _, content in sorted(street.peer.records.items()) if len(content) == 5
    )
    assert row == (None,) * 8
    assert flags == (9,) * 8
    assert street.node.sampler.errors() > 10
    street.station.sonde.fault = None
    street.run(300)
    assert raised(street) == [(4, messages.RAISED), (4, messages.CLEARED)]


@pytest.mark.parametrize("fault", ["crc", "garbage", "slow", "exception", "out_of_range", "silent"])
def test_no_fault_of_a_sonde_stops_the_cycle(fault: str) -> None:
    street = Street(settings=MINUTE)
    street.run(120)
    street.station.sonde.fault = fault
    street.run(600)
    street.station.sonde.fault = None
    street.run(300)
    assert street.node.health.traceback == ""
    sets = [content for content in street.peer.records.values() if len(content) == 5]
    assert len(sets) >= 16
    assert sets[-1][4] == (1,) * 8 or set(sets[-1][4]) <= {1, 3}


# -- what the gateway says ---------------------------------------------------------------------------------------------


def joined(settings: dict[int, int] | None = None) -> Street:
    street = Street(settings=settings or {0: 3600, 1: 3600, 2: 86400})
    street.run(60)
    return street


def ask(street: Street, op: int, args: int | None, number: int, ttl_s: int = 60) -> None:
    """A command as a gateway gives it: first a ping, then in answer to the status."""
    street.run(1.1)
    street.say(Ping(number))
    street.say(Command(street.peer.latest_piv, number, ttl_s, op, args))


def results(street: Street) -> list[tuple[int, int, object]]:
    return [(result.command_id, result.outcome, result.detail) for result in street.peer.of(Result)]


def test_a_ping_is_answered_with_a_status_at_most_once_a_second() -> None:
    street = joined()
    street.run(5)
    before = len(street.peer.of(Status))
    for nonce in range(5):
        street.say(Ping(nonce))
    assert len(street.peer.of(Status)) == before + 1
    street.run(1)
    street.say(Ping(9))
    assert len(street.peer.of(Status)) == before + 2
    health = street.peer.of(Status)[-1].health
    assert health[0] == 1
    assert health[11] == 3600
    assert health[3] > 0


def test_a_test_alarm_travels_like_an_alarm_and_leaves_nothing_behind() -> None:
    """It goes at once, before the result and before the sets that wait; and no alarm is raised by it."""
    street = joined()
    ask(street, codes.TEST_ALARM, None, 1)
    street.run(5)
    event = street.peer.of(Event)[-1]
    (result,) = street.peer.of(Result)
    assert (event.code, event.state, event.detail) == (codes.ALARM_TEST, messages.NOTE, None)
    assert result.outcome == messages.DONE
    assert event.seq < result.seq
    assert street.peer.messages.index(event) < street.peer.messages.index(result)
    assert street.node.alarms.raised == 0


def test_a_node_that_has_nothing_to_learn_says_so() -> None:
    street = joined()
    ask(street, codes.LEARN, None, 1)
    street.run(5)
    (result,) = street.peer.of(Result)
    assert result.outcome == messages.REFUSED
    assert "nothing to learn" in str(result.detail)


def test_each_command_is_executed_and_gives_a_kept_result() -> None:
    street = joined()
    ask(street, codes.IDENTIFY, 30, 1)
    ask(street, codes.READ_NOW, None, 2)
    street.run(10)
    ask(street, codes.SET_INTERVAL, 120, 3)
    ask(street, codes.REPORT_SETTINGS, None, 4)
    street.run(30)
    read_now = street.peer.of(Readings)[-1].seq
    assert results(street) == [(1, 0, None), (2, 0, read_now), (3, 0, 120), (4, 0, None)]
    assert street.station.identified == [True, False]
    assert street.peer.of(SettingsReport)[-1].document[0] == 120


def test_a_command_is_executed_at_most_once_however_often_it_comes() -> None:
    street = joined()
    for _ in range(3):
        ask(street, codes.SET_INTERVAL, 120, 7)
    ask(street, codes.SET_INTERVAL, 600, 6)  # an id that is past
    street.run(30)
    assert results(street) == [(7, 0, 120)]
    assert street.node.settings[0] == 120


def test_a_reboot_is_answered_before_it_happens_and_happens_once() -> None:
    street = joined()
    ask(street, codes.REBOOT, None, 1)
    street.run(60)
    assert results(street) == [(1, 0, None)]
    assert street.station.resets == 1
    assert street.peer.of(Hello)[-1].boots == 2
    assert street.peer.of(Hello)[-1].reset_cause == 2


def test_a_command_that_a_reset_interrupted_is_answered_failed_and_not_done_again() -> None:
    street = joined()
    ask(street, codes.READ_NOW, None, 5)
    street.station.power_cut()
    street.station.power_on()
    street.run(60)
    assert [(number, outcome) for number, outcome, _ in results(street)] == [(5, messages.FAILED)]
    ask(street, codes.READ_NOW, None, 5)
    street.run(30)
    assert len(results(street)) == 1


@pytest.mark.parametrize(
    ("op", "args", "outcome"),
    [
        (99, None, messages.UNKNOWN_OPERATION),
        (codes.SET_INTERVAL, 0, messages.REFUSED),
        (1, None, messages.REFUSED),
    ],
)
def test_a_command_that_makes_no_sense_is_answered_so(op: int, args: int | None, outcome: int) -> None:
    street = joined()
    ask(street, op, args, 1)
    street.run(10)
    assert [result[1] for result in results(street)] == [outcome]


def test_a_command_that_waited_too_long_behind_another_is_expired() -> None:
    street = joined()
    ask(street, codes.READ_NOW, None, 1)  # takes more than two seconds
    street.run(1)
    street.say(Ping(2))
    street.say(Command(street.peer.latest_piv, 2, 0, codes.IDENTIFY, 5))
    street.run(10)
    assert [result[:2] for result in results(street)] == [(1, messages.DONE), (2, messages.EXPIRED)]


def test_settings_are_taken_as_a_whole_and_reported() -> None:
    street = joined()
    street.say(Ping(1))
    street.say(Settings(street.peer.latest_piv, 4, {0: 600, 1: 1200}))
    assert street.peer.of(SettingsReport)[-1] == SettingsReport(4, {0: 600, 1: 1200, 2: 86400, 13: 3})
    street.run(1.1)
    street.say(Ping(2))
    street.say(Settings(street.peer.latest_piv, 5, {0: 900, 99: 1}))
    assert street.peer.of(SettingsReport)[-1] == SettingsReport(4, {0: 600, 1: 1200, 2: 86400, 13: 3})
    street.station.power_cut()
    street.station.power_on()
    assert street.node.settings[0] == 600


def test_a_clock_that_was_wrong_is_set_and_the_step_is_told() -> None:
    street = joined()
    street.say(Ping(1))
    street.say(Time(street.peer.latest_piv, street.now_ms // 1000 + 500, 0))
    street.run(10)
    (event,) = street.peer.of(Event)
    assert (event.code, event.state) == (codes.CLOCK_STEPPED, messages.NOTE)
    assert event.detail == pytest.approx(500, abs=1)


# -- what is refused ---------------------------------------------------------------------------------------------------


def state_of(street: Street) -> tuple[object, ...]:
    node = street.node
    return (
        node.session.epoch,
        node.session.dn_piv,
        node.settings.document(),
        node.outbox.next_seq,
        node.health.clock_steps,
        node.commands._store.latest,
    )


def refused(street: Street, data: bytes) -> dict[str, int]:
    """Counters that these bytes from the line raise; they must change nothing else."""
    street.run(0.5)
    state, before = state_of(street), dict(street.node.health.refusals)
    street.inject(data)
    assert state_of(street) == state
    return {
        reason: count - before.get(reason, 0)
        for reason, count in street.node.health.refusals.items()
        if count != before.get(reason, 0)
    }


def test_a_downlink_played_again_is_a_replay() -> None:
    street = joined()
    street.say(Ping(1))
    street.say(Settings(street.peer.latest_piv, 4, {0: 600}))
    recorded = street.down[-1]
    assert refused(street, recorded) == {"replay": 1}


def test_a_downlink_that_answers_an_older_uplink_is_late() -> None:
    street = joined()
    street.say(Ping(1))
    answers = street.peer.latest_piv
    street.run(1)
    street.say(Ping(2))
    assert refused(street, street.peer.send(Command(answers, 1, 60, codes.REBOOT, None))) == {"late": 1}


def test_a_downlink_recorded_and_sent_later_than_its_window_is_late() -> None:
    street = joined()
    street.say(Ping(1))
    held_back = street.peer.send(Time(street.peer.latest_piv, 1_000_000_000, 0))
    street.run(9.0)
    in_time = street.peer.send(Settings(street.peer.latest_piv, 2, {0: 7200}))
    street.inject(in_time)
    assert street.node.settings[0] == 7200
    street.run(1.0)
    street.run(1.1)
    late = street.peer.send(Settings(street.peer.latest_piv, 3, {0: 60}))
    street.run(10.1)
    assert refused(street, late) == {"late": 1}
    assert refused(street, held_back) == {"replay": 1}


def test_frames_of_others_flipped_cut_and_foreign_are_refused_by_reason() -> None:
    street = joined()
    frame = street.peer.epoch.seal(Ack(0, (), None))
    foreign = frame[:2] + b"\x00\x11" + frame[4:]
    flipped = frame[:-1] + bytes((frame[-1] ^ 1,))
    assert refused(street, framing.encode(flipped)) == {"auth": 1}
    assert refused(street, framing.encode(foreign)) == {"unknown_node": 1}
    assert refused(street, framing.encode(frame[:5])) == {"malformed": 1}
    assert refused(street, framing.encode(b"\xe9" + frame[1:])) == {"version": 1}
    assert refused(street, framing.encode(frame[:1] + b"\x09" + frame[2:])) == {"auth": 1}
    assert refused(street, b"\x00garbage\x00\x01\x02\x00") == {}


def test_a_challenge_outside_a_join_is_refused() -> None:
    street = joined()
    assert refused(street, street.peer.send(messages.Challenge(b"12345678"))) == {"malformed": 1}


def test_downlink_pivs_are_never_accepted_again_after_a_power_cut() -> None:
    street = joined()
    street.say(Ping(1))
    street.run(2)
    recorded = street.peer.send(Ping(2))
    street.inject(recorded)
    street.station.power_cut()
    street.station.power_on()
    street.run(10)
    heard = len(street.peer.of(Status))
    assert refused(street, recorded) == {"replay": 1}
    assert len(street.peer.of(Status)) == heard
    street.say(Ping(3))
    assert len(street.peer.of(Status)) == heard + 1, "the gateway goes on above the bound that hello told"


# -- losing things -----------------------------------------------------------------------------------------------------


def test_a_node_whose_channel_is_lost_joins_a_new_epoch_and_loses_no_record() -> None:
    street = Street(settings=MINUTE)
    street.run(600)
    street.peer.deaf = True
    street.run(600)
    first = street.peer.epoch.number
    for folder in ("/a", "/b"):
        street.node.hal.state_fs.remove(folder + "/channel")
    street.station.power_cut()
    street.station.power_on()
    street.peer.deaf = False
    street.run(600)
    assert street.peer.joins == 2
    assert street.peer.epoch.number != first
    kept = street.node.outbox.next_seq - 1
    assert {seq for epoch, seq in street.peer.records if epoch == first} | {
        seq for epoch, seq in street.peer.records if epoch == street.peer.epoch.number
    } >= set(range(1, kept))
    assert street.node.outbox.count(READINGS) <= 1


def test_a_node_without_identity_says_so_and_does_nothing() -> None:
    street = Street(powered=False)
    street.station.flash.image[:] = b"\xff" * len(street.station.flash.image)  # type: ignore[attr-defined]
    from hil_tests.world.flash import LittleFs

    LittleFs.mkfs(street.station.flash)
    street.station.power_on()
    street.run(60)
    assert street.station.node is None
    assert "mint this node" in street.station.log[-1]


def test_an_error_inside_a_step_is_kept_over_a_reset_and_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    street = joined()
    with monkeypatch.context() as patch:
        patch.setattr(Node, "_listen", lambda _: {}["what nobody thought of"])
        street.run(1)
    street.run(5)
    street.station.press_reset()
    street.run(10)
    street.say(Ping(1))
    told = street.peer.of(Status)[-1].health[codes.TRACEBACK]
    assert "what nobody thought of" in told
    assert len(told.encode()) <= 128


def test_a_failing_flash_is_counted_and_the_node_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Street(settings=MINUTE)
    street.run(120)
    with monkeypatch.context() as patch:
        patch.setattr("firmware.outbox.Outbox.keep", lambda *_: (_ for _ in ()).throw(OSError(5)))
        street.run(180)
    assert street.node.health.flash_errors >= 3
    street.run(180)
    assert street.node.health.traceback == ""
    assert street.node.outbox.count(READINGS) <= 1


def test_a_measurement_that_never_ends_stops_feeding_the_watchdog() -> None:
    street = joined({0: 60, 1: 60, 2: 86400})

    def for_ever(_: object) -> object:
        while True:
            yield 1000

    sensor = street.node.sampler._sensors[0]
    sensor.measure = for_ever
    street.run(300)
    assert street.station.fed_ms > street.now_ms - 10_000, "that may be a slow sensor"
    street.run(1200)
    assert street.station.fed_ms < street.now_ms - 300_000


def test_steps_never_ask_for_a_wait_below_zero_nor_block_longer_than_a_transaction() -> None:
    street = Street(settings=MINUTE)
    longest = 0
    for _ in range(3000):
        station: SimStation = street.station
        before = station.clock.now_ms()
        wait_ms = station.step()
        longest = max(longest, station.clock.now_ms() - before)
        assert wait_ms >= 0
        street.now_ms += max(1, min(wait_ms, 50))
        if street.now_ms > 1_790_000_300_000:
            station.sonde.fault = "silent"
    assert 0 < longest <= 1000


# -- other node types --------------------------------------------------------------------------------------------------


def test_a_solar_station_adds_its_supply_and_tells_a_battery_that_runs_down_in_millivolts() -> None:
    street = Street(settings={0: 60, 1: 60, 2: 86400}, node_type="river_solar")
    street.run(300)
    schema, _, _, row, _ = street.peer.records[street.peer.epoch.number, 3]
    assert (schema, len(row), row[8]) == (3, 9, 1260)
    street.station.supply_mv = 11_500
    street.run(400)
    (event,) = street.peer.of(Event)
    assert (event.code, event.state, event.detail) == (5, messages.RAISED, 11_500)


@pytest.mark.parametrize("kind", ["set", "event"])
def test_a_record_that_the_gateway_does_not_take_holds_up_nothing_behind_it(kind: str) -> None:
    """A conflict is never acknowledged: its record stands aside, and is offered again later."""
    street = Street(settings=MINUTE)
    street.run(200)
    refused = street.node.outbox.next_seq
    street.peer.conflicts = {refused}
    if kind == "event":  # which would go before everything else, for ever
        street.node._keep_event(codes.CLOCK_STEPPED, messages.NOTE, 5)
    street.run(1200)
    assert street.peer.refused["conflict"] > 0
    taken = street.peer.seqs()
    assert refused not in taken
    assert taken >= set(range(refused + 1, street.node.outbox.next_seq - 2))
    street.peer.conflicts = set()
    street.run(1200)
    assert refused in street.peer.seqs()
