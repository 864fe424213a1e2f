"""gateway/ledger.py against a plain model: a dict of what was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import CONFLICT, COPY, NEW, PAGE, RUNS_MAX, Ledger
from protocols.wire.limits import MAX_ACK_RUNS


def ledger(first_seq: int = 1) -> Ledger:
    return Ledger(1, 0x12, 77, first_seq, lambda page: None)


def taken(*seqs: int) -> Ledger:
    made = ledger()
    for seq in seqs:
        assert made.offer(seq, seq + 1000) == NEW
        made.settle(seq)
    return made


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 3), st.booleans()), max_size=80))
def test_every_offer_is_judged_as_a_dict_would_judge_it(offers: list[tuple[int, int, bool]]) -> None:
    made, model = ledger(), {}
    for seq, fingerprint, commits in offers:
        expected = NEW if seq not in model else COPY if model[seq] == fingerprint else CONFLICT
        assert made.offer(seq, fingerprint) == expected
        if expected == NEW:
            if commits:
                model[seq] = fingerprint
                made.settle(seq)
            else:
                made.withdraw(seq)
    cum = 0
    while cum + 1 in model:
        cum += 1
    assert made.cum == cum
    assert {n for a, b in made.runs for n in range(a, b + 1)} == {seq for seq in model if seq > cum}


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 3)), max_size=200), st.integers(0, 500))
def test_below_what_is_kept_everything_is_a_copy_and_nothing_is_new(
    offers: list[tuple[int, int]], cum: int
) -> None:
    """PAGES_KEPT is 1 here: fingerprints of 64 to 127 records below cum are known, of older ones none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.ledger.PAGES_KEPT", 1)
        made, model = ledger(), {}
        for seq in range(1, cum + 1):
            assert made.offer(seq, 1) == NEW
            made.settle(seq)
            model[seq] = 1
        for seq, fingerprint in offers:
            expected = NEW if seq not in model else COPY if model[seq] == fingerprint else CONFLICT
            if seq // PAGE < made.cum // PAGE - 1:
                expected = COPY
            assert made.offer(seq, fingerprint) == expected
            if expected == NEW:
                model[seq] = fingerprint
                made.settle(seq)


def test_a_record_counted_as_lost_is_taken_within_the_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ledger.PAGES_KEPT", 1)
    made = taken(1, 3)
    made.cover(2, 2)
    assert made.offer(2, 5) == NEW
    made.withdraw(2)
    for seq in range(4, 2 * PAGE):
        made.offer(seq, 5)
        made.settle(seq)
    assert made.offer(2, 5) == NEW
    made.withdraw(2)
    made.offer(2 * PAGE, 5)
    made.settle(2 * PAGE)
    assert made.offer(2, 5) == COPY, "listed as lost, and stays so"


def test_a_pending_record_is_known_but_not_acknowledged() -> None:
    made = ledger()
    assert made.offer(1, 5) == NEW
    assert made.offer(1, 5) == COPY
    assert made.offer(1, 6) == CONFLICT
    assert made.cum == 0
    assert made.newest_runs() == ()


def test_a_withdrawn_record_is_new_again() -> None:
    made = ledger()
    made.offer(1, 5)
    made.withdraw(1)
    assert made.offer(1, 6) == NEW


def test_an_ack_lists_the_newest_runs_first_and_no_more_than_the_wire_allows() -> None:
    made = taken(*range(3, 40, 2))
    runs = made.newest_runs()
    assert runs[:2] == ((39, 1), (37, 1))
    assert len(runs) == MAX_ACK_RUNS


def test_what_is_lost_no_longer_holds_cum_back() -> None:
    made = taken(1, 2, 10_500)
    made.cover(3, 10_499)
    assert made.cum == 10_500
    assert not made.runs


def test_a_record_that_was_listed_as_lost_is_still_taken() -> None:
    made = taken(1, 5)
    made.cover(2, 4)
    assert made.offer(3, 1003) == NEW
    made.settle(3)
    assert made.cum == 5
    assert made.offer(3, 1003) == COPY


def test_gaps_count_what_is_about_to_be_committed_as_there() -> None:
    from gateway.intervals import Intervals

    made = taken(1)
    arriving = Intervals()
    arriving.add(4, 4)
    assert made.gaps_below(6, arriving) == [(2, 3), (5, 5)]


def test_an_epoch_that_begins_later_waits_for_nothing_before_it() -> None:
    made = ledger(first_seq=500)
    assert made.cum == 499
    made.offer(500, 9)
    made.settle(500)
    assert made.cum == 500


def test_gaps_are_bounded_and_closing_one_is_still_allowed() -> None:
    made = ledger()
    for seq in range(3, 3 + 2 * RUNS_MAX, 2):
        made.offer(seq, 1)
        made.settle(seq)
    beyond = 3 + 2 * RUNS_MAX
    assert not made.has_room_for(beyond)
    assert made.has_room_for(1), "closes the first gap"
    assert made.has_room_for(beyond - 1), "goes on where the last run ends"
    assert made.has_room_for(beyond - 2), "is a copy"


def test_pages_are_loaded_from_the_store_when_they_are_asked_for() -> None:
    from array import array

    page = array("I", bytes(4 * 64))
    page[5] = 1005
    made = Ledger(1, 0x12, 77, 1, lambda number: page.tobytes() if number == 0 else None)
    made.cum = made.highest = 63
    made.last_page = 0
    assert made.offer(5, 1005) == COPY
    assert made.offer(5, 1006) == CONFLICT


def test_the_gap_report_names_what_may_still_come() -> None:
    assert taken(1, 2, 5, 9).missing() == [(3, 4), (6, 8)]
