"""Numbers in registers: every type in every order at both address bases, against an encoder that shares no code."""

from __future__ import annotations

import itertools
import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import profile_library
from protocols import fields
from protocols.fields import FieldError, Form, decode, encode

# What the wire order is made of, by hand: where each byte of the big-endian number goes.
PLACES = {
    ("ABCD", 2): "01", ("CDAB", 2): "01", ("BADC", 2): "10", ("DCBA", 2): "10",
    ("ABCD", 4): "0123", ("CDAB", 4): "2301", ("BADC", 4): "1032", ("DCBA", 4): "3210",
    ("ABCD", 8): "01234567", ("CDAB", 8): "67452301", ("BADC", 8): "10325476", ("DCBA", 8): "76543210",
}  # fmt: skip
STRUCTS = {
    "u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "u64": ">Q", "s64": ">q", "f32": ">f", "f64": ">d",
}  # fmt: skip


class Slave:
    """Sixty-five thousand registers, written as a maker's manual would have it."""

    def __init__(self) -> None:
        self.registers = [0] * 65_536

    def put(self, type_: str, order: str, address: int, base: int, number: float) -> None:
        big = struct.pack(STRUCTS[type_], number)
        wire = bytes(big[int(place)] for place in PLACES[order, len(big)])
        for offset in range(len(wire) // 2):
            self.registers[address - base + offset] = wire[2 * offset] << 8 | wire[2 * offset + 1]


def numbers(type_: str, rng: random.Random) -> list[float]:
    if type_[0] == "f":
        exact = [0.0, 1.5, -22.625, 1e10, -3.0e-5, 123456.789]
        return [struct.unpack(STRUCTS[type_], struct.pack(STRUCTS[type_], number))[0] for number in exact]
    bits = int(type_[1:])
    low, high = (0, (1 << bits) - 1) if type_[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return [low, high, 0, 1, *(rng.randint(low, high) for _ in range(20))]


HEAD = 'title = "t"\nvendor = "v"\nmodel = "m"\nsources = ["s"]\nchecked = "c"\n'


@pytest.mark.parametrize(
    ("type_", "order", "base"), [*itertools.product(STRUCTS, ("ABCD", "CDAB", "BADC", "DCBA"), (0, 1))]
)
def test_every_type_order_and_base_round_trips_against_an_independent_encoder(
    type_: str, order: str, base: int
) -> None:
    address = 0x2601
    # A word has no words to swap; a profile says so in the two words that a person knows.
    said = {"CDAB": "ABCD", "DCBA": "BADC"}.get(order, order) if type_.endswith("16") else order
    text = (
        f'{HEAD}[modbus]\nbase = {base}\n[[modbus.point]]\nmeasurand = "state"\nunit = "1"\nfunction = '
        f'"holding"\naddress = {address}\ntype = "{type_}"\norder = "{said}"\n'
    )
    part = profile_library.parse(text.encode(), "p").modbus
    assert part is not None
    (point,) = part.point
    first = part.wire_address(point)
    for number in numbers(type_, random.Random(f"{type_}{order}{base}")):
        slave = Slave()
        slave.put(type_, order, address, base, number)
        window = slave.registers[first : first + part.length(point)]
        data = fields.registers_to_bytes(window)
        assert decode(part.form(point), data) == number
        assert list(fields.bytes_to_registers(encode(part.form(point), number))) == window


def by_words(big: bytes, order: str) -> bytes:
    """The bytes of a number of any length on the wire, by what an order means: words, then bytes in them."""
    words = [big[i : i + 2] for i in range(0, len(big), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


@pytest.mark.parametrize("registers", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
def test_bcd_round_trips(registers: int, order: str) -> None:
    form = Form("bcd", order, size=2 * registers)
    for number in (0, 9, 10 ** (4 * registers) - 1, 1234567890123456 % 10 ** (4 * registers)):
        wire = by_words(bytes.fromhex(str(number).zfill(4 * registers)), order)
        assert decode(form, wire) == number
        assert encode(form, number) == wire
    with pytest.raises(FieldError, match="no BCD"):
        decode(form, b"\xff" * (2 * registers))


@pytest.mark.parametrize(
    ("type_", "order", "base"),
    [*itertools.product(("u16", "u32", "u64"), ("ABCD", "CDAB", "BADC", "DCBA"), (0, 1))],
)
def test_bit_fields_round_trip_in_every_order_and_base_and_leave_their_neighbours(
    type_: str, order: str, base: int
) -> None:
    rng = random.Random(f"bits {type_}{order}{base}")
    bits = int(type_[1:])
    said = {"CDAB": "ABCD", "DCBA": "BADC"}.get(order, order) if type_ == "u16" else order
    for _ in range(40):
        width = rng.randint(1, bits)
        low = rng.randint(0, bits - width)
        text = (
            f'{HEAD}[modbus]\nbase = {base}\n[[modbus.point]]\nmeasurand = "state"\nunit = "1"\nfunction = "holding"'
            f'\naddress = 17\ntype = "{type_}"\norder = "{said}"\nbits = [{low}, {width}]\n'
        )
        part = profile_library.parse(text.encode(), "p").modbus
        assert part is not None
        (point,) = part.point
        whole, field = rng.getrandbits(bits), rng.getrandbits(width)
        slave = Slave()
        slave.put(type_, order, 17, base, whole)
        first = part.wire_address(point)
        before = fields.registers_to_bytes(slave.registers[first : first + part.length(point)])
        digits = f"{whole:0{bits}b}"  # most significant first, so bit n is the nth from the right
        end = bits - low
        assert decode(part.form(point), before) == int(digits[end - width : end], 2)
        meant = digits[: end - width] + f"{field:0{width}b}" + digits[end:]
        written = encode(part.form(point), field, into=before)
        assert written == by_words(int(meant, 2).to_bytes(bits // 8, "big"), order)


@pytest.mark.parametrize("type_", ["u8", "s8", "u24", "s24", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("order", ["ABCD", "DCBA"])
def test_numbers_in_adverts_round_trip_by_hand(type_: str, order: str) -> None:
    rng = random.Random(f"advert {type_}{order}")
    size = int(type_[1:]) // 8
    low, high = (0, 256**size - 1) if type_[0] == "u" else (-(256**size) // 2, 256**size // 2 - 1)
    for number in (low, high, 0, *(rng.randint(low, high) for _ in range(50))):
        big, rest = [], number % 256**size  # two's complement, digit by digit of base 256
        for _ in range(size):
            rest, digit = divmod(rest, 256)
            big.insert(0, digit)
        wire = bytes(big if order == "ABCD" else big[::-1])
        assert decode(Form(type_, order), wire) == number
        assert encode(Form(type_, order), number) == wire


def test_strings_end_at_a_zero_and_keep_their_order() -> None:
    assert decode(Form("string", size=8), b"Y4000\0xx") == "Y4000"
    assert decode(Form("string", "BADC", size=6), b"Y400\x000") == "4Y000"
    assert encode(Form("string", size=4), "ab") == b"ab\0\0"
    with pytest.raises(FieldError, match="room for 2"):
        encode(Form("string", size=2), "abc")


def test_bits_are_read_out_of_and_written_into_their_register() -> None:
    form = Form("u16", bits=(4, 2))
    assert decode(form, b"\x00\x2f") == 2
    assert encode(form, 3, into=b"\xab\x0f") == b"\xab\x3f"
    with pytest.raises(FieldError, match="not given"):
        encode(form, 1)
    with pytest.raises(FieldError, match="0 to 3 would"):
        encode(form, 4, into=b"\0\0")


def test_scale_offset_and_numbers_that_mean_nothing() -> None:
    form = Form("s16", "ABCD", None, 0.1, -40.0, (-32768, 32767))
    assert decode(form, b"\x02\x58") == pytest.approx(20.0)
    assert encode(form, 20.0) == b"\x02\x58"
    assert decode(form, b"\x80\x00") is None
    assert decode(form, b"\x7f\xff") is None
    assert decode(Form("f32"), struct.pack(">f", math.nan)) is None
    assert decode(Form("f32"), struct.pack(">f", math.inf)) is None
    assert fields.limits(form) == pytest.approx((-3316.8, 3236.7))


@pytest.mark.parametrize(
    ("form", "value"),
    [(Form("u16"), -1), (Form("u16"), 65_536), (Form("s16"), 40_000), (Form("f32"), 1e39), (Form("u8"), math.nan),
     (Form("u16", scale=0.1), 6553.6), (Form("u16"), "x"), (Form("bcd", size=2), 10_000)],
)  # fmt: skip
def test_what_does_not_fit_is_refused_not_wrapped(form: Form, value: float) -> None:
    with pytest.raises(FieldError):
        encode(form, value)


@given(st.binary(max_size=12), st.sampled_from(fields.TYPES), st.sampled_from(fields.ORDERS))
def test_no_bytes_raise_anything_else(data: bytes, type_: str, order: str) -> None:
    form = Form(type_, order, size=len(data) - len(data) % 2 if type_ in ("bcd", "string") else 0)
    try:
        decode(form, data)
    except FieldError:
        return
