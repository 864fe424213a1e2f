"""A record's time is as good as its time quality says, or the quality says that it is not."""

from __future__ import annotations

from typing import Any

import pytest

from firmware.hal.clock import HOLDOVER_AFTER_S
from firmware.node import CLOCK_STEP_S
from hil_tests.world.street_cover import DAY_S
from protocols.wire import codes
from protocols.wire.messages import RTC_HOLDOVER, SYNCHRONISED, Event, Hello, Ping, Readings, Status, Time
from tests.firmware.street import START_MS, Street
from tests.firmware.test_nap import Quiet

# Between the beginning of a measurement and the end of its frame on the line.
ON_THE_WAY_S = 3


@pytest.mark.parametrize("drift", [-0.05, 0.05])
def test_a_cover_whose_sleep_errs_by_five_percent_calls_no_wrong_time_synchronised(drift: float) -> None:
    street = Quiet(drift=drift)
    street.run(3 * DAY_S)
    errors: dict[int, list[float]] = {SYNCHRONISED: [], RTC_HOLDOVER: []}
    first = min(street.heard_s)  # taken at the start, and heard after the join
    for (_, seq), content in street.peer.records.items():
        if seq in street.heard_s and seq != first:
            _, tq, time = content[:3]
            errors[tq].append(abs(time - street.heard_s[seq]))
    print(
        f"drift={drift} synchronised={len(errors[SYNCHRONISED])} holdover={len(errors[RTC_HOLDOVER])} "
        f"error_max_s={max(errors[RTC_HOLDOVER]):.0f}"
    )
    assert all(error <= CLOCK_STEP_S + ON_THE_WAY_S for error in errors[SYNCHRONISED])
    assert errors[RTC_HOLDOVER], "sets after a day of sleep"
    assert max(errors[RTC_HOLDOVER]) <= 30, "a day by a clock that the gateway's time has taught"


@pytest.mark.parametrize("ppm", [-20.0, 20.0])
def test_a_river_station_whose_gateway_sends_no_time_says_holdover_before_it_is_off(ppm: float) -> None:
    street = Street(settings={0: 900, 1: 1, 2: 3600})
    street.station.ppm = ppm
    street.station.power_on()
    street.run(600)
    street.peer.sends_time = False
    came: list[tuple[int, float]] = []
    hear = street.peer._keep

    def keep(number: int, seq: int, content: Any) -> None:
        if seq not in street.peer.seqs() and len(content) == 5 and isinstance(content[3], tuple):
            came.append((content[1], content[2] - street.now_ms / 1000))
        hear(number, seq, content)

    street.peer._keep = keep  # type: ignore[method-assign]  (watched on the way)
    street.run(HOLDOVER_AFTER_S + 6 * 3600)
    held = [off for tq, off in came if tq == RTC_HOLDOVER]
    good = [off for tq, off in came if tq == SYNCHRONISED]
    assert len(good) >= 90
    assert len(held) >= 20
    spread = max(good) - min(good)
    print(f"ppm={ppm} synchronised={len(good)} holdover={len(held)} spread_s={spread:.1f}")
    assert spread <= CLOCK_STEP_S + 1
    # The gateway reads the quality in the next status and answers with the time: then it is good again.
    street.say(Ping(1))
    assert street.peer.of(Status)[-1].tq == RTC_HOLDOVER
    street.say(Time(street.peer.latest_piv, street.now_ms // 1000, 0))
    street.run(2)
    street.say(Ping(2))
    status = street.peer.of(Status)[-1]
    assert (status.tq, abs(status.time - street.now_ms // 1000) <= 1) == (SYNCHRONISED, True)


@pytest.mark.parametrize("step_s", [-7200, 7200])
def test_a_clock_that_is_stepped_is_told_and_the_records_on_either_side_are_of_their_clock(
    step_s: int,
) -> None:
    street = Street(settings={0: 60, 1: 60, 2: 3600})
    street.run(600)
    street.peer._unix_s = lambda: street.now_ms // 1000 + step_s
    street.say(Ping(1))
    street.say(Time(street.peer.latest_piv, street.now_ms // 1000 + step_s, 0))
    stepped_at_s = street.now_ms // 1000
    street.run(600)
    told = [event for event in street.peer.of(Event) if event.code == codes.CLOCK_STEPPED]
    assert len(told) == 1
    assert abs(int(told[0].detail) - step_s) <= 1
    seq = told[0].seq
    for (_, number), content in street.peer.records.items():
        if isinstance(content[3], tuple):
            off_s = content[2] - START_MS // 1000
            assert (off_s < stepped_at_s - START_MS // 1000 + 60) if number < seq else True
            if number > seq:
                assert abs(off_s - step_s - (stepped_at_s - START_MS // 1000)) <= 660
    assert street.peer.of(Readings)
    assert len(street.peer.of(Hello)) == 2, "nobody was reset for it"
