"""Deterministic CBOR: one form per value, nothing else accepted, and both decoders of one mind."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.wire import cbor, cbor_host, cbor_portable
from protocols.wire.errors import CborError, EncodeError
from protocols.wire.limits import MAX_DEPTH, MAX_FRAME, MAX_ITEMS
from tests.wire import interpreters, rfc8949
from tests.wire.make_vectors import NO_CBOR

integers = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.sampled_from(
        [sign * (1 << bits) + step for bits in (8, 16, 32, 40) for sign in (1, -1) for step in (-1, 0, 1)]
    ),
)
strings = st.text(max_size=30)
scalars = st.one_of(integers, st.binary(max_size=40), strings, st.booleans(), st.none())
keys = st.one_of(integers, st.binary(max_size=8), strings)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=12,
)
flat_arrays = st.lists(st.one_of(integers, st.binary(max_size=40), st.none()), min_size=1, max_size=26)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(item) for item in value), default=0)
    return 0


def exactly(value: Any) -> Any:
    """With types, since True == 1 and {1: 0} == {True: 0}."""
    if isinstance(value, dict):
        return {(type(key), key): exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return (type(value), value)


def outcome(loads: Any, data: bytes) -> Any:
    try:
        return exactly(loads(data))
    except CborError as error:
        return str(error)


@given(values)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    if depth_of(value) > MAX_DEPTH:
        with pytest.raises(EncodeError, match="nested"):
            cbor.dumps(value)
        return
    data = cbor_portable.dumps(value)
    assert exactly(cbor_portable.loads(data)) == exactly(value)
    assert exactly(cbor_host.loads(data)) == exactly(value)


@given(values)
def test_another_library_reads_what_we_write(value: Any) -> None:
    if depth_of(value) <= MAX_DEPTH:
        assert exactly(cbor2.loads(cbor.dumps(value))) == exactly(value)


@given(values)
def test_both_encoders_write_the_same_bytes(value: Any) -> None:
    """cbor.dumps is the portable one on every interpreter; cbor2 agrees wherever RFC 7049's key order is ours."""
    if depth_of(value) <= MAX_DEPTH and not _has_map(value):
        assert cbor.dumps(value) == cbor2.dumps(value)


def _has_map(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(_has_map(item) for item in value))


@settings(max_examples=2000)
@given(st.binary(max_size=24))
@example(b"\x81\xc2\x41\x01")
@example(b"\x82\x41\x61\xd8\x19\x00")
def test_both_decoders_agree_on_any_bytes(data: bytes) -> None:
    assert outcome(cbor_host.loads, data) == outcome(cbor_portable.loads, data)


@settings(max_examples=2000)
@given(
    st.lists(flat_arrays, min_size=1, max_size=1), st.integers(0, 200), st.integers(0, 255), st.integers(0, 2)
)
def test_both_decoders_agree_on_damaged_messages(values: list[Any], at: int, byte: int, how: int) -> None:
    data = bytearray(cbor.dumps(values[0]))
    at %= len(data)
    if how == 0:
        data[at] = byte
    elif how == 1:
        data[at:at] = bytes((byte,))
    else:
        del data[at]
    assert outcome(cbor_host.loads, bytes(data)) == outcome(cbor_portable.loads, bytes(data))


@settings(max_examples=1000)
@given(st.binary(max_size=40))
def test_nothing_but_the_one_form_is_accepted(data: bytes) -> None:
    """Whatever decodes encodes to the very bytes it came from."""
    try:
        value = cbor_portable.loads(data)
    except CborError:
        return
    assert cbor_portable.dumps(value) == data


@pytest.mark.parametrize(
    "inside", [b"\x00", b"\x40", b"\x41\x61", b"\x60", b"\x80", b"\xf6", b"\x82\x01\x02"]
)
def test_no_tag_is_let_through_by_either_decoder(inside: bytes) -> None:
    """cbor2 gives tags a meaning, and knows more of them with every release."""
    for tag in [*range(300), *range(1000, 1010), *range(43000, 43010), 55799, 65535, 2**32, 2**64 - 1]:
        data = b"\x82\x00" + cbor_portable.dumps(tag).translate(None)
        data = b"\x82\x00" + bytes((data[2] | 0xC0,)) + data[3:] + inside
        for loads in (cbor_host.loads, cbor_portable.loads):
            with pytest.raises(CborError, match="tag"):
                loads(data)


@pytest.mark.parametrize(("data", "value"), rfc8949.ALLOWED)
def test_both_decoders_read_what_rfc_8949_allows_us(data: str, value: Any) -> None:
    for loads in (cbor_host.loads, cbor_portable.loads):
        assert exactly(loads(bytes.fromhex(data))) == exactly(value)
    assert cbor.dumps(value).hex() == data


@pytest.mark.parametrize("data", [data for data, _ in rfc8949.REFUSED] + [data for _, data in NO_CBOR])
def test_both_decoders_refuse_the_rest_even_inside_an_array(data: str) -> None:
    for wrapped in (bytes.fromhex(data), b"\x82\x01" + bytes.fromhex(data)):
        for loads in (cbor_host.loads, cbor_portable.loads):
            with pytest.raises(CborError):
                loads(wrapped)


@pytest.mark.parametrize("head", [0x40, 0x60, 0x80, 0xA0])
@pytest.mark.parametrize(
    "form", ["1a7fffffff", "1affffffff", "1b7fffffffffffffff", "1bffffffffffffffff", "190200"]
)
def test_a_declared_length_costs_no_memory(head: int, form: str) -> None:
    argument = bytes.fromhex(form)
    bomb = bytes((head | argument[0],)) + argument[1:]
    for loads in (cbor_host.loads, cbor_portable.loads):
        for data in (bomb, b"\x81" + bomb, b"\x81\x81" + bomb, b"\x82" + bomb * 9):
            tracemalloc.start()
            with pytest.raises(CborError):
                loads(data)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 100_000


def test_bombs_cost_no_memory_on_micropython() -> None:
    said = interpreters.micropython("tests/wire/mpy_bombs.py", "-X", "heapsize=160k")
    assert "bombs refused=" in said
    assert " over=0" in said


@pytest.mark.parametrize(
    "value",
    [1.0, object(), {1, 2}, 2**64, -(2**64) - 1, {True: 1}, {None: 1}, {(1,): 1}, "\ud800", [[[[[1]]]]]],
)
def test_what_the_wire_does_not_allow_is_not_encoded(value: Any) -> None:
    with pytest.raises(EncodeError):
        cbor.dumps(value)


def test_the_bounds_are_the_same_on_both_sides() -> None:
    assert cbor.loads(cbor.dumps([None] * MAX_ITEMS)) == [None] * MAX_ITEMS
    with pytest.raises(EncodeError, match="at most 64"):
        cbor.dumps([None] * (MAX_ITEMS + 1))
    largest = bytes(MAX_FRAME - 3)
    assert cbor.loads(cbor.dumps(largest)) == largest
    with pytest.raises(EncodeError, match="at most 512"):
        cbor.dumps(largest + b"\x00")


def test_the_fast_path_takes_every_readings_message() -> None:
    """Or the gateway would be slow without anybody noticing: the shape of kind 1 must not reach the portable one."""
    for items in (
        [1, 1, 70080, 80, 1790000000, b"\x40" * 18],
        [1, 1, 1, 0, 2**40 - 1, b"\xff" * 440, 2**48 - 1],
    ):
        data = cbor.dumps(items)
        assert cbor_host._shortest_length(items) == len(data)
    assert cbor.loads is cbor_host.loads
