"""The parity code of a broadcast: which fragments each row adds up, and what a receiver makes of the rows it has.

LoRaWAN TS004-1.0.0 (Fragmented Data Block Transport), appendix: rows 1 to M are the fragments themselves, each row
beyond is the exclusive or of about half of them, drawn by a generator that both ends have. A set of fragments is an
integer here, bit i for fragment i (counted from 0), so that a row is added with one operation of the interpreter.
"""

from protocols.wire.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What the 14 bits of a data fragment's number can say.
MAX_ROW = 0x3FFF
# Fragments that are worked out at once: their number squared is a quarter of the bytes that it takes. Of 427 fragments
# three tenths are 128, and in bursts up to 240 for one of a hundred; who misses more wants the fragments themselves.
MAX_MISSING = 256


def _prbs23(x: int) -> int:
    return (x >> 1) | (((x ^ (x >> 5)) & 1) << 22)


def row(number: int, count: int) -> int:
    """The fragments that row `number` (from 1) of `count` fragments adds up."""
    if not 1 <= number <= MAX_ROW or count < 1:
        raise DecodeError("row %d of %d fragments: rows are counted from 1 to %d" % (number, count, MAX_ROW))
    if number <= count:
        return 1 << (number - 1)
    # A power of two would hit the short cycles of the generator.
    modulus = count if count & (count - 1) else count + 1
    x = 1 + 1001 * (number - count)
    flags = bytearray((count + 7) // 8)
    for _ in range(count // 2):
        at = count
        while at >= count:
            x = _prbs23(x)
            at = x % modulus
        flags[at >> 3] |= 1 << (at & 7)
    return int.from_bytes(flags, "little")


def add(one: bytes, other: bytes) -> bytes:
    """The exclusive or of two pieces of the same length."""
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")


def members(mask: int) -> "Iterable[int]":
    """The numbers of the bits that are set, the lowest first."""
    at = 0
    while mask:
        low = mask & 0xFF
        if low:
            for bit in range(8):
                if low >> bit & 1:
                    yield at + bit
        mask >>= 8
        at += 8


def size(mask: int) -> int:
    """How many bits are set."""
    return bin(mask).count("1")


class Solver:
    """Works out missing fragments from rows of parity, one row at a time (Gauss and Jordan, over bits).

    `known` are the fragments that are there, `numbers` the rows of parity. What is kept of a row is which of the
    missing fragments it has left, and which rows were added up to get there: two bits per missing fragment, 16 KiB in
    all for MAX_MISSING.
    """

    def __init__(self, count: int, known: int, numbers: "Iterable[int]") -> None:
        self.count = count
        self.missing = [at for at in range(count) if not known >> at & 1]
        self.waiting = list(numbers)
        self.used: "list[int]" = []  # rows that said something new
        self._width = (len(self.missing) + 7) // 8
        self._pivots: "list[int]" = []
        self._rows = bytearray(2 * self._width * len(self.missing))

    @property
    def is_solved(self) -> bool:
        return len(self.used) == len(self.missing)

    def step(self) -> bool:
        """Take one more row in; True when there is nothing left to do."""
        if self.waiting and not self.is_solved:
            number = self.waiting.pop(0)
            row_left = self._reduced(number)
            if row_left & (1 << 8 * self._width) - 1:
                self._keep(number, row_left)
        return self.is_solved or not self.waiting

    def solutions(self) -> "Iterable[tuple[int, list[int]]]":
        """Each missing fragment, counted from 0, with the rows that add up to it and to known fragments."""
        for place, pivot in enumerate(self._pivots):
            rows = self._at(place) >> 8 * self._width
            yield self.missing[pivot], [self.used[one] for one in members(rows)]

    def _reduced(self, number: int) -> int:
        flags = row(number, self.count).to_bytes((self.count + 7) // 8, "little")
        packed = bytearray(2 * self._width)
        for at, fragment in enumerate(self.missing):
            if flags[fragment >> 3] >> (fragment & 7) & 1:
                packed[at >> 3] |= 1 << (at & 7)
        own = len(self.used)
        packed[self._width + (own >> 3)] |= 1 << (own & 7)
        left = int.from_bytes(packed, "little")
        for place, pivot in enumerate(self._pivots):
            if left >> pivot & 1:
                left ^= self._at(place)
        return left

    def _keep(self, number: int, left: int) -> None:
        pivot = 0
        while not left >> pivot & 1:
            pivot += 1
        for place in range(len(self.used)):
            if self._rows[2 * self._width * place + (pivot >> 3)] >> (pivot & 7) & 1:
                self._put(place, self._at(place) ^ left)
        self._put(len(self.used), left)
        self._pivots.append(pivot)
        self.used.append(number)

    def _at(self, place: int) -> int:
        size = 2 * self._width
        return int.from_bytes(self._rows[size * place : size * (place + 1)], "little")

    def _put(self, place: int, left: int) -> None:
        size = 2 * self._width
        self._rows[size * place : size * (place + 1)] = left.to_bytes(size, "little")
