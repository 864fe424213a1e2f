"""A node on the air: what it sends when, what it believes of what comes down, and what silence and faults do to it.

The real firmware and its driver against a simulated chip, in a simulated air, with a scripted gateway (sky.py).
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest

from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.ether import Signal
from firmware.air_uplink import ASK_EVERY
from firmware.lora import CHAIN_MAX, FIRST_MS, LOUDER_EVERY
from firmware.outbox import EVENTS, READINGS
from firmware.settings import INTERVAL_S, RADIO_DBM, RADIO_SF, REPORT_S, STATUS_S
from hil_tests.world.air import air_s
from hil_tests.world.cutflash import VARIANTS
from hil_tests.world.sim_hal import PowerLost, SimStation
from hil_tests.world.sim_node import TornFlash
from hil_tests.world.street_cover import CoverMotion
from protocols.wire import codes, fragments, messages
from protocols.wire.law import CN470, EU868
from protocols.wire.messages import Command, Event, Hello, Readings, Result, Settings, SettingsReport, Status
from tests.firmware.sky import Sky
from tests.firmware.street import START_MS

HOURLY = {INTERVAL_S: 900, REPORT_S: 3600, STATUS_S: 86400}
MINUTES = {INTERVAL_S: 60, REPORT_S: 60, STATUS_S: 86400}
LOW_OXYGEN = 1
SF11 = {RADIO_SF: 11}


def alarmed(sky: Sky) -> None:
    """The water runs out of oxygen, and two sets later the alarm is raised."""
    sky.water["dissolved_oxygen"] = 2.1
    sky.run(130)


def covers_chip(station: SimStation) -> None:
    motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=0)
    chip = Lis3dh(motion.acceleration, steady_until=motion.steady_until, offset_g=motion.offset_g, noise=20.0)
    station.attach(chip, motion=chip.int1)
    station.supply_mv = 3600


# -- up ----------------------------------------------------------------------------------------------------------------


def test_a_new_node_joins_tells_how_it_is_and_its_readings_ask_for_no_answer_but_every_fourth() -> None:
    sky = Sky(settings=HOURLY)
    sky.run(11 * 3600)
    first, second, told, *rest = sky.peer.messages
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert isinstance(told, Status)
    assert {type(message) for message in rest} == {Readings}
    assert sky.peer.joins == 1
    asked = sky.gateway.wanted[3:]
    assert asked[: 2 * ASK_EVERY] == ([False] * (ASK_EVERY - 1) + [True]) * 2
    assert sky.peer.seqs() >= set(range(1, 11 * 4 - 6))
    assert not sky.chip.complaints
    assert not sky.node.health.refusals


def test_an_hour_of_a_river_is_one_packet_at_sf10_and_an_alarm_fits_sf11() -> None:
    sky = Sky(settings=HOURLY)
    sky.run(5 * 3600)
    reports = [uplink for uplink in sky.gateway.packets if uplink.payload[0] & fragments.KIND == 0]
    sizes = [len(uplink.payload) for uplink in reports]
    counts = [len(sky.peer.records) // len(sizes)]
    print(f"\nriver_hour_bytes={max(sizes)} sets={counts[0]}")
    assert max(sizes) <= 99
    assert min(counts) >= 4

    sky = Sky(settings={**MINUTES, REPORT_S: 86400, 13: 5, **SF11})
    sky.run(200)
    alarmed(sky)
    event = next(i for i, message in enumerate(sky.peer.messages) if isinstance(message, Event))
    packets = [uplink for uplink in sky.gateway.packets if uplink.payload[0] & fragments.KIND == 0x20]
    sealed = [uplink for uplink in packets if uplink.sf == 11]
    print(f"alarm_bytes={[len(uplink.payload) for uplink in sealed]}")
    assert isinstance(sky.peer.messages[event], Event)
    assert any(len(uplink.payload) <= 36 for uplink in sealed)


def test_an_alarm_goes_at_once_and_asks_until_it_is_answered() -> None:
    sky = Sky(settings={**MINUTES, REPORT_S: 86400, 13: 5})
    sky.run(300)
    sky.peer.mute = True
    before = len(sky.uplinks())
    alarmed(sky)
    sky.run(300)
    tries = [flight.begin_s for flight in sky.uplinks()[before:]]
    gaps = [late - early for early, late in itertools.pairwise(tries)]
    assert len(gaps) >= 4
    assert gaps[0] < 10, "the first repetition comes soon"
    assert max(gaps) > 2 * gaps[0], "and they are spaced wider and wider"
    sky.peer.mute = False
    sky.run(200)
    assert [event.code for event in sky.peer.of(Event)][-1] == LOW_OXYGEN
    assert sky.node.outbox.count(EVENTS) == 0


def test_a_lost_ack_costs_one_repetition_with_the_same_id_and_a_new_piv() -> None:
    sky = Sky(settings={**MINUTES, REPORT_S: 86400, 13: 5})
    sky.run(300)
    lost: list[bytes] = []

    def spoils(packet: bytes) -> bool:
        lost.append(packet)
        return len(lost) == 1

    sky.gateway.spoils = spoils
    alarmed(sky)
    sky.run(60)
    events = sky.peer.of(Event)
    assert [event.seq for event in events] == [events[0].seq] * 2  # the peer fails on a PIV that comes twice
    assert sky.node.health.frames_resent == 1
    assert sky.node.outbox.count(EVENTS) == 0


def test_readings_that_did_not_come_are_told_by_the_next_ack_and_sent_as_backlog() -> None:
    sky = Sky(settings={**MINUTES, REPORT_S: 300})
    sky.run(400)
    sky.peer.deaf = True
    before = sky.peer.seqs()
    sky.run(400)
    sky.peer.deaf = False
    assert sky.peer.seqs() == before
    sky.run(2400)
    kept = sky.node.outbox.next_seq - 1
    assert sky.peer.seqs() >= set(range(1, kept - 8))
    assert sky.node.outbox.count(READINGS) <= 25


def test_what_does_not_fit_goes_in_fragments_both_ways_and_joins_at_sf11() -> None:
    sky = Sky(settings={**MINUTES, **SF11})
    sky.run(120)
    assert sky.peer.joins == 1
    up = [uplink.payload for uplink in sky.gateway.packets]
    assert any(packet[0] & fragments.KIND == fragments.FRAGMENT for packet in up)
    assert max(map(len, up)) <= 36
    assert max(air_s(flight.signal) for flight in sky.flights) <= 1.0

    document = {key: sky.node.settings[key] for key in sky.node.settings.document()}
    document[INTERVAL_S] = 120
    document[REPORT_S] = 600
    sky.gateway.says.append(lambda piv: Settings(piv, 7, document))
    sky.run(400)
    assert any(packet[0] & fragments.KIND == fragments.FRAGMENT for packet in sky.gateway.sent)
    assert (sky.node.settings.version, sky.node.settings[INTERVAL_S]) == (7, 120)
    assert sky.peer.of(SettingsReport)


# -- down --------------------------------------------------------------------------------------------------------------


def test_a_command_is_executed_in_the_window_of_the_uplink_it_answers_and_its_result_comes_back() -> None:
    sky = Sky(settings=MINUTES)
    sky.run(100)
    sky.gateway.says.append(lambda piv: Command(piv, 1, 60, codes.IDENTIFY, 5))
    sky.run(90)
    assert sky.station.identified == [True, False]
    assert [(result.command_id, result.outcome) for result in sky.peer.of(Result)] == [(1, messages.DONE)]


def test_set_radio_is_durable_and_reported_and_holds_for_the_next_uplink() -> None:
    sky = Sky(settings=MINUTES)
    sky.run(100)
    sky.gateway.says.append(lambda piv: Command(piv, 1, 60, codes.SET_RADIO, [9, 14]))
    sky.run(120)
    assert sky.peer.of(Result)[-1].outcome == messages.DONE
    report = sky.peer.of(SettingsReport)[-1]
    assert (report.document[RADIO_SF], report.document[RADIO_DBM]) == (9, 14)
    last = sky.uplinks()[-1].signal
    assert (last.sf, last.dbm) == (9, 14)
    sky.station.power_cut()
    sky.run(1)
    sky.station.power_on()
    sky.run(60)
    last = sky.uplinks()[-1].signal
    assert (last.sf, last.dbm) == (9, 14)


@pytest.mark.parametrize(
    ("radio", "args", "why"),
    [
        ((CN470, 80, 8, 0), [12, 14], "SF11"),
        ((CN470, 80, 1, 9), [10, 14], "SF9"),
        ((CN470, 80, 8, 0), [9, 22], "22 dBm"),
    ],
)
def test_set_radio_beyond_plan_or_minting_is_refused_with_the_reason(
    radio: tuple[int, int, int, int], args: list[int], why: str
) -> None:
    sky = Sky(settings=MINUTES, radio=radio)
    sky.run(100)
    before = sky.node.carrier.sf, sky.node.carrier.dbm
    sky.gateway.says.append(lambda piv: Command(piv, 1, 60, codes.SET_RADIO, args))
    sky.run(120)
    result = sky.peer.of(Result)[-1]
    assert result.outcome == messages.REFUSED
    assert why in result.detail
    assert (sky.node.carrier.sf, sky.node.carrier.dbm) == before


def test_a_downlink_that_was_jammed_recorded_and_played_again_changes_nothing() -> None:
    sky = Sky(settings=MINUTES)
    sky.run(100)
    sky.gateway.says.append(lambda piv: Command(piv, 1, 600, codes.SET_INTERVAL, 3600))
    jammed: list[bytes] = []

    def spoils(packet: bytes) -> bool:
        jammed.append(packet)
        return True  # all of that exchange

    sky.gateway.spoils = spoils
    sky.run(70)
    assert jammed
    sky.gateway.spoils = lambda packet: False
    before = dict(sky.node.settings.document())
    heard = len(sky.gateway.packets)
    # Played in the first window of every uplink from now on, in the place of the gateway's own answer.
    played: list[int] = []

    def play(signal: Signal) -> None:
        for packet in jammed[-1:]:
            sky.gateway.concentrator.send(signal._replace(is_inverted=True, payload=packet))
            played.append(1)

    sky.peer.mute = True

    def tap(flight: Any) -> None:
        if not flight.signal.is_inverted:
            sky.agenda.call_later(FIRST_MS / 1000, lambda: play(flight.signal))

    sky.air.taps.append(tap)
    sky.run(300)
    assert played
    assert len(sky.gateway.packets) > heard
    assert sky.node.settings.document() == before
    assert sky.node.commands.is_idle
    refusals = sky.node.health.refusals
    assert refusals.get("late", 0) + refusals.get("replay", 0) == len(played)


def test_what_answers_others_on_the_channel_costs_no_window_and_is_not_counted_as_refused() -> None:
    sky = Sky(settings=MINUTES, radio=(CN470, 80, 1, 0))
    sky.run(100)

    def tap(flight: Any) -> None:
        if not flight.signal.is_inverted:
            foreign = b"\x0a\x01\x02\x00\x77\x01" + bytes(20)
            signal = flight.signal._replace(is_inverted=True, payload=foreign)
            sky.agenda.call_later(FIRST_MS / 1000, lambda: sky.gateway.concentrator.send(signal))

    sky.air.taps.append(tap)
    sky.gateway.late_ms = 1000  # its own answers come in the second window
    sky.run(200)
    sky.gateway.says.append(lambda piv: Command(piv, 1, 60, codes.IDENTIFY, 1))
    sky.run(120)
    assert sky.station.identified
    assert not sky.node.health.refusals
    assert sky.node.carrier.line_errors > 0


def test_a_gateway_that_never_ends_is_left_after_so_many_downlinks() -> None:
    sky = Sky(settings=MINUTES)
    sky.run(100)
    sky.gateway.says += [lambda piv: messages.Ping(1)] * (CHAIN_MAX + 6)
    before = len(sky.gateway.sent)
    sky.run(70)
    while not sky.node.carrier.is_idle:
        sky.run(1)
    assert CHAIN_MAX <= len(sky.gateway.sent) - before < CHAIN_MAX + 6
    sky.run(200)
    assert len(sky.peer.seqs()) >= 3


@pytest.mark.parametrize("drift", [-0.05, 0.05])
def test_a_cover_hears_its_acks_with_a_sleep_clock_5_percent_off_and_sleeps_when_the_exchange_is_over(
    drift: float,
) -> None:
    settings = {INTERVAL_S: 3600, REPORT_S: 1, STATUS_S: 86400}
    sky = Sky(settings=settings, node_type="cover", sleep_drift=drift, boot_ms=800, prepare=covers_chip)
    sky.run(12 * 3600)
    sets = len(sky.peer.of(Readings))
    resent = len([1 for message in sky.peer.of(Readings)]) - len({m.seq for m in sky.peer.of(Readings)})
    print(f"\ndrift={drift} sets={sets} resent={resent} packets={len(sky.uplinks())}")
    assert sets >= 10
    assert resent == 0
    assert len(sky.peer.of(Hello)) == 2, "a wake says no hello"
    assert sky.station.sleep is not None
    on_s = sum(seconds for mode, seconds in sky.chip.spent_s.items() if mode in ("tx", "rx"))
    assert on_s < 60
    assert sky.chip.spent_s["sleep"] > 11 * 3600, sky.chip.spent_s


# -- silence, the law, faults ------------------------------------------------------------------------------------------


def test_silence_makes_a_node_louder_and_an_answer_lets_it_be() -> None:
    sky = Sky(settings={INTERVAL_S: 3600, REPORT_S: 3600, STATUS_S: 86400, RADIO_SF: 8, RADIO_DBM: 5})
    sky.run(200)
    sky.peer.mute = True
    sky.run(36 * 3600)
    carrier = sky.node.carrier
    assert carrier.dbm == 17
    assert carrier.sf > 8
    raised = carrier.sf
    sky.peer.mute = False
    sky.run(3 * 3600)
    assert not sky.node.uplink.is_silent
    assert carrier.sf >= raised
    health = sky.peer.of(Status)[-1].health
    assert (health[27], health[28]) == (carrier.sf, carrier.dbm)
    assert health[26] > 0
    assert {24, 25, 29} <= set(health)
    assert LOUDER_EVERY > 2


def test_a_silent_gateway_is_asked_less_and_less_often_and_an_alarm_does_not_wait_for_that() -> None:
    sky = Sky(settings={**MINUTES, 13: 5})
    sky.run(200)
    sky.peer.mute = True
    sky.run(12 * 3600)
    before = len(sky.uplinks())
    sky.run(6 * 3600)
    assert len(sky.uplinks()) - before < 12
    sky.peer.mute = False
    alarmed(sky)
    sky.run(30)
    assert LOW_OXYGEN in [event.code for event in sky.peer.of(Event)]


@pytest.mark.parametrize("fault", ["dead", "stuck", "broken", "deaf"])
def test_a_fault_of_the_radio_is_counted_and_the_node_goes_on_measuring(fault: str) -> None:
    sky = Sky(settings={**MINUTES, 13: 5})
    sky.run(200)
    kept = sky.node.outbox.next_seq
    sky.chip.fault = fault
    sky.run(1800)
    assert sky.node.outbox.next_seq - kept >= 28
    assert sky.node.health.traceback == ""
    if fault != "deaf":
        assert sky.node.carrier.errors > 0
    sky.chip.fault = None
    sky.run(2 * 3600)
    assert sky.peer.seqs() >= set(range(1, sky.node.outbox.next_seq - 10))


def test_a_busy_channel_is_waited_for_and_nothing_is_lost() -> None:
    sky = Sky(settings={**MINUTES, 13: 5}, radio=(CN470, 80, 1, 0))
    sky.run(200)
    jammer = object()
    spot = sky.air.site_of(sky.chip).spot
    sky.air.place(jammer, "jammer", spot._replace(x_m=50.0))
    freq_hz = sky.law.freq_hz(80)
    noise = sky.uplinks()[-1].signal._replace(freq_hz=freq_hz, sf=10, payload=bytes(90), sync_word=0x34)
    end_s = sky.agenda.now_s() + 300

    def jam() -> None:
        if sky.agenda.now_s() < end_s:
            sky.agenda.call_later(sky.air.transmit(jammer, noise) + 0.001, jam)

    jam()
    mine = [flight for flight in sky.uplinks() if flight.signal.sync_word == 0x12]
    sky.run(290)
    assert [flight for flight in sky.uplinks() if flight.signal.sync_word == 0x12] == mine
    sky.run(600)
    assert sky.node.carrier.held_back > 0
    assert sky.peer.seqs() >= set(range(1, sky.node.outbox.next_seq - 4))


def test_duty_is_waited_for_and_an_alarm_is_not_dropped() -> None:
    """EU868: an hour's allowance goes by with sets every ten seconds; the alarm comes when the law allows it."""
    sky = Sky(settings={INTERVAL_S: 10, REPORT_S: 10, STATUS_S: 86400, 13: 5}, radio=(EU868, 0, 3, 0))
    sky.run(2 * 3600)
    assert sky.node.carrier.held_back > 0
    in_an_hour = max(
        sum(air_s(late.signal) for late in sky.uplinks() if 0 <= late.begin_s - early.begin_s < 3600)
        for early in sky.uplinks()
    )
    print(f"\nduty_s={in_an_hour:.1f} of 36")
    assert in_an_hour <= 36.0
    sky.water["dissolved_oxygen"] = 2.1
    sky.run(2 * 3600)
    assert LOW_OXYGEN in [event.code for event in sky.peer.of(Event)]


