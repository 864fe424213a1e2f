"""No hour of any week holds more than the law allows, as somebody outside the node sees it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire import airtime
from protocols.wire.airtime import AirRefused
from protocols.wire.law import EU868, Law
from tests.wire.duty_week import BANDS, HOUR_S, Observer, Week

LORA = airtime.lora(10)


class Kept:
    """Implements duty.Spent, in RAM."""

    def __init__(self, data: bytes | None = b"") -> None:
        self.data = data
        self.saves = 0
        self.works = True

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> bool:
        if self.works:
            self.data = data
            self.saves += 1
        return self.works


def send(law: Law, now_s: int, size: int = 99, channel: int = 0) -> int:
    """Send once; the microseconds."""
    freq_hz = law.freq_hz(channel)
    air_us = law.check(now_s, freq_hz, LORA, size, law.dbm_max)
    law.sent(now_s, freq_hz, air_us)
    return air_us


def fill(law: Law, now_s: int) -> tuple[float, AirRefused]:
    """Send until it is refused; the seconds."""
    air_us = 0
    while True:
        try:
            air_us += send(law, now_s)
        except AirRefused as exc:
            return air_us / 1_000_000, exc


def one_by_one(spans: list[tuple[float, float, int]]) -> float:
    """The observer's question, asked of every window there is."""
    starts = [edge for begin, end, _ in spans for edge in (begin, end, begin - HOUR_S, end - HOUR_S)]
    return max(
        sum(max(0.0, min(end, at + HOUR_S) - max(begin, at)) for begin, end, _ in spans) for at in starts
    )


@given(st.lists(st.tuples(st.floats(0.1, 3000), st.floats(0.01, 3)), min_size=1, max_size=30))
def test_the_observer_finds_the_worst_hour(traffic: list[tuple[float, float]]) -> None:
    at = 0.0
    observer = Observer()
    for pause_s, air_s in traffic:
        observer.sent.append((at + pause_s, at + pause_s + air_s, 868_100_000))
        at += pause_s + air_s
    assert observer.worst((868_000_000, 868_600_000)) == pytest.approx(one_by_one(observer.sent))


def test_an_observer_sees_what_a_careless_node_does() -> None:
    """The proof can fail: the same week with a law that forgets at each power cut."""

    class Forgetful(Week):
        def _begin(self) -> None:
            self.flash.data = b""
            super()._begin()

    week = Forgetful(1, cut_share=0.05, until_s=24 * HOUR_S).run()
    assert week.worst() > 1


@pytest.mark.parametrize(
    "week",
    [
        Week(1),
        Week(2, wrong=-0.05),
        Week(3, cut_share=0.05, sleep_share=0.1),
        Week(4, wrong=1.05 * 1.1 - 1, cut_share=0.02, sleep_s=400, rtc_lost_share=0.1),
        Week(5, pause_s=300, sleep_share=0.9, cut_share=0.01),
        Week(6, sleep_share=0.01, wrong=0.0, clock_from_s=1e6, ahead_s=7.0),  # as a gateway's daemon is
    ],
    ids=lambda week: f"seed {week.seed}",
)
def test_no_hour_of_a_week_holds_more_than_the_law_allows(week: Week) -> None:
    week.run()
    print(week.figures())
    assert week.worst() <= 1, week.figures()
    assert week.sleeps > 50, week.figures()
    assert week.cuts > 1, week.figures()


