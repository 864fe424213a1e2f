"""MicroPython's image file: judged by its content, never by its name.

A release is one file: bootloader, partition table and application with their gaps, beginning where the chip's ROM looks
for a bootloader (1000h on the ESP32, 0 on later chips). The formats are ESP-IDF's: an image is a header (magic E9h,
chip, flash size), segments, a checksum and a SHA-256; an application has a descriptor (ABCD5432h) with its name.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from flash_tools.blocks import Region, region
from flash_tools.errors import DoesNotFit, NotMicroPython, WrongImage, WrongOffset, WrongVersion
from flash_tools.partition_table import OFFSET as TABLE_OFFSET
from flash_tools.partition_table import parse as parse_table
from flash_tools.partitions import FIRMWARE_END

APP_OFFSET = 0x10000
# Chip -> (id in the image header, where its ROM looks for the bootloader).
CHIPS = {
    "esp32": (0, 0x1000),
    "esp32s2": (2, 0x1000),
    "esp32c3": (5, 0),
    "esp32s3": (9, 0),
    "esp32c2": (12, 0),
    "esp32c6": (13, 0),
    "esp32h2": (16, 0),
}
_MAGIC = 0xE9
_HEADER = struct.Struct("<BBBBI4xH9xB")  # magic, segments, mode, size and speed, entry; chip; hash appended
_HEADER_BYTES = 24
_SEGMENT = struct.Struct("<II")
_SEGMENTS_MAX = 16
_CHECKSUM_SEED = 0xEF
_DESCRIPTOR = struct.Struct("<I12x32s32s16s16s32s32s")
_DESCRIPTOR_MAGIC = 0xABCD5432
# What REPL and boot text say of themselves; the descriptor of some builds names a commit instead.
_BANNER = re.compile(rb"MicroPython v(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?([-a-z0-9.]*)")
_DIGITS = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?\Z")
# Larger than any flash that ESP-IDF boots from without special settings.
FILE_BYTES_MAX = 16 * 1024 * 1024

Version = tuple[int, int, int]


@dataclass(frozen=True)
class Firmware:
    """A MicroPython image that was checked against itself. ``version`` as numbers, ``release`` as it names itself."""

    path: Path
    chip: str
    version: Version
    release: str
    flash_size: int
    digest: str
    bootloader: Region
    application: Region


@dataclass(frozen=True)
class _Image:
    chip_id: int
    flash_size: int
    size: int  # with checksum and hash


def parse_version(text: str) -> Version:
    """``1.25.0`` or ``v1.25``, as a person names a release."""
    found = _DIGITS.match(text.strip())
    if not found:
        raise WrongVersion(
            "--version", repr(text), "three numbers, as 1.25.0", "Name the release as its download page does"
        )
    major, minor, patch = (int(digits or 0) for digits in found.groups())
    return major, minor, patch


def text_of(version: Version) -> str:
    return ".".join(map(str, version))


def load(path: Path, board: ModuleType, wanted: Version | None = None) -> Firmware:
    """The image for this board: that file, or the best one in that folder. Raises a FlashError that says why not."""
    if path.is_dir():
        return _from_folder(path, board, wanted)
    firmware = read(path)
    check(firmware, board, wanted)
    return firmware


def read(path: Path) -> Firmware:
    """Whatever chip it is for."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise WrongImage(
                str(path), "more than 16 MiB", "a MicroPython image", "Name the .bin file of a release"
            )
        data = path.read_bytes()
    except OSError as error:
        raise WrongImage(
            str(path), str(error.strerror), "a MicroPython image", "Name a file or a folder that you can read"
        ) from error
    return parse(data, path)


