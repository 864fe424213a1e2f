"""The carrier over LoRa by itself: windows, back-off, the law, faults at every moment of an exchange, a deep sleep.

The real driver, a simulated chip and air; the gateway is a script. The node's ticks wrap within the first second.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.ether import Reception, Signal
from firmware.lora import CHAIN_MAX, FLOOD_S, LOUDER_EVERY, Lora
from firmware.radios.sx126x import Sx126x
from firmware.settings import RADIO_DBM, RADIO_SF
from hil_tests.world.agenda import Agenda
from hil_tests.world.air import Air, Flight, air_s
from hil_tests.world.concentrator import Concentrator
from hil_tests.world.propagation import Spot, open_air
from protocols.wire import fragments
from protocols.wire.law import CN470, EU868, Law
from protocols.wire.limits import MAX_FRAGMENTS, MAX_FRAME
from tests.firmware.radio_laws import Kept
from tests.firmware.radio_rig import Clock, Port

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS = 0x1234
PLAN = (CN470, 80, 8, 0)
ONE_CHANNEL = (CN470, 80, 1, 0)
# A frame begins with its flags, here a PIV of one byte and a kid; then PIV and address.
HEAD = b"\x09\x01\x12\x34"
FRAME = HEAD + bytes(range(26))
DOWN = HEAD + b"\x00" + bytes(15)
FAULTS = ("dead", "stuck", "broken", "deaf")


class Rig:
    """``script``: (milliseconds after the uplink's end, packet), sent at its spreading factor and channel."""

    def __init__(
        self,
        plan: tuple[int, int, int, int] = PLAN,
        *,
        sf: int = 10,
        dbm: int = 5,
        seed: int = 1,
        kept: Kept | None = None,
    ) -> None:
        self.agenda = Agenda()
        self.air = Air(self.agenda, open_air(), seed)
        self.flights: list[Flight] = []
        self.air.taps.append(self.flights.append)
        self.chip = Sx1262(self.air, seed=seed)
        self.air.place(self.chip, "node", Spot(0.0, 0.0))
        self.chip.connect(self.agenda)
        self.clock = Clock(self.agenda)
        self.law = Law(plan[0], kept or Kept())  # type: ignore[no-untyped-call]
        self.plan = plan
        self.settings = {RADIO_SF: sf, RADIO_DBM: dbm}
        self.random = random.Random(seed)
        self.lora = self.carrier()
        freqs_hz = [self.law.freq_hz(plan[1] + index) for index in range(plan[2])]
        self.gateway = Concentrator(self.air, "gateway", Spot(300.0, 0.0), freqs_hz)
        self.gateway.on_packet = self._packet
        self.up: list[Signal] = []
        self.script: list[tuple[int, bytes]] = []
        self.frames: list[bytes] = []

    def carrier(self) -> Lora:
        """The one of a life that begins now."""
        radio = Sx126x(Port(self.agenda, self.chip), self.law, self.clock)  # type: ignore[arg-type]
        made = Lora(radio, self.law, self.clock, self.random.randbytes, ADDRESS, self.plan, 17)  # type: ignore[arg-type]
        made.apply(self.settings)  # type: ignore[arg-type]
        return made

    def _packet(self, reception: Reception) -> None:
        if not reception.is_intact:
            return
        self.up.append(reception.signal)
        first = reception.signal.payload[0]
        if first & fragments.KIND == fragments.FRAGMENT and not first & 0x10:
            return
        for after_ms, packet in self.script:
            signal = reception.signal._replace(is_inverted=True, payload=packet)
            self.agenda.call_later(after_ms / 1000, lambda signal=signal: self.gateway.send(signal))  # type: ignore[misc]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end_s = self.agenda.now_s() + seconds
        while self.agenda.now_s() < end_s and not until():
            self.frames += self.lora.poll()
            wait_s = max(1, min(self.lora.wait_ms(), 1000)) / 1000
            self.agenda.run_until(min(end_s, self.agenda.now_s() + wait_s))

    def exchange(self, frame: bytes = FRAME, wants_answer: bool = True) -> list[bytes]:
        """One that is run to its end; what was heard in it."""
        self.run(self.lora.held_s() + 1)
        self.frames = []
        self.lora.send(frame, wants_answer)
        self.run(120, lambda: self.lora.is_idle)
        assert self.lora.is_idle
        return self.frames


# -- up ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wants_answer", "first"), [(True, 0x29), (False, 0x09)])
def test_the_first_byte_says_whether_an_answer_is_wanted(wants_answer: bool, first: int) -> None:
    rig = Rig()
    rig.exchange(FRAME, wants_answer)
    assert [signal.payload for signal in rig.up] == [bytes((first,)) + FRAME[1:]]
    assert (rig.up[0].sf, rig.up[0].dbm, rig.up[0].is_inverted) == (10, 5, False)
    assert rig.lora.airtime_ms == int(air_s(rig.up[0]) * 1000) + 1
    assert not rig.chip.complaints


@pytest.mark.parametrize(("sf", "room"), [(9, 197), (10, 99), (11, 36)])
def test_a_frame_that_fits_goes_whole_and_one_byte_more_in_fragments_that_want_an_answer(
    sf: int, room: int
) -> None:
    rig = Rig(sf=sf)
    assert rig.lora.room == room
    rig.exchange(HEAD + bytes(room - len(HEAD)), wants_answer=False)
    assert [len(signal.payload) for signal in rig.up] == [room]
    frame = HEAD + bytes(room - len(HEAD) + 1)
    rig.exchange(frame, wants_answer=False)
    collector = fragments.Collector(1)
    taken = [collector.take(signal.payload, 0) for signal in rig.up[1:]]
    assert taken == [None, frame]
    assert all(len(signal.payload) <= room for signal in rig.up)


@pytest.mark.parametrize("plan_id", [CN470, EU868])
def test_the_longest_frame_fits_its_fragments_at_every_spreading_factor_of_a_plan(plan_id: int) -> None:
    law = Law(plan_id)
    for sf in range(7, law.sf_max + 1):
        packets = fragments.split(HEAD + bytes(MAX_FRAME - len(HEAD)), ADDRESS, 1, law.size_max(sf))
        assert len(packets) <= MAX_FRAGMENTS


def test_uplinks_go_over_all_channels_of_the_minting_and_no_other() -> None:
    rig = Rig(sf=7)
    for _ in range(100):
        rig.exchange(FRAME, wants_answer=False)
    used = {signal.freq_hz for signal in rig.up}
    assert used == {rig.law.freq_hz(channel) for channel in range(80, 88)}


# -- down --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sf", [7, 9, 11])
@pytest.mark.parametrize("at_ms", [940, 1000, 1060, 1940, 2000, 2060])
def test_a_downlink_that_begins_up_to_60_ms_off_either_window_is_heard(at_ms: int, sf: int) -> None:
    rig = Rig(sf=sf)
    rig.script = [(at_ms, DOWN)]
    assert rig.exchange() == [DOWN]
    assert rig.lora.rssi_dbm > -120
    assert rig.lora.snr_tenth_db > 0


@pytest.mark.parametrize("at_ms", [300, 1500, 2400])
def test_between_and_after_the_windows_the_radio_is_off(at_ms: int) -> None:
    rig = Rig(sf=7)
    rig.script = [(at_ms, DOWN)]
    assert rig.exchange() == []
    assert rig.chip.spent_s["rx"] < 0.5


def test_after_each_downlink_there_is_another_window_and_no_more_than_so_many_in_a_row() -> None:
    rig = Rig(sf=7)
    air_ms = air_s(rig_signal(rig, DOWN)) * 1000
    rig.script = [(round(1000 + index * (400 + air_ms)), DOWN) for index in range(CHAIN_MAX + 2)]
    assert len(rig.exchange()) == CHAIN_MAX
    rig.script = rig.script[:3]
    before_s = rig.agenda.now_s()
    assert len(rig.exchange()) == 3
    assert rig.agenda.now_s() - before_s < 1 + 3 + 4 * 0.6, "a window in which nothing began ended it"


def rig_signal(rig: Rig, payload: bytes) -> Signal:
    rig.exchange()
    return rig.up[-1]._replace(payload=payload)


def test_a_downlink_in_fragments_is_one_frame_in_whatever_order_they_come() -> None:
    rig = Rig(sf=9)
    whole = HEAD + bytes(400)
    first, second, third = fragments.split(whole, ADDRESS, 7, 197)
    air_ms = air_s(rig_signal(rig, first)) * 1000
    at_ms = [round(1000 + index * (400 + air_ms)) for index in range(2)]
    rig.script = [(at_ms[0], second), (at_ms[1], first), (round(at_ms[1] + 400 + air_ms), third)]
    assert rig.exchange() == [whole]
    rig.script = rig.script[:2]
    assert rig.exchange() == [], "and half of one is none"
    assert rig.exchange() == [], "nor do the halves of two exchanges make one"


def test_what_is_for_others_or_for_nobody_is_counted_and_the_second_window_is_there() -> None:
    rig = Rig(sf=7)
    strange = (b"\x09\x01\x77\x77" + bytes(12), b"\x40" + bytes(20), b"\xe0", b"\x20\x12\x34", b"\x00")
    for count, packet in enumerate(strange, 1):
        rig.script = [(1000, packet), (2000, DOWN)]
        assert rig.exchange() == [DOWN]
        assert rig.lora.line_errors == count


# -- a channel that is busy, a law that says no ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_channel_that_never_is_free_costs_half_a_minute_and_the_frame_waits_for_its_next_turn(
    seed: int,
) -> None:
    rig = Rig(ONE_CHANNEL, seed=seed)
    rig.exchange()
    noise = rig.up[-1]._replace(payload=bytes(90), sync_word=0x34)
    jammer = object()
    rig.air.place(jammer, "jammer", Spot(50.0, 0.0))
    is_over = False

    def jam() -> None:
        if not is_over:
            rig.agenda.call_later(rig.air.transmit(jammer, noise) + 0.0005, jam)

    jam()
    sent = len(rig.up)
    begin_s = rig.agenda.now_s()
    rig.lora.send(FRAME, True)
    rig.run(120, lambda: rig.lora.is_idle)
    assert 3 < rig.agenda.now_s() - begin_s < 75
    assert (rig.lora.has_failed, rig.lora.held_back, len(rig.up)) == (True, 1, sent), f"seed {seed}"
    assert 1 <= rig.lora.held_s() <= 8
    is_over = True
    rig.script = [(1000, DOWN)]
    assert rig.exchange() == [DOWN]
    assert not rig.lora.has_failed


