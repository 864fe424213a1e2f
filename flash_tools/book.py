"""The book of a bench: one append-only file in which everything stands that was ever done to a unit.

    crc32 (8 hexadecimal digits) | space | one JSON object | newline

An entry is on disk when `write` returns, so whoever acts upon it afterwards acts upon something that no kill and no
power cut takes back. A kill in the middle of an entry leaves a last line without a newline or with a wrong sum: that
entry was never acted upon, and it is cut off when the book is opened for writing. A line in the middle that does not
check out is damage, and nothing is guessed.

Readers need no lock. There is one writer at a time, for as long as it works: who mints must know all that is taken.
"""

from __future__ import annotations

import contextlib
import json
import threading
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flash_tools import files
from flash_tools.errors import ProvisionError

Entry = dict[str, Any]


class Book:
    """Its entries, and a place for the next. Threads of one run may write in turn."""

    def __init__(self, path: Path, entries: list[Entry], size: int) -> None:
        self.path = path
        self.entries = entries
        self._size = size
        self._is_whole = True
        self._turn = threading.Lock()

    def write(self, entry: Entry) -> None:
        """Durable on return. OSError when the disk does not take it: then it is not in the book."""
        line = _line(entry)
        with self._turn:
            if not self._is_whole:
                files.cut(self.path, self._size)
            self._is_whole = False
            files.append(self.path, line)
            self._is_whole = True
            self._size += len(line)
            self.entries.append(entry)


def read(path: Path) -> list[Entry]:
    """The whole entries of a book; none when there is no book yet. ProvisionError names a damaged line."""
    return _parse(path, _bytes_of(path))[0]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Book]:
    """For writing. ProvisionError when somebody else has it open."""
    try:
        with files.locked(path.with_name(f".{path.name}.lock"), wait=False):
            data = _bytes_of(path)
            entries, whole = _parse(path, data)
            if path.exists():
                # Also when nothing is cut: what a killed writer left may not be on disk yet, and is acted upon now.
                files.cut(path, whole)
                files.sync_folder(path.parent)
            yield Book(path, entries, whole)
    except BlockingIOError as error:
        raise ProvisionError(
            f"{path}: another run works with this bench now. Wait until it ends, or use a bench folder of your own "
            "with a range of addresses of its own"
        ) from error


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _line(entry: Entry) -> bytes:
    body = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %b\n" % (crc32(body), body)


def _parse(path: Path, data: bytes) -> tuple[list[Entry], int]:
    """The entries, and how many bytes they take; less than all where the last one was cut short."""
    entries: list[Entry] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        entry = _entry(data[at:end]) if end >= 0 else None
        if entry is None:
            if end >= 0 and end + 1 < len(data):
                # Not shown: a line may hold anything by now.
                raise ProvisionError(
                    f"{path}:{len(entries) + 1}: this line is damaged, and others follow it. Put the book back from "
                    "its copy; units minted since must be scrapped and minted again"
                )
            break
        entries.append(entry)
        at = end + 1
    return entries, at


def _entry(line: bytes) -> Entry | None:
    head, _, body = line.partition(b" ")
    if head != b"%08x" % crc32(body):
        return None
    try:
        entry = json.loads(body)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
