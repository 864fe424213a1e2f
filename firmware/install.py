"""From an update that is whole to its trial: what a start does before there is a node, with the heap to itself.

It ends in a reset: what it loads leaves names on the heap, for which a node has no room. The order is that of OTA.md
section 4. Until the payload was applied once for nothing but its digest and its size, the spare slot is as it was; the
slot that runs is never written to. After a power cut it begins again with what is durable: the manifest is not verified
twice, the digests out of it are kept (pending.py) and compared again.
"""

import hashlib

from firmware import slots
from firmware.durable import ensure_folder
from firmware.errors import StorageError
from firmware.pending import (
    DIGEST,
    JUDGE,
    ON_TRIAL,
    OUTCOME,
    PAYLOAD_DIGEST,
    PAYLOAD_SIZE,
    PHASE,
    RECEIVED,
    SEQUENCE,
    SIZE,
    SLOT,
    TRIES,
    VERIFIED,
    drop,
    give_a_start,
)
from firmware.pieces import Whole
from protocols.wire import bundle, delta, manifest, outcomes, release
from protocols.wire.bundle import BundleError, Tree
from protocols.wire.errors import WireError
from protocols.wire.manifest import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.pending import Pending
    from protocols.wire.release import Release

# An update begins with the length of its envelope, u16; the envelope and the payload follow.
_HEAD_BYTES = 2
# Starts that try to install the same update: power may fail in some, but a node must not do this for ever.
TRIES_MAX = 12
_BLOCK_BYTES = 4096
_ENOSPC = 28
# Beside the blocks of its files: two for every folder, some for what littlefs moves about.
_SPARE_BLOCKS = 8
# Of a folder's own blocks, for each file in it: its name, and its bytes if they are few.
_SHARE_BYTES = 256


def run(hal: "Hal", pending: "Pending") -> None:
    """Install it, or find out why not; ends in a reset either way."""
    _try(hal, pending)
    drop(hal)
    hal.reset()


def _try(hal: "Hal", pending: "Pending") -> None:
    if pending.f[TRIES] >= TRIES_MAX:
        pending.end(outcomes.FLASH)
        return
    pending.f[TRIES] += 1
    pending.save()
    try:
        _install(hal, pending)
    except (Refused, BundleError) as exc:
        hal.log("update refused: %s" % exc.reason)
        pending.end(outcomes.number(exc.reason))
    except WireError:  # pieces that no receiver put there
        pending.end(outcomes.FLASH)
    except MemoryError:
        pending.end(outcomes.MEMORY)
    except (OSError, StorageError) as exc:
        hal.log("flash: %r" % exc)
        if exc.args[:1] == (_ENOSPC,):
            pending.end(outcomes.number("space"))
        else:
            hal.reset()  # the next start tries again


def _install(hal: "Hal", pending: "Pending") -> None:
    app, running = hal.program()
    base = Tree(app, slots.FOLDERS[running])
    whole = Whole(hal.state_fs)
    length = int.from_bytes(whole.read(_HEAD_BYTES), "big")
    _judge(hal, pending, base, whole, length)
    start = _HEAD_BYTES + length
    _check_payload(whole, start, pending)
    hal.feed_watchdog()
    spare = 1 - running
    folder = slots.FOLDERS[spare]
    needed = _rehearse(whole, start, base, pending)
    hal.feed_watchdog()
    if needed > app.statvfs("/")[3] + _blocks_of(Tree(app, folder)):
        raise Refused("space", "%d blocks are needed" % needed)
    _write(hal, pending, app, spare, whole, start)
    _arm(hal, pending, app, running, spare)


def _judge(hal: "Hal", pending: "Pending", base: "Tree", whole: "Whole", length: int) -> None:
    """Verify it, unless the release that runs did so already: one that was flashed meanwhile may trust others."""
    mine = _mine(base)
    if pending.f[PHASE] == RECEIVED or pending.f[JUDGE] != mine.sequence:
        _verify(hal, pending, mine, whole.read(min(length, manifest.MAX_ENVELOPE + 1)))


def _mine(base: "Tree") -> "Release":
    """What the slot that runs says of itself."""
    try:
        with base.open(release.FILE) as file:
            return release.decode(file.read(bundle.CHUNK * 4))
    except OSError:
        raise Refused("unknown-key", "this program is no release: it trusts nobody")


def _verify(hal: "Hal", pending: "Pending", mine: "Release", envelope: bytes) -> None:
    """The manifest; what it says is durable on return."""
    said = manifest.match(envelope, release.device(mine, manifest.MAX_SIZE, manifest.MAX_SIZE), mine.keys)
    f = pending.f
    f[SEQUENCE], f[SIZE], f[DIGEST], f[PAYLOAD_SIZE], f[PAYLOAD_DIGEST] = said[:5]
    f[JUDGE] = mine.sequence
    f[PHASE] = VERIFIED
    pending.save()
    hal.feed_watchdog()