def test_while_it_backs_off_probes_may_be_asked_and_while_it_sends_or_listens_not() -> None:
    rig = Rig()
    states = set()
    rig.lora.send(FRAME, True)
    while not rig.lora.is_idle:
        states.add(rig.lora.is_busy)
        rig.run(0.001)
    assert states == {True}
    assert not rig.lora.is_busy


def test_what_the_law_refuses_does_not_go_out_and_is_held_for_as_long_as_it_says() -> None:
    kept = Kept()  # type: ignore[no-untyped-call]
    kept.data = b"damaged"
    rig = Rig((EU868, 0, 3, 0), kept=kept, sf=9)
    rig.lora.send(FRAME, True)
    assert rig.lora.is_idle
    assert (rig.lora.has_failed, rig.lora.held_back) == (True, 1)
    # Nobody knows what was sent in the hour before, nor how fast the clock of a sleep in it would be.
    assert 3600 < rig.lora.held_s() <= 3900 * 16 // 13 + 10
    assert not rig.flights
    rig.exchange()
    assert (rig.lora.has_failed, len(rig.up)) == (False, 1)


# -- faults ------------------------------------------------------------------------------------------------------------

# The uplink takes 0.45 s at SF10, after 20 ms of getting ready and of listening.
MOMENTS = {"listening first": 0.01, "sending": 0.2, "before the window": 0.8, "in the window": 1.43}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_radio_that_fails_at_any_moment_is_counted_and_works_again_when_it_can(
    fault: str, moment: str
) -> None:
    rig = Rig()
    rig.script = [(1000, DOWN)]
    assert rig.exchange() == [DOWN]
    rig.frames = []
    rig.lora.send(FRAME, True)
    rig.run(MOMENTS[moment])
    assert not rig.lora.is_idle
    rig.chip.fault = fault
    rig.run(30, lambda: rig.lora.is_idle)
    assert rig.lora.is_idle, "no fault keeps it from the next exchange"
    rig.run(40)
    rig.lora.send(FRAME, True)
    rig.run(30, lambda: rig.lora.is_idle)
    assert rig.lora.is_idle
    if fault != "deaf":
        assert rig.lora.errors > 0
    rig.chip.fault = None
    rig.run(40)
    assert rig.exchange() == [DOWN]
    assert not rig.lora.has_failed


