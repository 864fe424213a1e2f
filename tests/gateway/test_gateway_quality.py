"""gateway/quality.py: flags are added, never taken away, and values stay out of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.quality import merged
from protocols.wire import quality, quality_limits, readings

SCHEMA = 1
LIMITS = quality_limits.limits_of(readings.schema(SCHEMA))
VALUES = st.tuples(*(st.one_of(st.none(), st.integers(-3000, 60_000)) for _ in LIMITS))


@given(VALUES, st.data())
def test_every_flag_is_the_worse_of_the_nodes_and_ours(
    values: tuple[int | None, ...], data: st.DataObject
) -> None:
    flags = tuple(9 if value is None else data.draw(st.sampled_from((1, 2, 3, 4))) for value in values)
    found = merged(SCHEMA, values, flags)
    assert found == tuple(
        quality.worst(flag, quality.gross_range(value, limits))
        for flag, value, limits in zip(flags, values, LIMITS, strict=True)
    )


@given(st.tuples(*(st.integers(-3000, 60_000) for _ in LIMITS)))
def test_the_quick_look_agrees_with_the_tests_themselves(values: tuple[int, ...]) -> None:
    ours = tuple(quality.gross_range(value, limits) for value, limits in zip(values, LIMITS, strict=True))
    assert merged(SCHEMA, values, None) == (None if set(ours) == {readings.GOOD} else ours)


def test_a_flag_is_never_made_milder() -> None:
    good = tuple(series.centre for series in readings.schema(SCHEMA).series)
    flags = (4, 3, 1, 1, 1, 1, 1, 1)
    assert merged(SCHEMA, good, flags) == flags