def test_no_measurement_is_late_for_the_radio() -> None:
    """While a window is waited for no probe is asked; sets stand on the raster all the same."""
    sky = Sky(settings={INTERVAL_S: 60, REPORT_S: 5, STATUS_S: 86400})
    sky.run(1800)
    times = sorted(content[2] for _, content in sky.peer.records.items())
    assert len(times) >= 28
    assert {time % 60 for time in times[1:]} <= {0, 1}


# -- over a start ------------------------------------------------------------------------------------------------------


def test_a_node_in_safe_mode_is_heard_over_lora_and_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Sky(settings=MINUTES, powered=False)

    def broken(*_: object) -> Any:
        raise OSError(5, "no such bus")

    monkeypatch.setattr("hil_tests.world.sim_hal.SimHal.uart", broken)
    sky.station.power_on()
    sky.run(120)
    assert sky.node.safe is not None
    assert sky.peer.joins == 1
    assert RADIO_SF in sky.node.settings.document()
    sky.node.status_at_s = 0  # its next word
    sky.gateway.says.append(lambda piv: Command(piv, 1, 60, codes.IDENTIFY, 5))
    sky.run(60)
    assert sky.station.identified == [True, False]
    assert sky.peer.of(Result)[-1].outcome == messages.DONE


def test_a_board_without_a_radio_says_what_to_do() -> None:
    sky = Sky(settings=MINUTES, powered=False)
    sky.station.radio = None
    with pytest.raises(Exception, match="mint"):
        sky.station.power_on()


