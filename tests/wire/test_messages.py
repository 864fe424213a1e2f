"""Messages: each kind survives the way, nothing out of range is sent or accepted, and the sizes hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire import cbor, codes, envelope, messages, readings
from protocols.wire.errors import DecodeError, EncodeError, WireError
from protocols.wire.limits import MAX_ALARM, MAX_PLAIN
from tests.wire import strategies
from tests.wire.message_cases import DOWN, UP

NOW = 1790000000
READINGS = messages.Readings(1, 70080, 80, NOW, b"\x40", None)


@settings(max_examples=500)
@given(strategies.up)
def test_what_a_node_says_is_what_the_gateway_hears(message: Any) -> None:
    plain = messages.encode(message)
    heard = messages.decode_up(plain)
    assert heard == message
    assert type(heard) is type(message)
    assert len(plain) <= MAX_PLAIN
    with pytest.raises(DecodeError):
        messages.decode_down(plain)


@settings(max_examples=500)
@given(strategies.down)
def test_what_the_gateway_says_is_what_a_node_hears(message: Any) -> None:
    plain = messages.encode(message)
    heard = messages.decode_down(plain)
    assert heard == message
    assert type(heard) is type(message)
    with pytest.raises(DecodeError):
        messages.decode_up(plain)


@settings(max_examples=1000)
@given(st.one_of(strategies.up, strategies.down), st.integers(0, 500), st.integers(0, 255))
def test_a_damaged_message_is_refused_or_is_another_valid_one(message: Any, at: int, byte: int) -> None:
    """The envelope guards against this; a decoder must hold alone. What is accepted encodes to the same bytes."""
    plain = bytearray(messages.encode(message))
    plain[at % len(plain)] = byte
    for decode in (messages.decode_up, messages.decode_down):
        try:
            heard: Any = decode(bytes(plain))
        except DecodeError:
            continue
        assert messages.encode(heard) == bytes(plain)


@pytest.mark.parametrize(
    "message", [message for _, message in UP + DOWN], ids=[name for name, _ in UP + DOWN]
)
def test_every_item_is_checked_when_sending(message: Any) -> None:
    """No field takes a float, an object, or an integer of 65 bits."""
    for field in message._fields:
        for wrong in (1.5, object(), 1 << 64, -(1 << 33), b"\x00" * 500, "x" * 500):
            with pytest.raises(EncodeError):
                messages.encode(message._replace(**{field: wrong}))


def test_only_messages_are_encoded() -> None:
    for wrong in ([1, 2], None, "hello", type(READINGS), tuple(READINGS)):
        with pytest.raises(EncodeError, match="not a message"):
            messages.encode(wrong)  # type: ignore[arg-type]


def test_a_bool_is_not_an_integer() -> None:
    with pytest.raises(EncodeError):
        messages.encode(READINGS._replace(seq=True))
    with pytest.raises(DecodeError):
        messages.decode_up(cbor.dumps([1, True, 2, 0, NOW, b"\x40"]))


def test_the_error_says_which_value_and_what_is_allowed() -> None:
    with pytest.raises(EncodeError, match="schema 65536: allowed are 0 to 65535"):
        messages.encode(READINGS._replace(schema=65536))
    with pytest.raises(DecodeError, match="kind 99: known here are"):
        messages.decode_up(cbor.dumps([99]))
    with pytest.raises(DecodeError, match="Readings: 2 items after the kind, not 6"):
        messages.decode_up(cbor.dumps([1, 1, 2]))


# ---- sizes ----

# 7.48 °C, pH 8.37, 9.80 mg/L, 1258 µS/cm, 142.3 NTU, -210 mV, 10.42 mg/L, 123.4 cm.
REFERENCE_SET = (748, 837, 980, 1258, 1423, -210, 1042, 1234)


def test_the_reference_set_is_29_bytes_plain_and_42_sealed_with_a_two_byte_piv() -> None:
    schema = readings.schema(1)
    body = readings.encode(schema, readings.SYNCHRONISED, (NOW,), (REFERENCE_SET,))
    assert readings.decode(schema, NOW, body).rows == (REFERENCE_SET,)
    plain = messages.encode(messages.Readings(1, 70080, 0, NOW, body, None))
    key = envelope.sender_key(bytes(16), bytes(8), bytes(16), envelope.node_kid(0x0012))
    frame = envelope.seal(key, 0xFFFF, plain)
    print(f"reference set: body {len(body)}, plain {len(plain)}, sealed {len(frame)} bytes")
    assert len(plain) <= 29
    assert len(frame) <= 42


@given(
    st.integers(1, 0xFFFFFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 3),
    st.integers(1, 23),
    st.integers(0, 2),
    st.one_of(st.none(), strategies.numbers),
)
def test_an_alarm_is_at_most_23_bytes(
    seq: int, held: int, time: int, tq: int, code: int, state: int, detail: Any
) -> None:
    alarm = messages.Event(seq, min(held, seq - 1), time, tq, code, state, detail, None)
    assert len(messages.encode(alarm)) <= MAX_ALARM


def test_the_longest_alarm_is_exactly_that_long() -> None:
    alarm = messages.Event(0xFFFFFFFF, 0xFFFF, 0xFFFFFFFF, 3, 23, messages.RAISED, -(2**32), None)
    assert len(messages.encode(alarm)) == MAX_ALARM


def test_the_largest_hello_and_status_fit_a_frame() -> None:
    health: dict[int, int | str] = dict.fromkeys(range(32), 2**32 - 1)
    health[codes.TRACEBACK] = "x" * 128
    assert len(messages.encode(messages.Status(2**40 - 1, 2**40 - 1, 3, health))) <= MAX_PLAIN


# ---- what the receiver judges by itself ----


@pytest.mark.parametrize(
    ("op", "args", "fine"),
    [
        (codes.IDENTIFY, 30, True),
        (codes.IDENTIFY, None, False),
        (codes.IDENTIFY, 65536, False),
        (codes.REBOOT, None, True),
        (codes.REBOOT, 1, False),
        (codes.READ_NOW, None, True),
        (codes.SET_INTERVAL, 1, True),
        (codes.SET_INTERVAL, 86400, True),
        (codes.SET_INTERVAL, 0, False),
        (codes.SET_INTERVAL, 86401, False),
        (codes.SET_INTERVAL, True, False),
        (codes.REPORT_SETTINGS, None, True),
        (codes.MAINTENANCE, 0, True),
        (codes.MAINTENANCE, 86401, False),
        (codes.LEARN, None, True),
        (codes.TEST_ALARM, 1, False),
        (codes.CALIBRATE, [1, codes.CALIBRATE_ZERO, 686], True),
        (codes.CALIBRATE, [16, 0, 686], False),
        (codes.CALIBRATE, [1, 4, 686], False),
        (codes.CALIBRATE, [1, 0], False),
        (codes.CALIBRATE, None, False),
        (codes.CONSOLE, 255, True),
        (codes.CONSOLE, None, False),
        (codes.IDENTIFY, [1], False),
        (200, 7, True),
        (200, [7], True),
    ],
)
def test_args_that_an_operation_does_not_allow_are_named(
    op: int, args: int | list[int] | None, fine: bool
) -> None:
    assert (codes.command_problem(op, args) == "") == fine


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, ""),
        ({0: 1, 1: 86400, 2: 10}, ""),
        ({0: 0}, "interval_s 0: allowed are 1 to 86400"),
        ({1: 86401}, "report_s 86401: allowed are 1 to 86400"),
        ({2: 9}, "status_s 9: allowed are 10 to 604800"),
        ({0: 900, 16: 1}, "settings key 16 is not known"),
        ({4: 61}, "tilt_deg 61: allowed are 5 to 60"),
    ],
)
def test_a_settings_document_is_judged_as_a_whole(document: dict[int, int], problem: str) -> None:
    assert codes.settings_problem(document) == problem


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_an_unsynchronised_time_names_its_boot(boots: int, uptime_s: int) -> None:
    time = messages.unsynced_time(boots, uptime_s)
    assert messages.split_unsynced(time) == (boots % 256, uptime_s)
    assert messages.decode_up(messages.encode(READINGS._replace(time=time))).time == time  # type: ignore[union-attr]


def test_every_refusal_has_a_counter_of_the_spec() -> None:
    for error in (WireError(""), DecodeError("")):
        assert error.reason == "message"
    with pytest.raises(DecodeError) as refused:
        messages.decode_up(b"")
    assert refused.value.reason == "cbor"
