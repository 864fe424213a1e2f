"""What an update is made of, for fuzz.py: envelopes, payloads, steps in a payload that unpacks, release.cbor."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

from protocols import delta as making
from protocols.wire import delta, es256, lms, manifest, release
from tests.wire.release_cases import DEVICE, KEY
from tests.wire.update_cases import NEW, OLD, update_cases

# Loaded when they are first needed: what that takes must not be put down to an input.
LOADED = (es256, lms)
_HEAD = making.make(OLD, NEW)[:10]


def envelope(data: bytes) -> None:
    found = manifest.match(data, DEVICE, [KEY])
    if found.sequence <= DEVICE.sequence or not found.size <= DEVICE.size_max:
        raise AssertionError(f"accepted {found}")


def payload(data: bytes) -> None:
    delta.apply(io.BytesIO(data), making.Memory(OLD), making.Memory())


def steps(data: bytes) -> None:
    size = len(data).to_bytes(2, "little")
    payload(_HEAD + b"\x01" + size + bytes(byte ^ 0xFF for byte in size) + data)


def release_file(data: bytes) -> None:
    release.decode(data)


def _corpus(check: str, field: str) -> list[bytes]:
    return [bytes.fromhex(case[field]) for case in update_cases() if case["check"] == check and case[field]]


def _steps() -> list[bytes]:
    return [zlib.decompress(making.make(OLD, new)[10:], -15) for new in (NEW, OLD, {}, {"a": b"1"})]


# Few envelopes: one whose signature alone is spoilt takes as long as a thousand of anything else.
TARGETS: list[tuple[str, list[bytes], Callable[[bytes], None], int]] = [
    ("update envelope", _corpus("manifest", "envelope"), envelope, 2),
    ("update payload", _corpus("delta", "payload"), payload, 5),
    ("update steps", _steps(), steps, 10),
    ("release file", _corpus("release", "hex"), release_file, 5),
]
