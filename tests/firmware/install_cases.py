"""Small releases, signed, for tests of what a node does with them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from protocols import delta as making
from protocols import suit
from protocols.wire import release
from tests.wire.release_cases import CLASS, KEY, VENDOR, envelope, public

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OK, CRASHES, UNHEALTHY = 0, 1, 2
# Release that runs, release that comes, whether as a delta, and what is wrong with it: a first install, a delta that
# crashes, the same again and well, one that never measures, and two in a row.
LIFE = (
    (1, 2, False, OK),
    (2, 3, True, CRASHES),
    (2, 3, True, OK),
    (3, 4, True, UNHEALTHY),
    (3, 5, True, OK),
    (5, 6, False, OK),
)


def files(sequence: int) -> dict[str, bytes]:
    """A bundle in small: some files change with each release, one comes and goes."""
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40))
    made = {
        "main.py": b"from firmware import main\n",
        "firmware/main.mpy": noise[:300] + b"%d" % sequence,
        "firmware/large.mpy": noise[:64] * 67 + b"%d" % sequence,
        "protocols/wire/same.mpy": noise[700:1100],
        release.FILE: release.encode(sequence, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, public())], []),
    }
    if sequence % 2:
        made[f"firmware/only_{sequence}.mpy"] = noise[:90]
    return made


def update(base: Mapping[str, bytes] | None, new: Mapping[str, bytes], sequence: int) -> bytes:
    """What is sent: length and bytes of the envelope, and the payload."""
    payload = making.make(base, new)
    data = making.pack(new)
    signed = envelope(
        suit.Contents(
            sequence,
            VENDOR,
            CLASS,
            len(data),
            hashlib.sha256(data).digest(),
            len(payload),
            hashlib.sha256(payload).digest(),
        )
    )
    return len(signed).to_bytes(2, "big") + signed + payload


def write(path: Path) -> None:
    """The life of install_world.py, for either interpreter."""
    releases = sorted({number for old, new, _, _ in LIFE for number in (old, new)})
    bundles = {number: making.pack(files(number)) for number in releases}
    made = {
        "first": {name: data.hex() for name, data in files(1).items()},
        "digests": [[n, len(data), hashlib.sha256(data).hexdigest()] for n, data in bundles.items()],
        "steps": [
            [old, new, update(files(old) if is_delta else None, files(new), new).hex(), fault]
            for old, new, is_delta, fault in LIFE
        ],
    }
    path.write_text(json.dumps(made), encoding="utf-8")
