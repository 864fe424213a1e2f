"""Secrets at rest, sealed under a master key: what the gateway's vault and the bench's key store have in common.

    sealed = 01 | key id (4 bytes) | nonce (12 random bytes) | ciphertext and tag

AES-256-GCM. What a secret belongs to (`bound`: an address, a MAC) is authenticated with it, so it can not be moved to
another one; and each names its master key, so that the wrong one is told apart from damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MASTER_KEY_SIZE = 32
_VERSION = b"\x01"
_ID_SIZE = 4
_NONCE_SIZE = 12
_PREFIX_SIZE = 1 + _ID_SIZE + _NONCE_SIZE


class SealError(Exception):
    """What is sealed does not open. Its message says nothing of the secret."""


class UnknownFormat(SealError):
    """Not what `seal` makes, or what a later version makes."""


class OtherKey(SealError):
    """Sealed under another master key: the one whose id is `key_id`."""

    def __init__(self, key_id: bytes) -> None:
        super().__init__(f"sealed under master key {key_id.hex()}")
        self.key_id = key_id


class Altered(SealError):
    """Damaged, or moved here from where it belongs."""


class Sealer:
    """Seals and opens under one master key of MASTER_KEY_SIZE bytes."""

    def __init__(self, master_key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._cipher = AESGCM(master_key)
        self._random_bytes = random_bytes
        self.key_id = hashlib.sha256(b"tidegate master key id" + master_key).digest()[:_ID_SIZE]

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        head = _VERSION + self.key_id + self._random_bytes(_NONCE_SIZE)
        return head + self._cipher.encrypt(head[-_NONCE_SIZE:], plain, head[: 1 + _ID_SIZE] + bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """What `seal` was given; a SealError for anything else."""
        head, body = sealed[:_PREFIX_SIZE], sealed[_PREFIX_SIZE:]
        if len(head) != _PREFIX_SIZE or head[:1] != _VERSION:
            raise UnknownFormat("in an unknown format")
        if head[1 : 1 + _ID_SIZE] != self.key_id:
            raise OtherKey(head[1 : 1 + _ID_SIZE])
        try:
            return self._cipher.decrypt(head[-_NONCE_SIZE:], body, head[: 1 + _ID_SIZE] + bound)
        except InvalidTag as exc:
            raise Altered("altered") from exc


def parse_master_key(data: bytes) -> bytes | None:
    """The key in a file of one: 64 hexadecimal digits, or 32 raw bytes; None when it is neither."""
    if len(data) == MASTER_KEY_SIZE:
        return data  # raw, as `systemd-creds encrypt` may have been fed from /dev/urandom
    try:
        key = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        return None
    return key if len(key) == MASTER_KEY_SIZE else None
