"""The program that a board is flashed with: built of this source, or a release, whose node can be updated over the air.

What a node trusts is in its program (release.cbor, OTA.md): one that was built without a release trusts nobody, and
takes no update until it is flashed with one.
"""

from __future__ import annotations

import ast
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flash_tools import node_types
from flash_tools.errors import ImageError, ReleaseError
from flash_tools.images import SLOT, AppImage, build_app_image, image_of, starter
from flash_tools.release_book import BOOK, RECORD, Book, Release
from protocols import suit
from protocols.wire import release as release_file
from protocols.wire.errors import WireError

# The module that says hello, and the name of the version in it.
_REPORTS = "firmware/reports"
_BRIDGE = "firmware/bridge"
_VERSION = "FIRMWARE"
NO_RELEASE = (
    "note: this program is no release: its node trusts no key, and takes no update over the air. To change that, "
    "make one (tidegate release build) and flash it with --release FOLDER"
)


@dataclass(frozen=True)
class Program:
    """``release``: its sequence; 0: it is none. ``version``: what its node says in its hello."""

    image: AppImage
    release: int
    version: str


def program(root: Path, board: str, node_type: str | None, release: Path | None) -> Program:
    """The `app` partition for such a node. ``release`` None: of the sources at ``root``."""
    if release is None:
        return Program(build_app_image(root, board, node_type), 0, firmware_version(root))
    found = find(release, board, node_type)
    files = found.files()
    check(found, files)
    image = image_of(board, image_files(root, files))
    return Program(image, found.sequence, said(files, node_type))


def image_files(root: Path, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The `app` partition of a node that begins its life with this bundle. ``root``: of the sources of the rest."""
    return {**starter(root), **{f"{SLOT}/{path}": data for path, data in files.items()}}


def find(where: Path, board: str, node_type: str | None) -> Release:
    """The release in this folder, or the newest one of this kind in this folder of releases."""
    if (where / RECORD).exists():
        found = Book(where, {}).open(where)
        kind = (found.record["node_type"], found.record["board"])
        if kind != (node_type or kind[0], board):
            raise ReleaseError(
                f"--release {where}: it is of {kind[0]} on {kind[1]}, wanted is {node_type or kind[0]} on {board}. "
                "A node takes only what was made for its class"
            )
        return found
    if (where / BOOK).exists() and node_type is not None:
        earlier = Book.load(where).releases(node_type, board)
        if earlier:
            return earlier[-1]
        raise ReleaseError(
            f"--release {where}: no release of {node_type} on {board} yet. Make one with tidegate release build "
            f"--node {node_type} --board {board} --releases {where}"
        )
    raise ReleaseError(
        f"--release {where}: neither a release ({RECORD}) nor a folder of releases ({BOOK}). Name one, as "
        "releases/river-heltec_wifi_lora_32_v3/0007, or releases for the newest"
    )


def kind_of(where: Path) -> tuple[str, str] | None:
    """(node type, board) of a single release; None for a folder of many."""
    if not (where / RECORD).exists():
        return None
    record = Book(where, {}).open(where).record
    return record["node_type"], record["board"]


def check(found: Release, files: Mapping[str, bytes]) -> None:
    """Whether it is what its record says: what is flashed is not asked for a signature, but must be whole."""
    problem = ""
    digest = hashlib.sha256(found.bundle()).hexdigest()
    try:
        mine = release_file.decode(files.get(release_file.FILE, b""))
    except WireError as error:
        raise ReleaseError(f"{found.folder}: {error}. Build it again") from error
    vendor = uuid.UUID(bytes=mine.vendor)
    wanted = suit.class_id(vendor, found.record["node_type"], found.record["board"]).bytes
    if digest != found.record["sha256"]:
        problem = f"its bundle has SHA-256 {digest[:16]}…, {RECORD} says {found.record['sha256'][:16]}…"
    elif mine.sequence != found.sequence:
        problem = f"its bundle says release {mine.sequence}, {RECORD} says {found.sequence}"
    elif mine.class_id != wanted:
        problem = (
            f"its bundle is for another class than {found.record['node_type']} on {found.record['board']}"
        )
    if problem:
        raise ReleaseError(f"{found.folder}: {problem}. Take it from where it was built, or build it again")


def release_in(files: Mapping[str, bytes]) -> int:
    """The sequence of the bundle with these files; 0: it is no release."""
    try:
        return release_file.decode(files[release_file.FILE]).sequence
    except (KeyError, WireError):
        return 0


def said(files: Mapping[str, bytes], node_type: str | None = None) -> str:
    """What a node with these files says in its hello; "" when nobody can tell."""
    is_role = node_type in node_types.ROLES
    module = f"{_BRIDGE if is_role else _REPORTS}.mpy"
    found = re.search(rb"(?<![\d.])\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])", files.get(module, b""))
    sequence = release_in(files)
    if found is None:
        return ""
    return found[0].decode() + (f"+r{sequence}" if sequence and not is_role else "")


def firmware_version(root: Path) -> str:
    """What this source tree's nodes say in their hello, when they are no release. Read, never imported."""
    path = root / f"{_REPORTS}.py"
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(version))) if (
                name == _VERSION
            ):
                return version
    raise ImageError(f"{path} names no {_VERSION}: this source tree is damaged")
