"""Numbers as devices keep them, in registers or bytes, to values and back. No I/O, and nothing of any one device.

    form = Form("f32", "DCBA")
    decode(form, registers_to_bytes((0x0000, 0xB441)))  -> 22.5
    encode(form, 22.5)                                   -> bytes 00 00 b4 41

`order` names the bytes as integrators do: ABCD most significant first, CDAB words swapped, BADC the bytes of each word
swapped, DCBA least significant first; a 64-bit number follows the same rule over four words, and a single word knows
only AB (ABCD, CDAB) and BA (BADC, DCBA). Registers travel most significant byte first (Modbus), so ABCD needs no
reordering there; Bluetooth characteristics are DCBA.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
# Bytes of each number type. bcd and string have the length that the form says.
SIZES = {
    "u8": 1, "s8": 1, "u16": 2, "s16": 2, "u24": 3, "s24": 3, "u32": 4, "s32": 4, "u64": 8, "s64": 8, "f32": 4,
    "f64": 8,
}  # fmt: skip
TYPES = (*SIZES, "bcd", "string")

Value = int | float | str


class FieldError(ValueError):
    """Bytes that no value has, or a value that no bytes can hold; the message says which and what would fit."""


class Form(NamedTuple):
    """How one number is kept. value = raw * scale + offset; `bits`: (lowest, width) of a field within the number;
    `invalid`: raw numbers by which the device says that it has no value. `size`: bytes of a bcd or string."""

    type: str
    order: str = "ABCD"
    bits: tuple[int, int] | None = None
    scale: float = 1.0
    offset: float = 0.0
    invalid: tuple[int, ...] = ()
    size: int = 0

    @property
    def length(self) -> int:
        """Bytes it takes."""
        return self.size or SIZES.get(self.type, 0)


def registers_to_bytes(registers: Sequence[int]) -> bytes:
    """As they travel: each most significant byte first."""
    return struct.pack(f">{len(registers)}H", *registers)


def bytes_to_registers(data: bytes) -> tuple[int, ...]:
    """The registers of an even number of bytes."""
    return struct.unpack(f">{len(data) // 2}H", data)


def decode(form: Form, data: bytes) -> Value | None:
    """The value in `data`; None where the device says that it has none (NaN and infinity say so, too)."""
    if len(data) != form.length:
        raise FieldError(f"{form.type} takes {form.length} bytes, and there are {len(data)}")
    data = _reordered(data, form.order)
    if form.type == "string":
        return data.split(b"\0", 1)[0].decode("ascii", "replace").strip()
    if form.type[0] == "f":
        (number,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
        return number * form.scale + form.offset if math.isfinite(number) else None
    raw = _raw(form, data)
    if raw in form.invalid:
        return None
    if form.scale == 1 and form.offset == 0:
        return raw
    return raw * form.scale + form.offset


def encode(form: Form, value: Value, into: bytes | None = None) -> bytes:
    """The bytes for a value, rounded to the nearest raw number. A bit field needs the bytes it stands in (`into`)."""
    if form.type == "string":
        text = str(value).encode("ascii", "replace")
        if len(text) > form.length:
            raise FieldError(f"{value!r:.40} has {len(text)} bytes, and there is room for {form.length}")
        return _reordered(text.ljust(form.length, b"\0"), form.order)
    if isinstance(value, str):
        raise FieldError(f"{value!r:.40} is a text, and {form.type} is a number")
    if form.type[0] == "f":
        try:
            packed = struct.pack(">f" if form.length == 4 else ">d", (value - form.offset) / form.scale)
        except OverflowError:
            raise FieldError(f"{value} is beyond what {form.type} can hold") from None
        return _reordered(packed, form.order)
    raw = _raw_of(form, value)
    if form.bits is not None:
        if into is None or len(into) != form.length:
            raise FieldError("a bit field is written into the number that it stands in, which is not given")
        low, width = form.bits
        whole = int.from_bytes(_reordered(into, form.order), "big")
        mask = (1 << width) - 1 << low
        return _reordered(((whole & ~mask) | raw << low).to_bytes(form.length, "big"), form.order)
    if form.type == "bcd":
        return _reordered(bytes.fromhex(f"{raw:0{form.length * 2}d}"), form.order)
    return _reordered(raw.to_bytes(form.length, "big", signed=form.type[0] == "s"), form.order)


def limits(form: Form) -> tuple[float, float]:
    """The lowest and the highest value that such a number can hold."""
    if form.type in ("f32", "f64", "string"):
        return -math.inf, math.inf
    ends = sorted(raw * form.scale + form.offset for raw in raw_limits(form))
    return ends[0], ends[1]


def raw_limits(form: Form) -> tuple[int, int]:
    """The lowest and the highest raw number of a form that is neither a float nor a text."""
    if form.bits is not None:
        return 0, (1 << form.bits[1]) - 1
    if form.type == "bcd":
        return 0, 10 ** (form.length * 2) - 1
    width = form.length * 8
    return (-(1 << width - 1), (1 << width - 1) - 1) if form.type[0] == "s" else (0, (1 << width) - 1)


def _raw(form: Form, data: bytes) -> int:
    if form.type == "bcd":
        digits = data.hex()
        if not digits.isdecimal():
            raise FieldError(f"{digits} is no BCD number")
        return int(digits)
    if form.bits is None:
        return int.from_bytes(data, "big", signed=form.type[0] == "s")
    low, width = form.bits
    return int.from_bytes(data, "big") >> low & (1 << width) - 1


def _raw_of(form: Form, value: float) -> int:
    if not math.isfinite(value):
        raise FieldError(f"{value} cannot be written as {form.type}")
    plain = isinstance(value, int) and form.scale == 1 and form.offset == 0
    raw = int(value) if plain else math.floor((value - form.offset) / form.scale + 0.5)
    low, high = raw_limits(form)
    if not low <= raw <= high:
        allowed = limits(form)
        raise FieldError(f"{value} does not fit {form.type}: {allowed[0]:g} to {allowed[1]:g} would")
    return raw


def _reordered(data: bytes, order: str) -> bytes:
    """Between the order of the device and most significant first: each order undoes itself."""
    if order == "ABCD" or len(data) == 1:
        return data
    if order == "DCBA":
        return data[::-1]
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order == "CDAB":
        return b"".join(reversed(words))
    return b"".join(word[::-1] for word in words)
