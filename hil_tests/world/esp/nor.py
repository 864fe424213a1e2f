"""The flash chip beside an ESP: NOR rules, a power supply that may fail in the middle, cells that may be bad.

Programming clears bits, erasing a sector sets them all. Addresses wrap at the chip's real size, as those of a chip do
whose label promises more than is inside.
"""

from __future__ import annotations

import random
from collections import Counter

SECTOR = 4096
PAGE = 256
# Of a W25Q chip, typical: a sector's erase and a page's program. They pass on the line's clock.
ERASE_S = 0.045
PROGRAM_S = 0.0007


class PowerLost(Exception):
    """The supply failed while the flash was working: nothing after this moment happens."""


class NorFlash:
    def __init__(self, size: int, image: bytes | None = None, *, seed: int = 0) -> None:
        self.size = size
        self.data = bytearray(b"\xff" * size)
        if image is not None:
            self.data[: len(image)] = image
        self._rng = random.Random(f"{seed} nor")
        # Bytes that may still be programmed, and sectors that may still be erased, before the power fails.
        self.bytes_left: int | None = None
        self.erases_left: int | None = None
        # Sector -> how often it still comes out wrong when it is programmed.
        self.bad_sectors: Counter[int] = Counter()
        self.programmed = self.erased_sectors = 0
        self.busy_s = 0.0

    def read(self, at: int, size: int) -> bytes:
        at %= self.size
        if at + size <= self.size:
            return bytes(self.data[at : at + size])
        return b"".join(self.read(begin, length) for begin, length in self._pieces(at, size, SECTOR))

    def erase(self, at: int, size: int) -> None:
        """Every sector that the range touches."""
        begin = at - at % SECTOR
        for sector in range(begin, at + size, SECTOR):
            self._erase_sector(sector % self.size)

    def program(self, at: int, data: bytes) -> None:
        done = 0
        for begin, length in self._pieces(at, len(data), PAGE if self.bytes_left is not None else SECTOR):
            self._program_piece(begin, data[done : done + length])
            done += length
        self.busy_s += len(data) / PAGE * PROGRAM_S
        self._spoil(at, len(data))

    def _pieces(self, at: int, size: int, step: int) -> list[tuple[int, int]]:
        pieces = []
        while size:
            begin = at % self.size
            length = min(size, step - begin % step)
            pieces.append((begin, length))
            at, size = at + length, size - length
        return pieces

    def _erase_sector(self, sector: int) -> None:
        self.busy_s += ERASE_S
        if self.erases_left is not None:
            if self.erases_left == 0:
                # Erased in part: some bits are set already, and nobody knows which.
                torn = (byte | self._rng.getrandbits(8) for byte in self.data[sector : sector + SECTOR])
                self.data[sector : sector + SECTOR] = bytes(torn)
                self._fail()
            self.erases_left -= 1
        self.data[sector : sector + SECTOR] = b"\xff" * SECTOR
        self.erased_sectors += 1

    def _program_piece(self, at: int, data: bytes) -> None:
        if self.bytes_left is not None and len(data) > self.bytes_left:
            whole, torn = data[: self.bytes_left], data[self.bytes_left : self.bytes_left + 16]
            self._clear_bits(at, whole)
            # What was being programmed: of each byte, some of its bits.
            self._clear_bits(at + len(whole), bytes(byte | self._rng.getrandbits(8) for byte in torn))
            self._fail()
        self._clear_bits(at, data)
        if self.bytes_left is not None:
            self.bytes_left -= len(data)

    def _clear_bits(self, at: int, data: bytes) -> None:
        old = int.from_bytes(self.data[at : at + len(data)], "big")
        self.data[at : at + len(data)] = (old & int.from_bytes(data, "big")).to_bytes(len(data), "big")
        self.programmed += len(data)

    def _fail(self) -> None:
        self.bytes_left = self.erases_left = None
        raise PowerLost

    def _spoil(self, at: int, size: int) -> None:
        for sector in [s for s, times in self.bad_sectors.items() if times and at <= s * SECTOR < at + size]:
            self.bad_sectors[sector] -= 1
            self.data[sector * SECTOR % self.size] ^= 0x5A
