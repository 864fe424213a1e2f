"""Files to look at, made as they are made for real: images by minting, outboxes by the node's own code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from struct import pack

from firmware.outbox import Outbox
from firmware.records import EVENT, SET, pack_event, pack_set
from flash_tools.images import build_state_image
from flash_tools.mint import mint
from hil_tests.world.flash import Flash, LittleFs

EPOCH = 0x0123456789AB
GOOD_SET = (1500, 780, 850, 600, 300, 0, 100, 1000)


def minted(folder: Path) -> tuple[bytes, str, str]:
    """A fresh `state` image, and its secret and salt in hexadecimal digits."""
    made = mint(
        out=folder,
        node_type="river",
        address=0x42,
        area="330110001001",
        settings={0: 60},
        random=_counted,
    )
    row = json.loads(made.mint_file.read_text())
    return made.state_image.read_bytes(), row["master_secret"], row["master_salt"]


def _counted(size: int) -> bytes:
    return bytes(range(0x51, 0x51 + size))


def outbox_image(sets: int = 30, acked: int = 20) -> bytes:
    """A `state` image with an outbox in it: sets, an event after every tenth, the first `acked` acknowledged."""
    flash = Flash(image=build_state_image({}))
    box = Outbox(LittleFs(flash), "/outbox", 64 * 1024)
    box.begin_epoch(EPOCH)
    for number in range(sets):
        box.keep(SET, pack_set(1, 1_790_000_000 + 900 * number, 1, GOOD_SET, (1,) * 8))
        if number % 10 == 9:
            box.keep(EVENT, pack_event(1_790_000_000 + 900 * number, 1, 6, 1, 12))
    box.acknowledge(EPOCH, acked, ())
    box.flush()
    return bytes(flash.image)


def program(chip: int = 0, payload: bytes = b"\x90" * 96) -> bytes:
    """A program image of one segment, by ESP-IDF's format, with checksum and SHA-256."""
    head = (
        bytes((0xE9, 1, 2, 0x20))
        + pack("<I", 0x40080000)
        + b"\xee"
        + bytes(3)
        + pack("<H", chip)
        + bytes(9)
        + b"\x01"
    )
    body = head + pack("<II", 0x3F400020, len(payload)) + payload
    checksum = 0xEF
    for byte in payload:
        checksum ^= byte
    body += bytes(len(body) // 16 * 16 + 15 - len(body)) + bytes((checksum,))
    return body + hashlib.sha256(body).digest()


def table(*rows: tuple[str, int, int, int, int]) -> bytes:
    """A partition table with its MD5: (label, type, subtype, offset, size)."""
    entries = b"".join(
        b"\xaa\x50" + pack("<BBII16sI", kind, subtype, offset, size, label.encode(), 0)
        for label, kind, subtype, offset, size in rows
    )
    md5 = hashlib.md5(entries, usedforsecurity=False).digest()
    return (entries + b"\xeb\xeb" + b"\xff" * 14 + md5).ljust(0x1000, b"\xff")


TABLE = table(
    ("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x1F0000), ("state", 1, 0x81, 0x300000, 0x80000)
)