@pytest.mark.soak
def test_no_hour_of_many_weeks_holds_more_than_the_law_allows() -> None:
    worst = 0.0
    sent = cuts = 0
    for seed in range(100, 140):
        wrong = (-0.05, 0.05, 0.0, 1.05 * 1.1 - 1)[seed % 4]
        share = (0.0, 0.003, 0.05, 0.3)[seed // 4 % 4]
        sleep_share = (0.05, 0.3, 0.9)[seed % 3]
        week = Week(
            seed, wrong=wrong, cut_share=share, sleep_share=sleep_share, ahead_s=7.0 * (seed % 5 == 0)
        ).run()
        assert week.worst() <= 1, week.figures()
        worst = max(worst, week.worst())
        sent += len(week.observer.sent)
        cuts += week.cuts
    print(f"duty weeks=40 sent={sent} cuts={cuts} worst_hour={100 * worst:.2f}%")


def test_the_allowance_can_be_used_and_comes_back_after_an_hour() -> None:
    law = Law(EU868, Kept())
    air_s, refused = fill(law, 10)
    assert 34 < air_s <= 36
    assert refused.rule == "duty"
    assert refused.wait_s is not None
    assert 3600 <= refused.wait_s <= 3900 * 16 // 13 + 2
    send(law, 10, channel=3)  # the other band has its own hour
    with pytest.raises(AirRefused):
        send(law, 10 + 3580)
    send(law, 10 + refused.wait_s)


def test_a_refusal_says_what_would_fit_now() -> None:
    law = Law(EU868, Kept())
    _, refused = fill(law, 10)
    fits = int(str(refused).split(", or ")[1].split()[0])
    assert 0 <= fits < 99
    with pytest.raises(AirRefused):
        send(law, 10, size=fits + 10)
    send(law, 10, size=fits)


@given(
    st.integers(0, 4000), st.integers(1, 222), st.lists(st.tuples(st.integers(0, 900), st.integers(1, 222)))
)
@settings(max_examples=50)
def test_who_waits_as_long_as_he_is_told_may_send(
    start_s: int, size: int, traffic: list[tuple[int, int]]
) -> None:
    law = Law(EU868, Kept())
    now_s = start_s
    for pause_s, one in traffic:
        now_s += pause_s
        try:
            send(law, now_s, one)
        except AirRefused:
            break
    _, refused = fill(law, now_s)
    assert refused.wait_s is not None
    send(law, now_s + refused.wait_s, size=min(size, 99))


def test_power_cuts_in_a_row_spend_no_hour_twice() -> None:
    """Cut right after each transmission, as fast as it starts again: all in all one hour's allowance, then silence."""
    kept = Kept()
    air_us = 0
    starts = 0
    while True:
        law = Law(EU868, kept)
        try:
            air_us += send(law, 1)
        except AirRefused:
            break
        starts += 1
    print(f"duty power cuts in a row={starts} air_s={air_us / 1e6:.1f} of 36")
    assert air_us <= 36_000_000
    assert starts >= 8  # and a few cuts leave room to speak
    # An hour later, and one of quiet talk, it is as it was.
    send(law, 3901)
    send(law, 8000)
    assert fill(Law(EU868, kept), 1)[0] > 25


def test_the_flash_is_written_seldom() -> None:
    """An hourly node writes when it starts; one that uses all it may writes once in some seconds on the air."""
    kept = Kept()
    law = Law(EU868, kept)
    for hour in range(24 * 7):
        send(law, 3600 * hour + 60)
    hourly = kept.saves
    week = Week(7, cut_share=0.0, rtc_lost_share=0.0, sleep_share=0.0).run()
    air_s = sum(end - begin for begin, end, _ in week.observer.sent)
    print(f"duty saves in a week: hourly={hourly} greedy={week.flash.saves} greedy_air_s={air_s:.0f}")
    assert hourly <= 3
    assert week.flash.saves <= air_s / 2


def test_the_clock_of_a_life_need_not_begin_at_0() -> None:
    """A daemon that is started again counts on from its machine's start: what it spent before was not long ago."""
    kept = Kept()
    fill(Law(EU868, kept), 1_000_000)
    law = Law(EU868, kept)
    with pytest.raises(AirRefused):
        send(law, 1_000_010)
    with pytest.raises(AirRefused):
        send(law, 1_000_010 + 3590)
    send(law, 1_000_010 + 3900)


def test_who_does_not_know_what_was_sent_is_silent_for_an_hour() -> None:
    for kept in (None, Kept(None), Kept(b"\x00\x00\x10\x00\x10"), Kept(b"\x01\x00")):
        law = Law(EU868, kept)
        with pytest.raises(AirRefused) as refused:
            send(law, 5)
        assert refused.value.rule == "duty"
        assert refused.value.wait_s is not None
        if kept is not None:
            send(law, 5 + refused.value.wait_s)


def test_what_can_not_be_kept_is_not_sent() -> None:
    kept = Kept()
    kept.works = False
    law = Law(EU868, kept)
    with pytest.raises(AirRefused, match="state partition"):
        send(law, 5)
    kept.works = True
    send(law, 5)


def test_a_sleep_keeps_the_ledger_and_writes_nothing() -> None:
    kept = Kept()
    law = Law(EU868, kept)
    fill(law, 100)
    saves = kept.saves
    rested = law.rest(200)
    assert len(rested) <= 96
    law = Law(EU868, kept)
    law.resume(1000, rested)
    with pytest.raises(AirRefused):
        send(law, 1000)
    law = Law(EU868, kept)
    law.resume(200 + 5000, rested)
    assert kept.saves == saves
    assert fill(law, 5300)[0] > 33


def test_what_is_not_a_rested_ledger_changes_nothing() -> None:
    kept = Kept()
    fill(Law(EU868, kept), 100)
    for rested in (b"", b"x", bytes(71)):
        law = Law(EU868, kept)
        law.resume(5000, rested)
        with pytest.raises(AirRefused):
            send(law, 10)


def test_a_ledger_that_comes_too_late_is_not_believed() -> None:
    rested = Law(EU868, Kept()).rest(100)
    kept = Kept()
    fill(Law(EU868, kept), 100)
    law = Law(EU868, kept)
    for _ in range(2):
        with pytest.raises(AirRefused):
            send(law, 1)
        law.resume(2, rested)


def test_a_clock_that_goes_back_frees_nothing() -> None:
    law = Law(EU868, Kept())
    fill(law, 10_000)
    for now_s in (9000, 0, 12_000):
        with pytest.raises(AirRefused):
            send(law, now_s)


def test_the_bands_of_the_proof_are_those_of_the_plan() -> None:
    law = Law(EU868)
    channels = [law.freq_hz(channel) for channel in range(law.channels)]
    assert all(any(low <= freq_hz < high for low, high in BANDS) for freq_hz in channels)
