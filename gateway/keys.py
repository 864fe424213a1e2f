"""The master key, and the keys of nodes encrypted under it.

A copied database must not be worth anything: the secrets of nodes are in it only as AES-256-GCM under a
key that lives in a file of its own (mode 0600) or in a systemd credential. The node's address is
authenticated with them, so a row cannot be moved to another node (protocols/sealed.py has the bytes).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gateway.errors import KeyFileError
from protocols.sealed import MASTER_KEY_SIZE, OtherKey, Sealer, SealError, UnknownFormat, parse_master_key
from protocols.wire.limits import MASTER_SALT_SIZE, MASTER_SECRET_SIZE

# Hex and a newline; anything longer is another file.
_FILE_BYTES_MAX = 128


class NodeKeys(NamedTuple):
    """What derives every key of one node. Its repr shows none of it."""

    master_secret: bytes
    master_salt: bytes

    def __repr__(self) -> str:
        return "NodeKeys(…)"


class Vault:
    """Seals and opens the keys of nodes under one master key."""

    def __init__(self, master_key: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        if len(master_key) != MASTER_KEY_SIZE:
            raise KeyFileError(f"the master key has {len(master_key)} bytes; it must have {MASTER_KEY_SIZE}.")
        self._sealer = Sealer(master_key, random_bytes)
        self.key_id = self._sealer.key_id

    def seal(self, address: int, keys: NodeKeys) -> bytes:
        """Encrypt `keys` of node `address` for the database."""
        return self._sealer.seal(keys.master_secret + keys.master_salt, address.to_bytes(2, "big"))

    def open(self, address: int, sealed: bytes) -> NodeKeys:
        """Reverse `seal`. Raises KeyFileError when the master key is another one or the row was altered."""
        try:
            plain = self._sealer.open(sealed, address.to_bytes(2, "big"))
        except UnknownFormat as exc:
            raise KeyFileError(
                f"node {address:04x}: its key is in an unknown format; import the node again."
            ) from exc
        except OtherKey as exc:
            raise KeyFileError(
                f"node {address:04x}: its key is sealed under master key {exc.key_id.hex()}, the "
                f"one given is {self.key_id.hex()}. Give the master key this database was made with, or "
                f"import the "
                "nodes again."
            ) from exc
        except SealError as exc:
            raise KeyFileError(
                f"node {address:04x}: its sealed key was altered; import the node again."
            ) from exc
        if len(plain) != MASTER_SECRET_SIZE + MASTER_SALT_SIZE:
            raise KeyFileError(
                f"node {address:04x}: its sealed key has the wrong size; import the node again."
            )
        return NodeKeys(plain[:MASTER_SECRET_SIZE], plain[MASTER_SECRET_SIZE:])


def load_file(file: Path) -> bytes:
    """The master key in `file`. Raises KeyFileError that says what is wrong with the file."""
    try:
        with file.open("rb") as stream:
            _check_private(file, os.fstat(stream.fileno()))
            data = stream.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError as exc:
        raise KeyFileError(
            f"{file}: no such file. A gateway that has nodes needs its old master key back, from its copy; for a "
            f"new one `tidegate gateway init` makes one."
        ) from exc
    except OSError as exc:
        raise KeyFileError(f"{file}: the master key cannot be read: {exc.strerror}.") from exc
    return _parse(data, str(file))


def load_credential(name: str, directory: str | None) -> bytes:
    """The master key in the systemd credential `name`; `directory` is $CREDENTIALS_DIRECTORY."""
    if not directory:
        raise KeyFileError(
            f"keys.master_key_credential = {name!r} needs systemd to pass it "
            f"(LoadCredentialEncrypted={name}:…), but CREDENTIALS_DIRECTORY is not set. Outside of systemd "
            f"use keys.master_key_file."
        )
    file = Path(directory, name)
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise KeyFileError(f"systemd credential {name!r} cannot be read: {exc.strerror} ({file}).") from exc
    return _parse(data, f"systemd credential {name!r}")


def write_file(file: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
    """Make a new master key in `file`, which must not exist yet."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as exc:
        raise KeyFileError(f"{file}: is there already; a master key is never overwritten.") from exc
    except OSError as exc:
        raise KeyFileError(f"{file}: the master key cannot be written: {exc.strerror}.") from exc
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(random_bytes(MASTER_KEY_SIZE).hex() + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _check_private(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{file}: the master key must be in a regular file.")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(
            f"{file}: mode {mode:04o} lets others read the master key. Allowed is 0600: chmod 600 {file}"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError(
            f"{file}: belongs to user {status.st_uid}, who could change the master key. It must belong to "
            f"the "
            f"user of the gateway ({os.geteuid()}) or to root."
        )


def _parse(data: bytes, source: str) -> bytes:
    key = parse_master_key(data)
    if key is None:
        raise KeyFileError(
            f"{source}: holds {len(data)} bytes that are no master key. Allowed are {2 * MASTER_KEY_SIZE} "
            f"hexadecimal digits or {MASTER_KEY_SIZE} raw bytes."
        )
    return key
