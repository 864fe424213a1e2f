"""What of an image a chip lacks, found by checksums that the chip makes of its own flash.

The map has one MD5 per 64 KiB, which a chip answers in tens of milliseconds; where one differs, and the block on the
chip is not blank, its 4-KiB sectors are asked for in turn. What comes out are runs of sectors to erase and write: whole
erase units, so that writing one can not touch its neighbours. Applied anew after a cut, the same comparison finds only
what is still missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

BLOCK = 64 * 1024
SECTOR = 4096
_BLANK = b"\xff"

Md5Of = Callable[[int, int], str]


class Region(NamedTuple):
    """One image and its place. ``guard``: bytes at its begin without which nothing in it counts."""

    name: str
    offset: int
    data: bytes
    guard: int = 0

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    def __repr__(self) -> str:
        """Without its bytes: those of `state` hold a key."""
        return f"Region({self.name} at {self.offset:#x}, {len(self.data)} bytes)"


class Run(NamedTuple):
    """Neighbouring sectors within one block that have to change. ``data`` b"": erased, nothing is written."""

    region: str
    offset: int
    size: int
    data: bytes

    def __repr__(self) -> str:
        return f"Run({self.region} at {self.offset:#x}, {self.size} bytes)"


@dataclass(frozen=True)
class Difference:
    """``blocks``: how many of the region's differ, of ``total``."""

    region: Region
    runs: tuple[Run, ...]
    blocks: int
    total: int

    @property
    def data_bytes(self) -> int:
        return sum(len(run.data) for run in self.runs)


def region(name: str, offset: int, data: bytes, guard: int = 0) -> Region:
    """An image, filled up to whole sectors as erased flash reads."""
    if offset % SECTOR or guard % SECTOR:
        raise ValueError(f"{name} at {offset:#x}: not the begin of a sector")
    return Region(name, offset, data + _BLANK * (-len(data) % SECTOR), guard)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@cache
def blank_md5(size: int) -> str:
    """Of erased flash."""
    return md5(_BLANK * size)


def blocks(of: Region) -> Iterator[tuple[int, bytes]]:
    """(offset, content) of the pieces of a region, cut where the flash has its 64-KiB blocks."""
    at = of.offset
    while at < of.end:
        end = min(of.end, (at // BLOCK + 1) * BLOCK)
        yield at, of.data[at - of.offset : end - of.offset]
        at = end


def compare(of: Region, md5_of: Md5Of) -> Difference:
    """What has to be sent so that the chip holds this region."""
    runs: list[Run] = []
    differing = total = 0
    for offset, content in blocks(of):
        total += 1
        found = md5_of(offset, len(content))
        if found != md5(content):
            differing += 1
            runs += _runs(of.name, offset, content, found == blank_md5(len(content)), md5_of)
    return Difference(of, tuple(runs), differing, total)


def is_blank(offset: int, size: int, md5_of: Md5Of) -> bool:
    """Whether this part of the flash is erased."""
    whole = Region("", offset, bytes(size))
    return all(md5_of(at, len(part)) == blank_md5(len(part)) for at, part in blocks(whole))


def behind_guard(difference: Difference) -> tuple[Run, ...]:
    """What of a difference does not touch the guard."""
    border = difference.region.offset + difference.region.guard
    pieces = [piece for run in difference.runs for piece in _cut(run, border)]
    return tuple(piece for piece in pieces if piece.offset >= border)


def guard_run(of: Region) -> Run:
    return _run(of.name, of.offset, of.data[: of.guard])


def without_guard(of: Region) -> Region:
    return Region(of.name, of.offset + of.guard, of.data[of.guard :])


def guard_alone(of: Region) -> Region:
    return Region(of.name, of.offset, of.data[: of.guard])


def count_blocks(runs: Iterable[Run]) -> int:
    """How many 64-KiB blocks these runs touch; a run stays within one."""
    return len({run.offset // BLOCK for run in runs})


def _cut(run: Run, border: int) -> list[Run]:
    """The run, or its two parts before and behind a border."""
    if not run.offset < border < run.offset + run.size:
        return [run]
    size = border - run.offset
    return [
        Run(run.region, run.offset, size, run.data[:size]),
        Run(run.region, border, run.size - size, run.data[size:]),
    ]


def _runs(name: str, offset: int, content: bytes, chip_is_blank: bool, md5_of: Md5Of) -> Iterator[Run]:
    """The sectors of one block that differ, neighbours of one kind (to erase, to write) together."""
    begin = 0
    kind = ""
    for at in range(0, len(content) + SECTOR, SECTOR):
        this = _kind(offset + at, content[at : at + SECTOR], chip_is_blank, md5_of)
        if this != kind:
            if kind:
                yield _run(name, offset + begin, content[begin:at])
            begin, kind = at, this


def _kind(offset: int, sector: bytes, chip_is_blank: bool, md5_of: Md5Of) -> str:
    if not sector:
        return ""
    is_blank_here = not sector.strip(_BLANK)
    if chip_is_blank:
        return "" if is_blank_here else "write"
    if md5_of(offset, len(sector)) == md5(sector):
        return ""
    return "erase" if is_blank_here else "write"


def _run(name: str, offset: int, data: bytes) -> Run:
    return Run(name, offset, len(data), data if data.strip(_BLANK) else b"")