def parse(data: bytes, path: Path) -> Firmware:
    """An image file whole, with the chip that it is for."""
    begin = _begin(data, path)
    boot_at = next(
        (at for at in (0, 0x1000) if at >= begin and data[at - begin : at - begin + 1] == b"\xe9"), None
    )
    if boot_at is None:
        raise WrongImage(
            str(path), "no bootloader before its partition table", "a whole release", "Download it again"
        )
    boot = _image(data[boot_at - begin : TABLE_OFFSET - begin], path, "bootloader")
    app = _image(data[APP_OFFSET - begin :], path, "application")
    chip = next((name for name, (number, _) in CHIPS.items() if number == boot.chip_id), "")
    if not chip or app.chip_id != boot.chip_id:
        raise WrongImage(
            str(path),
            f"chip ids {boot.chip_id} (bootloader) and {app.chip_id} (application)",
            f"one of {', '.join(f'{number} {name}' for name, (number, _) in CHIPS.items())} in both",
            "Download the image for your chip again",
        )
    if boot_at != CHIPS[chip][1]:
        raise WrongOffset(
            str(path),
            f"an {chip} bootloader laid out for {boot_at:#x}",
            f"it at {CHIPS[chip][1]:#x}, where the ROM of an {chip} looks",
            "It would be written, verified, and never run: take the release file as it was downloaded",
        )
    program = data[APP_OFFSET - begin :][: app.size]
    version, release = _version(program, path)
    return Firmware(
        path,
        chip,
        version,
        release,
        boot.flash_size,
        hashlib.sha256(data).hexdigest(),
        region("bootloader", boot_at, data[boot_at - begin :][: boot.size]),
        region("micropython", APP_OFFSET, program),
    )


def program(path: Path, board: ModuleType, chip_id: int | None = None) -> tuple[bytes, Version, str]:
    """MicroPython alone, as it lies in its place, out of a whole release or an application image, for this board.

    ``chip_id``: of the board's chip, where that is none of Espressif's.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WrongImage(
            str(path), str(error.strerror), "a MicroPython image", "Name a file that you can read"
        ) from error
    wanted = CHIPS[board.CHIP][0] if chip_id is None else chip_id
    for begin in (0x1000, 0):
        if parse_table(data[TABLE_OFFSET - begin : APP_OFFSET - begin]):
            data = data[APP_OFFSET - begin :]
            break
    image = _image(data, path, "application")
    if image.chip_id != wanted:
        name = next(
            (name for name, (number, _) in CHIPS.items() if number == image.chip_id), str(image.chip_id)
        )
        raise WrongImage(
            str(path),
            f"an image for {name}",
            f"one for {board.CHIP}, the chip of board {board.NAME}",
            f"Download the build {board.MICROPYTHON_BUILD}, or name the board that you have with --board",
        )
    version, release = _version(data[: image.size], path)
    return data[: image.size], version, release


def check(firmware: Firmware, board: ModuleType, wanted: Version | None = None) -> None:
    """Raise unless this board can run it, and it is the version that was asked for."""
    where = str(firmware.path)
    if firmware.chip != board.CHIP:
        raise WrongImage(
            where,
            f"an image for {firmware.chip}",
            f"one for {board.CHIP}, the chip of board {board.NAME}",
            f"Download the build {board.MICROPYTHON_BUILD}, or name the board that you have with --board",
        )
    room = FIRMWARE_END - APP_OFFSET
    if len(firmware.application.data) > room:
        raise DoesNotFit(
            where,
            f"an application of {len(firmware.application.data)} bytes",
            f"at most {room} bytes, from {APP_OFFSET:#x} to {FIRMWARE_END:#x}",
            f"Take the build {board.MICROPYTHON_BUILD}; larger ones are for other partition tables",
        )
    end = max(offset + size for offset, size in board.PARTITIONS.values())
    if firmware.flash_size < end:
        raise DoesNotFit(
            where,
            f"a bootloader for {firmware.flash_size // 2**20} MiB of flash",
            f"one for {-(-end // 2**20)} MiB: the partitions of board {board.NAME} end at {end:#x}",
            f"Take the build {board.MICROPYTHON_BUILD}",
        )
    if firmware.version < board.MICROPYTHON_MIN:
        raise WrongVersion(
            where,
            f"MicroPython {firmware.release}",
            f"{text_of(board.MICROPYTHON_MIN)} or newer on board {board.NAME}",
            "Download a newer release: a node on an older one only says so on its console",
        )
    if wanted is not None and firmware.version != wanted:
        relation = "newer" if firmware.version > wanted else "older"
        raise WrongVersion(
            where,
            f"MicroPython {firmware.release}, {relation} than asked",
            f"{text_of(wanted)} (--version)",
            "Name the file of that release, or ask for this one",
        )


def _from_folder(folder: Path, board: ModuleType, wanted: Version | None) -> Firmware:
    """The newest image for the board's chip, or the one of the wanted version; of the board's own build, if there."""
    files = sorted(folder.glob("*.bin"))
    fitting, reasons = [], []
    for file in files:
        try:
            firmware = read(file)
            check(firmware, board, wanted)
        except (WrongImage, WrongOffset, WrongVersion, NotMicroPython, DoesNotFit) as error:
            reasons.append(f"\n  {file.name}: {error.found}")
        else:
            fitting.append(firmware)
    if not fitting:
        raise WrongImage(
            str(folder),
            f"no image that fits among {len(files)} .bin files{''.join(reasons)}\n",
            f"MicroPython {text_of(wanted or board.MICROPYTHON_MIN)}{'' if wanted else ' or newer'} for {board.CHIP}",
            f"Download the build {board.MICROPYTHON_BUILD} into it",
        )
    build = board.MICROPYTHON_BUILD + "-"
    return max(fitting, key=lambda found: (found.version, found.path.name.startswith(build), found.path.name))


def _begin(data: bytes, path: Path) -> int:
    """The flash address of the file's first byte: where that puts partition table and application right."""
    for begin in (0x1000, 0):
        table = data[TABLE_OFFSET - begin : APP_OFFSET - begin]
        if parse_table(table) and data[APP_OFFSET - begin : APP_OFFSET - begin + 1] == bytes([_MAGIC]):
            return begin
    if data[:1] == bytes([_MAGIC]):
        raise WrongImage(
            str(path),
            "a single image, an application or a bootloader alone",
            "a whole release, with bootloader, partition table and application",
            "Take the .bin file from the download page, not one of a build folder or of an update over the air",
        )
    raise WrongImage(
        str(path),
        f"{len(data)} bytes that begin with {data[:4].hex() or 'nothing'}",
        "the image of a chip (e9…)",
        "Name the .bin file of a MicroPython release",
    )


