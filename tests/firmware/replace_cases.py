"""Releases of MicroPython for the virtual board, signed, for tests of what a node does with them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from boards.virtual import micropythons
from protocols import suit
from protocols.wire import identity, interpreter, release
from tests.wire.release_cases import CLASS, KEY, VENDOR, envelope, public

if TYPE_CHECKING:
    from pathlib import Path

OK, CRASHES, UNHEALTHY = 0, 1, 2
BOARD = "virtual"
# MicroPython that runs, that comes, and what is wrong with it: one that stays, one that crashes, the same and well, one
# that never measures, and two in a row.
LIFE = ((1, 2, OK), (2, 3, CRASHES), (2, 3, OK), (3, 4, UNHEALTHY), (3, 5, OK), (5, 6, OK))


def image(sequence: int, size: int = 22_000) -> bytes:
    return micropythons.make(name=f"release {sequence}", size=size + 1000 * (sequence % 3))


def signed(sequence: int, data: bytes, board: str = BOARD) -> bytes:
    """The envelope of an image."""
    digest = hashlib.sha256(data).digest()
    whom = suit.class_id(VENDOR, interpreter.NAME, board)
    return envelope(suit.Contents(sequence, VENDOR, whom, len(data), digest, len(data), digest))


def update(sequence: int, data: bytes, board: str = BOARD) -> bytes:
    """What is sent of it as an update is."""
    made = signed(sequence, data, board)
    return len(made).to_bytes(2, "big") + made


def write(path: Path) -> None:
    """The life of replace_world.py, for either interpreter."""
    who = identity.Identity(7, bytes(16), bytes(8), "river", BOARD, None, None)
    mine = release.encode(1, VENDOR.bytes, CLASS.bytes, [(KEY.algorithm, public())], [])
    made = {
        "files": [mine.hex(), identity.encode(who).hex()],
        "images": [[n, image(n).hex()] for n in sorted({n for old, new, _ in LIFE for n in (old, new)})],
        "steps": [[old, new, update(new, image(new)).hex(), fault] for old, new, fault in LIFE],
    }
    path.write_text(json.dumps(made), encoding="utf-8")
