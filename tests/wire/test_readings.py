"""Single sets and batches: sizes that are promised, exactness, one encoding for everything, and refusals."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.wire import messages, readings
from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import MAX_SERIES, MAX_SETS, MAX_TIME, MAX_TIME_STEP_S, MAX_VALUE
from protocols.wire.readings import Schema, Sets
from tests.wire import interpreters, readings_by_the_book
from tests.wire.readings_cases import REFERENCE, Dice, case, garbage_refused, wander

NOW = 1_790_000_000
RIVER8 = readings.schema(1)
RIVER6 = readings.schema(2)
SCHEMA_IDS = (1, 2, 3, 4, 5)

values = st.one_of(
    st.integers(-MAX_VALUE, MAX_VALUE), st.integers(-3000, 3000), st.sampled_from((-MAX_VALUE, 0, MAX_VALUE))
)


@st.composite
def any_sets(draw: st.DrawFn) -> tuple[Schema, Sets]:
    """Any sets that the codec must carry."""
    schema = readings.schema(draw(st.sampled_from(SCHEMA_IDS)))
    width = len(schema.series)
    count = draw(st.integers(1, 12))
    steps = draw(
        st.one_of(
            st.sampled_from((0, 1, 60, 900, 21600)).map(lambda step: [step] * (count - 1)),
            st.lists(st.integers(-MAX_TIME_STEP_S, MAX_TIME_STEP_S), min_size=count - 1, max_size=count - 1),
        )
    )
    times = [1 << 39]
    for step in steps:
        times.append(times[-1] + step)
    flags = draw(
        st.none()
        | st.lists(
            st.lists(st.sampled_from(readings.FLAGS), min_size=width, max_size=width),
            min_size=count,
            max_size=count,
        )
    )
    rows = [
        tuple(None if flags is not None and flags[n][i] == 9 else draw(values) for i in range(width))
        for n in range(count)
    ]
    good = flags is None or all(flag == 1 for row in flags for flag in row)
    kept = None if good or flags is None else tuple(tuple(row) for row in flags)
    return schema, Sets(draw(st.integers(0, 3)), tuple(times), tuple(rows), kept)


def plain_size(schema_id: int, held: int, times: list[int], rows: Any) -> int:
    body = readings.encode(readings.schema(schema_id), readings.SYNCHRONISED, times, rows)
    return len(messages.encode(messages.Readings(schema_id, 70080, held, times[0], body, None)))


@given(any_sets())
def test_every_set_comes_back_as_it_went_in(given_case: tuple[Schema, Sets]) -> None:
    schema, sets = given_case
    body = readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags)
    assert readings.decode(schema, sets.times[0], body) == sets


@pytest.mark.parametrize("seed", range(1, 61))
def test_rivers_come_back_as_they_went_in(seed: int) -> None:
    schema, sets = case(seed)
    body = readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags)
    assert readings.decode(schema, sets.times[0], body) == sets


BATCHES = [seed for seed in range(1, 61) if len(case(seed)[1].rows) > 1]


@pytest.mark.parametrize("seed", BATCHES)
def test_a_decoder_written_from_the_page_alone_reads_the_same(seed: int) -> None:
    schema, sets = case(seed)
    body = readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags)
    codes = [(series.centre, series.order) for series in schema.series]
    tq, times, rows, flags = readings_by_the_book.decode(codes, sets.times[0], body)
    assert (tq, tuple(times), tuple(map(tuple, rows))) == (sets.tq, sets.times, sets.rows)
    assert (None if flags is None else tuple(map(tuple, flags))) == sets.flags


@given(st.sampled_from(SCHEMA_IDS), st.binary(max_size=80))
def test_what_decodes_has_no_second_encoding(schema_id: int, body: bytes) -> None:
    schema = readings.schema(schema_id)
    try:
        sets = readings.decode(schema, NOW, body)
    except DecodeError:
        return
    assert readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags) == body


@pytest.mark.parametrize("seed", range(1, 301))
def test_a_mutated_body_is_refused_or_means_something_else_exactly_once(seed: int) -> None:
    dice = Dice(seed)
    schema, sets = case(seed)
    body = bytearray(readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags))
    for _ in range(1 + dice.below(3)):
        body[dice.below(len(body))] ^= 1 << dice.below(8)
    mutated = bytes(body) if dice.below(2) else bytes(body[: 1 + dice.below(len(body))])
    try:
        got = readings.decode(schema, NOW, mutated)
    except DecodeError:
        return
    assert readings.encode(schema, got.tq, got.times, got.rows, got.flags) == mutated


def test_the_reference_set_takes_at_most_29_bytes_plain() -> None:
    assert plain_size(1, 23, [NOW], [REFERENCE]) == 27


def test_an_hour_of_4_sets_of_8_takes_at_most_86_bytes_plain() -> None:
    hours = [wander(Dice(seed), 4, REFERENCE, 6) for seed in range(1, 51)]
    sizes = [plain_size(1, 3, [NOW + 900 * i for i in range(4)], hour) for hour in hours]
    assert max(sizes) <= 60


def test_flags_and_gaps_cost_nothing_when_all_is_good() -> None:
    rows = wander(Dice(3), 96, REFERENCE, 2)
    times = [NOW + 900 * i for i in range(96)]
    good = [[1] * 8] * 96
    assert readings.encode(RIVER8, 1, times, rows, good) == readings.encode(RIVER8, 1, times, rows)


def test_a_series_that_never_changes_costs_a_fifth_of_a_bit() -> None:
    body = readings.encode(
        RIVER6, 1, [NOW + 900 * i for i in range(96)], [(748, 1258, 837, 980, 1423, 1234)] * 96
    )
    first_values = 11 * 8
    assert len(body) * 8 < first_values + 6 * 96 // 5


def test_a_regular_interval_costs_nothing_and_an_irregular_one_little() -> None:
    rows = wander(Dice(4), 12, REFERENCE, 2)
    regular = readings.encode(RIVER8, 1, [NOW + 300 * i for i in range(12)], rows)
    jitter = readings.encode(RIVER8, 1, [NOW + 300 * i + i % 2 for i in range(12)], rows)
    assert len(regular) < len(jitter) <= len(regular) + 14


@pytest.mark.parametrize("filler", [b"\x00", b"\x55", b"\xaa", b"\xff"])
@pytest.mark.parametrize("count", [2, 96, 97, 255])
def test_a_hostile_batch_is_refused(count: int, filler: bytes) -> None:
    with pytest.raises(DecodeError):
        readings.decode(RIVER8, NOW, bytes((0x69, count)) + filler * 430)


def test_a_hostile_body_costs_little_memory() -> None:
    body = bytes((0x69, MAX_SETS)) + b"\x5a" * 430
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            readings.decode(RIVER8, NOW, body)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_batch_that_leaves_the_time_there_is_is_refused() -> None:
    body = readings.encode(RIVER6, 1, [MAX_TIME - 900, MAX_TIME], [(0,) * 6] * 2)
    assert readings.decode(RIVER6, MAX_TIME - 900, body).times[1] == MAX_TIME
    with pytest.raises(DecodeError, match="40 bits"):
        readings.decode(RIVER6, MAX_TIME, body)


def test_a_value_beyond_the_limit_is_refused_both_ways() -> None:
    too_much = (MAX_VALUE + 1, *REFERENCE[1:])
    for rows in ([too_much], [too_much, REFERENCE], [REFERENCE, too_much]):
        with pytest.raises(EncodeError, match="beyond"):
            readings.encode(RIVER8, 1, [NOW + i for i in range(len(rows))], rows)


@pytest.mark.parametrize(
    ("times", "rows", "flags", "what"),
    [
        ([], [], None, "0 sets"),
        ([NOW] * 97, [REFERENCE] * 97, None, "97 sets"),
        ([NOW], [REFERENCE, REFERENCE], None, "1 times, 2 rows"),
        ([NOW], [REFERENCE[:7]], None, "takes 8 values"),
        ([NOW], [REFERENCE], [(1,) * 7], "as many flags"),
        ([NOW, NOW], [REFERENCE, REFERENCE[:7]], None, "takes 8 values"),
        ([NOW], [(None, *REFERENCE[1:])], None, "flag it 9"),
        ([NOW], [(None, *REFERENCE[1:])], [(1,) * 8], "flag missing"),
        ([NOW], [REFERENCE], [(9,) + (1,) * 7], "flag missing"),
        ([NOW], [REFERENCE], [(5,) + (1,) * 7], "quality flag 5"),
        ([NOW, NOW], [REFERENCE, REFERENCE], [(1,) * 8, (0,) + (1,) * 7], "quality flag 0"),
        ([NOW, NOW], [REFERENCE, (None, *REFERENCE[1:])], None, "flag missing"),
        ([NOW, NOW + MAX_TIME_STEP_S + 1], [REFERENCE, REFERENCE], None, "two messages"),
        ([0, -1], [REFERENCE, REFERENCE], None, "40 bits"),
        ([MAX_TIME, MAX_TIME + 1], [REFERENCE, REFERENCE], None, "40 bits"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_reason(times: Any, rows: Any, flags: Any, what: str) -> None:
    with pytest.raises(EncodeError, match=what):
        readings.encode(RIVER8, 1, times, rows, flags)


@pytest.mark.parametrize("count", [1, 2])
def test_a_time_quality_has_two_bits(count: int) -> None:
    with pytest.raises(EncodeError, match="time quality 4"):
        readings.encode(RIVER8, 4, [NOW] * count, [REFERENCE] * count)


def test_an_unknown_schema_says_which_ones_there_are() -> None:
    with pytest.raises(readings.UnknownSchema, match=r"schema id 999.*1, 2, 3"):
        readings.schema(999)


@pytest.mark.parametrize("schema_id", SCHEMA_IDS)
def test_the_worst_set_fits_max_size(schema_id: int) -> None:
    schema = readings.schema(schema_id)
    assert 1 <= len(schema.series) <= MAX_SERIES
    encoder = readings.SetEncoder(schema)
    for flags in (None, (4,) * len(schema.series)):
        for value in (-MAX_VALUE, MAX_VALUE):
            buf = bytearray(encoder.max_size)
            assert encoder.encode_into(buf, 0, (value,) * len(schema.series), flags, 3) <= encoder.max_size


def test_the_set_encoder_writes_at_the_offset_and_nowhere_else() -> None:
    encoder = readings.SetEncoder(RIVER8)
    buf = bytearray(b"\xee" * (encoder.max_size + 20))
    end = encoder.encode_into(buf, 10, REFERENCE, None, 1)
    assert bytes(buf[10:end]) == readings.encode(RIVER8, 1, [NOW], [REFERENCE])
    assert set(buf[:10] + buf[end:]) == {0xEE}


def test_a_batch_holds_up_to_96_sets() -> None:
    rows = wander(Dice(8), MAX_SETS, REFERENCE, 3)
    times = [NOW + 60 * i for i in range(MAX_SETS)]
    body = readings.encode(RIVER8, 0, times, rows)
    assert readings.decode(RIVER8, NOW, body) == Sets(0, tuple(times), tuple(rows), None)


def test_micropython_gives_the_same_bytes_with_no_heap_per_set_and_20_kb_per_day() -> None:
    printed = interpreters.micropython("tests/wire/mpy_readings.py", "-X", "heapsize=160k")
    figures = dict(line.split("=") for line in printed.split())
    digest = hashlib.sha256()
    for seed in range(1, 151):
        schema, sets = case(seed)
        digest.update(readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags))
    assert figures["digest"] == digest.hexdigest()
    assert int(figures["refused"]) == garbage_refused()
    assert float(figures["heap_bytes_per_set"]) <= 1
    assert int(figures["heap_bytes_of_day"]) <= 20_000
