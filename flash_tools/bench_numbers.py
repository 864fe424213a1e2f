"""The numbers that a bench may use only once for a node: PIVs of its own, and command ids (SPEC.md section 3.3).

One small file beside the keys; each block of PIVs is durable before the first of it is used. A number is never below
the time, so a file that was lost, or restored from a backup, repeats none either as long as this machine's clock is
right; and where the clock is wrong, the file is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from flash_tools.errors import BenchError
from protocols.wire.limits import MAX_PIV, PIV_BLOCK

FILE_NAME = "bench-numbers.json"
# A PIV begins at the seconds since 1970, times this: more than a bench sends in a second, and room until 2106.
PIVS_PER_S = 256
# No release of this is older.
_BEGIN_S = 1_767_225_600
_IDS_END = 1 << 32


class Numbers:
    """Those of one node."""

    def __init__(self, file: Path, address: int, unix_s: Callable[[], float]) -> None:
        self._file = file
        self._key = f"{address:04x}"
        self._unix_s = unix_s
        self._next = 0
        self._end = 0

    def piv(self) -> int:
        """One that this bench never used for this node before."""
        if self._next >= self._end:
            self._reserve()
        self._next += 1
        return self._next - 1

    def skip_ahead(self) -> None:
        """Go on from the time: a node that was reset takes no PIV of the block that it last heard one of."""
        self._end = self._next

    def _reserve(self) -> None:
        with self._changing() as numbers:
            first = max(int(numbers.get("piv", 0)), int(self._unix_s()) * PIVS_PER_S)
            if first + PIV_BLOCK > MAX_PIV:
                raise BenchError(f"{self._file}: the PIVs of node {self._key} are used up: mint it again")
            numbers["piv"] = first + PIV_BLOCK
        self._next, self._end = first, first + PIV_BLOCK

    def command_id(self) -> int:
        """Above every one given before, and at least the time, as a gateway's are."""
        now_s = int(self._unix_s())
        if now_s < _BEGIN_S:
            raise BenchError(
                "the clock of this machine is years behind, and command ids follow it: set it, or the node would take "
                "a command for an old one"
            )
        with self._changing() as numbers:
            found = max(int(numbers.get("command_id", 0)) + 1, now_s)
            if found >= _IDS_END:
                raise BenchError(
                    f"{self._file}: the command ids of node {self._key} are used up: mint it again"
                )
            numbers["command_id"] = found
        return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, int]]:
        """The node's entry; what is changed in it is on disk before this returns, and other benches wait."""
        try:
            lock = os.open(
                self._file.with_name(f".{self._file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise BenchError(
                f"{self._file}: {error.strerror}. A bench must write down which numbers it used: keep the keys in a "
                "folder that you can write to"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = self._load()
            yield book.setdefault(self._key, {})
            self._save(book)
        finally:
            os.close(lock)

    def _load(self) -> dict[str, dict[str, int]]:
        try:
            book = json.loads(self._file.read_text(encoding="utf-8"))
            if not isinstance(book, dict) or not all(
                isinstance(entry, dict) and all(type(number) is int for number in entry.values())
                for entry in book.values()
            ):
                raise ValueError("not what this tool writes")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BenchError(
                f"{self._file}: can not be read ({error}). It says which numbers this bench has used. If the clock of "
                "this machine is right and always was, remove the file: no number below the time is used again"
            ) from error
        return book

    def _save(self, book: dict[str, dict[str, int]]) -> None:
        partial = self._file.with_name(f".{self._file.name}.new")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(book, indent=1, sort_keys=True) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self._file)
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise BenchError(
                f"{self._file}: can not be written: {error.strerror}; nothing was sent"
            ) from error
