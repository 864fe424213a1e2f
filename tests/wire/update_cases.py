"""Golden cases of updates: envelopes, payloads, and what a bundle says of itself (OTA.md)."""

from __future__ import annotations

import uuid
import zlib
from typing import Any

import cbor2

from protocols import delta as making
from protocols import suit
from protocols.wire import bundle, release
from tests.wire.release_cases import CLASS, DEVICE, KEY, VENDOR, contents, envelope, sign

OLD = {
    "firmware/node.mpy": bytes(range(200)),
    "firmware/uplink.mpy": b"as it was" * 20,
    "main.py": b"import gc\n",
    "old.mpy": b"goes away",
}
NEW = {
    "boards/new.mpy": b"a board that was not there" * 4,
    "firmware/node.mpy": bytes(range(100)) + b"a line more" + bytes((n + 1) & 0xFF for n in range(100, 200)),
    "firmware/uplink.mpy": OLD["firmware/uplink.mpy"],
    "main.py": OLD["main.py"],
}
# From OLD to NEW as zlib made it: other deflaters write other bytes.
PACKED = bytes.fromhex(
    "010aefdb417469bb943fb34aca4f2c4a29d6cf4b2dd7cb2da8cc4854000b2894642496289427162be4e5970039a945a9"
    "d49539cf3681592f512127332f552137bf2895bb8799ed04072b0300"
)


def _keys(is_revoked: bool = False) -> list[Any]:
    return [[KEY.kid.hex(), KEY.algorithm, "" if is_revoked else KEY.key.hex(), is_revoked]]


def manifest_cases() -> list[dict[str, Any]]:
    good = envelope(contents())
    said = cbor2.loads(suit.manifest(contents()))
    whole = cbor2.loads(good)

    def resigned(changes: dict[int, Any]) -> bytes:
        return suit.envelope(cbor2.dumps({**said, **changes}, canonical=True), suit.ES256, KEY.kid, sign)

    def flipped(at: int) -> bytes:
        return good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]

    stated = [7, 65_000, bytes(range(32)).hex(), 900, bytes(range(32, 64)).hex(), KEY.kid.hex()]
    unsigned = cbor2.dumps(
        cbor2.CBORTag(107, {2: cbor2.dumps([cbor2.loads(whole.value[2])[0]]), 3: whole.value[3]})
    )
    at_signature = good.index(cbor2.loads(cbor2.loads(whole.value[2])[1]).value[3])
    found: list[tuple[str, bytes, list[Any], Any]] = [
        ("a release that is newer", good, _keys(), stated),
        ("the same release again", envelope(contents(sequence=6)), _keys(), "downgrade"),
        ("an older release", envelope(contents(sequence=2)), _keys(), "downgrade"),
        ("another vendor's", envelope(contents(vendor=uuid.UUID(int=1))), _keys(), "vendor"),
        ("another class", envelope(contents(class_id=uuid.UUID(int=1))), _keys(), "class"),
        ("a bundle that is too large", envelope(contents(size=100_001)), _keys(), "oversize"),
        ("a payload that is too large", envelope(contents(payload_size=30_001)), _keys(), "oversize"),
        ("no keys", good, [], "unknown-key"),
        ("a key that is revoked", good, _keys(True), "revoked-key"),
        ("one bit of the signature", flipped(at_signature + 20), _keys(), "signature"),
        ("one bit of the bundle's digest", flipped(good.index(bytes(range(32)))), _keys(), "digest"),
        ("no signature", unsigned, _keys(), "cose"),
        ("cut short", good[:-1], _keys(), "cbor"),
        ("something behind it", good + b"\x00", _keys(), "cbor"),
        ("nothing", b"", _keys(), "cbor"),
        ("signed, but it validates otherwise", resigned({7: cbor2.dumps([3, 15])}), _keys(), "command"),
        ("signed, but with a command more", resigned({9: cbor2.dumps([23, 2])}), _keys(), "cbor"),
        ("signed, but of manifest version 2", resigned({1: 2}), _keys(), "cbor"),
    ]
    return [
        {
            "name": name,
            "check": "manifest",
            "envelope": data.hex(),
            "device": [DEVICE.vendor.hex(), DEVICE.class_id.hex(), *DEVICE[2:]],
            "keys": keys,
            ("reason" if isinstance(result, str) else "manifest"): result,
        }
        for name, data, keys, result in found
    ]