# -- louder ------------------------------------------------------------------------------------------------------------


def test_two_answers_that_did_not_come_bring_full_power_and_every_eight_a_spreading_factor() -> None:
    rig = Rig(sf=9)
    said = []
    for _ in range(2 + 3 * LOUDER_EVERY):
        rig.exchange()
        said.append((rig.lora.sf, rig.lora.dbm))
    assert said[:3] == [(9, 5), (9, 17), (9, 17)]
    assert said[LOUDER_EVERY - 2 : LOUDER_EVERY] == [(9, 17), (10, 17)]
    assert said[-1] == (11, 17), "the plan has no SF12"
    rig.lora.answered()
    rig.lora.apply(rig.settings)  # type: ignore[arg-type]
    assert (rig.lora.sf, rig.lora.dbm) == (11, 17), "what is heard stays"
    rig.settings[RADIO_DBM] = 8
    rig.lora.apply(rig.settings)  # type: ignore[arg-type]
    assert (rig.lora.sf, rig.lora.dbm) == (9, 8), "until somebody sets it"


def test_whoever_was_answered_once_grows_slower_only_when_a_flood_would_be_over() -> None:
    rig = Rig(sf=9)
    rig.script = [(1000, DOWN)]
    rig.exchange()
    rig.lora.answered()
    rig.script = []
    for _ in range(2 * LOUDER_EVERY - 1):
        rig.exchange()
    assert rig.lora.sf == 9
    rig.run(FLOOD_S)
    rig.exchange()
    assert rig.lora.sf == 10


