"""What a node on the bench runs: its slots, read out of its `app` partition, block by block as littlefs asks for them.

The record is firmware/slots.py's (STORAGE.md): a flashed node has none and runs /a; updates over the air go to the slot
that does not run. To read it takes a dozen blocks of the flash, so it is read only where `app` is to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

from littlefs import LittleFS, UserContext
from littlefs.errors import LittleFSError

from flash_tools import shipped
from protocols.wire import document
from protocols.wire import release as release_file

FOLDERS = ("/a", "/b")
NAME = "slots"
COPIES = ("/1", "/2")
_RECORD = Struct("<BBBBI")
_NONE = 255
_EROFS = -30

Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Slots:
    """``running``, ``trial``: folders; ``releases``: by folder, 0 for a program that is none; absent: no program."""

    running: str
    trial: str | None
    crashes: int
    starts: int
    tried: int
    releases: Mapping[str, int]

    @property
    def release(self) -> int:
        """The one that is confirmed; 0: none."""
        return self.releases.get(self.running, 0)

    @property
    def told(self) -> str:
        """For a person; "" when there is nothing to tell: a program that was flashed, and is no release."""
        if self.trial is not None:
            return f"release {self.releases.get(self.trial, 0)} in {self.trial} on trial, beside {self._ran}"
        return self._ran if self.release or self.running != FOLDERS[0] else ""

    @property
    def _ran(self) -> str:
        how = "which came over the air" if self.running != FOLDERS[0] or self.tried else "as it was flashed"
        name = f"release {self.release}" if self.release else "a program that is no release"
        return f"{name} in {self.running}, {how}"


def decode(files: Mapping[str, bytes]) -> tuple[int, int, int, int, int] | None:
    """The record, out of its two copies; None: there is none, /a runs. ``files``: of the partition, by path."""
    best: tuple[int, bytes] | None = None
    for folder in COPIES:
        found = document.decode(NAME, files.get(f"{folder}/{NAME}", b""))
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    if best is None or len(best[1]) != _RECORD.size:
        return None
    running, trial, crashes, starts, tried = _RECORD.unpack(best[1])
    return running, trial, crashes, starts, tried


def slots_of(files: Mapping[str, bytes]) -> Slots | None:
    """``files``: of an `app` partition, by path; None when there is no slot in it."""
    releases = {
        folder: shipped.release_in({release_file.FILE: files.get(f"{folder}/{release_file.FILE}", b"")})
        for folder in FOLDERS
        if f"{folder}/main.py" in files
    }
    if not releases:
        return None
    running, trial, crashes, starts, tried = decode(files) or (0, _NONE, 0, 0, 0)
    return Slots(
        FOLDERS[running & 1],
        None if trial == _NONE else FOLDERS[trial & 1],
        crashes,
        starts,
        tried,
        releases,
    )


def read(read_flash: Read, place: tuple[int, int], block_size: int) -> Slots | None:
    """Of a chip; None when its `app` can not be read: it is blank, or was being flashed when the power went."""
    offset, size = place
    flash = LittleFS(
        context=_Context(read_flash, offset),
        block_size=block_size,
        block_count=size // block_size,
        mount=False,
    )
    wanted = [f"{folder}/{NAME}" for folder in COPIES]
    wanted += [f"{folder}/{name}" for folder in FOLDERS for name in ("main.py", release_file.FILE)]
    files = {}
    try:
        flash.mount()
        for path in wanted:
            try:
                with flash.open(path, "rb") as file:
                    files[path] = file.read()
            except FileNotFoundError:
                pass
    except (LittleFSError, OSError):
        return None
    return slots_of(files)


class _Context(UserContext):
    """A flash that is only read, each block once."""

    def __init__(self, read_flash: Read, offset: int) -> None:
        super().__init__(0)
        self._read = read_flash
        self._offset = offset
        self._blocks: dict[int, bytes] = {}

    def read(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        if block not in self._blocks:
            at = self._offset + block * cfg.block_size
            self._blocks[block] = self._read(at, cfg.block_size)
        return bytearray(self._blocks[block][off : off + size])

    def prog(self, cfg: Any, block: int, off: int, data: bytes) -> int:
        return _EROFS

    def erase(self, cfg: Any, block: int) -> int:
        return _EROFS
