"""Updates that a node must refuse, each with the reason that it must give; made here, judged in refuse_world.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from protocols import delta as making
from protocols import suit
from protocols.wire import manifest, outcomes, release
from tests.firmware.install_cases import files
from tests.wire.release_cases import CLASS, KEY, VENDOR, public, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

RUNS, COMES = 6, 7
THIEF = ec.derive_private_key(7, ec.SECP256R1())
GONE = ec.derive_private_key(8, ec.SECP256R1())
# The key of an HSS/LMS tree, which nodes trust, too, and which signs nothing here.
DRAWER = b"\0\0\0\1" + b"\0\0\0\x0b" + b"\0\0\0\x08" + bytes(range(40))
Files = dict[str, bytes]


def signed_by(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    def signer(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return signer


def of(sequence: int) -> Files:
    """A bundle of install_cases.py, which also knows a revoked key."""
    keys = [(KEY.algorithm, public()), (suit.HSS_LMS, DRAWER)]
    revoked = [suit.key_id(public(GONE))]
    return files(sequence) | {
        release.FILE: release.encode(sequence, VENDOR.bytes, CLASS.bytes, keys, revoked)
    }


def said(payload: bytes, new: Mapping[str, bytes], sequence: int = COMES) -> suit.Contents:
    """What an honest manifest says."""
    data = making.pack(new)
    return suit.Contents(
        sequence,
        VENDOR,
        CLASS,
        len(data),
        hashlib.sha256(data).digest(),
        len(payload),
        hashlib.sha256(payload).digest(),
    )


def enveloped(
    contents: suit.Contents,
    algorithm: int = suit.ES256,
    kid: bytes = KEY.kid,
    signer: Callable[[bytes], bytes] = sign,
) -> bytes:
    return suit.envelope(suit.manifest(contents), algorithm, kid, signer)


def sent(envelope: bytes, payload: bytes) -> bytes:
    return len(envelope).to_bytes(2, "big") + envelope + payload


def honest(base: Files | None, new: Files, sequence: int = COMES) -> bytes:
    payload = making.make(base, new)
    return sent(enveloped(said(payload, new, sequence)), payload)


def swapped(data: bytes, size: int = 200) -> bytes:
    """Two fragments of the payload change places."""
    return data[: 2 * size] + data[3 * size : 4 * size] + data[2 * size : 3 * size] + data[4 * size :]


def cases() -> dict[str, tuple[bytes, str]]:
    """What came, and the name under which it is refused."""
    old, new = of(RUNS), of(COMES)
    payload = making.make(None, new)
    contents = said(payload, new)
    good = honest(None, new)
    head = len(good) - len(payload)
    signature = good.index(b"\x58\x40") + 2

    def with_said(**changed: Any) -> bytes:
        return sent(enveloped(replace(contents, **changed)), payload)

    def with_payload(other: bytes) -> bytes:
        changed = replace(contents, payload_size=len(other), payload_digest=hashlib.sha256(other).digest())
        return sent(enveloped(changed), other)

    outside = making.make(None, {"../state": b"\0" * 10} | {"a": b""})
    large = {f"firmware/{n}.mpy": bytes(65_000) for n in range(5)} | new
    return {
        "forged: the right key's name, another's signature": (
            sent(enveloped(contents, signer=signed_by(THIEF)), payload),
            "signature",
        ),
        "forged: a key that nobody trusts": (
            sent(enveloped(contents, kid=suit.key_id(public(THIEF)), signer=signed_by(THIEF)), payload),
            "unknown-key",
        ),
        "forged: a key that was revoked": (
            sent(enveloped(contents, kid=suit.key_id(public(GONE)), signer=signed_by(GONE)), payload),
            "revoked-key",
        ),
        "forged: the key of one algorithm under another": (
            sent(enveloped(contents, algorithm=suit.HSS_LMS), payload),
            "algorithm",
        ),
        "forged: no signature": (sent(enveloped(contents, signer=lambda _: b""), payload), "signature"),
        "forged: a signature of zeros": (
            sent(enveloped(contents, signer=lambda _: bytes(64)), payload),
            "signature",
        ),
        **of_the_drawer(contents, payload),
        "forged: the signature of another manifest": (
            good[:signature] + sign(b"of something else entirely") + good[signature + 64 :],
            "signature",
        ),
        "forged: another manifest under a good signature": (
            spliced(enveloped(contents), suit.manifest(replace(contents, sequence=9)), payload),
            "digest",
        ),
        "truncated: nothing at all": (b"\0", "cbor"),
        "truncated: within the envelope": (good[:150], "cbor"),
        "truncated: the envelope alone": (good[:head], "payload"),
        "truncated: a byte is missing": (good[:-1], "payload"),
        "re-ordered fragments": (swapped(good), "payload"),
        "re-ordered: the payload first": (good[head:] + good[:head], "cose"),
        "replayed: the release that runs": (honest(None, old, RUNS), "downgrade"),
        "downgraded": (honest(None, of(5), 5), "downgrade"),
        "another vendor's": (with_said(vendor=suit.vendor_id("elsewhere.example")), "vendor"),
        "another class": (with_said(class_id=suit.class_id(VENDOR, "cover", "virtual")), "class"),
        "wrong delta base": (honest(of(5), new), "base"),
        "oversize: the bundle": (with_said(size=manifest.MAX_SIZE + 1), "oversize"),
        "oversize: the payload": (with_said(payload_size=manifest.MAX_SIZE + 1), "oversize"),
        "oversize: the envelope": ((3000).to_bytes(2, "big") + good[2:].ljust(3200, b"\0"), "oversize"),
        "oversize: more than the slot has room for": (honest(None, large), "space"),
        "bit-flipped: payload": (flipped(good, len(good) - 40), "payload"),
        "bit-flipped: signature": (flipped(good, signature + 5), "signature"),
        "bit-flipped: sequence": (flipped(good, good.index(b"\xa5\x01\x01\x02") + 4, 8), "digest"),
        "bytes behind the payload": (good + b"\0", "payload"),
        "bytes behind the envelope": (
            sent(enveloped(contents) + b"\0", payload),
            "cbor",
        ),
        "another template: its commands": (flipped(good, good.index(b"\x15a#")), "command"),
        "another template: its components": (flipped(good, good.index(b"\x82\x81\x41a") + 3, 8), "component"),
        "another template: its parameters": (flipped(good, good.index(b"\x88\x0c\x00\x14")), "parameter"),
        "signed, and no payload": (with_payload(b"\x01\x0a" + bytes(8) + b"no deflate stream"), "payload"),
        "signed, a payload of the future": (with_payload(b"\x02" + payload[1:]), "payload"),
        "signed, it makes another bundle": (with_payload(making.make(None, of(8))), "image"),
        "signed, it leaves its folder": (with_payload(outside), "bundle"),
    }


def of_the_drawer(contents: suit.Contents, payload: bytes) -> dict[str, tuple[bytes, str]]:
    """In the name of a key that is trusted, and with bytes that are no signature of it."""
    made = {}
    for signature in (b"", bytes(3), bytes(4), b"\0\0\0\1", bytes(8), bytes(300)):
        envelope = enveloped(contents, suit.HSS_LMS, suit.key_id(DRAWER), lambda _: signature)  # noqa: B023
        name = f"forged: {len(signature)} bytes {signature[:4].hex()} as an HSS/LMS signature"
        made[name] = (sent(envelope, payload), "signature")
    return made


def spliced(envelope: bytes, other: bytes, payload: bytes) -> bytes:
    """The authentication of one manifest around another."""
    length = len(suit.manifest(said(payload, of(COMES))))
    return sent(envelope[:-length] + other, payload)


def flipped(data: bytes, at: int, bit: int = 1) -> bytes:
    return data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :]


def write(path: Path) -> None:
    """For either interpreter."""
    bundles = {number: making.pack(of(number)) for number in (RUNS, COMES)}
    numbers = {name: at for at, (name, _, _) in enumerate(outcomes.OUTCOMES)}
    made = {
        "first": {name: data.hex() for name, data in of(RUNS).items()},
        "digests": [[n, len(data), hashlib.sha256(data).hexdigest()] for n, data in bundles.items()],
        "good": [honest(None, of(COMES)).hex(), honest(of(RUNS), of(COMES)).hex()],
        "others": [honest(None, of(5), 5).hex(), honest(of(RUNS), of(8), 8).hex()],
        "cases": [[name, data.hex(), numbers[reason]] for name, (data, reason) in cases().items()],
    }
    path.write_text(json.dumps(made), encoding="utf-8")
