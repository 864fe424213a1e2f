"""What the gateway reads of others' devices and platforms, for the fuzzer: adverts, answers, profiles, frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway import profile_library
from gateway.errors import ConfigError
from gateway.pollers import bthome
from gateway.pollers.modbus_gate import Gate, crc16
from gateway.pollers.modbus_types import Request
from protocols import fields
from protocols.northbound import hj212, sl651, sl651_body

_KEY, _ADDRESS = bytes(range(16)), "54:48:E6:8F:80:A5"
_FORMS = [
    fields.Form(type_, order, size=size)
    for type_, size in (("u16", 0), ("s32", 0), ("f32", 0), ("f64", 0), ("u64", 0), ("bcd", 4), ("string", 6))
    for order in ("ABCD", "CDAB", "BADC", "DCBA")
]
_TAG = profile_library.Library().get("ruuvitag")
_WRITTEN = [
    fields.Form("u8", "DCBA", bits=(3, 3)),
    fields.Form("s16", "DCBA"),
    fields.Form("u32", "CDAB", bits=(17, 4)),
    fields.Form("f32", "BADC"),
]
_READ = Request(17, 3, 0x6B, 3)
_PROFILE = b"""title = "t"
vendor = "v"
model = "m"
sources = ["s"]
checked = "c"
[modbus]
period_s = 1
[[modbus.point]]
measurand = "level"
unit = "cm"
function = "holding"
address = 5
type = "u16"
bits = [4, 3]
writable = { min = 0, max = 7 }
range = [0, 1000]
"""

_GATT = b"""title = "t"
vendor = "v"
model = "m"
sources = ["s"]
checked = "c"
[gatt]
service = "181a"
stay_connected = true
[[gatt.point]]
measurand = "level"
unit = "cm"
characteristic = "2a6e"
mode = "notify"
at = 1
type = "s16"
scale = 0.01
writable = { min = -5, max = 7.5 }
"""
_ADVERT = b"""title = "t"
vendor = "v"
model = "m"
sources = ["s"]
checked = "c"
[advert]
company = 1177
prefix = "05"
length = 12
address_at = 6
sequence = { at = 4, type = "u16", order = "ABCD" }
[[advert.point]]
measurand = "battery"
unit = "%"
type = "u8"
at = 1
bits = [0, 7]
invalid = [127]
"""


def adverts() -> list[bytes]:
    return [
        bytes.fromhex(text)
        for text in (
            "4002ca0903bf13",
            "40002e01641e012e34451601",
            "44530548656c6c6f3b42a1b2c3",
            "42b2188d38c1a404138a01",
        )
    ]


def advert(data: bytes) -> None:
    """As it was heard; and sealed by somebody who has the key, so that the inside is reached."""
    own = bthome.own_address(data)
    if own and (len(own) != len(_ADDRESS) or not data[0] & 2):
        raise AssertionError(f"an address from nowhere: {own}")
    try:
        bthome.decode(data, key=_KEY if len(data) % 2 else None, address=_ADDRESS)
    finally:
        counter, nonce = data[:4].ljust(4, b"\0"), bytes.fromhex(_ADDRESS.replace(":", "")) + b"\xd2\xfc\x41"
        sealed = AESCCM(_KEY, tag_length=4).encrypt(nonce + counter, data, None)
        said = bthome.decode(b"\x41" + sealed[:-4] + counter + sealed[-4:], key=_KEY, address=_ADDRESS)
        if len(said.objects) > len(data):
            raise AssertionError("more objects than bytes")


def field(data: bytes) -> None:
    form = _FORMS[len(data) % len(_FORMS)]
    fields.decode(form, data[: form.length])


def layout(data: bytes) -> None:
    """An advert of a maker's own layout, as short or long as it comes."""
    points = _TAG.advert.point if _TAG.advert is not None and _TAG.advert.matches(data) else ()
    for point in points:
        point.value(data)
    if _TAG.advert is None or _TAG.advert.sequence is None:
        raise AssertionError("the tag has a sequence")
    _TAG.advert.sequence.value(data)


def written(data: bytes) -> None:
    """What a characteristic holds, with a value written into it: no byte of the rest changes, and it reads back."""
    form = _WRITTEN[data[0] % len(_WRITTEN)] if data else _WRITTEN[0]
    old = data[1 : 1 + form.length]
    if len(old) < form.length:
        raise fields.FieldError("short")
    value = data[-1] % 8
    new = fields.encode(form, value, old)
    if fields.decode(form, new) != value or len(new) != len(old):
        raise AssertionError(f"{old.hex()} became {new.hex()}")


def answers() -> list[bytes]:
    frames = [bytes.fromhex("110306ae415652434049ad"), bytes.fromhex("1183025134")]
    return [*frames, b"\x00\xff" + frames[0], frames[0][:5] + frames[0], frames[1] + frames[0]]


