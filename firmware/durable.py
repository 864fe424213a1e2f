"""What a node must still know after any power cut, beside its records: one small document per fact.

    d = Document(fs, "settings")
    d.load()            -> bytes, or None: never written, or both copies unreadable
    d.save(data)        durable on return; after a power cut the document is the old one or the new one, whole

A document is two copies in two folders (protocols/wire/document.py has the bytes). Every save writes both, one after
the other, so a cut hits at most one of them, and the highest generation that checks out is the document. littlefs
alone would give old-or-new; two folders are two metadata pairs, so what fades in one is whole in the other.

An erased or unreadable state partition loads as None everywhere: the caller then knows the fact is lost. For `Channel`
that means "no epoch", and the node must join (SPEC.md section 3.2); nothing here ever invents a counter.
"""

from struct import pack, unpack_from

from firmware.errors import StorageError
from protocols.wire import document
from protocols.wire.document import FOLDERS, HEAD_BYTES, MAX_DOCUMENT, MAX_GENERATION
from protocols.wire.limits import MAX_PIV, PIV_BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def read_file(fs: "Any", path: str, limit: int) -> "bytes | None":
    """At most ``limit`` bytes of a file; None when it is absent or the file system can not read it."""
    try:
        size = fs.stat(path)[6]  # read() takes all of what it is asked for from the heap first
        with fs.open(path, "rb") as file:
            return bytes(file.read(min(size, limit)))
    except OSError:
        return None


def write_file(fs: "Any", path: str, data: bytes) -> None:
    """Replace a file. littlefs commits at close: a reader finds the old bytes or all of the new ones."""
    with fs.open(path, "wb") as file:
        file.write(data)


def ensure_folder(fs: "Any", path: str) -> None:
    """Make a folder unless it is there."""
    try:
        fs.stat(path)
    except OSError:
        fs.mkdir(path)


class Document:
    """One fact of up to MAX_DOCUMENT bytes, safe at every power cut. ``damaged`` counts bad copies."""

    _folders = FOLDERS  # nearly all have their copies there, and an attribute of each would be a larger table

    def __init__(self, fs: "Any", name: str, folders: "tuple[str, str] | None" = None) -> None:
        self._fs = fs
        self._name = name
        if folders is not None:
            self._folders = folders
        self._generation = -1  # not loaded yet
        self.damaged = 0

    def load(self) -> "bytes | None":
        """The newest copy that checks out, or None."""
        best = None
        self._generation = 0
        for folder in self._folders:
            copy = read_file(self._fs, folder + "/" + self._name, HEAD_BYTES + MAX_DOCUMENT)
            if not copy:  # absent, or the empty file that creating it leaves behind a power cut
                continue
            found = document.decode(self._name, copy)
            if found is None:
                self.damaged += 1
            elif best is None or found[0] > self._generation:
                self._generation, best = found
        return best

    def save(self, data: bytes) -> None:
        """Durable on return. StorageError when not even one copy could be written and read back."""
        if len(data) > MAX_DOCUMENT:
            raise StorageError(
                "document %s: %d bytes, at most %d can be kept" % (self._name, len(data), MAX_DOCUMENT)
            )
        if self._generation < 0:
            self.load()
        self._generation += 1
        if self._generation > MAX_GENERATION:
            raise StorageError(
                "document %s was saved %d times: no flash lives that long" % (self._name, MAX_GENERATION)
            )
        copy = document.encode(self._name, self._generation, data)
        written = 0
        for folder in self._folders:
            try:
                ensure_folder(self._fs, folder)
                write_file(self._fs, folder + "/" + self._name, copy)
            except OSError:
                continue
            written += read_file(self._fs, folder + "/" + self._name, len(copy)) == copy
        if not written:
            raise StorageError(
                "document %s: neither copy could be written; the state partition is full or worn out"
                % self._name
            )


def documents(fs: "Any") -> "Callable[[str], Document]":
    """Name -> document. Here and not where it is wanted: a function keeps its whole module on the heap."""
    return lambda name: Document(fs, name)


# channel = id_context 16 | PIV bound u40 | n * (g u8 | downlink bound u40)
_ID_CONTEXT = 16
_U40 = 5
# Senders to one node that it remembers a bound for: the gateway, a bench tool and two successors (SPEC.md section 3).
MAX_SENDERS = 4


