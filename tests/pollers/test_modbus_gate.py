"""Whatever arrives on a line: nothing raises, and only what can be the answer passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.pollers.modbus_gate import Gate, crc16, is_intact
from gateway.pollers.modbus_types import Request
from hil_tests.world.modbus_line import request_pdu
from hil_tests.world.modbus_slave import Slave, block, mbap, rtu
from hil_tests.world.modbus_slave import crc16 as independent_crc16

REQUESTS = st.one_of(
    st.builds(Request, st.integers(1, 247), st.sampled_from((3, 4)), st.integers(0, 500), st.integers(1, 60)),
    st.builds(
        Request, st.integers(1, 247), st.sampled_from((1, 2)), st.integers(0, 500), st.integers(1, 300)
    ),
    st.builds(
        lambda u, a, v: Request(u, 6, a, 1, (v,)),
        st.integers(1, 247),
        st.integers(0, 500),
        st.integers(0, 65535),
    ),
)
NOISE = st.binary(max_size=12)


def gate(request: Request, number: int | None = None) -> Gate:
    ear = Gate(is_numbered=number is not None)
    ear.expect(request)
    pdu = request_pdu(request)
    ear.sent(rtu(request.unit, pdu) if number is None else mbap(number, request.unit, pdu))
    return ear


def answer_of(request: Request) -> bytes:
    everything = block(request.unit, range(1000))
    bits = dict.fromkeys(range(1000), 1)
    slave = Slave(request.unit, holding=everything, inputs=everything, coils=bits, discrete=bits)
    answer, _manner = slave.serve(request_pdu(request), 0.0)
    assert answer is not None
    return answer


@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_an_independent_hand(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == independent_crc16(data)


@given(REQUESTS, NOISE, NOISE)
def test_an_answer_is_found_in_noise(request: Request, before: bytes, after: bytes) -> None:
    frame = rtu(request.unit, answer_of(request))
    heard = before + frame + after
    found = gate(request).answer(heard)
    assert found == frame or is_intact(found), "noise that is a valid frame of this device by chance"


@given(REQUESTS, st.binary(max_size=300), st.booleans())
def test_no_bytes_whatever_are_more_than_passed_over(
    request: Request, heard: bytes, is_numbered: bool
) -> None:
    found = gate(request, 7 if is_numbered else None).answer(heard)
    if found:
        assert found in heard
        assert is_numbered or is_intact(found)


@given(REQUESTS, REQUESTS)
def test_the_answer_of_another_request_does_not_pass(request: Request, other: Request) -> None:
    frame = rtu(other.unit, answer_of(other))
    if request.shape != other.shape:
        assert not gate(request).answer(frame)
    assert not gate(request, 8).answer(mbap(7, other.unit, answer_of(other))), "another number"


@given(REQUESTS, st.data())
def test_a_frame_with_one_wrong_bit_does_not_pass(request: Request, data: st.DataObject) -> None:
    frame = bytearray(rtu(request.unit, answer_of(request)))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert not gate(request).answer(bytes(frame))
