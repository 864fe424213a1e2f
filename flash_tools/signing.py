"""The keys that sign releases, as files of one maintainer. They never go near a gateway.

An ES256 key is a PEM file as every tool has it. An HSS/LMS key is a PEM file of ours and a second file, the count of
leaves that have signed: a leaf that signs twice gives the key away, so the count is on disk before a signature is
made, a lost count is never guessed, and a copy of the pair must never sign beside it.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from flash_tools.errors import ReleaseError
from protocols import lms_sign, suit

ALGORITHMS = {"es256": suit.ES256, "hss-lms": suit.HSS_LMS}
NAMES = {number: name for name, number in ALGORITHMS.items()}
_PEM_HSS = "TIDEGATE HSS-LMS PRIVATE KEY"
# Of an HSS/LMS tree: 2 ** height signatures.
HEIGHTS = tuple(lms_sign.TYPES)
_PRIVATE = 0o600
_NONE_YET = b"0\n"  # in a count


@dataclass(frozen=True)
class Signer:
    algorithm: int
    public: bytes
    sign: Callable[[bytes], bytes]
    left: Callable[[], int] | None = None  # signatures that it can still make; None: as many as one likes
    used: Callable[[], int] | None = None  # leaves that have signed, by its count; None: it has no leaves

    @property
    def kid(self) -> bytes:
        return suit.key_id(self.public)


def generate(
    path: Path, algorithm: str, height: int = 10, progress: Callable[[int], None] | None = None
) -> Signer:
    """A new key in a new file, readable by its owner alone."""
    counts = count_file(path)
    if path.exists():
        _forget_half(path)
        raise ReleaseError(
            f"{path} exists, and a key is never replaced: choose another name. If keygen was cut off after it made "
            f"this one: tidegate release trust {path}"
        )
    # What a keygen that was cut off leaves says 0; any other count is of a key that is somewhere.
    if counts.exists() and counts.read_bytes() != _NONE_YET:
        raise ReleaseError(
            f"{counts} is the count of a key that is not here, and is never replaced: choose another name"
        )
    if algorithm == "es256":
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    else:
        name, seed = secrets.token_bytes(lms_sign.NAME_BYTES), secrets.token_bytes(lms_sign.SEED_BYTES)
        lowest = lms_sign.leaves(height, name, seed, progress)
        body = base64.b64encode(cbor2.dumps([1, name, seed, b"".join(lowest)], canonical=True)).decode()
        lines = "\n".join(textwrap.wrap(body, 64))
        pem = f"-----BEGIN {_PEM_HSS}-----\n{lines}\n-----END {_PEM_HSS}-----\n".encode()
        _forget_half(counts)
        if not counts.exists():
            _put_new(counts, _NONE_YET)
    try:
        _put_new(path, pem)
    except ReleaseError:
        with suppress(OSError):
            counts.unlink()  # of a key that there is not
        raise
    return load(path)


def count_file(path: Path) -> Path:
    return path.with_name(path.name + ".count")


def load(path: Path) -> Signer:
    """The key in this file. ReleaseError: none, or one that others can read."""
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise ReleaseError(f"key {path}: {error.strerror}; tidegate release keygen makes one") from error
    if mode & 0o077:
        raise ReleaseError(f"key {path} can be read by others (mode {mode & 0o777:03o}): chmod 600 {path}")
    if f"BEGIN {_PEM_HSS}".encode() in data:
        return _load_hss(path, data)
    try:
        private = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise ReleaseError(f"key {path} is no PEM file of a private key: {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise ReleaseError(
            f"key {path}: allowed are P-256 (ES256) and HSS/LMS keys of tidegate release keygen"
        )
    return Signer(suit.ES256, _raw(private), lambda message: _sign_es256(private, message))


def load_public(path: Path) -> tuple[int, bytes]:
    """(algorithm, public key) of a key file: of a private key, or of a public P-256 key that another tool keeps."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"key {path}: {error.strerror}") from error
    if b"BEGIN PUBLIC KEY" not in data:
        signer = load(path)
        return signer.algorithm, signer.public
    try:
        public = serialization.load_pem_public_key(data)
    except ValueError as error:
        raise ReleaseError(f"key {path} is no PEM file of a public key: {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise ReleaseError(f"key {path}: of public keys, P-256 is allowed")
    return suit.ES256, _point(public)


def _raw(private: ec.EllipticCurvePrivateKey) -> bytes:
    return _point(private.public_key())


def _point(public: ec.EllipticCurvePublicKey) -> bytes:
    numbers = public.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _sign_es256(private: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    # By RFC 6979: no random number to get wrong, and the same release has the same envelope.
    r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _parts(path: Path, data: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """(name, seed, leaves) of an HSS/LMS key."""
    try:
        body = "".join(line for line in data.decode().split("\n") if not line.startswith("-----"))
        version, name, seed, joined = cbor2.loads(base64.b64decode(body, validate=True))
        size = lms_sign.HASH_BYTES
        lowest = [joined[at : at + size] for at in range(0, len(joined), size)]
        lms_sign.public_key(name, lowest)
    except (ValueError, TypeError, KeyError, cbor2.CBORDecodeError) as error:
        raise ReleaseError(f"key {path} is damaged: {error!r}; restore it from its backup") from error
    if version != 1:
        raise ReleaseError(f"key {path} is of version {version}, this program knows 1")
    return name, seed, lowest


def _load_hss(path: Path, data: bytes) -> Signer:
    name, seed, lowest = _parts(path, data)

    def sign(message: bytes) -> bytes:
        leaf = reserve(path, len(lowest))
        randomizer = secrets.token_bytes(lms_sign.HASH_BYTES)
        return lms_sign.sign(name, seed, lowest, leaf, randomizer, message)

    return Signer(
        suit.HSS_LMS,
        lms_sign.public_key(name, lowest),
        sign,
        lambda: len(lowest) - _count(path),
        lambda: _count(path),
    )


def leaf_of(envelope: bytes, kid: bytes) -> int | None:
    """Which leaf of this HSS/LMS key signed it; None: none did."""
    try:
        block = cbor2.loads(cbor2.loads(cbor2.loads(envelope).value[2])[1])
        protected, unprotected, _, signature = block.value
        if cbor2.loads(protected) != {1: suit.HSS_LMS} or unprotected != {4: kid}:
            return None
        return int.from_bytes(signature[4:8], "big")  # behind the number of levels
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def left(path: Path) -> int | None:
    """How many signatures a key can still make; None: as many as one likes."""
    data = path.read_bytes()
    if f"BEGIN {_PEM_HSS}".encode() not in data:
        return None
    return len(_parts(path, data)[2]) - _count(path)


def reserve(path: Path, leaves: int) -> int:
    """The next leaf of a key, which from now on counts as used: on disk before anything is signed with it."""
    counts = count_file(path)
    with path.open("rb") as key:
        fcntl.flock(key, fcntl.LOCK_EX)  # two terminals, one key; the key's file is never replaced
        leaf = _count(path)
        if leaf >= leaves:
            raise ReleaseError(f"key {path} has made all of its {leaves} signatures: rotate to another one")
        _replace(counts, f"{leaf + 1}\n".encode())
    return leaf


def _count(path: Path) -> int:
    """Leaves of the key in `path` that have signed."""
    counts = count_file(path)
    try:
        data = counts.read_bytes().strip()
    except FileNotFoundError as error:
        raise ReleaseError(
            f"{counts} is missing: without the count of its signatures, {path} would sign twice with one leaf "
            f"and give itself away. Restore the newest {counts.name}; if it is lost, revoke this key"
        ) from error
    except OSError as error:
        raise ReleaseError(f"{counts}: {error.strerror}; restore it, or revoke its key") from error
    if not data.isdigit():
        raise ReleaseError(f"{counts} holds {data[:20]!r}, no count: restore it, or revoke its key")
    return int(data)


def _write_new(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}; nothing was written") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            _sync(stream)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # half a key is none, and would be in the way of a whole one
        raise ReleaseError(f"{path}: {error.strerror}; nothing was written") from error


def _put_new(path: Path, data: bytes) -> None:
    """All of a new file or nothing, whenever it is cut off; never over one that is there."""
    beside = _beside(path)
    try:
        _forget_half(path)
        _write_new(beside, data)
        _move_new(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise ReleaseError(f"{path}: {error.strerror}; nothing was written") from error


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _forget_half(path: Path) -> None:
    """What is beside a file after it was cut off: a part of it, or all of it under a second name."""
    with suppress(FileNotFoundError):
        _beside(path).unlink()


def _move_new(beside: Path, path: Path) -> None:
    try:
        os.link(beside, path)
        beside.unlink()
    except PermissionError:  # FAT, as on a stick in a drawer, has no links
        if path.exists():
            raise
        beside.rename(path)


def _replace(path: Path, data: bytes) -> None:
    """Old or new, whole, over any loss of power, and durable on return."""
    beside = _beside(path)
    _forget_half(path)
    _write_new(beside, data)
    beside.replace(path)
    _sync_folder(path.parent)


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
