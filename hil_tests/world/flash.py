"""The state partition on CPython: littlefs-python behind the methods of MicroPython's vfs.VfsLfs2.

The firmware is given such an object on a node (there it is VfsLfs2 itself). Geometry and disk format are the same, so
an image moves freely between the two interpreters. `Flash` is the block device under it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from littlefs import LittleFSError
from littlefs import lfs as _lfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

BLOCK_BYTES = 4096
# What vfs.VfsLfs2 gives littlefs by default: read and prog size 32, a cache of four times that, 100 block cycles.
_PROG_BYTES = 32
_CACHE_BYTES = 128
_LOOKAHEAD_BYTES = 32
_BLOCK_CYCLES = 100
_FILE = 0x8000
_FOLDER = 0x4000


class BlockDevice(Protocol):
    """MicroPython's extended block device: offsets within a block, erase as ioctl 6, number of blocks as ioctl 4."""

    def readblocks(self, block: int, buf: Any, offset: int = 0, /) -> int | None: ...
    def writeblocks(self, block: int, buf: Any, offset: int = 0, /) -> int | None: ...
    def ioctl(self, op: int, arg: int, /) -> int | None: ...


class Flash:
    """NOR flash in RAM: programming clears bits, only erasing a block sets them. Counts what wears a chip out."""

    def __init__(self, blocks: int = 64, image: bytes | None = None) -> None:
        self.image = bytearray(image if image is not None else b"\xff" * (blocks * BLOCK_BYTES))
        self.progs = self.prog_bytes = self.erases = 0

    def readblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        at = block * BLOCK_BYTES + offset
        buf[:] = self.image[at : at + len(buf)]

    def writeblocks(self, block: int, buf: Any, offset: int = 0, /) -> None:
        at = block * BLOCK_BYTES + offset
        old = int.from_bytes(self.image[at : at + len(buf)], "big")
        self.image[at : at + len(buf)] = (old & int.from_bytes(buf, "big")).to_bytes(len(buf), "big")
        self.progs += 1
        self.prog_bytes += len(buf)

    def ioctl(self, op: int, arg: int, /) -> int | None:
        if op == 4:
            return len(self.image) // BLOCK_BYTES
        if op == 5:
            return BLOCK_BYTES
        if op == 6:
            self.image[arg * BLOCK_BYTES : (arg + 1) * BLOCK_BYTES] = b"\xff" * BLOCK_BYTES
            self.erases += 1
            return 0
        return None


class _Context:
    """The block device as littlefs-python calls it. No exception can pass through C: it is kept and raised after."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self.raised: BaseException | None = None

    def read(self, _cfg: object, block: int, offset: int, size: int) -> bytearray:
        buffer = bytearray(size)
        if self.raised is None:
            try:
                self._device.readblocks(block, buffer, offset)
            except BaseException as exc:  # noqa: BLE001  re-raised by LittleFs._call
                self.raised = exc
        return buffer

    def prog(self, _cfg: object, block: int, offset: int, data: bytes) -> int:
        return self._do(lambda: self._device.writeblocks(block, data, offset))

    def erase(self, _cfg: object, block: int) -> int:
        return self._do(lambda: self._device.ioctl(6, block))

    def sync(self, _cfg: object) -> int:
        return self._do(lambda: self._device.ioctl(3, 0))

    def _do(self, action: Callable[[], object]) -> int:
        if self.raised is None:
            try:
                action()
            except BaseException as exc:  # noqa: BLE001  re-raised by LittleFs._call
                self.raised = exc
        return 0 if self.raised is None else -errno.EIO


class LittleFs:
    """vfs.VfsLfs2 on CPython: the same names, the same OSErrors. Raises what the block device raised, unchanged."""

    def __init__(self, device: BlockDevice) -> None:
        blocks = device.ioctl(4, 0)
        assert blocks
        self._blocks = blocks
        self._context = _Context(device)
        self._config = self._make_config(self._context, blocks)
        self._fs = _lfs.LFSFilesystem()
        self.call(_lfs.mount, self._config)

    @classmethod
    def mkfs(cls, device: BlockDevice) -> None:
        """Format."""
        blocks = device.ioctl(4, 0)
        assert blocks
        context = _Context(device)
        _lfs.format(_lfs.LFSFilesystem(), cls._make_config(context, blocks))
        if context.raised is not None:
            raise context.raised

    @staticmethod
    def _make_config(context: _Context, blocks: int) -> Any:
        return _lfs.LFSConfig(
            context,
            block_size=BLOCK_BYTES,
            block_count=blocks,
            read_size=_PROG_BYTES,
            prog_size=_PROG_BYTES,
            cache_size=_CACHE_BYTES,
            lookahead_size=_LOOKAHEAD_BYTES,
            block_cycles=_BLOCK_CYCLES,
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """One littlefs operation, with its errors as OSError."""
        try:
            result = function(self._fs, *args)
        except LittleFSError as exc:
            if self._context.raised is None:
                raise OSError(-exc.code, str(exc)) from exc
        if self._context.raised is not None:
            raise self._context.raised
        return result

    def open(self, path: str, mode: str) -> File:
        return File(self, self.call(_lfs.file_open, path, mode.replace("b", "")))

    def remove(self, path: str) -> None:
        self.call(_lfs.remove, path)

    def rename(self, old: str, new: str) -> None:
        self.call(_lfs.rename, old, new)

    def mkdir(self, path: str) -> None:
        self.call(_lfs.mkdir, path)

    def stat(self, path: str) -> tuple[int, ...]:
        found = self.call(_lfs.stat, path)
        return (self._kind(found), 0, 0, 0, 0, 0, found.size, 0, 0, 0)

    def statvfs(self, _path: str) -> tuple[int, ...]:
        free = self._blocks - self.call(_lfs.fs_size)
        return (BLOCK_BYTES, BLOCK_BYTES, self._blocks, free, free, 0, 0, 0, 0, 255)

    def ilistdir(self, path: str) -> Iterator[tuple[str, int, int, int]]:
        folder = self.call(_lfs.dir_open, path)
        try:
            while (entry := self.call(_lfs.dir_read, folder)) is not None:
                if entry.name not in (".", ".."):
                    yield entry.name, self._kind(entry), 0, entry.size
        finally:
            self.call(_lfs.dir_close, folder)

    @staticmethod
    def _kind(entry: _lfs.LFSStat) -> int:
        return _FILE if entry.type == 1 else _FOLDER


class File:
    """An open file, with the methods the firmware uses."""

    def __init__(self, fs: LittleFs, handle: _lfs.LFSFile) -> None:
        self._fs = fs
        self._handle: _lfs.LFSFile | None = handle

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = self._fs.call(_lfs.file_size, self._handle)
        return bytes(self._fs.call(_lfs.file_read, self._handle, size))

    def readinto(self, buf: Any) -> int:
        data = self.read(len(buf))
        buf[: len(data)] = data
        return len(data)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return int(self._fs.call(_lfs.file_write, self._handle, bytes(data)))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._fs.call(_lfs.file_seek, self._handle, offset, whence))

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._fs.call(_lfs.file_close, handle)

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def formatted(blocks: int = 64) -> tuple[Flash, LittleFs]:
    """A fresh state partition and its file system."""
    flash = Flash(blocks)
    LittleFs.mkfs(flash)
    return flash, LittleFs(flash)
