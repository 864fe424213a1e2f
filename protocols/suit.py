"""The envelope of a release (OTA.md), as the host makes it: draft-ietf-suit-manifest by one fixed template.

Built with cbor2 from named parts. What a node compares it with, byte for byte, is wire/manifest.py, and shares no code.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2

ES256 = -7
HSS_LMS = -46
KID_BYTES = 8

_TAG_ENVELOPE = 107
_TAG_SIGN1 = 18
_SHA256 = -16

# draft-ietf-suit-manifest, section 8 and IANA tables.
_AUTHENTICATION, _MANIFEST = 2, 3
_VERSION, _SEQUENCE, _COMMON, _VALIDATE, _INSTALL = 1, 2, 3, 7, 20
_COMPONENTS, _SHARED = 2, 4
_VENDOR, _CLASS, _DIGEST, _SIZE, _URI, _SOURCE = 1, 2, 3, 14, 21, 22
_MATCH_VENDOR, _MATCH_CLASS, _MATCH_IMAGE = 1, 2, 3
_SET_COMPONENT, _OVERRIDE, _FETCH, _COPY = 12, 20, 21, 22
# What is reported: of a condition all, of a directive only failure.
_REPORT_ALL, _REPORT_FAILURE = 15, 2

APP, PAYLOAD = [b"a"], [b"p"]


@dataclass(frozen=True)
class Contents:
    """What a manifest says. Sizes in bytes; digests are SHA-256."""

    sequence: int
    vendor: uuid.UUID
    class_id: uuid.UUID
    size: int
    digest: bytes
    payload_size: int
    payload_digest: bytes


def vendor_id(domain: str) -> uuid.UUID:
    """As the draft recommends: from a domain name of the vendor."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, domain)


def class_id(vendor: uuid.UUID, node_type: str, board: str) -> uuid.UUID:
    """What runs one program: a node type on a board."""
    return uuid.uuid5(vendor, f"{node_type}/{board}")


def key_id(public_key: bytes) -> bytes:
    """The name of a key: of its bytes as a node keeps them."""
    return hashlib.sha256(public_key).digest()[:KID_BYTES]


def manifest(contents: Contents) -> bytes:
    """SUIT_Manifest, encoded."""
    shared = [
        _SET_COMPONENT, 0,
        _OVERRIDE, {
            _VENDOR: contents.vendor.bytes,
            _CLASS: contents.class_id.bytes,
            _DIGEST: _digest(contents.digest),
            _SIZE: contents.size,
        },
        _MATCH_VENDOR, _REPORT_ALL,
        _MATCH_CLASS, _REPORT_ALL,
    ]  # fmt: skip
    install = [
        _SET_COMPONENT, 1,
        _OVERRIDE, {
            _DIGEST: _digest(contents.payload_digest),
            _SIZE: contents.payload_size,
            _URI: "#",
        },
        _FETCH, _REPORT_FAILURE,
        _MATCH_IMAGE, _REPORT_ALL,
        _SET_COMPONENT, 0,
        _OVERRIDE, {_SOURCE: 1},
        _COPY, _REPORT_FAILURE,
        _MATCH_IMAGE, _REPORT_ALL,
    ]  # fmt: skip
    return _encode(
        {
            _VERSION: 1,
            _SEQUENCE: contents.sequence,
            _COMMON: _encode({_COMPONENTS: [APP, PAYLOAD], _SHARED: _encode(shared)}),
            _VALIDATE: _encode([_SET_COMPONENT, 0, _MATCH_IMAGE, _REPORT_ALL]),
            _INSTALL: _encode(install),
        }
    )


def envelope(manifest_bytes: bytes, algorithm: int, kid: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The signed whole. ``sign``: message -> signature, r || s for ES256."""
    # The draft's digest covers the manifest as the byte string that stands in the envelope, with its length.
    digest = _digest(hashlib.sha256(_encode(manifest_bytes)).digest())
    protected = _encode({1: algorithm})
    signature = sign(to_be_signed(protected, digest))
    block = cbor2.CBORTag(_TAG_SIGN1, [protected, {4: kid}, None, signature])
    return _encode(
        cbor2.CBORTag(
            _TAG_ENVELOPE,
            {_AUTHENTICATION: _encode([digest, _encode(block)]), _MANIFEST: manifest_bytes},
        )
    )


def to_be_signed(protected: bytes, digest: bytes) -> bytes:
    """Sig_structure of RFC 9052 section 4.4; the payload, which is detached, is the SUIT_Digest."""
    return _encode(["Signature1", protected, b"", digest])


def _digest(sha256: bytes) -> bytes:
    return _encode([_SHA256, sha256])


def _encode(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)