def _stored(payload: bytes) -> bytes:
    """The same payload, its stream not compressed: one form whoever deflates."""
    steps = zlib.decompressobj(-15).decompress(payload[10:])
    return (
        payload[:10]
        + b"\x01"
        + len(steps).to_bytes(2, "little")
        + (len(steps) ^ 0xFFFF).to_bytes(2, "little")
        + steps
    )


def delta_cases() -> list[dict[str, Any]]:
    head = PACKED[:10]

    def steps(data: bytes) -> bytes:
        return (
            head
            + b"\x01"
            + len(data).to_bytes(2, "little")
            + (len(data) ^ 0xFFFF).to_bytes(2, "little")
            + data
        )

    good: list[tuple[str, bytes, dict[str, bytes], dict[str, bytes]]] = [
        ("a delta, not compressed", _stored(making.make(OLD, NEW)), OLD, NEW),
        ("a delta", PACKED, OLD, NEW),
        ("a whole bundle, not compressed", _stored(making.make(None, NEW)), {}, NEW),
        ("nothing changed", _stored(making.make(OLD, OLD)), OLD, OLD),
    ]
    bad: list[tuple[str, bytes]] = [
        ("payload of version 2", b"\x02" + PACKED[1:]),
        ("a window that is too large", b"\x01\x0b" + PACKED[2:]),
        ("cut short", PACKED[:-4]),
        ("no deflate stream", head + b"\xff" * 8),
        ("more files than the base has", steps(bytes((5 << 2 | 0, 0)))),
        ("files of the base left over", steps(bytes((1 << 2 | 0, 0)))),
        ("copies beyond the end", steps(b"\xa3\x06" + b"\xa4\x06" + b"\x00")),
        ("more bytes than the file has room for", steps(b"\x23" + b"\x26" + bytes(9))),
        ("seeks before the beginning", steps(b"\x23" + b"\x07")),
        ("a number of five bytes", steps(b"\x80\x80\x80\x80\x01")),
    ]
    paths = [
        ("a path that leaves its folder", "../x"),
        ("a path from the root", "/x"),
        ("a path with a space", "a b"),
        ("an empty part", "a//b"),
    ]
    cases: list[dict[str, Any]] = []
    for name, payload, base, new in good:
        size, digest = bundle.digest(making.Memory(new))
        cases.append(
            {
                "name": name, "check": "delta", "payload": payload.hex(), "base": _hex(base), "files": _hex(new),
                "size": size, "sha256": digest.hex(), "for": payload[2:10].hex(),
            }
        )  # fmt: skip
    for name, payload in bad:
        cases.append(
            {"name": name, "check": "delta", "payload": payload.hex(), "base": _hex(OLD), "reason": "payload"}
        )
    for name, path in paths:
        payload = steps(bytes((len(path) << 2 | 2,)) + path.encode() + b"\x01x\x10\x00")
        cases.append(
            {"name": name, "check": "delta", "payload": payload.hex(), "base": _hex(OLD), "reason": "bundle"}
        )
    return cases


def _hex(files: dict[str, bytes]) -> dict[str, str]:
    return {path: data.hex() for path, data in files.items()}


def release_cases() -> list[dict[str, Any]]:
    data = release.encode(7, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, KEY.key)], [bytes(range(8))])
    keys = [[bytes(range(8)).hex(), 0, "", True], *_keys()]
    good = [7, VENDOR.bytes.hex(), CLASS.bytes.hex(), keys]
    said = cbor2.loads(data)
    return [
        {"name": "what a bundle says of itself", "check": "release", "hex": data.hex(), "release": good},
        *(
            {
                "name": name,
                "check": "release",
                "hex": cbor2.dumps([*said[:at], value, *said[at + 1 :]]).hex(),
                "reason": "bundle",
            }
            for name, at, value in (
                ("of version 2", 0, 2),
                ("sequence 0", 1, 0),
                ("a vendor of 15 bytes", 2, bytes(15)),
                ("no key", 4, []),
                ("a key of another algorithm", 4, [[-8, KEY.key]]),
                ("a key id of 7 bytes", 5, [bytes(7)]),
            )
        ),
        {"name": "no array", "check": "release", "hex": "01", "reason": "bundle"},
        {"name": "empty", "check": "release", "hex": "", "reason": "bundle"},
    ]


def update_cases() -> list[dict[str, Any]]:
    return [*manifest_cases(), *delta_cases(), *release_cases()]
