"""The two primitives that OSCORE needs: AES-CCM-16-64-128 and HKDF-SHA256 (RFC 5869).

`ccm(key)` gives an object with cryptography's `encrypt(nonce, data, aad)` and `decrypt(nonce, data, aad)`,
which raises `InvalidTag`. On CPython it is cryptography's own AESCCM; on MicroPython it is ccm.py over the
chip's AES.
"""

import hashlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if sys.implementation.name == "micropython":
    from cryptolib import aes

    from protocols.wire.ccm import Ccm, InvalidTag
else:
    from cryptography.exceptions import InvalidTag  # type: ignore[assignment]
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM


def ccm(key: bytes) -> "Any":
    """A cipher for one 16-byte key, with 8-byte tags."""
    if sys.implementation.name == "micropython":
        return Ccm(key, aes)
    return AESCCM(key, tag_length=8)


__all__ = ["InvalidTag", "ccm", "hkdf", "hmac_sha256"]

_BLOCK = 64


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104. MicroPython has no hmac module."""
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    pad = bytearray(
        key + b"\x00" * (_BLOCK - len(key))
    )  # changed in place: a list of 64 takes half a kilobyte
    for at in range(_BLOCK):
        pad[at] ^= 0x36
    inner = hashlib.sha256(pad)
    inner.update(message)
    for at in range(_BLOCK):
        pad[at] ^= 0x36 ^ 0x5C
    outer = hashlib.sha256(pad)
    outer.update(inner.digest())
    return outer.digest()


def hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """The first `length` bytes, at most 32, of HKDF-SHA256: OSCORE never needs a second block."""
    if length > 32:
        raise ValueError("HKDF length %d: this one makes at most 32 bytes" % length)
    pseudorandom_key = hmac_sha256(salt, secret)
    return hmac_sha256(pseudorandom_key, info + b"\x01")[:length]
