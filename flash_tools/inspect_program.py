"""Partition tables and program images of Espressif's chips, for people: every mistake that can be named.

The formats are ESP-IDF's ("Partition Tables" and "App Image Format" of its programming guide).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from protocols.northbound.told import Line, Told

TABLE_MAGIC = b"\xaa\x50"
PROGRAM_MAGIC = b"\xe9"
CHIPS = {
    0: "ESP32", 2: "ESP32-S2", 5: "ESP32-C3", 9: "ESP32-S3", 12: "ESP32-C2", 13: "ESP32-C6", 16: "ESP32-H2",
}  # fmt: skip
_ENTRY = Struct("<2sBBII16sI")
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_TABLE_BYTES = 0xC00
_TYPES = {0: "app", 1: "data"}
_SUBTYPES = {
    (0, 0x00): "factory", (0, 0x20): "test", (1, 0x00): "ota", (1, 0x01): "phy", (1, 0x02): "nvs",
    (1, 0x03): "coredump", (1, 0x04): "nvs_keys", (1, 0x81): "fat", (1, 0x82): "spiffs", (1, 0x83): "littlefs",
}  # fmt: skip
_SECTOR = 0x1000
_APP_ALIGNMENT = 0x10000
_HEADER = Struct(
    "<BBBBIB3xH9xB"
)  # magic, segments, SPI mode, size and speed, entry, WP pin; chip; hash appended
_SEGMENT = Struct("<II")
_SEGMENTS_MAX = 16
_SEED = 0xEF
_DESCRIPTOR = Struct("<II8x32s32s16s16s32s")
_DESCRIPTOR_MAGIC = 0xABCD5432
_HASH_BYTES = 32


class Entry(NamedTuple):
    label: str
    type: int
    subtype: int
    offset: int
    size: int
    is_encrypted: bool


def entries(data: bytes) -> Iterator[Entry]:
    """Every entry, up to whatever ends the table."""
    for at in range(0, min(len(data), _TABLE_BYTES) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, offset, size, label, flags = _ENTRY.unpack_from(data, at)
        if magic != TABLE_MAGIC:
            return
        yield Entry(
            label.split(b"\0")[0].decode("ascii", "replace"), kind, subtype, offset, size, bool(flags & 1)
        )


def tell_table(data: bytes, name: str) -> Told:
    told = Told(name, [], [], [])
    found = list(entries(data))
    for entry in found:
        kind = _TYPES.get(entry.type, f"type {entry.type:#x}")
        subtype = _subtype(entry)
        told.lines.append(
            Line(
                entry.label,
                f"{entry.offset:#08x} +{entry.size:#08x}",
                f"{kind}/{subtype}, {entry.size // 1024} KiB",
            )
        )
    end = len(found) * _ENTRY.size
    told.problems.extend(_table_problems(found))
    tail = data[end : end + _ENTRY.size]
    if tail.startswith(_MD5_MAGIC):
        digest = hashlib.md5(data[:end], usedforsecurity=False).digest()
        if digest != tail[len(_MD5_MAGIC) :]:
            told.problems.append(
                f"MD5 {tail[16:].hex()} found, {digest.hex()} expected: an entry was changed"
            )
    elif tail.strip(b"\xff"):
        told.problems.append(
            f"entry {len(found)} begins with {tail[:2].hex(' ')}: neither AA 50, nor an MD5, nor the end"
        )
    else:
        told.notes.append("without an MD5: ESP-IDF writes one unless it is told not to")
    return told


def _subtype(entry: Entry) -> str:
    if entry.type == 0 and 0x10 <= entry.subtype < 0x20:
        return f"ota_{entry.subtype - 0x10}"
    return _SUBTYPES.get((entry.type, entry.subtype), f"{entry.subtype:#04x}")


def _table_problems(found: list[Entry]) -> Iterator[str]:
    if not found:
        yield "no entry at all"
    end = 0
    before = "the table"
    for entry in sorted(found, key=lambda one: one.offset):
        if entry.offset < end:
            yield f"{entry.label} at {entry.offset:#x} overlaps {before}, which ends at {end:#x}"
        alignment = _APP_ALIGNMENT if entry.type == 0 else _SECTOR
        if entry.offset % alignment:
            yield f"{entry.label} at {entry.offset:#x}: must be a multiple of {alignment:#x}"
        if entry.size % _SECTOR or not entry.size:
            yield f"{entry.label} of {entry.size:#x} bytes: must be whole sectors of {_SECTOR:#x}"
        end, before = entry.offset + entry.size, entry.label
    labels = [entry.label for entry in found]
    for label in sorted({label for label in labels if labels.count(label) > 1}):
        yield f"label {label!r} stands there more than once"


def tell_program(data: bytes, name: str) -> Told:
    """A bootloader or an application; bytes behind its end are left alone."""
    told = Told(name, [], [], [])
    if len(data) < _HEADER.size:
        told.problems.append(f"{len(data)} bytes; the header alone has {_HEADER.size}")
        return told
    _, count, mode, size_speed, entry, _, chip, has_hash = _HEADER.unpack_from(data)
    told.lines.append(Line("chip", CHIPS.get(chip, f"id {chip}")))
    if chip not in CHIPS:
        told.problems.append(f"chip id {chip}: known are {', '.join(f'{k} {v}' for k, v in CHIPS.items())}")
    told.lines.append(Line("flash", f"{1 << (size_speed >> 4)} MB", f"mode {mode}"))
    told.lines.append(Line("entry point", f"{entry:#010x}"))
    if not 1 <= count <= _SEGMENTS_MAX:
        told.problems.append(f"{count} segments: allowed are 1 to {_SEGMENTS_MAX}")
        return told
    end = _tell_segments(data, count, told)
    if end:
        _tell_end(data, end, bool(has_hash), told)
    _tell_descriptor(data, told)
    return told


def _tell_segments(data: bytes, count: int, told: Told) -> int:
    """Where the last one ends; 0 when the file is cut before."""
    at = _HEADER.size
    for number in range(count):
        if at + _SEGMENT.size > len(data):
            told.problems.append(
                f"segment {number} begins at {at:#x}, the file ends at {len(data):#x}: it is cut"
            )
            return 0
        address, size = _SEGMENT.unpack_from(data, at)
        told.lines.append(Line(f"segment {number}", f"{size} bytes", f"to {address:#010x}"))
        at += _SEGMENT.size + size
        if at > len(data):
            told.problems.append(f"segment {number} ends at {at:#x}, the file at {len(data):#x}: it is cut")
            return 0
    return at


def _tell_end(data: bytes, end: int, has_hash: bool, told: Told) -> None:
    """The checksum is the last byte of a block of 16; a SHA-256 of all before may follow."""
    at = end // 16 * 16 + 15
    if at >= len(data):
        told.problems.append("the file ends before its checksum: it is cut")
        return
    wanted = _checksum(data)
    if data[at] == wanted:
        told.lines.append(Line("checksum", f"{wanted:02x}", "right"))
    else:
        told.problems.append(f"checksum {data[at]:02x} found, {wanted:02x} expected")
    if has_hash:
        digest = hashlib.sha256(data[: at + 1]).digest()
        there = data[at + 1 : at + 1 + _HASH_BYTES]
        if there == digest:
            told.lines.append(Line("SHA-256", digest.hex()[:16] + "…", "right"))
        else:
            told.problems.append(f"SHA-256 {there.hex()[:16]}… found, {digest.hex()[:16]}… expected")


def _checksum(data: bytes) -> int:
    value = _SEED
    at = _HEADER.size
    for _ in range(data[1]):
        _, size = _SEGMENT.unpack_from(data, at)
        at += _SEGMENT.size
        for byte in data[at : at + size]:
            value ^= byte
        at += size
    return value


def _tell_descriptor(data: bytes, told: Told) -> None:
    """An application says its name and version at the begin of its first segment."""
    at = _HEADER.size + _SEGMENT.size
    if len(data) < at + _DESCRIPTOR.size:
        return
    magic, _, version, project, time, date, idf = _DESCRIPTOR.unpack_from(data, at)
    if magic == _DESCRIPTOR_MAGIC:
        for field, text in (
            ("program", project),
            ("version", version),
            ("built", date + b" " + time),
            ("ESP-IDF", idf),
        ):
            words = " ".join(part.decode("ascii", "replace") for part in text.replace(b"\0", b" ").split())
            told.lines.append(Line(field, words))
