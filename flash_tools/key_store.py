"""The keys of units that this bench minted, sealed under the bench's master key.

A copied book is worth nothing without the master key, a file of its own (mode 0600). What is sealed is bound to the
board's MAC and to the address: it opens for that unit only. Nothing here shows a key: not in a repr, not in an error.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flash_tools import files
from flash_tools.errors import KeyStoreError
from protocols.sealed import MASTER_KEY_SIZE, OtherKey, Sealer, SealError, parse_master_key
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE

MASTER_KEY_FILE = "bench.key"
# Hex and a newline; anything longer is another file.
_FILE_BYTES_MAX = 128


class UnitKeys(NamedTuple):
    """What derives every key of one node."""

    master_secret: bytes
    master_salt: bytes

    def __repr__(self) -> str:
        return "UnitKeys(…)"


class KeyStore:
    """Makes keys, seals them and opens what it sealed."""

    def __init__(self, master_key: bytes, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._sealer = Sealer(master_key, random)
        self._random = random
        self.key_id = self._sealer.key_id.hex()

    def make(self) -> UnitKeys:
        return UnitKeys(self._random(MASTER_SECRET_SIZE), self._random(MASTER_SALT_SIZE))

    def seal(self, mac: str, address: int, keys: UnitKeys) -> str:
        """As the book keeps it: hexadecimal."""
        return self._sealer.seal(keys.master_secret + keys.master_salt, _bound(mac, address)).hex()

    def open(self, mac: str, address: int, sealed: str) -> UnitKeys:
        """Reverse `seal`. KeyStoreError when the master key is another one, or the unit is."""
        try:
            plain = self._sealer.open(bytes.fromhex(sealed), _bound(mac, address))
        except OtherKey as error:
            raise KeyStoreError(
                f"unit {address:04x}: its key is sealed under bench key {error.key_id.hex()}; the one given is "
                f"{self.key_id}. Put back the {MASTER_KEY_FILE} that this book was made with"
            ) from error
        except (SealError, ValueError) as error:
            raise KeyStoreError(
                f"unit {address:04x}: its sealed key does not open for MAC {mac}: the book was altered. Put it back "
                "from its copy, or scrap the unit and mint it again"
            ) from error
        if len(plain) != MASTER_SECRET_SIZE + MASTER_SALT_SIZE:
            raise KeyStoreError(
                f"unit {address:04x}: its sealed key has the wrong size. Scrap it and mint again"
            )
        return UnitKeys(plain[:MASTER_SECRET_SIZE], plain[MASTER_SECRET_SIZE:])


def make_master_key(path: Path, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
    """A new master key in a file that must not exist yet; on disk when this returns."""
    if path.exists():
        raise KeyStoreError(f"{path}: is there already, and a master key is never overwritten")
    files.replace(path, random(MASTER_KEY_SIZE).hex().encode() + b"\n", files.PRIVATE)


def load_master_key(path: Path) -> bytes:
    """KeyStoreError says what is wrong with the file."""
    try:
        with path.open("rb") as stream:
            _check_private(path, os.fstat(stream.fileno()))
            data = stream.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"{path}: no such file. It opens the keys that this bench minted: put it back from its copy; for a new "
            "bench, `tidegate provision init` makes one"
        ) from error
    except OSError as error:
        raise KeyStoreError(f"{path}: can not be read: {error.strerror}") from error
    key = parse_master_key(data)
    if key is None:
        raise KeyStoreError(
            f"{path}: holds {len(data)} bytes that are no master key. Allowed are {2 * MASTER_KEY_SIZE} hexadecimal "
            f"digits or {MASTER_KEY_SIZE} raw bytes. Put the file back from its copy"
        )
    return key


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise KeyStoreError(f"{path}: must be a regular file")
    if mode & 0o077:
        raise KeyStoreError(
            f"{path}: mode {mode:04o} lets others read the keys of every unit. Allowed is 0600: chmod 600 {path}"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise KeyStoreError(
            f"{path}: belongs to user {status.st_uid}; it must belong to you ({os.geteuid()}) or to root"
        )


def _bound(mac: str, address: int) -> bytes:
    """The gateway's vault binds two bytes, so neither opens what the other sealed."""
    return bytes.fromhex(mac.replace(":", "")) + address.to_bytes(2, "big")
