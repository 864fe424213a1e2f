"""Where an update is kept while it is received: what protocols/wire/ota.py calls a store, in one file of `state`.

    file = entry*        entry = number u16 (big-endian) | length u8 | data

It only ever grows, by one entry at a time, which littlefs makes visible as a whole; the latest entry of a number
counts. All entries but the first, which says what is received, have one length, so where an entry is follows from
which one it is: two bytes of heap for each are enough.
"""

import io
from array import array

from firmware.pending import PIECES as PATH
from protocols.wire.ota import HEAD, OtaReceiver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_ENTRY_HEAD = 3


class Pieces:
    """The store, as a power cut left it. ``fs``: the `state` file system."""

    def __init__(self, fs: "Any") -> None:
        self._fs = fs
        self._first = b""  # the entry HEAD
        self.width = 0  # of each of the others, head and all
        self._numbers = array("H")  # of the others, in their order
        try:
            end: int = fs.stat(PATH)[6]
        except OSError:
            return
        with fs.open(PATH, "rb") as file:
            self._first = self._entry(file)
            at = _ENTRY_HEAD + len(self._first)
            while at < end:
                file.seek(at)
                head = file.read(_ENTRY_HEAD)
                if len(head) < _ENTRY_HEAD:
                    break
                self.width = _ENTRY_HEAD + head[2]
                self._numbers.append(head[0] << 8 | head[1])
                at += self.width

    def numbers(self) -> "Iterable[int]":
        if self._first:
            yield HEAD
        for number in self._numbers:
            yield number

    def put(self, number: int, data: bytes) -> None:
        with self._fs.open(PATH, "wb" if number == HEAD else "ab") as file:
            file.write(bytes((number >> 8, number & 0xFF, len(data))) + data)
        if number == HEAD:
            self._first = data
        else:
            self.width = _ENTRY_HEAD + len(data)
            self._numbers.append(number)

    def get(self, number: int) -> bytes:
        if number == HEAD:
            return self._first
        for at in range(len(self._numbers) - 1, -1, -1):
            if self._numbers[at] == number:
                with self._fs.open(PATH, "rb") as file:
                    file.seek(_ENTRY_HEAD + len(self._first) + at * self.width)
                    return self._entry(file)
        raise OSError(2)

    def clear(self) -> None:
        if self._first:
            self._fs.remove(PATH)
        self._first = b""
        self._numbers = array("H")

    @staticmethod
    def _entry(file: "Any") -> bytes:
        head = file.read(_ENTRY_HEAD)
        return bytes(file.read(head[2])) if len(head) == _ENTRY_HEAD else b""


class Whole(io.IOBase):
    """What was received, as a file to read from. ``end`` is its size, 0 when it is not all there."""

    def __init__(self, fs: "Any") -> None:
        pieces = Pieces(fs)
        self._receiver = OtaReceiver(pieces, 0)
        setup = self._receiver.setup
        self.end = 0
        self._fragment = pieces.width - _ENTRY_HEAD
        # Entries of another length were not put there by a receiver.
        if setup is not None and setup.size == self._fragment and not self._receiver.deficit():
            while not self._receiver.work():
                pass
            self.end = setup.length
        self._at = 0
        self._number = 0
        self._data: "Any" = b""  # of fragment `number`

    def seek(self, at: int) -> None:  # type: ignore[override]
        self._at = at

    def readinto(self, buffer: "Any") -> int:
        """Up to the end of a fragment: fewer than were asked for are not the end."""
        left = min(len(buffer), self.end - self._at)
        if left <= 0:
            return 0
        number = self._at // self._fragment + 1
        if number != self._number:
            self._data = memoryview(self._receiver.read(number))
            self._number = number
        first = self._at % self._fragment
        piece = self._data[first : first + left]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def read(self, count: int) -> bytes:
        """So many bytes, fewer only at the end."""
        out = bytearray(count)
        view = memoryview(out)
        done = 0
        while done < count:
            got = self.readinto(view[done:])
            if not got:
                break
            done += got
        return bytes(view[:done])
