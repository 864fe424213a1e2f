"""Images of MicroPython for the virtual board: what such a file says, and what the supervisor runs for it.

On a chip the image is the program. Here it has the same outside (header, segment, descriptor, SHA-256, so that all that
moves, checks and refuses it is the real thing) and inside a word for what the supervisor is to run:

    micropython   the unix port
    other-mpy     the unix port, which refuses compiled modules, as one of another .mpy version does
    crash         what panics before it runs anything
    hang          what runs and does nothing
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards.virtual.rom import _ota as of_a_chip

_ota: Any = of_a_chip  # runs on the node, too: no annotations there
CHIP_ID = 0x7FFF
RUNS = ("micropython", "other-mpy", "crash", "hang")
_DESCRIPTOR = struct.Struct("<I12x32s32s16s16s32s32s80x")
_DESCRIPTOR_MAGIC = 0xABCD5432
_LOAD_ADDRESS = 0x3F400020
_HEADER = struct.Struct("<BBBBI4xH9xB")
_SEGMENT = struct.Struct("<II")
_MARK = b"\nvirtual board "


@dataclass(frozen=True)
class VirtualMicroPython:
    """``name`` tells two images of one version apart."""

    runs: str
    version: str
    name: str


def make(
    runs: str = "micropython", version: str = "1.29.0", name: str = "", size: int = 0, chip_id: int = CHIP_ID
) -> bytes:
    """An image of at least ``size`` bytes."""
    says = json.dumps({"runs": runs, "version": version, "name": name}, sort_keys=True).encode()
    segment = _DESCRIPTOR.pack(_DESCRIPTOR_MAGIC, f"v{version}".encode(), b"micropython", b"", b"", b"", b"")
    segment += f"MicroPython v{version} on 2026-01-01".encode() + _MARK + says + b"\n"
    filler = hashlib.sha256(says).digest()  # what a flash that forgets an erase does not hide behind
    wanted = max(len(segment), size - _HEADER.size - _SEGMENT.size - 48)
    segment += (filler * (wanted // len(filler) + 1))[: wanted - len(segment)]
    segment += bytes(-len(segment) % 4)
    head = _HEADER.pack(_ota._IMAGE_MAGIC, 1, 0, 0x2F, _LOAD_ADDRESS, chip_id, 1)
    image = head + _SEGMENT.pack(_LOAD_ADDRESS, len(segment)) + segment
    checksum = 0xEF
    for at in range(0, len(segment), 4096):
        for byte in segment[at : at + 4096]:
            checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes((checksum,))
    return image + hashlib.sha256(image).digest()


def find(path: Path) -> VirtualMicroPython | None:
    """What is in this partition; None unless it is a whole image for this board."""
    data = path.read_bytes()
    size = _ota.image_size(lambda at, count: data[at : at + count], len(data))
    if not size or struct.unpack_from("<H", data, 12)[0] != CHIP_ID:
        return None
    at = data.find(_MARK, 0, size)
    if at < 0:
        return None
    says = json.loads(data[at + len(_MARK) : data.index(b"\n", at + len(_MARK))])
    return VirtualMicroPython(says["runs"], says["version"], says["name"])
