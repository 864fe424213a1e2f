"""A set of integers kept as runs: what a gateway knows about 100,000 records costs two numbers, not 100,000 rows.

Used for the committed records of an epoch (ledger.py) and for the rows a northbound still owes (northbound/runner.py).
Runs are closed intervals, sorted, disjoint and never adjacent. The most common case, the next number, takes no search.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """Sorted runs of integers; `starts[i]` to `ends[i]`, both included."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def __len__(self) -> int:
        """How many runs, not how many numbers."""
        return len(self.starts)

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self.starts, number) - 1
        return i >= 0 and number <= self.ends[i]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.starts, self.ends, strict=True))

    def count(self) -> int:
        """How many numbers."""
        return sum(self.ends) - sum(self.starts) + len(self.starts)

    def add(self, first: int, last: int) -> None:
        """Put first..last in; what is there already is kept."""
        starts, ends = self.starts, self.ends
        if not ends or first > ends[-1] + 1:
            starts.append(first)
            ends.append(last)
            return
        if first == ends[-1] + 1:
            ends[-1] = last
            return
        # Runs lo..hi-1 touch or overlap first-1..last+1.
        lo = bisect_left(ends, first - 1)
        hi = bisect_right(starts, last + 1)
        if lo < hi:
            first = min(first, starts[lo])
            last = max(last, ends[hi - 1])
        starts[lo:hi] = [first]
        ends[lo:hi] = [last]

    def remove(self, first: int, last: int) -> None:
        """Take first..last out; what is not there is no matter."""
        starts, ends = self.starts, self.ends
        lo = bisect_left(ends, first)
        hi = bisect_right(starts, last)
        if lo >= hi:
            return
        left = starts[lo]
        right = ends[hi - 1]
        new_starts = []
        new_ends = []
        if left < first:
            new_starts.append(left)
            new_ends.append(first - 1)
        if right > last:
            new_starts.append(last + 1)
            new_ends.append(right)
        starts[lo:hi] = new_starts
        ends[lo:hi] = new_ends

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """The runs of first..last that are not in the set."""
        gaps = []
        starts, ends = self.starts, self.ends
        i = bisect_left(ends, first)
        while i < len(starts) and starts[i] <= last:
            if starts[i] > first:
                gaps.append((first, starts[i] - 1))
            first = ends[i] + 1
            i += 1
        if first <= last:
            gaps.append((first, last))
        return gaps

    def pack(self) -> bytes:
        """16 bytes a run, little-endian: what the store keeps."""
        flat = [edge for run in self for edge in run]
        return struct.pack(f"<{len(flat)}Q", *flat)

    @classmethod
    def unpack(cls, data: bytes) -> Intervals:
        """The set that pack() made these bytes from; ValueError when they are something else."""
        if len(data) % 16:
            raise ValueError(f"{len(data)} bytes of runs: a run takes 16")
        flat = struct.unpack(f"<{len(data) // 8}Q", data)
        runs = cls()
        for first, last in zip(flat[::2], flat[1::2], strict=True):
            if last < first:
                raise ValueError(f"run {first}..{last} ends before it starts")
            runs.add(first, last)
        return runs