class Ear:
    """The gate of one line. What it hands on is an intact answer to what was asked, or nothing."""

    def __init__(self, is_numbered: bool) -> None:
        self._gate = Gate(is_numbered=is_numbered)
        self._is_numbered = is_numbered

    def __call__(self, data: bytes) -> None:
        gate = self._gate
        gate.expect(_READ)
        pdu = bytes.fromhex("03006b0003")
        head = bytes.fromhex("000700000006") if self._is_numbered else b""
        body = bytes([_READ.unit]) + pdu
        gate.sent(head + body + (b"" if self._is_numbered else crc16(body).to_bytes(2, "little")))
        found = gate.answer(data)
        if not found:
            return
        inside = found[6:] if self._is_numbered else found[:-2]
        if not self._is_numbered and crc16(inside) != int.from_bytes(found[-2:], "little"):
            raise AssertionError("a broken frame was handed on")
        if inside[0] != _READ.unit or inside[1] not in (3, 0x83) or len(inside) not in (3, 9):
            raise AssertionError(f"not an answer: {found.hex()}")


def numbered() -> list[bytes]:
    good = bytes.fromhex("000700000009110306ae4156524340")
    return [
        good,
        good[:7] + good,
        bytes.fromhex("00060000") + good[4:] + good,
        bytes.fromhex("000700000003118302"),
    ]


def profile(data: bytes) -> None:
    try:
        profile_library.parse(data, "p.toml")
    except ConfigError as error:
        if not error.problems or not all(problem.startswith("p.toml:") for problem in error.problems):
            raise AssertionError(f"a problem without a place: {error}") from None
        raise


def hj212_frames() -> list[bytes]:
    found = json.loads(
        (Path(hj212.__file__).parents[1] / "vectors" / "northbound" / "hj212.json").read_text()
    )
    return [case["frame"].encode() + b"\r\n" for case in found["exact"] + found["field"]]


class Platform:
    """A stream that lives through all inputs: it must not grow, and hears the next frame after a pause."""

    def __init__(self) -> None:
        self._splitter, self._joiner = hj212.Splitter(), hj212.Joiner(4)
        self._good = hj212_frames()[0]

    def __call__(self, data: bytes) -> None:
        error: hj212.Hj212Error | None = None
        for found in self._splitter.feed(data):
            try:
                if isinstance(found, hj212.Hj212Error):
                    raise found
                whole = self._joiner.take(found)
                hj212.items_of(found.area if whole is None else whole.area)
                hj212.encode(hj212.data_ack(found))
            except hj212.Hj212Error as caught:
                error = caught
        last = self._splitter.feed(b"x" * hj212.FRAME_MAX + self._good)[-1:]
        if last != [hj212.decode(self._good)]:
            raise AssertionError("the next frame was not heard")
        if error is not None:
            raise error


def sl651_frames() -> list[bytes]:
    found = json.loads(
        (Path(sl651.__file__).parents[1] / "vectors" / "northbound" / "sl651.json").read_text()
    )
    return [bytes.fromhex(case["frame"]) for case in found["exact"]]


class Centre:
    """As Platform, for SL 651; the check sum is made good for half of the inputs, so that bodies are reached."""

    def __init__(self) -> None:
        self._splitter = sl651.Splitter()
        self._good = sl651_frames()[0]

    def __call__(self, data: bytes) -> None:
        self._splitter.feed(data)
        if self._splitter.feed(bytes(sl651.FRAME_MAX) + self._good)[-1:] != [sl651.decode(self._good)]:
            raise AssertionError("the next frame was not heard")
        if len(data) > sl651.FRAME_MIN and data[-1] % 2:
            data = (
                data[:11]
                + (data[11] << 8 & 0x8000 | (len(data) - sl651.FRAME_MIN) & 0xFFF).to_bytes(2, "big")
                + data[13:-2]
            )
            data += sl651.crc16(data).to_bytes(2, "big")
        frame = sl651.decode(data)
        if sl651.encode(frame) != data or sl651_body.encode(sl651_body.decode(frame)) != frame.body:
            raise AssertionError("what was read is not written again")


# name, corpus, what it is fed to, share of the inputs (a profile takes milliseconds)
TARGETS: list[tuple[str, list[bytes], Callable[[bytes], None], int]] = [
    ("bthome", adverts(), advert, 10),
    ("device field", [bytes(range(8)), b"\x7f\xc0\0\0", b"\x12\x34\xab\xcd"], field, 5),
    ("advert layout", [bytes.fromhex("0512fc5394c37c0004fffc040cac364200cdcbb8334c884f")], layout, 5),
    ("characteristic", [bytes(range(9)), b"\1\xff\x7f\3", b"\2\x12\x34\xab\xcd\5"], written, 5),
    ("modbus rtu", answers(), Ear(is_numbered=False), 10),
    ("modbus tcp", numbered(), Ear(is_numbered=True), 10),
    ("device profile", [_PROFILE, _GATT, _ADVERT], profile, 1),
    ("hj212", hj212_frames(), Platform(), 10),
    ("sl651", sl651_frames(), Centre(), 10),
]
ERRORS = (bthome.BthomeError, fields.FieldError, ConfigError, hj212.Hj212Error, sl651.Sl651Error)