class Channel:
    """The key context of the current epoch with its counters, in one document: who loses the counters loses the epoch.

    ``id_context`` is None without one. ``next_piv()`` never gives a number twice, whatever the power does: the bound of
    a block of PIV_BLOCK is durable before the first of them is used, and each start begins behind the last bound.
    ``accept(g, piv)`` makes a downlink bound durable, in steps of PIV_BLOCK ahead, before the frame is acted upon.
    Over a deep sleep carry.py takes the counters along.
    """

    def __init__(self, fs: "Any") -> None:
        self._document = Document(fs, "channel")
        self.id_context: "bytes | None" = None
        self.next_up = 0
        self.bound = 0
        self.heard: "dict[int, int]" = {}  # per g: the highest accepted in this run, at first the durable bound
        self.ahead: "dict[int, int]" = {}  # per g: the durable bound
        data = self._document.load()
        if data:
            self._take(data)

    def begin(self, id_context: bytes, first_piv: int, highest: "dict[int, int]") -> None:
        """Make a new epoch durable, with the first PIV that joining has not used and the downlink PIVs it has heard."""
        if len(id_context) != _ID_CONTEXT:
            raise StorageError("an ID Context has %d bytes, not %d" % (_ID_CONTEXT, len(id_context)))
        self._save(id_context, first_piv + PIV_BLOCK, highest)
        self.id_context = id_context
        self.next_up = first_piv
        self.bound = first_piv + PIV_BLOCK
        self.heard = dict(highest)
        self.ahead = dict(highest)

    def forget(self) -> None:
        """Give the epoch up, durably: something that belongs to it (the outbox with its seqs) is lost."""
        self._document.save(b"")
        self.id_context = None
        self.heard = {}
        self.ahead = {}

    def next_piv(self) -> int:
        """The PIV for the next frame up. StorageError when its block can not be made durable: then nothing is sent."""
        if self.id_context is None:
            raise StorageError("no epoch: a PIV belongs to one; join first")
        if self.next_up > MAX_PIV:
            raise StorageError("the PIVs of this epoch are used up; join a new one")
        if self.next_up >= self.bound:
            self._save(self.id_context, self.bound + PIV_BLOCK, self.ahead)
            self.bound += PIV_BLOCK
        piv = self.next_up
        self.next_up += 1
        return piv

    def highest(self, g: int) -> int:
        """The highest downlink PIV accepted from sender g, or a bound above it that is durable; -1 for none."""
        return self.heard.get(g, -1)

    def accept(self, g: int, piv: int) -> bool:
        """Whether this authentic frame is new. A replay, or a sender beyond MAX_SENDERS, is refused without writing."""
        if self.id_context is None or piv <= self.highest(g):
            return False
        if piv > self.ahead.get(g, -1):
            if g not in self.ahead and len(self.ahead) >= MAX_SENDERS:
                return False
            ahead = dict(self.ahead)
            ahead[g] = min(piv + PIV_BLOCK - 1, MAX_PIV)
            self._save(self.id_context, self.bound, ahead)
            self.ahead = ahead
        self.heard[g] = piv
        return True

    def _save(self, id_context: bytes, bound: int, ahead: "dict[int, int]") -> None:
        parts = [id_context, bound.to_bytes(_U40 + 1, "big")]
        for g in sorted(ahead):
            parts.append(bytes((g,)) + ahead[g].to_bytes(_U40, "big"))
        self._document.save(b"".join(parts))

    def _take(self, data: bytes) -> None:
        at = _ID_CONTEXT + _U40 + 1
        self.id_context = data[:_ID_CONTEXT]
        self.bound = self.next_up = int.from_bytes(data[_ID_CONTEXT:at], "big")
        while at < len(data):
            self.heard[data[at]] = int.from_bytes(data[at + 1 : at + 1 + _U40], "big")
            at += 1 + _U40
        self.ahead = dict(self.heard)


class Commands:
    """The id of the latest command begun, and its result once there is one: a command is executed at most once.

    ``begin(id)`` is durable before the command is executed; a start that finds an id without a result knows that the
    command was begun and that nobody can say how it ended.
    """

    def __init__(self, fs: "Any") -> None:
        self._document = Document(fs, "command")
        data = self._document.load()
        self.latest = unpack_from("<I", data)[0] if data else 0
        self.result = data[4:] if data else b""

    def begin(self, command_id: int) -> None:
        self._document.save(pack("<I", command_id))
        self.latest = command_id
        self.result = b""

    def end(self, result: bytes) -> None:
        self._document.save(pack("<I", self.latest) + result)
        self.result = result
