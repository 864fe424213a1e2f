"""What bytes may be: every reading that holds, the surest first, each with its reason."""

from __future__ import annotations

import json
from binascii import crc32
from typing import NamedTuple

from protocols.inspection import air, frames, messages, updates
from protocols.inspection.frames import KeyRing
from protocols.wire import fragments, identity
from protocols.wire.errors import WireError
from protocols.wire.limits import MAX_CHANNEL, MAX_PACKET

_LITTLEFS = b"littlefs"
_SUIT = b"\xd8\x6b"  # CBOR tag 107
_ESP_IMAGE = 0xE9
_ESP_IMAGE_BYTES_MIN = 4096


class Guess(NamedTuple):
    """``command``: the one of `tidegate inspect` that tells more."""

    command: str
    reason: str


def guesses(data: bytes) -> list[Guess]:
    """What the bytes may be; empty when they are nothing that is known here."""
    found = [
        *_files(data),
        *_regulators(data),
        *_lines(data),
        *_messages(data),
        *_datagrams(data),
        *_packets(data),
    ]
    return list({guess.command: guess for guess in reversed(found)}.values())[::-1]


def _files(data: bytes) -> list[Guess]:
    if data[8:16] == _LITTLEFS or data[4096 + 8 : 4096 + 16] == _LITTLEFS:
        return [
            Guess(
                "image", "it has littlefs' name in its first or second block: an `app` or `state` partition"
            )
        ]
    if data[:2] == b"\xaa\x50":
        return [Guess("image", "begins with AA 50: a partition table")]
    if data[:1] == bytes((_ESP_IMAGE,)) and len(data) >= _ESP_IMAGE_BYTES_MIN:
        return [Guess("image", "begins with E9 and is long: a program image of an ESP32")]
    if data.startswith(_SUIT):
        return [Guess("manifest", "begins with CBOR's tag 107: the SUIT envelope of an update")]
    what = updates.name_of(data)
    if what:
        return [Guess("update", what)]
    body = data[:-4]
    if 30 < len(data) < 512 and crc32(body) == int.from_bytes(data[-4:], "little"):
        try:
            identity.decode(data)
        except WireError:
            return []
        return [Guess("image", "an identity file: it holds a key, and is only shown in its image")]
    return []


def _regulators(data: bytes) -> list[Guess]:
    if data.startswith(b"##"):
        return [Guess("hj212", "begins with ##")]
    if data.startswith(b"\x7e\x7e"):
        return [Guess("sl651", "begins with 7E7E")]
    return []


def _lines(data: bytes) -> list[Guess]:
    if b"\x00" in data:
        for run in data.split(b"\x00")[:100]:
            if len(run) > 2 and 1 <= run[1] <= MAX_CHANNEL and _whole(run):
                return [
                    Guess(
                        "frame",
                        "between two zero bytes stands COBS with a channel and a CRC-32 that is right",
                    )
                ]
        if data[:1] == b"\x00" and data[-1:] == b"\x00" and len(data) > 6 and 1 <= data[2] <= MAX_CHANNEL:
            return [
                Guess(
                    "frame", "zero bytes at both ends and a channel behind the first: a serial frame, damaged"
                )
            ]
        return []
    if len(data) > 6 and 1 <= data[1] <= MAX_CHANNEL and _whole(data):
        return [Guess("frame", "COBS with a channel and a CRC-32 that is right, without its zero bytes")]
    return []


def _whole(run: bytes) -> bool:
    raw = frames.unstuffed(run)
    return raw is not None and len(raw) > 4 and crc32(raw[:-4]).to_bytes(4, "little") == raw[-4:]


def _messages(data: bytes) -> list[Guess]:
    told = messages.tell(data)
    if told.lines and told.lines[0].field == "kind":
        return [Guess("message", f"a plain message: {told.lines[0].value}")]
    return []


def _datagrams(data: bytes) -> list[Guess]:
    if len(data) >= 12 and data[0] in (1, 2) and data[3] < len(air.KINDS) and data[12:13] in (b"{", b""):
        return [
            Guess("semtech", f"version {data[0]}, kind {data[3]}: {air.KINDS[data[3]]} of a packet forwarder")
        ]
    if len(data) > 4 and data[0] in (1, 2) and data[3] == 3 and data[4:5] == b"{":
        return [Guess("semtech", "a PULL_RESP: a packet that a forwarder shall send")]
    if data.lstrip()[:1] == b"{":
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return []
        if isinstance(value, dict) and {"rxpk", "txpk", "stat", "txpk_ack"} & value.keys():
            return [Guess("semtech", "the JSON of a packet forwarder")]
    return []


def _packets(data: bytes) -> list[Guess]:
    if not fragments.HEAD < len(data) <= 512:
        return []
    if data[0] & fragments.KIND == fragments.FRAGMENT and len(data) <= MAX_PACKET:
        return [Guess("lora", "its top bits are 111: a fragment on the air")]
    if not data[0] & 0x08 or not 1 <= data[0] & 7 <= 5:
        return []
    if data[0] & fragments.KIND == fragments.WANTS_ANSWER and frames.is_frame(
        bytes((data[0] & 0x1F,)) + data[1:]
    ):
        return [Guess("lora", "a frame with the bit set that wants an answer on the air")]
    if frames.is_frame(data):
        told = frames.tell_frame(data, KeyRing({}))
        return [Guess("frame", f"a sealed frame: flag {data[0]:02x}, {told.lines[0].meaning}")]
    return []
