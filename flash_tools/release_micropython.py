"""Releases of MicroPython itself: an image for a board, signed as every release is, sent over a cable.

In the folder of releases they are the class `micropython` of a board, with a sequence of their own. Nodes of every type
on that board are asked to take them, so the newest release of each of those types has to trust the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from boards.virtual import micropythons
from flash_tools import firmware_image
from flash_tools.errors import FlashError, ReleaseError
from flash_tools.images import board_constants
from flash_tools.release_book import Book, Release, next_sequence, save_record, write
from protocols.wire import interpreter, manifest
from protocols.wire import release as release_file
from protocols.wire.errors import WireError

NAME = interpreter.NAME
# That runs the .mpy version that mpy-cross makes; an image does not say which one it runs.
_MPY_SINCE = (1, 19, 0)


def is_one(release: Release) -> bool:
    return bool(release.record["node_type"] == NAME)


def build(book: Book, file: Path, board: str, sequence: int | None = None, notes: str = "") -> Release:
    """A new release, not signed yet."""
    constants = board_constants(board)
    image, version, name = _image(file, constants)
    if version < max(_MPY_SINCE, constants.MICROPYTHON_MIN):
        raise ReleaseError(
            f"{file}: MicroPython {name}; board {board} needs "
            f"{firmware_image.text_of(constants.MICROPYTHON_MIN)} or newer: on an older one its program does not start"
        )
    room = _room(constants)
    if len(image) > room:
        raise ReleaseError(
            f"{file}: {len(image)} bytes; the place for it on board {board} has {room}. "
            f"Take the build {constants.MICROPYTHON_BUILD}"
        )
    earlier = book.releases(NAME, board)
    sequence = next_sequence(earlier, sequence)
    digest = hashlib.sha256(image).hexdigest()
    record = {
        "version": 1,
        "sequence": sequence,
        "node_type": NAME,
        "board": board,
        "notes": notes or f"MicroPython {name}",
        "commit": None,
        "after": earlier[-1].sequence if earlier else None,
        "micropython": name,
        "size": len(image),
        "sha256": digest,
        "payloads": [{"base": None, "name": "full", "size": len(image), "sha256": digest}],
        "names": {},
    }
    folder = book.folder / f"{NAME}-{board}" / f"{sequence:04d}"
    write(folder / "full.bin", image)
    save_record(folder, record)
    return book.open(folder)


def asked(book: Book, board: str) -> list[tuple[str, release_file.Release]]:
    """Whose nodes are to take it: the newest program of each type on this board, and whom that trusts."""
    newest = {
        release.record["node_type"]: release
        for release in book.all()
        if release.record["board"] == board and not is_one(release)
    }
    return [(one.label, release_file.decode(one.files()[release_file.FILE])) for one in newest.values()]


def check(book: Book, release: Release, *, signed: bool = True) -> Iterator[tuple[str, str]]:
    """(what was checked, what is wrong or ""), each as a node would."""
    board = release.record["board"]
    path = release.folder / "full.bin"
    try:
        image, _, name = _image(path, board_constants(board))
        found = hashlib.sha256(image).hexdigest()
        problem = (
            "" if found == release.record["sha256"] else f"SHA-256 {found[:16]}…, the record says another"
        )
    except FlashError as error:
        name, problem = release.record["micropython"], str(error)
    yield f"full.bin, MicroPython {name} for {board}", problem
    if signed:
        yield "full.suit", _envelope_problem(book, release)


def _envelope_problem(book: Book, release: Release) -> str:
    envelope = release.envelope(release.payloads[0])
    if envelope is None:
        return "not signed: tidegate release sign"
    board = release.record["board"]
    room = _room(board_constants(board))
    judges = asked(book, board)
    if not judges:
        return f"no program for board {board} was released: no node of it trusts anybody yet"
    for label, judge in judges:
        device = interpreter.device(judge, board, release.sequence - 1, room)
        try:
            said = manifest.match(envelope, device, judge.keys)
        except WireError as error:
            return f"{label}: {error.reason}: {error}"
        if (said.size, said.digest.hex(), said.payload_digest) != (
            release.record["size"], release.record["sha256"], said.digest,
        ):  # fmt: skip
            return "it is of another image"
    return ""


def lines(image: bytes) -> list[str]:
    """What an image says, for people."""
    version = firmware_image.banner(image)
    return [
        f"image         {len(image)} B, MicroPython {version}, SHA-256 {hashlib.sha256(image).hexdigest()}"
    ]


def _image(file: Path, board: ModuleType) -> tuple[bytes, firmware_image.Version, str]:
    chip = micropythons.CHIP_ID if board.CHIP == "virtual" else None
    return firmware_image.program(file, board, chip)


def _room(board: ModuleType) -> int:
    if board.SPARE_MICROPYTHON is None:
        raise ReleaseError(
            f"board {board.NAME} has {board.FLASH_SIZE >> 20} MiB of flash, with room for one MicroPython: it is "
            "replaced by cable alone, with tidegate flash --micropython"
        )
    return int(board.SPARE_MICROPYTHON[1])
