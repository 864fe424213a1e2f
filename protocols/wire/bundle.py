"""A bundle: the program of one node type on one board, as a sequence of bytes (OTA.md).

    bundle = entry*          in the order of their paths, bytewise
    entry = path length u8 | path | size u24 (big-endian) | content

It is never a file on the node: it is what the files of a slot add up to, read in that order. So a slot proves what it
holds, and a delta's base is the slot that runs.
"""

import hashlib

from protocols.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_PATH = 64
# A module of 64 kB would not load on a node; it bounds what a forged size can ask for.
MAX_FILE = 65535
# Files of one bundle: a node has about 60.
MAX_FILES = 200
IS_FOLDER = 0x4000
CHUNK = 256


class BundleError(WireError):
    """A bundle, or a delta for one, that is not what OTA.md allows; ``reason`` as manifest.Refused has it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Tree:
    """The files below ``folder`` of a file system with the methods of vfs.VfsLfs2."""

    def __init__(self, fs: "Any", folder: str) -> None:
        self._fs = fs
        self._folder = folder

    def walk(self, below: str = "") -> "Iterator[tuple[str, int]]":
        """(path, size) of every file, in the order of a bundle."""
        folder = self._folder + ("/" + below[:-1] if below else "")
        name = self._after(folder, "")
        while name:
            if name.endswith("/"):
                for found in self.walk(below + name):
                    yield found
            else:
                yield below + name, self._fs.stat(folder + "/" + name)[6]
            name = self._after(folder, name)

    def _after(self, folder: str, last: str) -> str:
        """The name in this folder that comes next, "" after the last one. Forty names at once take 3 kB of heap."""
        best = ""
        for entry in self._fs.ilistdir(folder):
            name = entry[0] + "/" if entry[1] == IS_FOLDER else entry[0]
            if name > last and (not best or name < best):
                best = name
        return best

    def open(self, path: str) -> "Any":
        """A file to read from, with seek."""
        return self._fs.open(self._folder + "/" + path, "rb")

    def create(self, path: str) -> "Any":
        """A new file to write to; its folders are made."""
        at = path.find("/")
        while at > 0:
            try:
                self._fs.mkdir(self._folder + "/" + path[:at])
            except OSError:  # it is there; what else is wrong shows when the file is opened
                pass
            at = path.find("/", at + 1)
        return self._fs.open(self._folder + "/" + path, "wb")


def head(path: str, size: int) -> bytes:
    """What stands before the content of a file."""
    name = path.encode()
    return bytes((len(name),)) + name + size.to_bytes(3, "big")


def check_path(path: str, previous: str) -> None:
    """BundleError unless it is a path that may follow ``previous``: relative, plain, in order."""
    if not 0 < len(path) <= MAX_PATH or path <= previous:
        raise BundleError("bundle", "path %r after %r: too long, repeated or out of order" % (path, previous))
    for letter in path:
        if not ("a" <= letter <= "z" or "A" <= letter <= "Z" or "0" <= letter <= "9" or letter in "._-/"):
            raise BundleError("bundle", "path %r: letters, digits and . _ - / only" % path)
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise BundleError("bundle", "path %r leaves its folder" % path)


def digest(tree: "Any") -> "tuple[int, bytes]":
    """(size, SHA-256) of the bundle that the files of this tree add up to."""
    whole = hashlib.sha256()
    total = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    for path, size in tree.walk():
        first = head(path, size)
        whole.update(first)
        total += len(first) + size
        with tree.open(path) as file:
            count = file.readinto(buffer)
            while count:
                whole.update(view[:count])
                count = file.readinto(buffer)
    return total, whole.digest()
