"""One writing session of a loader: begun with a size and an address, fed with blocks, ended.

A ROM erases all of it when the session begins and writes a block before it answers. A stub erases sector by sector
just before it writes, and answers before it writes: an error comes with the answer to the next command.
"""

from __future__ import annotations

import zlib

from hil_tests.world.esp.nor import SECTOR, NorFlash


class Refused(Exception):
    """What a loader answers with: its error code, as the stub's (two bytes) and the ROM's (second byte)."""

    def __init__(self, stub: int, rom: int) -> None:
        super().__init__(f"{stub:#x} {rom:#x}")
        self.stub, self.rom = stub, rom


BAD_LENGTH = (0xC000, 0x05)
BAD_CHECKSUM = (0xC100, 0x07)
BAD_BLOCK_SIZE = (0xC200, 0x01)
INVALID = (0xC300, 0x05)
FAILED = (0xC400, 0x06)
NOT_IN_FLASH_MODE = (0xC600, 0x06)
INFLATE = (0xC700, 0x0B)
NOT_ENOUGH = (0xC800, 0x0A)
TOO_MUCH = (0xC900, 0x06)


class WriteSession:
    """``size`` counts bytes of flash; ``packed`` those on the line, where they are compressed."""

    def __init__(self, flash: NorFlash, at: int, size: int, *, is_stub: bool, is_packed: bool) -> None:
        if not is_stub and at % SECTOR:
            raise Refused(*FAILED)
        self._flash = flash
        self._at = at
        self._left = size
        self._erase_next = at - at % SECTOR
        self._erase_end = at + size
        self._is_stub = is_stub
        self._inflate = zlib.decompressobj() if is_packed else None
        if not is_stub:
            self._erase_until(self._erase_end)

    @property
    def is_packed(self) -> bool:
        return self._inflate is not None

    def write(self, block: bytes) -> None:
        if self._inflate is None:
            if not self._left:
                raise Refused(*TOO_MUCH)
            self._put(block)
            return
        if self._inflate.eof:
            raise Refused(*TOO_MUCH)
        try:
            self._put(self._inflate.decompress(block))
        except zlib.error as error:
            raise Refused(*INFLATE) from error

    def end(self) -> None:
        if self._inflate is not None and not self._inflate.eof and self._left:
            raise Refused(*NOT_ENOUGH)

    def _put(self, data: bytes) -> None:
        """The last block of a host may be padded: what is over is not written."""
        data = data[: self._left]
        if self._is_stub:
            self._erase_until(self._at + len(data))
        self._flash.program(self._at, data)
        self._at += len(data)
        self._left -= len(data)

    def _erase_until(self, end: int) -> None:
        while self._erase_next < min(end, self._erase_end):
            self._flash.erase(self._erase_next, 1)
            self._erase_next += SECTOR
