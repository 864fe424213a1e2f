"""On CPython what MicroPython's `deflate` does: read() from a raw deflate stream in a file, a piece at a time."""

from __future__ import annotations

import zlib
from typing import BinaryIO

_CHUNK = 256


class Inflating:
    def __init__(self, file: BinaryIO, window_bits: int) -> None:
        self._file = file
        self._stream = zlib.decompressobj(-window_bits)

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; b"" at the end. OSError for what is no such stream, EOFError where it breaks off."""
        found = b""
        while len(found) < count and not self._stream.eof:
            data = self._stream.unconsumed_tail or self._file.read(_CHUNK)
            try:
                piece = self._stream.decompress(data, count - len(found))
            except zlib.error as exc:
                raise OSError(22, str(exc)) from exc
            if not data and not piece:
                raise EOFError
            found += piece
        return found
