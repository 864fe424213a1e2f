"""Images as MicroPython ships them for ESP chips, made here: valid in every header, digest and table, and no program.

MicroPython itself is not shipped with Tidegate; what tests and the bench need of it is a file that flashing tools, ROM
and second stage take for it. `release()` is the file one downloads: second stage, table and application in one.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Sequence
from types import ModuleType

from hil_tests.world.esp.boot import TABLE_AT, TABLE_SIZE, Partition
from hil_tests.world.esp.kinds import ChipKind, kind_of
from hil_tests.world.esp.slip import xor_of

APP_AT = 0x10000
# (data in flash, code in flash, RAM): where an application of each chip has its segments.
_SEGMENTS = {
    "esp32": (0x3F40_0020, 0x400D_0020, 0x3FFB_0000),
    "esp32s3": (0x3C00_0020, 0x4200_0020, 0x3FC8_8000),
    "esp32c3": (0x3C00_0020, 0x4200_0020, 0x3FC8_0000),
    "esp32c6": (0x4280_0020, 0x4200_0020, 0x4080_0000),
}
_APP_MAGIC, _BOOTLOADER_MAGIC = 0xABCD_5432, 0x50
_IDF = b"v5.4.1"
_SIZES = {1 << (20 + power): power << 4 for power in range(8)}
_KINDS = {"app": 0, "data": 1}
_SUBTYPES = {"factory": 0, "ota": 0, "phy": 1, "nvs": 2, "ota_0": 0x10, "ota_1": 0x11, "fat": 0x81}


def app(chip: str, version: str = "1.28.0", *, size: int = 192 * 1024, board: str = "ESP32_GENERIC") -> bytes:
    """The application: its description, then bytes that compress about as code does."""
    kind = kind_of(chip)
    rng = random.Random(f"{chip} {version} {board}")
    description = struct.pack(
        "<II8x32s32s16s16s32s32sHHB75x",
        _APP_MAGIC,
        0,
        f"v{version}".encode(),
        b"micropython",
        b"12:00:00",
        b"Apr  1 2026",
        _IDF,
        hashlib.sha256(f"{chip} {version} {board}".encode()).digest(),
        0,
        199,
        16,
    )
    # What sys.implementation of such a build says, and where tools look for it.
    words = f"MicroPython v{version} on 2026-04-01; {board} with {chip.upper()}\0".encode()
    data = description + words.ljust(256, b"\0") + rng.randbytes(size // 4)
    code = (rng.randbytes(size // 8) + bytes(range(256)) * (size // 2048)) * 3
    return image(kind, list(zip(_SEGMENTS[chip], (data, code, rng.randbytes(1024)), strict=True)))


def bootloader(chip: str, *, flash_size: int = 4 << 20) -> bytes:
    """ESP-IDF's second stage."""
    kind = kind_of(chip)
    description = struct.pack("<B3xI32s24s16x", _BOOTLOADER_MAGIC, 1, _IDF, b"Apr  1 2026 12:00:00")
    code = random.Random(f"{chip} bootloader").randbytes(12 * 1024)
    return image(kind, [(_SEGMENTS[chip][2], description + code)], flash_size=flash_size)


def image(kind: ChipKind, segments: Sequence[tuple[int, bytes]], *, flash_size: int = 4 << 20) -> bytes:
    """An image of the ROM's format: header, segments, checksum, SHA-256."""
    size = _SIZES[flash_size] | (0xF if kind.name in ("esp32", "esp32s3", "esp32c3") else 0)
    found = struct.pack("<BBBBI", 0xE9, len(segments), 2, size, segments[-1][0])
    found += struct.pack("<BBBBHBHH4xB", 0xEE, 0, 0, 0, kind.chip_id, 0, 0, 0xFFFF, 1)
    checksum = 0xEF
    for address, data in segments:
        data += b"\0" * (-len(data) % 4)
        checksum ^= xor_of(data)
        found += struct.pack("<II", address, len(data)) + data
    found += bytes(15 - len(found) % 16) + bytes((checksum,))
    return found + hashlib.sha256(found).digest()


def table(rows: Iterable[Partition]) -> bytes:
    """A partition table with its digest."""
    found = b""
    for row in rows:
        label = row.label.encode().ljust(16, b"\0")
        found += struct.pack(
            "<2sBBII16sI", b"\xaa\x50", row.type, row.subtype, row.offset, row.size, label, 0
        )
    found += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(found, usedforsecurity=False).digest()
    return found.ljust(TABLE_SIZE, b"\xff")


def stock_table(flash_size: int = 4 << 20) -> bytes:
    """As MicroPython's own builds have it: one file system behind 2 MiB."""
    rows = (
        ("nvs", 1, 2, 0x9000, 0x6000),
        ("phy_init", 1, 1, 0xF000, 0x1000),
        ("factory", 0, 0, APP_AT, 0x1F0000),
    )
    return table(Partition(*row) for row in (*rows, ("vfs", 1, 0x81, 0x200000, flash_size - 0x200000)))


def board_table(board: ModuleType) -> bytes:
    """Of a board file: MicroPython's part, then our two file systems, and its second place behind them."""
    from flash_tools.partitions import table as rows_of

    return table(
        Partition(p.label, _KINDS[p.type], _SUBTYPES[p.subtype], p.offset, p.size) for p in rows_of(board)
    )


def release(
    chip: str, version: str = "1.28.0", *, flash_size: int = 4 << 20, board: str = "ESP32_GENERIC"
) -> bytes:
    """The whole download, which is written at the chip's bootloader offset."""
    start = kind_of(chip).bootloader_at
    parts = ((start, bootloader(chip, flash_size=flash_size)), (TABLE_AT, stock_table(flash_size)))
    whole = b""
    for at, data in (*parts, (APP_AT, app(chip, version, board=board))):
        whole = whole.ljust(at - start, b"\xff") + data
    return whole