def _image(data: bytes, path: Path, what: str) -> _Image:
    """Walk an image through its segments to its checksum and hash."""
    try:
        magic, segments, _, size_speed, _, chip_id, hash_appended = _HEADER.unpack_from(data)
        at, checksum = _HEADER_BYTES, _CHECKSUM_SEED
        if magic != _MAGIC or not 0 < segments <= _SEGMENTS_MAX:
            raise _damaged(path, what, "no header of an image")
        for _ in range(segments):
            _, length = _SEGMENT.unpack_from(data, at)
            at += _SEGMENT.size
            if at + length >= len(data):
                raise _damaged(path, what, f"a segment beyond the end of the {len(data)} bytes there are")
            for byte in _folded(data[at : at + length]):
                checksum ^= byte
            at += length
        at += 15 - at % 16
        if data[at] != checksum:
            raise _damaged(path, what, f"checksum {data[at]:02x} where its bytes make {checksum:02x}")
        at += 1
    except (struct.error, IndexError) as error:
        raise _damaged(path, what, f"an end after {len(data)} bytes") from error
    if hash_appended:
        if hashlib.sha256(data[:at]).digest() != data[at : at + 32]:
            raise _damaged(path, what, "a SHA-256 that is not that of its bytes")
        at += 32
    return _Image(chip_id, 2**20 << (size_speed >> 4), at)


def _folded(data: bytes) -> bytes:
    """256 bytes with the same xor as all of these: whole numbers are xored faster than bytes."""
    padded = data + bytes(-len(data) % 256)
    folded = 0
    for at in range(0, len(padded), 256):
        folded ^= int.from_bytes(padded[at : at + 256], "little")
    return folded.to_bytes(256, "little")


def _damaged(path: Path, what: str, found: str) -> WrongImage:
    return WrongImage(
        str(path),
        f"{found} in its {what}",
        "an image that is whole",
        "Download it again; this one is damaged",
    )


def banner(program: bytes) -> str:
    """What MicroPython calls itself; "" for what is none."""
    found = _BANNER.search(program)
    return found.group(0).decode().removeprefix("MicroPython ").rstrip(".") if found else ""


def _version(program: bytes, path: Path) -> tuple[Version, str]:
    descriptor = program[_HEADER_BYTES + _SEGMENT.size :]
    name = declared = ""
    if len(descriptor) >= _DESCRIPTOR.size:
        magic, version, project, *_ = _DESCRIPTOR.unpack_from(descriptor)
        if magic == _DESCRIPTOR_MAGIC:
            name, declared = (text.split(b"\0")[0].decode("utf-8", "replace") for text in (project, version))
    found = _BANNER.search(program)
    if found is None:
        raise NotMicroPython(
            str(path),
            f"the application {name or 'without a name'} {declared}".rstrip(),
            "MicroPython",
            "Name the .bin file of a MicroPython release for this chip",
        )
    major, minor, patch = (int(digits or 0) for digits in found.groups()[:3])
    return (major, minor, patch), banner(program)