def _check_payload(whole: "Whole", start: int, pending: "Pending") -> None:
    """Size and digest, before a byte of it is read as anything."""
    if whole.end - start != pending.f[PAYLOAD_SIZE]:
        raise Refused("payload", "%d bytes" % (whole.end - start))
    digest = hashlib.sha256()
    whole.seek(start)
    buffer = bytearray(bundle.CHUNK)
    view = memoryview(buffer)
    count = whole.readinto(buffer)
    while count:
        digest.update(view[:count])
        count = whole.readinto(buffer)
    if digest.digest() != pending.f[PAYLOAD_DIGEST]:
        raise Refused("payload", "another digest")


def _rehearse(whole: "Whole", start: int, base: "Tree", pending: "Pending") -> int:
    """Apply the payload and keep nothing of it: it makes the bundle that was signed. Returns the blocks it takes."""
    whole.seek(start)
    wanted = delta.base_of(whole.read(delta.HEAD_BYTES))
    if wanted == delta.NO_BASE:
        base = Tree(_Nothing(), "")
    elif bundle.digest(base)[1][: delta.BASE_BYTES] != wanted:
        raise Refused("base", "a delta for another bundle")
    whole.seek(start)
    counting = _Counting()
    if delta.apply(whole, base, counting) != (pending.f[SIZE], pending.f[DIGEST]):
        raise Refused("image", "another bundle comes out")
    return counting.takes()


def _write(hal: "Hal", pending: "Pending", app: "Any", spare: int, whole: "Whole", start: int) -> None:
    """The spare slot, from nothing, and compared with the manifest as it is on flash."""
    f = pending.f
    running = 1 - spare
    found = slots.Slots(app)
    if found.record != [running, slots.NONE, 0, 0, 0]:
        found.save(running, slots.NONE, 0, 0, 0)  # nothing may refer to what is erased now
    folder = slots.FOLDERS[spare]
    _clear(app, folder)
    ensure_folder(app, folder)
    whole.seek(start)
    wanted = delta.base_of(whole.read(delta.HEAD_BYTES))
    whole.seek(start)
    base = Tree(_Nothing(), "") if wanted == delta.NO_BASE else Tree(app, slots.FOLDERS[running])
    delta.apply(whole, base, _Fed(app, folder, hal))
    hal.feed_watchdog()
    if bundle.digest(Tree(app, folder)) != (f[SIZE], f[DIGEST]):
        raise OSError(5)


def _arm(hal: "Hal", pending: "Pending", app: "Any", running: int, spare: int) -> None:
    """From here on the new release is started; in which order these are durable matters (STORAGE.md)."""
    pending.f[PHASE], pending.f[SLOT], pending.f[OUTCOME] = ON_TRIAL, spare, 0
    pending.save()
    give_a_start(hal)
    slots.Slots(app).save(running, spare, 0, 0, pending.f[SEQUENCE])
    hal.log("update: release %d is on trial in %s" % (pending.f[SEQUENCE], slots.FOLDERS[spare]))
    hal.reset()


def _clear(app: "Any", folder: str) -> None:
    """Remove what is in a folder. It stays itself: the tree above it is that of the way back (STORAGE.md)."""
    try:
        entries = [(entry[0], entry[1]) for entry in app.ilistdir(folder)]
    except OSError:
        return
    for name, kind in entries:
        if kind == bundle.IS_FOLDER:
            _clear(app, folder + "/" + name)
        app.remove(folder + "/" + name)


def _blocks_of(tree: "Tree") -> int:
    """At least so many blocks are free once these files are gone."""
    count = 0
    try:
        for _, size in tree.walk():
            if size >= _SHARE_BYTES:  # smaller ones may be in their folder's blocks
                count += -(-size // _BLOCK_BYTES)
    except OSError:
        pass
    return count


class _Nothing:
    """A file system without a file: the base of a payload that needs none."""

    def ilistdir(self, folder: str) -> "tuple[Any, ...]":
        return ()


class _Counting:
    """A tree that keeps nothing of what is written to it but its size."""

    def __init__(self) -> None:
        self._folders: "set[str]" = set()
        self._full = 0  # blocks
        self._parts = 0
        self._size = 0  # of the file that is written

    def create(self, path: str) -> "_Counting":
        at = path.find("/")
        while at > 0:
            self._folders.add(path[:at])
            at = path.find("/", at + 1)
        self._size = 0
        return self

    def write(self, data: "bytes | memoryview") -> None:
        self._size += len(data)

    def __enter__(self) -> "_Counting":
        return self

    def __exit__(self, *exc: object) -> None:
        self._full += -(
            -self._size // (_BLOCK_BYTES - 2 * 4)
        )  # a block holds pointers to two earlier ones on average
        self._parts += _SHARE_BYTES

    def takes(self) -> int:
        return self._full + self._parts // _BLOCK_BYTES + 2 * len(self._folders) + _SPARE_BLOCKS


class _Fed(Tree):
    """The watchdog sees that files come into being."""

    def __init__(self, fs: "Any", folder: str, hal: "Hal") -> None:
        super().__init__(fs, folder)
        self._hal = hal

    def create(self, path: str) -> "Any":
        self._hal.feed_watchdog()
        return super().create(path)
