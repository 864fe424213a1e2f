"""BTHome v2: what a Bluetooth advert of service data fcd2 says, plain or sealed (AES-CCM). Pure: bytes in, numbers out.

    decode(bytes.fromhex("4002ca0903bf13")).objects  -> ((0x02, 0, 25.06), (0x03, 0, 50.55))

An advert is a byte of flags, then objects: an id and a number of as many bytes as the id says. An id that is not known
ends it, for nobody can say where the next one begins; what came before counts. A sealed advert carries a counter, by
which a recording is told (bthome_counters.py).

Sources: https://bthome.io/format and /encryption. Every row of KINDS (size, sign, factor) is the same in the format's
reference parser, the Python package bthome-ble 3.25 (its table MEAS_TYPES); 0x3B, 0x53 and 0x54 are read as it reads
them. protocols/vectors/host/bthome.json has an example of every row: the format's own up to 0x55 and from 0xF0 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway.profiles import BthomeProfile

UUID = "0000fcd2-0000-1000-8000-00805f9b34fb"
KEY_BYTES = 16
_UUID_ON_AIR = b"\xd2\xfc"
_ENCRYPTED = 0x01
_HAS_ADDRESS = 0x02
_TRIGGERED = 0x04
_VERSION = 2
_PACKET_ID = 0x00
_TAG_BYTES = 4
_COUNTER_BYTES = 4
_MAC_BYTES = 6
# Text and raw bytes: the next byte says how many. A command: its low five bits do, and an operation comes before them.
_COUNTED = (0x53, 0x54)
_COMMAND = 0x3B


class Kind(NamedTuple):
    """Bytes of a number, whether it has a sign, and what it is divided by."""

    size: int
    signed: bool = False
    divisor: float = 1


def _kinds() -> dict[int, Kind]:
    u8, u16, u24, u32 = Kind(1), Kind(2), Kind(3), Kind(4)
    s16_hundredths = Kind(2, True, 100)
    known = {
        0x00: u8, 0x01: u8, 0x02: s16_hundredths, 0x03: Kind(2, False, 100), 0x04: Kind(3, False, 100),
        0x05: Kind(3, False, 100), 0x06: Kind(2, False, 100), 0x07: Kind(2, False, 100), 0x08: s16_hundredths,
        0x09: u8, 0x0A: Kind(3, False, 1000), 0x0B: Kind(3, False, 100), 0x0C: Kind(2, False, 1000), 0x0D: u16,
        0x0E: u16, 0x12: u16, 0x13: u16, 0x14: Kind(2, False, 100), 0x2E: u8, 0x2F: u8, 0x3A: u8, 0x3C: u16,
        0x3D: u16, 0x3E: u32, 0x3F: Kind(2, True, 10), 0x40: u16, 0x41: Kind(2, False, 10),
        0x42: Kind(3, False, 1000), 0x43: Kind(2, False, 1000), 0x44: Kind(2, False, 100), 0x45: Kind(2, True, 10),
        0x46: Kind(1, False, 10), 0x47: Kind(2, False, 10), 0x48: u16, 0x49: Kind(2, False, 1000),
        0x4A: Kind(2, False, 10), 0x4B: Kind(3, False, 1000), 0x4C: Kind(4, False, 1000),
        0x4D: Kind(4, False, 1000), 0x4E: Kind(4, False, 1000), 0x4F: Kind(4, False, 1000), 0x50: u32,
        0x51: Kind(2, False, 1000), 0x52: Kind(2, False, 1000), 0x55: Kind(4, False, 1000), 0x56: u16,
        0x57: Kind(1, True), 0x58: Kind(1, True, 1 / 0.35), 0x59: Kind(1, True), 0x5A: Kind(2, True),
        0x5B: Kind(4, True), 0x5C: Kind(4, True, 100), 0x5D: Kind(2, True, 1000), 0x5E: Kind(2, False, 100),
        0x5F: Kind(2, False, 10), 0x60: u8, 0x61: u16, 0x62: Kind(4, True, 1_000_000),
        0x63: Kind(4, True, 1_000_000), 0x64: u8, 0x65: u8, 0xF0: u16, 0xF1: u32, 0xF2: u24,
    }  # fmt: skip
    # On or off: 0x0F to 0x11, and 0x15 to 0x2D.
    known.update(dict.fromkeys((*range(0x0F, 0x12), *range(0x15, 0x2E)), u8))
    return known


KINDS = _kinds()


class BthomeError(Exception):
    """An advert that says nothing to us; `reason` is its counter: version, key, plain, auth, short."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Advert(NamedTuple):
    """``objects``: (id, which one of that id, value). ``packet_id`` and ``counter`` tell a repeated advert from a new
    one. ``is_cut``: an id came that is not known, or a number that ends early."""

    objects: tuple[tuple[int, int, float], ...]
    packet_id: int | None
    counter: int | None
    is_triggered: bool
    is_cut: bool


