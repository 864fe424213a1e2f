"""The rows of a damaged SQLite file, page by page, without SQLite.

SQLite gives up a whole table when one page on the way to it is spoilt. Its leaves say what they are, and hold whole
rows: so each page is read for itself. Which table a page belongs to follows from its root, as long as the way there is
intact; a leaf that nothing leads to any more is matched by the shape of its rows. Pages of the log (-wal) stand over
those of the file when their checksums hold, up to its last commit. Nothing here raises for what is in a file.

Format: the SQLite project's own description of its database file and of the WAL.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_HEADER_BYTES = {_INTERIOR_INDEX: 12, _INTERIOR_TABLE: 12, _LEAF_INDEX: 8, _LEAF_TABLE: 8}
_INT_BYTES = (0, 1, 2, 3, 4, 6, 8)
_WAL_MAGIC = 0x377F0682
# A row of ours has a kilobyte; a longer chain of overflow pages is damage.
_ROW_BYTES_MAX = 1 << 20

Value = int | float | str | bytes | None


class Row(NamedTuple):
    """`rowid` is None in a table WITHOUT ROWID."""

    rowid: int | None
    values: tuple[Value, ...]


class _Damaged(Exception):
    """This page, cell or row cannot be what it says; caught in here."""


class Pages:
    """A database file and its log, as they are."""

    def __init__(self, database: Path) -> None:
        self._data = _mapped(database)
        self._log, size = _read_log(_bytes_of(database.with_name(database.name + "-wal")))
        self.count = size or len(self._data) // PAGE

    def page(self, number: int) -> bytes:
        """Its bytes; fewer than a page when there is none."""
        logged = self._log.get(number)
        return self._data[(number - 1) * PAGE : number * PAGE] if logged is None else logged

    def roots(self) -> dict[str, int]:
        """Root page by table or index, as the schema tells; empty when it cannot be read."""
        found = {}
        for row in self.rows(self.walk(1)[0]):
            if (
                len(row.values) == 5
                and isinstance(row.values[1], str)
                and isinstance(row.values[3], int)
                and row.values[3]
            ):
                found[row.values[1]] = row.values[3]
        return found

    def walk(self, root: int) -> tuple[list[int], bool]:
        """The pages below `root` that hold rows, and whether the way to all of them was intact."""
        found: list[int] = []
        is_whole = True
        seen: set[int] = set()
        todo = [root]
        while todo:
            number = todo.pop()
            if number in seen or not 1 <= number <= self.count:
                is_whole = False
                continue
            seen.add(number)
            try:
                kind, cells = _cells(number, self.page(number))
            except _Damaged:
                is_whole = False
                continue
            if kind in (_LEAF_TABLE, _LEAF_INDEX, _INTERIOR_INDEX):
                found.append(number)
            if kind in (_INTERIOR_TABLE, _INTERIOR_INDEX):
                page = self.page(number)
                at = (100 if number == 1 else 0) + 8
                todo.append(int.from_bytes(page[at : at + 4], "big"))
                todo += [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]
        return found, is_whole

    def free(self) -> set[int]:
        """Pages on the free list, as far as it can be followed."""
        free: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36], "big")
        while 1 < trunk <= self.count and trunk not in free:
            free.add(trunk)
            page = self.page(trunk)
            leaves = min(int.from_bytes(page[4:8], "big"), PAGE // 4 - 2)
            free.update(struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves]))
            trunk = int.from_bytes(page[:4], "big")
        return free

    def rows(self, numbers: list[int]) -> Iterator[Row]:
        """Every row on these pages that can be read."""
        for number in numbers:
            try:
                kind, cells = _cells(number, self.page(number))
            except _Damaged:
                continue
            for cell in cells:
                try:
                    yield self._row(number, kind, cell)
                except _Damaged:
                    continue

    def is_leaf(self, number: int) -> bool:
        """Whether this page, that nothing led to, can hold rows."""
        try:
            kind, _ = _cells(number, self.page(number))
        except _Damaged:
            return False
        return kind in (_LEAF_TABLE, _LEAF_INDEX, _INTERIOR_INDEX)

    def _row(self, number: int, kind: int, at: int) -> Row:
        page = self.page(number)
        if kind == _INTERIOR_INDEX:
            at += 4
        size, at = _varint(page, at)
        rowid = None
        if kind == _LEAF_TABLE:
            rowid, at = _varint(page, at)
            if rowid >= 1 << 63:
                rowid -= 1 << 64
        local = _local_bytes(size, kind)
        payload = page[at : at + local]
        if len(payload) < local:
            raise _Damaged
        if local < size:
            payload += self._overflow(page[at + local : at + local + 4], size - local)
        return Row(rowid, _record(payload))

    def _overflow(self, pointer: bytes, size: int) -> bytes:
        pieces = []
        while size > 0:
            number = int.from_bytes(pointer, "big")
            page = self.page(number) if 1 < number <= self.count else b""
            if len(page) < PAGE:
                raise _Damaged
            pieces.append(page[4 : 4 + min(size, PAGE - 4)])
            size -= len(pieces[-1])
            pointer = page[:4]
        return b"".join(pieces)


def _cells(number: int, page: bytes) -> tuple[int, tuple[int, ...]]:
    """The kind of a page, and where its cells begin."""
    at = 100 if number == 1 else 0
    kind = page[at] if len(page) == PAGE else 0
    if kind not in _HEADER_BYTES:
        raise _Damaged
    count = int.from_bytes(page[at + 3 : at + 5], "big")
    first = at + _HEADER_BYTES[kind]
    if first + 2 * count > PAGE:
        raise _Damaged
    cells = struct.unpack_from(f">{count}H", page, first)
    return kind, tuple(cell for cell in cells if first + 2 * count <= cell <= PAGE - 4)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        if at + index >= len(data):
            raise _Damaged
        byte = data[at + index]
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    raise _Damaged


def _local_bytes(size: int, kind: int) -> int:
    """How much of a payload stands on its own page."""
    if size > _ROW_BYTES_MAX:
        raise _Damaged
    most = PAGE - 35 if kind == _LEAF_TABLE else (PAGE - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (PAGE - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (PAGE - 4)
    return wanted if wanted <= most else least


def _record(payload: bytes) -> tuple[Value, ...]:
    head, at = _varint(payload, 0)
    if not at <= head <= len(payload):
        raise _Damaged
    kinds = []
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Value] = []
    at = head
    for kind in kinds:
        value, at = _value(payload, kind, at)
        values.append(value)
    if at != len(payload):
        raise _Damaged
    return tuple(values)


def _value(payload: bytes, kind: int, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind in (10, 11):
        raise _Damaged
    size = _INT_BYTES[kind] if kind < 7 else 8 if kind == 7 else (kind - 12) // 2
    piece = payload[at : at + size]
    if len(piece) < size:
        raise _Damaged
    if kind < 7:
        return int.from_bytes(piece, "big", signed=True), at + size
    if kind == 7:
        return float(struct.unpack(">d", piece)[0]), at + size
    if kind % 2 == 0:
        return piece, at + size
    try:
        return piece.decode(), at + size
    except UnicodeDecodeError:
        raise _Damaged from None


def _mapped(file: Path) -> bytes | mmap.mmap:
    """A database may be larger than the memory."""
    try:
        with file.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # none, or empty
        return b""


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _read_log(data: bytes) -> tuple[Mapping[int, bytes], int]:
    """Pages of the committed transactions of a log, and how many pages the database has after the last of them."""
    committed: dict[int, bytes] = {}
    size = 0
    if (
        len(data) < 32
        or int.from_bytes(data[:4], "big") & ~1 != _WAL_MAGIC
        or data[8:12] != PAGE.to_bytes(4, "big")
    ):
        return committed, size
    order = ">" if data[3] & 1 else "<"
    sums = _checksum(data[:24], order, (0, 0))
    if struct.pack(">2I", *sums) != data[24:32]:
        return committed, size
    pending: dict[int, bytes] = {}
    for at in range(32, len(data) - 24 - PAGE + 1, 24 + PAGE):
        head, page = data[at : at + 24], data[at + 24 : at + 24 + PAGE]
        sums = _checksum(page, order, _checksum(head[:8], order, sums))
        if head[8:16] != data[16:24] or struct.pack(">2I", *sums) != head[16:24]:
            break  # torn, or of an earlier life of the log
        pending[int.from_bytes(head[:4], "big")] = page
        pages = int.from_bytes(head[4:8], "big")
        if pages:
            committed.update(pending)
            pending.clear()
            size = pages
    return committed, size


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        one = (one + words[index] + two) & 0xFFFFFFFF
        two = (two + words[index + 1] + one) & 0xFFFFFFFF
    return one, two
