"""SM4 (GB/T 32907) for data areas that a platform wants encrypted: ECB with PKCS #7, as the field has it.

The cipher is OpenSSL's, by way of `cryptography`. Some builds of OpenSSL are made without it; that is told.
ECB shows which blocks are alike, and nothing here says that a message is genuine: it hides figures from who looks at
the line, no more. Who can choose takes TLS.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK = KEY = 16


class Sm4Error(Exception):
    """A key or text that SM4 can not take, or an OpenSSL without SM4."""


def _cipher(key: bytes) -> Cipher[modes.ECB]:
    if len(key) != KEY:
        raise Sm4Error(f"a key of SM4 has {KEY} bytes, this one has {len(key)}")
    return Cipher(algorithms.SM4(key), modes.ECB())


def encrypt_blocks(key: bytes, data: bytes) -> bytes:
    """Whole blocks, without padding. Raises Sm4Error."""
    return _run(key, data, encrypt=True)


def decrypt_blocks(key: bytes, data: bytes) -> bytes:
    """Whole blocks, without padding. Raises Sm4Error."""
    return _run(key, data, encrypt=False)


def _run(key: bytes, data: bytes, *, encrypt: bool) -> bytes:
    cipher = _cipher(key)
    if len(data) % BLOCK:
        raise Sm4Error(f"{len(data)} bytes are no whole blocks of {BLOCK}")
    try:
        context = cipher.encryptor() if encrypt else cipher.decryptor()
    except UnsupportedAlgorithm as error:
        raise Sm4Error(
            "the OpenSSL of this machine's `cryptography` was built without SM4; a wheel from PyPI has it"
        ) from error
    return context.update(data) + context.finalize()


def encrypt(key: bytes, text: bytes) -> bytes:
    """Padded with 1 to 16 bytes that say how many they are (PKCS #7), then encrypted. Raises Sm4Error."""
    padder = PKCS7(BLOCK * 8).padder()
    return encrypt_blocks(key, padder.update(text) + padder.finalize())


def decrypt(key: bytes, data: bytes) -> bytes:
    """The text of `encrypt`. Raises Sm4Error, which a wrong key mostly shows as wrong padding."""
    padded = decrypt_blocks(key, data)
    unpadder = PKCS7(BLOCK * 8).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise Sm4Error("the padding is wrong: another key, or bytes that were changed") from error