def decode(data: bytes, *, key: bytes | None = None, address: str = "") -> Advert:
    """What the service data of one advert says. With a key, nothing plain is believed. Raises BthomeError only."""
    if not data:
        raise BthomeError("short", "an advert without a byte of flags")
    flags = data[0]
    if flags >> 5 != _VERSION:
        raise BthomeError("version", f"BTHome version {flags >> 5}; this is version {_VERSION}")
    counter = None
    payload = data[1:]
    if flags & _HAS_ADDRESS:
        address, payload = own_address(data), payload[_MAC_BYTES:]
    if flags & _ENCRYPTED:
        if key is None:
            raise BthomeError("key", "the advert is encrypted, and the device has no key_file")
        counter, payload = _open(flags, payload, key, address)
    elif key is not None:
        raise BthomeError("plain", "the device has a key_file, and the advert is not encrypted")
    seen: dict[int, int] = {}
    objects = []
    is_cut = False
    packet_id = None
    for number, value in _objects(payload):
        if value is None:
            is_cut = True
        elif number == _PACKET_ID:
            packet_id = int(value)
        else:
            index = seen.get(number, 0)
            seen[number] = index + 1
            objects.append((number, index, value))
    return Advert(tuple(objects), packet_id, counter, bool(flags & _TRIGGERED), is_cut)


def own_address(data: bytes) -> str:
    """The address that an advert carries, "" when it has none. Drafts of the format and some devices have it, least
    significant byte first, so that an advert is known from a sender who changes his address."""
    if len(data) <= _MAC_BYTES or data[0] >> 5 != _VERSION or not data[0] & _HAS_ADDRESS:
        return ""
    return ":".join(f"{byte:02X}" for byte in data[_MAC_BYTES:0:-1])


def _open(flags: int, sealed: bytes, key: bytes, address: str) -> tuple[int, bytes]:
    """(counter, plain objects)."""
    mac = bytes.fromhex(address.replace(":", ""))
    if len(mac) != _MAC_BYTES or len(key) != KEY_BYTES:
        raise BthomeError("key", "a key has 16 bytes, and goes with an address")
    tail = _COUNTER_BYTES + _TAG_BYTES
    if len(sealed) < tail:
        raise BthomeError("short", f"{len(sealed)} bytes are too few for a counter and a tag")
    cipher, counter, tag = sealed[:-tail], sealed[-tail:-_TAG_BYTES], sealed[-_TAG_BYTES:]
    nonce = mac + _UUID_ON_AIR + bytes([flags]) + counter
    try:
        plain = AESCCM(key, tag_length=_TAG_BYTES).decrypt(nonce, cipher + tag, None)
    except InvalidTag:
        raise BthomeError("auth", "sealed with another key, or altered") from None
    return int.from_bytes(counter, "little"), plain


def _objects(payload: bytes) -> Iterator[tuple[int, float | None]]:
    """(id, value); value None ends it: the rest cannot be read. Text and raw bytes are passed over."""
    at = 0
    while at < len(payload):
        number = payload[at]
        at += 1
        if number in _COUNTED or number == _COMMAND:
            count = payload[at] if at < len(payload) else 0
            at += 2 + (count & 0x1F) if number == _COMMAND else 1 + count
            if at > len(payload):
                yield number, None
                return
            continue
        kind = KINDS.get(number)
        if kind is None or at + kind.size > len(payload):
            yield number, None
            return
        raw = int.from_bytes(payload[at : at + kind.size], "little", signed=kind.signed)
        at += kind.size
        yield number, raw / kind.divisor


def values(profile: BthomeProfile, advert: Advert) -> dict[str, float]:
    """The points of a profile that the advert has, by key, in the measurand's unit."""
    sent = {(number, index): value for number, index, value in advert.objects}
    found = {}
    for point in profile.point:
        value = sent.get((point.object, point.index))
        if value is not None and int(value) not in point.invalid:
            found[point.key] = value * point.scale + point.offset
    return found
