"""gateway/intervals.py: runs behave as the set of numbers they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.intervals import Intervals

SMALL = st.integers(0, 60)
STEPS = st.lists(st.tuples(st.booleans(), SMALL, SMALL), max_size=40)


def built(steps: list[tuple[bool, int, int]]) -> tuple[Intervals, set[int]]:
    runs, model = Intervals(), set()
    for add, a, b in steps:
        first, last = min(a, b), max(a, b)
        if add:
            runs.add(first, last)
            model |= set(range(first, last + 1))
        else:
            runs.remove(first, last)
            model -= set(range(first, last + 1))
    return runs, model


@given(STEPS)
def test_any_sequence_of_adds_and_removes_equals_the_set_of_numbers(
    steps: list[tuple[bool, int, int]],
) -> None:
    runs, model = built(steps)
    assert {n for first, last in runs for n in range(first, last + 1)} == model
    assert [n in runs for n in range(62)] == [n in model for n in range(62)]
    assert runs.count() == len(model)


@given(STEPS)
def test_runs_are_sorted_and_never_touch(steps: list[tuple[bool, int, int]]) -> None:
    runs, _ = built(steps)
    assert all(first <= last for first, last in runs)
    assert all(end + 1 < start for end, start in zip(runs.ends, runs.starts[1:], strict=False))


@given(STEPS, SMALL, SMALL)
def test_missing_is_what_lies_between(steps: list[tuple[bool, int, int]], a: int, b: int) -> None:
    runs, model = built(steps)
    first, last = min(a, b), max(a, b)
    gaps = runs.missing(first, last)
    assert {n for low, high in gaps for n in range(low, high + 1)} == set(range(first, last + 1)) - model


@given(STEPS)
def test_what_is_packed_is_unpacked(steps: list[tuple[bool, int, int]]) -> None:
    runs, _ = built(steps)
    assert list(Intervals.unpack(runs.pack())) == list(runs)


@pytest.mark.parametrize("data", [b"\x00" * 15, (5).to_bytes(8, "little") + (4).to_bytes(8, "little")])
def test_bytes_that_are_no_runs_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="run"):
        Intervals.unpack(data)


def test_a_million_numbers_in_one_run_take_one_run() -> None:
    runs = Intervals()
    for number in range(1_000_000):
        runs.add(number, number)
    assert len(runs) == 1
