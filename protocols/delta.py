"""Makes what wire/delta.py applies: the shortest way found from the bundle that runs to the new one.

A compiled module changes in few bytes at many places (an index of a name, a jump that became longer), so what is alike
is aligned first, and within an alignment only the differences are told, as sums. The steps become one deflate stream.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

from protocols.wire import bundle
from protocols.wire.delta import (
    ADD,
    BASE_BYTES,
    CHANGE,
    COPY,
    DROP,
    INSERT,
    KEEP,
    NO_BASE,
    SEEK,
    SUM,
    VERSION,
    WINDOW_BITS,
)

# So many equal bytes begin an alignment, when they are more than this better than the one that goes on anyway.
_SEED = 4
_BETTER = 4
# Places of the base that are tried for one seed: in a module of zeros, each is like each other.
_PLACES = 40

Files = Mapping[str, bytes]


class Memory:
    """A tree (wire/bundle.py) in memory."""

    def __init__(self, files: Files | None = None) -> None:
        self.files = dict(files or {})

    def walk(self) -> Iterator[tuple[str, int]]:
        for path in sorted(self.files):
            yield path, len(self.files[path])

    def open(self, path: str) -> io.BytesIO:
        return _Reading(self.files[path])

    def create(self, path: str) -> io.BytesIO:
        return _Writing(self.files, path)


class _Reading(io.BytesIO):
    def seek(self, at: int, whence: int = 0, /) -> int:
        if whence == 1 and self.tell() + at < 0:  # BytesIO would stay at the beginning, littlefs refuses
            raise ValueError("seeks before the beginning")
        return super().seek(at, whence)


class _Writing(io.BytesIO):
    def __init__(self, files: dict[str, bytes], path: str) -> None:
        super().__init__()
        self._files, self._path = files, path

    def close(self) -> None:
        if not self.closed:
            self._files[self._path] = self.getvalue()
        super().close()


def pack(files: Files) -> bytes:
    """The bundle of these files, as bundle.digest reads it from a tree."""
    last = ""
    out = bytearray()
    for path in sorted(files):
        bundle.check_path(path, last)
        out += bundle.head(path, len(files[path])) + files[path]
        last = path
    return bytes(out)


def base_name(files: Files) -> bytes:
    """How a payload names the base that these files are."""
    return hashlib.sha256(pack(files)).digest()[:BASE_BYTES]


def make(base: Files | None, new: Files) -> bytes:
    """The payload that makes ``new`` of ``base``; None: of nothing."""
    steps = bytearray()
    for step in _steps(base or {}, new):
        steps += step
    steps += _number(0)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS, 9)
    name = NO_BASE if base is None else base_name(base)
    return bytes((VERSION, WINDOW_BITS)) + name + deflate.compress(bytes(steps)) + deflate.flush()


def _steps(base: Files, new: Files) -> Iterator[bytes]:
    """In the order of paths on both sides; neighbours to be kept, or dropped, are one step."""
    run = (KEEP, 0)
    for path in sorted(base.keys() | new.keys()):
        if path not in new:
            what = DROP
        elif base.get(path) == new[path]:
            what = KEEP
        else:
            what = -1
        if run[1] and what != run[0]:
            yield _number(run[1] << 2 | run[0])
            run = (what, 0)
        if what >= 0:
            run = (what, run[1] + 1)
        elif path in base:
            yield _number(len(new[path]) << 2 | CHANGE)
            yield from _edits(base[path], new[path])
        else:
            yield _number(len(path) << 2 | ADD) + path.encode() + _number(len(new[path])) + new[path]
    if run[1]:
        yield _number(run[1] << 2 | run[0])


def _edits(old: bytes, new: bytes) -> Iterator[bytes]:
    at = place = 0
    for start, begin, length in _alignments(old, new):
        if start > at:
            yield _number(start - at << 2 | INSERT) + new[at:start]
        if begin != place:
            ahead = begin - place
            yield _number((2 * ahead if ahead > 0 else -2 * ahead - 1) << 2 | SEEK)
        at, place = start + length, begin + length
        yield from _differences(old[begin:place], new[start:at])
    if at < len(new):
        yield _number(len(new) - at << 2 | INSERT) + new[at:]


def _differences(old: bytes, new: bytes) -> Iterator[bytes]:
    """Of two that are aligned."""
    at = 0
    while at < len(new):
        end = at
        while end < len(new) and old[end] == new[end]:
            end += 1
        if end > at:
            yield _number(end - at << 2 | COPY)
        at = end
        while end < len(new) and old[end] != new[end]:
            end += 1
        if end > at:
            changes = bytes((b - a) & 0xFF for a, b in zip(old[at:end], new[at:end], strict=True))
            yield _number(end - at << 2 | SUM) + changes
        at = end


def _alignments(old: bytes, new: bytes) -> Iterator[tuple[int, int, int]]:
    """(place in new, place in old, length), in the order of the new one, where the two are mostly alike."""
    seeds = defaultdict(list)
    for place in range(len(old) - _SEED + 1):
        seeds[old[place : place + _SEED]].append(place)
    start, shift = 0, 0  # of the alignment that goes on: old place = new place + shift
    at = 0
    while at < len(new):
        length, place = _longest(old, new, at, seeds)
        alike = _alike(old, new, at, at + length, shift)
        if length > alike + _BETTER:
            end, begin = _split(old, new, start, at, shift, place - at)
            if end > start:
                yield start, start + shift, end - start
            start, shift = begin, place - at
            at += length
        else:
            at += max(alike, 1) if length == alike else 1
    end, _ = _split(old, new, start, len(new), shift, None)
    if end > start:
        yield start, start + shift, end - start


def _longest(old: bytes, new: bytes, at: int, seeds: Mapping[bytes, list[int]]) -> tuple[int, int]:
    """(length, place in old) of the longest that is the same."""
    best, found = 0, 0
    for place in seeds.get(new[at : at + _SEED], ())[:_PLACES]:
        if best and old[place : place + best] != new[at : at + best]:
            continue
        length = max(best, _SEED)
        most = min(len(old) - place, len(new) - at)
        while length < most and old[place + length] == new[at + length]:
            length += 1
        if length > best:
            best, found = length, place
    return best, found


def _alike(old: bytes, new: bytes, start: int, end: int, shift: int) -> int:
    """How many bytes of this stretch of the new one are the same under an alignment."""
    first, last = max(start, -shift), min(end, len(old) - shift)
    return sum(new[at] == old[at + shift] for at in range(first, last))


def _split(old: bytes, new: bytes, start: int, end: int, left: int, right: int | None) -> tuple[int, int]:
    """Up to where the one alignment goes on, and from where the next one holds: what is between is inserted.

    A byte that is alike is worth one, one that is not costs one.
    """
    worth = score = 0
    until = start
    best = [(0, start)]  # of each place: the best end of the left one up to there
    for at in range(start, end):
        score += 1 if 0 <= at + left < len(old) and old[at + left] == new[at] else -1
        if not 0 <= at + left < len(old):
            score -= end  # there is nothing to add to
        if score > worth:
            worth, until = score, at + 1
        best.append((worth, until))
    if right is None:
        return until, end
    worth, until = best[-1]
    begin, score = end, 0
    for at in range(end - 1, start - 1, -1):
        if not 0 <= at + right < len(old):
            break
        score += 1 if old[at + right] == new[at] else -1
        if best[at - start][0] + score > worth:
            worth, (until, begin) = best[at - start][0] + score, (best[at - start][1], at)
    return until, begin


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