def test_what_wants_no_answer_and_what_did_not_go_out_make_nobody_louder() -> None:
    rig = Rig(sf=9)
    for _ in range(12):
        rig.exchange(FRAME, wants_answer=False)
    rig.chip.fault = "dead"
    for _ in range(12):
        rig.exchange()
    assert (rig.lora.sf, rig.lora.dbm) == (9, 5)


def test_a_fixed_spreading_factor_stays() -> None:
    rig = Rig((CN470, 80, 1, 9), sf=7)
    for _ in range(2 * LOUDER_EVERY):
        rig.exchange()
    assert (rig.lora.sf, rig.lora.dbm) == (9, 17)


def test_the_answer_to_a_challenge_ends_its_exchange_and_that_one_was_answered() -> None:
    rig = Rig()
    rig.script = [(1000, DOWN)]
    for _ in range(3):
        rig.frames = []
        rig.lora.send(FRAME, True)
        rig.run(10, lambda: bool(rig.frames))
        assert not rig.lora.is_idle
        rig.lora.send(FRAME, True)  # the gateway answered: this is the reply
        rig.run(10, lambda: len(rig.frames) == 2)
        rig.lora.answered()
        rig.run(10, lambda: rig.lora.is_idle)
    assert rig.lora.dbm == 5
    assert len(rig.up) == 6


# -- a deep sleep ------------------------------------------------------------------------------------------------------


def test_a_sleep_keeps_how_loud_it_was_and_what_was_counted() -> None:
    rig = Rig(sf=9)
    for _ in range(LOUDER_EVERY - 1):
        rig.exchange()
    before = rig.lora
    rested = before.rest()
    rig.lora = rig.carrier()
    rig.lora.resume(rested)
    assert rig.lora.health() == before.health()
    assert (rig.lora.sf, rig.lora.dbm) == (9, 17)
    rig.exchange()
    assert rig.lora.sf == 10, "the eighth in a row, over the sleep"
    rested = rig.lora.rest()
    rig.settings[RADIO_SF] = 8
    rig.lora = rig.carrier()
    rig.lora.resume(rested)
    assert (rig.lora.sf, rig.lora.dbm) == (8, 5), "other settings, and another story"


@pytest.mark.parametrize("is_cut", [False, True])
def test_an_hour_of_europe_goes_on_over_a_sleep_and_over_a_power_cut(is_cut: bool) -> None:
    """What was spent before counts after: no life begins an hour of its own."""
    kept = Kept()  # type: ignore[no-untyped-call]
    rig = Rig((EU868, 0, 1, 0), kept=kept, sf=9)
    while not rig.lora.has_failed:
        rig.exchange(FRAME + bytes(80), wants_answer=False)
        rested = rig.lora.rest()
        rig.law = Law(EU868, kept)
        rig.lora = rig.carrier() if not rig.lora.has_failed else rig.lora
        if not is_cut and not rig.lora.has_failed:
            rig.lora.resume(rested)
    spent_s = sum(air_s(flight.signal) for flight in rig.flights)
    print(f"\nspent_s={spent_s:.2f} of 36, uplinks={len(rig.flights)}, cut={is_cut}")
    assert rig.agenda.now_s() < 3600
    assert spent_s <= 36
    assert spent_s > (3 if is_cut else 33), "and a sleep costs none of it"
