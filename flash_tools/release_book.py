"""The folder of releases: book.json, whose keys nodes trust, and each release in a folder of its own.

releases/book.json                          vendor, public keys, revoked keys; no secret
releases/river-virtual/0007/release.json    what it is, of which commit, what its build called things
                           /bundle.bin      the whole bundle
                           /full.bin        the payload that needs no base;  full.suit  its signed envelope
                           /from-0006.bin   the payload for nodes that run 6;  from-0006.suit
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flash_tools.errors import ReleaseError
from flash_tools.naming import Names
from flash_tools.release_record import book_problem, record_problem
from flash_tools.signing import NAMES
from protocols import suit
from protocols.wire import bundle, manifest
from protocols.wire import release as release_file
from protocols.wire.errors import WireError

BOOK = "book.json"
RECORD = "release.json"
BUNDLE = "bundle.bin"
_VERSION = 1
# Releases that an error lists; `tidegate release list` has all.
_TOLD = 8


@dataclass(frozen=True)
class Payload:
    """``base``: the release it is for; None: any node of the class."""

    base: int | None
    name: str  # of its files
    size: int
    sha256: str


@dataclass(frozen=True)
class Release:
    folder: Path
    record: dict[str, Any]

    @property
    def sequence(self) -> int:
        return int(self.record["sequence"])

    @property
    def label(self) -> str:
        return f"{self.record['node_type']}-{self.record['board']}/{self.sequence:04d}"

    @property
    def names(self) -> Names:
        return Names.load(self.record["names"])

    @property
    def payloads(self) -> list[Payload]:
        return [Payload(**payload) for payload in self.record["payloads"]]

    def bundle(self) -> bytes:
        return _read(self.folder / BUNDLE)

    def files(self) -> dict[str, bytes]:
        return unpack(self.bundle())

    def payload(self, payload: Payload) -> bytes:
        return _read(self.folder / f"{payload.name}.bin")

    def envelope(self, payload: Payload) -> bytes | None:
        """None: not signed yet."""
        path = self.folder / f"{payload.name}.suit"
        return _read(path) if path.exists() else None


@dataclass
class Book:
    folder: Path
    data: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Book:
        path = folder / BOOK
        if not path.exists():
            raise ReleaseError(
                f"{path} is missing: tidegate release keygen --vendor DOMAIN begins a folder of releases"
            )
        data = _json(path)
        if data.get("version") != _VERSION:
            raise ReleaseError(f"{path} is no book of releases of version {_VERSION}")
        if problem := book_problem(data):
            raise ReleaseError(f"{path} is no book of releases: {problem}. Restore it from a copy")
        return cls(folder, data)

    @classmethod
    def begin(cls, folder: Path, vendor: str) -> Book:
        return cls(folder, {"version": _VERSION, "vendor": vendor, "keys": [], "revoked": {}})

    def save(self) -> None:
        write(self.folder / BOOK, json.dumps(self.data, indent=1, ensure_ascii=False).encode() + b"\n")

    @property
    def vendor_id(self) -> bytes:
        return suit.vendor_id(self.data["vendor"]).bytes

    def class_id(self, node_type: str, board: str) -> bytes:
        return suit.class_id(suit.vendor_id(self.data["vendor"]), node_type, board).bytes

    @property
    def trusted(self) -> list[dict[str, Any]]:
        """The keys that the next release will trust."""
        return [key for key in self.data["keys"] if key["kid"] not in self.data["revoked"]]

    def check_room(self) -> None:
        """For one more key."""
        if len(self.trusted) >= release_file.MAX_KEYS:
            raise ReleaseError(
                f"{len(self.trusted)} keys are trusted, a node keeps {release_file.MAX_KEYS}: revoke one first"
            )

    def add(self, algorithm: int, public: bytes, name: str) -> str:
        """Trust a key from the next release on; its id."""
        kid = suit.key_id(public).hex()
        if any(key["kid"] == kid for key in self.data["keys"]):
            gone = f", revoked: {self.data['revoked'][kid]}" if kid in self.data["revoked"] else ""
            raise ReleaseError(f"key {kid} is in the book already{gone}")
        self.check_room()
        self.data["keys"].append(
            {"kid": kid, "algorithm": NAMES[algorithm], "public": public.hex(), "name": name}
        )
        return kid

    def revoke(self, kid: str, why: str) -> None:
        if not why.strip():
            raise ReleaseError("say why with --why: it is kept in the book, for who finds the key revoked")
        known = [key["kid"] for key in self.data["keys"]]
        if kid not in known:
            near = get_close_matches(kid, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ReleaseError(
                f"no key {kid!r} in {self.folder / BOOK}{hint or ';'} known: {', '.join(known) or 'none'}"
            )
        if kid in self.data["revoked"]:
            raise ReleaseError(f"key {kid} is revoked already: {self.data['revoked'][kid]}")
        if [key["kid"] for key in self.trusted] == [kid]:
            raise ReleaseError(
                f"key {kid} is the only one that nodes trust: without it nobody could sign for them again. "
                "Make its successor first (tidegate release keygen), ship a release with it, then revoke"
            )
        if len(self.data["revoked"]) >= release_file.MAX_REVOKED:
            raise ReleaseError(f"{release_file.MAX_REVOKED} keys are revoked: a node keeps no more")
        self.data["revoked"][kid] = why

    def release_file(self, sequence: int, node_type: str, board: str) -> bytes:
        """What the bundle says of itself."""
        if not self.trusted:
            raise ReleaseError(
                "no key is trusted: a node with this release could never be updated; keygen first"
            )
        keys = [
            (suit.ES256 if key["algorithm"] == "es256" else suit.HSS_LMS, bytes.fromhex(key["public"]))
            for key in self.trusted
        ]
        revoked = [bytes.fromhex(kid) for kid in sorted(self.data["revoked"])]
        try:
            return release_file.encode(
                sequence, self.vendor_id, self.class_id(node_type, board), keys, revoked
            )
        except WireError as error:
            raise ReleaseError(f"{self.folder / BOOK}: {error}. Restore it from a copy") from error

    def releases(self, node_type: str, board: str) -> list[Release]:
        """Oldest first."""
        found = (self.folder / f"{node_type}-{board}").glob(f"[0-9]*/{RECORD}")
        return sorted((self.open(path.parent) for path in found), key=lambda release: release.sequence)

    def open(self, folder: Path) -> Release:
        record = _json(folder / RECORD)
        if problem := record_problem(record, folder):
            raise ReleaseError(
                f"{folder / RECORD} is no record of a release: {problem}. Restore it, or remove {folder} and build anew"
            )
        return Release(folder, record)

    def find(self, label: str) -> Release:
        """By what a person types: river-virtual/7, its folder, or river-virtual for the newest."""
        for folder in (Path(label), self.folder / label):
            if (folder / RECORD).exists():
                return self.open(folder)
        group, _, number = label.strip("/").rpartition("/") if "/" in label else (label, "", "")
        known = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        every = [self.open(path.parent) for path in (self.folder / group).glob(f"[0-9]*/{RECORD}")]
        every.sort(key=lambda release: release.sequence)
        if number.isdecimal():
            every = [release for release in every if release.sequence == int(number)]
        if every and (not number or number.isdecimal()):
            return every[-1]
        near = get_close_matches(group, known, 1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != group else ""
        raise ReleaseError(
            f"no release {label!r} in {self.folder}{hint or ';'} known: "
            + (", ".join(release.label for release in self.all()[-_TOLD:]) or "none yet")
        )

    def all(self) -> list[Release]:
        """By class, each oldest first."""
        found = [self.open(path.parent) for path in self.folder.glob(f"*/[0-9]*/{RECORD}")]
        return sorted(found, key=lambda release: (release.folder.parent.name, release.sequence))


def next_sequence(earlier: list[Release], wanted: int | None) -> int:
    """The number of a release after these. ``wanted``: None for the next one."""
    newest = earlier[-1].sequence if earlier else 0
    sequence = newest + 1 if wanted is None else wanted
    if not newest < sequence <= manifest.MAX_SEQUENCE:
        raise ReleaseError(
            f"release {sequence}: {newest + 1} to {manifest.MAX_SEQUENCE} is allowed, nodes refuse what is not newer"
        )
    return sequence


def save_record(folder: Path, record: dict[str, Any]) -> None:
    """The last file of a release that is written."""
    write(folder / RECORD, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a bundle. ReleaseError unless it is one."""
    files: dict[str, bytes] = {}
    at, last = 0, ""
    try:
        while at < len(data):
            length = data[at]
            path = data[at + 1 : at + 1 + length].decode("ascii")
            bundle.check_path(path, last)
            at += 1 + length
            size = int.from_bytes(data[at : at + 3], "big")
            content = data[at + 3 : at + 3 + size]
            if len(content) != size:
                raise ReleaseError(f"bundle ends within {path}")
            files[path] = content
            last = path
            at += 3 + size
    except (WireError, ValueError) as error:
        raise ReleaseError(f"no bundle: {error}") from error
    return files


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else changes this folder of releases meanwhile: two at once would each write what it read before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ReleaseError(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # goes with the process, however it ends
        yield
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes) -> None:
    """Old or new, whole."""
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise ReleaseError(f"{path}: {error.strerror}; what was there before is as it was") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_read(path))
    except ValueError as error:
        raise ReleaseError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ReleaseError(f"{path} is no JSON object")
    return data
