"""A release small enough to read, and a key to sign it with, for the tests of manifests and deltas."""

from __future__ import annotations

import base64
import io
import json
import uuid
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from protocols import delta as making
from protocols import suit
from protocols.wire import delta, manifest
from tests.wire import interpreters

VENDOR = suit.vendor_id("tidegate.example")
CLASS = suit.class_id(VENDOR, "river", "virtual")
# RFC 6979 appendix A.2.5: a key that is public anyway.
PRIVATE = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
SIGNER = ec.derive_private_key(PRIVATE, ec.SECP256R1())


def public(signer: ec.EllipticCurvePrivateKey = SIGNER) -> bytes:
    numbers = signer.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def sign(message: bytes) -> bytes:
    r, s = decode_dss_signature(SIGNER.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


KEY = manifest.Key(suit.key_id(public()), manifest.ES256, public(), False)
DEVICE = manifest.Device(VENDOR.bytes, CLASS.bytes, 6, 100_000, 30_000)


def contents(
    sequence: int = 7,
    vendor: uuid.UUID = VENDOR,
    class_id: uuid.UUID = CLASS,
    size: int = 65_000,
    payload_size: int = 900,
) -> suit.Contents:
    return suit.Contents(
        sequence, vendor, class_id, size, bytes(range(32)), payload_size, bytes(range(32, 64))
    )


def envelope(what: suit.Contents) -> bytes:
    return suit.envelope(suit.manifest(what), suit.ES256, KEY.kid, sign)


@cache
def history() -> list[dict[str, bytes]]:
    """The files of three real bundles, one after the other (bench/deltas.py)."""
    packed = json.loads((interpreters.ROOT / "tests/flash_tools/history.json").read_text(encoding="utf-8"))
    trees: list[dict[str, bytes]] = [{}]
    for payload in packed["payloads"]:
        tree = making.Memory()
        delta.apply(io.BytesIO(base64.b64decode(payload)), making.Memory(trees[-1]), tree)
        trees.append(tree.files)
    return trees[1:]
