"""Folders of small signed releases, as `tidegate release` leaves them: for tests of who is given them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from protocols import delta as making
from protocols import suit
from protocols.wire import release as release_file

VENDOR = suit.vendor_id("example.org")
_PRIVATE = ec.derive_private_key(0x1DE6A7E, ec.SECP256R1())
_NUMBERS = _PRIVATE.public_key().public_numbers()
PUBLIC = _NUMBERS.x.to_bytes(32, "big") + _NUMBERS.y.to_bytes(32, "big")


def sign(message: bytes) -> bytes:
    r, s = decode_dss_signature(_PRIVATE.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def files_of(sequence: int, node_type: str, board: str) -> dict[str, bytes]:
    class_id = suit.class_id(VENDOR, node_type, board).bytes
    keys = [(suit.ES256, PUBLIC)]
    return {
        "app/main.mpy": b"print('hello, this is the program')" * 20 + bytes((sequence,)),
        release_file.FILE: release_file.encode(sequence, VENDOR.bytes, class_id, keys, ()),
    }


def write_release(
    folder: Path,
    sequence: int = 2,
    node_type: str = "river",
    board: str = "virtual",
    bases: tuple[int, ...] = (1,),
) -> Path:
    """The folder of the release."""
    new = files_of(sequence, node_type, board)
    at = folder / f"{node_type}-{board}" / f"{sequence:04d}"
    at.mkdir(parents=True)
    size, digest = len(making.pack(new)), hashlib.sha256(making.pack(new)).digest()
    payloads: list[dict[str, Any]] = []
    for base in (None, *bases):
        name = "full" if base is None else f"from-{base:04d}"
        payload = making.make(None if base is None else files_of(base, node_type, board), new)
        contents = suit.Contents(
            sequence, VENDOR, suit.class_id(VENDOR, node_type, board), size, digest,
            len(payload), hashlib.sha256(payload).digest(),
        )  # fmt: skip
        envelope = suit.envelope(suit.manifest(contents), suit.ES256, suit.key_id(PUBLIC), sign)
        (at / f"{name}.bin").write_bytes(payload)
        (at / f"{name}.suit").write_bytes(envelope)
        payloads.append({"base": base, "name": name, "size": len(payload)})
    record = {
        "version": 1,
        "sequence": sequence,
        "node_type": node_type,
        "board": board,
        "payloads": payloads,
    }
    (at / "release.json").write_text(json.dumps(record), encoding="utf-8")
    return at
