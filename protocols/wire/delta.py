"""What is sent of a release: how its bundle follows from the one that runs (OTA.md). Applied module by module.

    payload = version u8 (1) | window bits u8 | base, 8 bytes | raw deflate stream of steps
    step = number (LEB128): its lowest two bits say what to do, the rest is a count
        0  keep so many files of the base, whole; a count of 0 ends the payload
        1  drop so many files of the base
        2  add a file, whose path has so many bytes: path | size (number) | content
        3  change the next file of the base; count is its new size: edits until it is full
    edit = number, likewise
        0  copy so many bytes of the base's file
        1  add: so many bytes follow, each is added to the next one of the base's file
        2  insert so many bytes, which follow
        3  seek so far in the base's file: n >> 1 forwards, or -(n >> 1) - 1 where n is odd

The base is named by the first eight bytes of its SHA-256; they are zero in the payload of a whole bundle. Steps name
every file of the base, in the order of a bundle, and make the files of the new one in that order.
"""

import hashlib

from protocols.wire.bundle import CHUNK, MAX_FILE, MAX_FILES, MAX_PATH, BundleError, check_path, head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
HEAD_BYTES = 10
BASE_BYTES = 8
NO_BASE = bytes(BASE_BYTES)
# Of deflate: 2**bits bytes of heap while a payload is applied. Twelve would save 1 to 4 % of a delta.
WINDOW_BITS = 10
KEEP, DROP, ADD, CHANGE = 0, 1, 2, 3
COPY, SUM, INSERT, SEEK = 0, 1, 2, 3


def base_of(first: bytes) -> bytes:
    """The base that a payload beginning with these HEAD_BYTES bytes is for; NO_BASE: it needs none."""
    if len(first) < HEAD_BYTES or first[0] != VERSION or not 9 <= first[1] <= WINDOW_BITS:
        raise BundleError("payload", "no payload of version %d: begins %r" % (VERSION, bytes(first[:2])))
    return bytes(first[2:HEAD_BYTES])


def apply(payload: "Any", base: "Any", target: "Any") -> "tuple[int, bytes]":
    """Make the files of ``target``, an empty tree, from the payload and the tree ``base``.

    The payload is a binary file, or whatever has read() and readinto(): on MicroPython an heir of io.IOBase.

    (size, SHA-256) of the bundle that was written: it is good when the manifest has the same. BundleError, with some
    files written, for a payload that no sender of ours makes. Whether ``base`` is the one that the payload is for is
    asked beforehand (base_of, bundle.digest); OSError is the file system's, of either tree.
    """
    first = payload.read(HEAD_BYTES)
    base_of(first)
    return _Applying(inflate(payload, first[1]), base, target).run()


def inflate(file: "Any", window_bits: int) -> "Any":
    """A reader of the raw deflate stream in ``file``."""
    try:
        import deflate
    except ImportError:  # CPython
        from protocols.wire import inflate_host

        return inflate_host.Inflating(file, window_bits)
    return deflate.DeflateIO(file, deflate.RAW, window_bits)


class _Applying:
    """One pass through the steps. What is alive: deflate's window, one chunk, two open files."""

    def __init__(self, steps: "Any", base: "Any", target: "Any") -> None:
        self._steps = steps
        self._base = base
        self._target = target
        self._files = iter(base.walk())
        self._whole = hashlib.sha256()
        self._buffer = bytearray(CHUNK)
        self._out: "Any" = None
        self._size = 0
        self._count = 0
        self._last = ""

    def run(self) -> "tuple[int, bytes]":
        number = self._number()
        while number:
            what = number & 3
            count = number >> 2
            if what == CHANGE:
                self._change(self._next()[0], count)
            elif what == ADD:
                self._add(count)
            else:
                # None dropped is a step that says nothing: a thousand of them are one byte of deflate.
                if not 0 < count <= MAX_FILES:
                    raise BundleError("payload", "%d files at once: 1 to %d" % (count, MAX_FILES))
                for _ in range(count):
                    path, size = self._next()
                    if what == KEEP:
                        self._keep(path, size)
            number = self._number()
        for path, _ in self._files:
            raise BundleError("payload", "ends before the base does, at %s" % path)
        return self._size, self._whole.digest()

    def _next(self) -> "tuple[str, int]":
        for found in self._files:
            return found
        raise BundleError("payload", "more files than the base has")

    def _begin(self, path: str, size: int) -> "Any":
        """The file that is made next."""
        check_path(path, self._last)
        self._count += 1
        if size > MAX_FILE or self._count > MAX_FILES:
            raise BundleError(
                "payload", "file %d of %d bytes: at most %d of %d" % (self._count, size, MAX_FILES, MAX_FILE)
            )
        self._last = path
        first = head(path, size)
        self._whole.update(first)
        self._size += len(first) + size
        self._out = self._target.create(path)
        return self._out

    def _keep(self, path: str, size: int) -> None:
        with self._base.open(path) as file, self._begin(path, size):
            self._copy(file, size)

    def _add(self, length: int) -> None:
        if length > MAX_PATH:
            raise BundleError("payload", "path of %d bytes: at most %d" % (length, MAX_PATH))
        try:
            path = str(self._take(length), "ascii")
        except ValueError:  # UnicodeError is one
            raise BundleError("payload", "path that is no ASCII")
        size = self._number()
        with self._begin(path, size):
            self._insert(size)

    def _change(self, path: str, size: int) -> None:
        with self._base.open(path) as file, self._begin(path, size):
            while size:
                number = self._number()
                what = number & 3
                count = number >> 2
                if what == SEEK:
                    try:
                        file.seek(-(count >> 1) - 1 if count & 1 else count >> 1, 1)
                    except (OSError, ValueError):  # littlefs and CPython, for what is before the beginning
                        raise BundleError("payload", "seeks out of %s" % path)
                    continue
                if not 0 < count <= size:
                    raise BundleError("payload", "edit of %d bytes where %d are missing" % (count, size))
                size -= count
                if what == COPY:
                    self._copy(file, count)
                elif what == SUM:
                    self._sum(file, count)
                else:
                    self._insert(count)

    def _copy(self, file: "Any", count: int) -> None:
        view = memoryview(self._buffer)
        while count:
            piece = view[: min(count, CHUNK)]
            got = file.readinto(piece)
            if not got:
                raise BundleError("payload", "copies beyond the end of %s" % self._last)
            self._put(piece[:got])
            count -= got

    def _sum(self, file: "Any", count: int) -> None:
        while count:
            piece = bytearray(self._take(min(count, CHUNK)))
            old = file.read(len(piece))
            if len(old) != len(piece):
                raise BundleError("payload", "adds beyond the end of %s" % self._last)
            for at in range(len(piece)):
                piece[at] = piece[at] + old[at] & 0xFF
            self._put(piece)
            count -= len(piece)

    def _insert(self, count: int) -> None:
        while count:
            piece = self._take(min(count, CHUNK))
            self._put(piece)
            count -= len(piece)

    def _put(self, data: "Any") -> None:
        self._out.write(data)
        self._whole.update(data)

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 21:
                raise BundleError("payload", "number of more than four bytes")

    def _take(self, count: int) -> bytes:
        """So many bytes of the steps; they end with the step that ends them, never within one."""
        taken = b""
        while len(taken) < count:
            try:
                piece = self._steps.read(count - len(taken))
            except (OSError, EOFError):  # no deflate stream, or one that breaks off
                piece = b""
            if not piece:
                raise BundleError("payload", "no deflate stream, or cut short")
            taken = taken + piece if taken else piece
        return bytes(taken)