def test_a_power_cut_anywhere_in_set_radio_leaves_both_settings_or_neither() -> None:
    """At every flash operation of it, torn in every way; a command that was begun is answered, whatever it came to."""
    cuts = 0
    outcomes: set[tuple[int, int]] = set()
    for variant in range(len(VARIANTS)):
        operations, is_through = 0, False
        while not is_through:
            flash = TornFlash(bytes(sky_image()), seed=variant)
            sky = Sky(settings=None, powered=False, flash=flash)
            sky.station.power_on()
            flash.cut_after(operations, variant)
            is_through = not cut_in_set_radio(sky)
            cuts += not is_through
            flash.power()
            sky.station.power_cut()
            sky.station.power_on()
            in_force = sky.node.settings[RADIO_SF], sky.node.settings[RADIO_DBM]
            assert in_force in ((10, 17), (8, 5))
            assert (sky.node.carrier.sf, sky.node.carrier.dbm) == in_force
            outcomes.add(in_force)
            operations += 1
    print(f"\nset_radio_cuts={cuts}")
    assert outcomes == {(10, 17), (8, 5)}


def cut_in_set_radio(sky: Sky) -> bool:
    """Whether the power went before the command was done."""
    try:
        sky.node.commands.receive(Command(0, 1, 60, codes.SET_RADIO, [8, 5]))
        sky.node.commands.poll()
    except PowerLost:
        return True
    return False


@functools.cache
def sky_image() -> bytes:
    """The state of a node that has joined."""
    sky = Sky(settings=MINUTES)
    sky.run(100)
    sky.station.power_cut()
    return bytes(sky.station.flash.image)  # type: ignore[attr-defined]
