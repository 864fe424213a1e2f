"""A second decoder of batches, written from SPEC-readings.md section 4 alone: does the page say all of it?

It shares no line with protocols/wire, takes the page at its word, and cares only for being easy to compare with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INTERVALS = [0, 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600, 7200, 14400, 21600]
FLAGS = [1, 2, 3, 4, 9]


def clamped(difference: int) -> int:
    return max(-8191, min(8191, difference))


def unzigzag(number: int) -> int:
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def tail(z: int) -> int:
    return 803733504 // (49152 + z * (1536 + z * (48 + z)))


class Stream:
    """Section 4.1."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = 0
        self.range = 2**24
        self.code = 0
        for _ in range(3):
            self.code = self.code * 256 + self.byte()

    def byte(self) -> int:
        self.taken += 1
        return self.data[self.taken - 1] if self.taken <= len(self.data) else 0

    def target(self) -> int:
        return min(((self.code + 1) * 32 - 1) // (self.range >> 10), 32767)

    def take(self, low: int, high: int) -> None:
        assert low <= self.target() < high
        unit = self.range >> 10
        start = unit * low >> 5
        size = (self.range if high == 32768 else unit * high >> 5) - start
        self.code -= start
        self.range = size
        while self.range < 2**16:
            self.code = self.code * 256 + self.byte()
            self.range *= 256

    def raw(self, count: int) -> int:
        value = 0
        while count:
            group = min(count, 8)
            share = 2 ** (15 - group)
            part = self.target() // share
            self.take(part * share, (part + 1) * share)
            value = value * 2**group + part
            count -= group
        return value

    def exp_golomb(self, order: int) -> int:
        zeros = 0
        while self.raw(1) == 0:
            zeros += 1
        digits = order + zeros
        return 2**digits + self.raw(digits) - 2**order

    def ends_as_the_encoder_would(self) -> bool:
        last = int.from_bytes((self.data + bytes(3))[: self.taken][-3:], "big")
        base = (last - self.code) % 2**24
        if base == 0:
            end = 0
        elif base + self.range > 2**24:
            end = 2**24
        else:
            end = (base + 2**16 - 1) // 2**16 * 2**16
        return self.taken >= len(self.data) and self.data[-1:] != b"\0" and base + self.code == end


@dataclass
class Series:
    """Section 4.4."""

    centre: int
    order: int
    flag: int = 1
    last: int | None = None
    weights: list[int] = field(default_factory=lambda: [1024] * 4)
    spreads: list[int] = field(default_factory=lambda: [48] * 4)
    d: list[int] = field(default_factory=lambda: [0, 0, 0])

    def guesses(self) -> list[int]:
        d1, d2, d3 = self.d
        return [2 * d2 + 2 * d3, 16 * d1, 5 * d1 + 5 * d2 + 3 * d3, -8 * d1 - 3 * d2 - 2 * d3]

    def share_below(self, i: int, k: int, base: int, shift: int) -> int:
        x = 16 * ((k << shift) + base) - 8 - self.guesses()[i]
        s = self.spreads[i] + 13
        z = 511 if abs(x) >= 4 * s else 128 * abs(x) // s
        return tail(z) if x < 0 else 32704 - tail(z)

    def value(self, stream: Stream) -> int:
        if self.last is None:
            self.last = self.centre + unzigzag(stream.exp_golomb(self.order))
            return self.last
        guesses = self.guesses()
        base = (guesses[self.weights.index(max(self.weights))] + 8) >> 4
        shift = next(s for s in range(30) if min(self.spreads) >> s <= 512)

        def below(k: int) -> int:
            mixed = sum(self.weights[i] * self.share_below(i, k, base, shift) for i in range(4))
            return (mixed >> 12) + k + 32

        target = stream.target()
        if target < below(-31):
            stream.take(0, below(-31))
            k = -32 - stream.exp_golomb(3)
        elif target >= below(32):
            stream.take(below(32), 32768)
            k = 32 + stream.exp_golomb(3)
        else:
            k = max(k for k in range(-31, 32) if below(k) <= target)
            stream.take(below(k), below(k + 1))
        d = base + (k << shift) + stream.raw(shift)
        if -31 <= k <= 31:
            v = [
                weight
                * (abs(self.share_below(i, k + 1, base, shift) - self.share_below(i, k, base, shift)) + 1)
                for i, weight in enumerate(self.weights)
            ]
            q = (sum(v) >> 12) + 1
            self.weights = [x // q - (x // q >> 6) + 14 for x in v]
        self.spreads = [
            spread + abs(16 * clamped(d) - guess) - (spread >> 2)
            for spread, guess in zip(self.spreads, guesses, strict=True)
        ]
        self.d = [clamped(d), *self.d[:2]]
        self.last += d
        return self.last


def read_flag(stream: Stream, before: int) -> int:
    """Section 4.3."""
    if stream.target() < 31744:
        stream.take(0, 31744)
        return before
    i = (stream.target() - 31744) // 256
    stream.take(31744 + 256 * i, 32000 + 256 * i)
    return [flag for flag in FLAGS if flag != before][i]


def read_step(stream: Stream, before: int | None) -> int:
    """Section 4.2."""
    if before is None:
        return unzigzag(stream.exp_golomb(10))
    if stream.target() < 30720:
        stream.take(0, 30720)
        return before
    stream.take(30720, 32768)
    return before + unzigzag(stream.exp_golomb(4) + 1)


Content = tuple[int, list[int], list[list[int | None]], list[list[int]] | None]


def decode(codes: list[tuple[int, int]], time: int, body: bytes) -> Content:
    """Time quality, times, rows and flags of a batch; ``codes`` are centre and order of every series."""
    flagged = bool(body[0] & 0x10)
    interval = INTERVALS[body[0] & 0x0F]
    stream = Stream(body[2:])
    columns = [Series(centre, order) for centre, order in codes]
    times, rows, flags = [time], [], []
    step: int | None = None
    for n in range(body[1]):
        if n:
            step = interval or read_step(stream, step)
            times.append(times[-1] + step)
        row: list[int | None] = []
        for column in columns:
            if flagged:
                column.flag = read_flag(stream, column.flag)
            row.append(None if column.flag == 9 else column.value(stream))
        rows.append(row)
        flags.append([column.flag for column in columns])
    assert stream.ends_as_the_encoder_would()
    return body[0] >> 6, times, rows, flags if flagged else None
