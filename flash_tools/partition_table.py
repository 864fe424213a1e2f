"""The partition table as bytes, as it lies in the flash at 8000h: made from a board file, and read back from a chip.

The format is ESP-IDF's: entries of 32 bytes behind the mark AA 50, then one behind EB EB with the MD5 of all before it,
then FFh. What is read comes from a chip that anybody may have flashed, so it is taken as it is and never trusted.
"""

from __future__ import annotations

import hashlib
import struct
from types import ModuleType

from flash_tools.partitions import Partition, table

OFFSET = 0x8000
# One sector: ESP-IDF reads C00h of it.
SIZE = 0x1000
_READ = 0xC00
_ENTRY = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_TYPES = {"app": 0, "data": 1}
_SUBTYPES = {
    ("app", "factory"): 0x00,
    ("app", "ota_0"): 0x10,
    ("app", "ota_1"): 0x11,
    ("data", "ota"): 0x00,
    ("data", "phy"): 0x01,
    ("data", "nvs"): 0x02,
    ("data", "fat"): 0x81,
    ("data", "spiffs"): 0x82,
    ("data", "littlefs"): 0x83,
}


def encode(board: ModuleType) -> bytes:
    """The table of this board, one sector."""
    entries = b"".join(
        _ENTRY.pack(
            _MAGIC, _TYPES[p.type], _SUBTYPES[p.type, p.subtype], p.offset, p.size, p.label.encode(), 0
        )
        for p in table(board)
    )
    return (entries + _MD5_MAGIC + hashlib.md5(entries, usedforsecurity=False).digest()).ljust(SIZE, b"\xff")


def parse(data: bytes) -> tuple[Partition, ...] | None:
    """The entries in the order of the flash; None when this is no whole table (blank, other data, torn)."""
    found = []
    for at in range(0, min(len(data), _READ) - _ENTRY.size + 1, _ENTRY.size):
        entry = data[at : at + _ENTRY.size]
        if entry.startswith(_MD5_MAGIC):
            if hashlib.md5(data[:at], usedforsecurity=False).digest() != entry[len(_MD5_MAGIC) :]:
                return None
            break
        if not entry.startswith(_MAGIC):
            break  # a table without a checksum ends in FFh; so does no table
        found.append(_partition(entry))
    return tuple(sorted(found, key=lambda partition: partition.offset)) or None


def _partition(entry: bytes) -> Partition:
    _, kind, subtype, offset, size, label, _ = _ENTRY.unpack(entry)
    name = next((name for name, code in _TYPES.items() if code == kind), f"{kind:#04x}")
    names = {(of, code): text for (of, text), code in _SUBTYPES.items()}
    text = names.get((name, subtype), f"{subtype:#04x}")
    return Partition(label.rstrip(b"\0").decode("ascii", "replace"), name, text, offset, size)
