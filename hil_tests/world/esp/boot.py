"""What a chip finds in its flash when it starts: the content test of its ROM and of ESP-IDF's second stage."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from hil_tests.world.esp.faults import Fuses
from hil_tests.world.esp.kinds import ChipKind
from hil_tests.world.esp.nor import NorFlash
from hil_tests.world.esp.slip import xor_of

MAGIC = 0xE9
TABLE_AT, TABLE_SIZE = 0x8000, 0xC00
_ENTRY_MAGIC, _MD5_MAGIC = b"\xaa\x50", b"\xeb\xeb"
_SEGMENTS_MAX = 16
# A ROM that finds nothing says so again and again, until somebody helps; so often is enough to be seen.
_REPEATS = 3


@dataclass(frozen=True)
class Partition:
    label: str
    type: int
    subtype: int
    offset: int
    size: int


@dataclass(frozen=True)
class Boot:
    """``fault``: why nothing starts. ``text``: what the chip says on the way."""

    text: str
    fault: str = ""
    partitions: dict[str, Partition] = field(default_factory=dict)
    app: bytes = b""


class _Bad(Exception):
    pass


def boot_of(kind: ChipKind, flash: NorFlash, fuses: Fuses) -> Boot:
    word = int.from_bytes(flash.read(kind.bootloader_at, 4), "little")
    # An encrypted chip reads a plain image through its cipher: nothing of it looks like one.
    if fuses.has_encryption:
        word ^= 0x5B3C_A1D7
    if word & 0xFF != MAGIC:
        return Boot(f"invalid header: {word:#010x}\r\n" * _REPEATS, "no bootloader")
    try:
        image_of(kind, flash, kind.bootloader_at)
    except _Bad as error:
        return Boot(f"{error}\r\nets_main.c 371 \r\n" * _REPEATS, f"bootloader: {error}")
    text = "load:0x3fff0030,len:4892\r\nentry 0x400805b4\r\n"
    try:
        partitions = table_of(flash)
    except _Bad as error:
        return Boot(
            text + f"E (35) boot: {error}\r\nE (36) boot: load partition table error!\r\n", str(error)
        )
    apps = [partition for partition in partitions.values() if partition.type == 0]
    for app in apps:
        try:
            return Boot(text, "", partitions, image_of(kind, flash, app.offset))
        except _Bad as error:
            text += f"E (88) esp_image: {error}\r\nE (90) boot: Factory app partition is not bootable\r\n"
    return Boot(
        text + "E (95) boot: No bootable app partitions in the partition table\r\n",
        "no application",
        partitions,
    )


def image_of(kind: ChipKind, flash: NorFlash, at: int) -> bytes:
    """The image that begins there, whole. Raises _Bad as the loader that reads it would complain."""
    magic, segments, _mode, _size, _entry = struct.unpack("<BBBBI", flash.read(at, 8))
    chip_id, has_digest = struct.unpack("<4xH8xxB", flash.read(at + 8, 16)[:16])
    if magic != MAGIC:
        raise _Bad(f"image at {at:#x} has invalid magic byte")
    if chip_id != kind.chip_id:
        raise _Bad(f"mismatch chip ID, expected {kind.chip_id}, found {chip_id}")
    if not 0 < segments <= _SEGMENTS_MAX:
        raise _Bad(f"image at {at:#x} has {segments} segments")
    end, checksum = at + 24, 0xEF
    for _ in range(segments):
        _address, size = struct.unpack("<II", flash.read(end, 8))
        if end + 8 + size > at + flash.size:
            raise _Bad(f"segment of {size:#x} bytes does not fit the flash")
        checksum ^= xor_of(flash.read(end + 8, size))
        end += 8 + size
    end += 16 - (end - at) % 16  # padded, so that the checksum is the last byte
    if flash.read(end - 1, 1)[0] != checksum:
        raise _Bad(f"Checksum failed. Calculated {checksum:#x} read {flash.read(end - 1, 1)[0]:#x}")
    image = flash.read(at, end - at)
    if has_digest and hashlib.sha256(image).digest() != flash.read(end, 32):
        raise _Bad("image hash failed - image is corrupt")
    return image


def table_of(flash: NorFlash) -> dict[str, Partition]:
    """Label -> partition, of a table whose own digest is right."""
    raw = flash.read(TABLE_AT, TABLE_SIZE)
    found: dict[str, Partition] = {}
    for begin in range(0, TABLE_SIZE, 32):
        entry = raw[begin : begin + 32]
        if entry[:2] == _MD5_MAGIC:
            if hashlib.md5(raw[:begin], usedforsecurity=False).digest() != entry[16:]:
                raise _Bad("partition table has no valid MD5")
            return found
        if entry[:2] != _ENTRY_MAGIC:
            if entry == b"\xff" * 32 and found:
                return found  # one without a digest, as old tools made it
            raise _Bad(f"partition 0 invalid magic number {int.from_bytes(entry[:2], 'little'):#x}")
        kind, subtype, offset, size = struct.unpack_from("<2xBBII", entry)
        label = entry[12:28].rstrip(b"\0").decode("ascii", "replace")
        if offset + size > flash.size:
            raise _Bad(
                f"partition {label} invalid - offset {offset:#x} size {size:#x} exceeds flash chip size"
            )
        found[label] = Partition(label, kind, subtype, offset, size)
    raise _Bad("partition table has no end")
