"""From an update that is whole to its trial: what a start does before there is a node, with the heap to itself.

    begin(hal) -> Gate | None     what judges this release if it is on trial. installing ends in a reset

The order is that of OTA.md section 4. Until the payload was applied once for nothing but its digest and its size, the
spare slot is as it was; the slot that runs is never written to. After a power cut it begins again with what is durable:
the manifest is not verified twice, the digests out of it are kept (pending.py) and compared again.
"""

import hashlib

from firmware import slots
from firmware.durable import Document
from firmware.errors import StorageError
from firmware.modules import forget
from firmware.pending import (
    DIGEST,
    ENDED,
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
    Pending,
)
from firmware.pieces import Whole
from protocols.wire import bundle, delta, manifest, outcomes, release
from protocols.wire.bundle import BundleError, Tree
from protocols.wire.manifest import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.gate import Gate
    from firmware.hal import Hal

# An update begins with the length of its envelope, u16; the envelope and the payload follow.
_HEAD_BYTES = 2
# Starts that try to install the same update: power may fail in some, but a node must not do this for ever.
TRIES_MAX = 12
_BLOCK_BYTES = 4096
_ENOSPC = 28
# Off the heap before there is a node.
_MODULES = (
    "firmware.pending",
    "firmware.pieces",
    "protocols.wire.bundle",
    "protocols.wire.delta",
    "protocols.wire.es256",
    "protocols.wire.lms",
    "protocols.wire.manifest",
    "protocols.wire.ota",
    "protocols.wire.parity",
    "protocols.wire.release",
)
# Beside the blocks of its files: two for every folder, some for what littlefs moves about.
_SPARE_BLOCKS = 8
# Of a folder's own blocks, for each file in it: its name, and its bytes if they are few.
_SHARE_BYTES = 256


def begin(hal: "Hal") -> "Gate | None":
    """What is to be done of an update at a start; see above."""
    pending = Pending(hal.state_fs)
    if pending.f[PHASE] == ON_TRIAL:
        _settle(hal, pending)
    if pending.f[PHASE] in (RECEIVED, VERIFIED):
        _try(hal, pending)
    gate = None
    if pending.f[PHASE] == ON_TRIAL:
        from firmware.gate import Gate

        gate = Gate(hal, pending)
    elif pending.f[PHASE] == ENDED:
        _drop(hal)
    for name in _MODULES:
        forget(name)
    return gate


def _settle(hal: "Hal", pending: "Pending") -> None:
    """Where the trial stands, by the record of the slots."""
    app, this = hal.mount(True)
    found = slots.Slots(app)
    running, trial, _, starts, tried = found.record
    slot = pending.f[SLOT]
    if trial == slot:
        if this != slot:  # it can not be started: the starter chose the other one
            pending.f[OUTCOME] = outcomes.FLASH
            pending.save()
        if pending.f[OUTCOME]:  # it was to be rolled back when the power failed
            found.roll_back()
            hal.reset()
        return
    if tried != pending.f[SEQUENCE]:
        pending.f[PHASE] = VERIFIED  # the power failed before the trial could begin
        return
    outcome = outcomes.INSTALLED
    if running != slot:
        outcome = pending.f[OUTCOME] or (
            outcomes.UNSTEADY if starts >= slots.STARTS_MAX else outcomes.CRASHED
        )
        give_a_start(hal)
    pending.end(outcome)


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
    except MemoryError:
        pending.end(outcomes.MEMORY)
    except (OSError, StorageError) as exc:
        hal.log("flash: %r" % exc)
        if exc.args[:1] == (_ENOSPC,):
            pending.end(outcomes.number("space"))
        else:
            hal.reset()  # the next start tries again


def _install(hal: "Hal", pending: "Pending") -> None:
    app, running = hal.mount(False)
    base = Tree(app, slots.FOLDERS[running])
    whole = Whole(hal.state_fs)
    length = int.from_bytes(whole.read(_HEAD_BYTES), "big")
    if pending.f[PHASE] == RECEIVED:
        _verify(hal, pending, base, whole.read(min(length, manifest.MAX_ENVELOPE)))
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


def _verify(hal: "Hal", pending: "Pending", base: "Tree", envelope: bytes) -> None:
    """The manifest, by what the slot that runs says of itself; what it says is durable on return."""
    try:
        with base.open(release.FILE) as file:
            mine = release.decode(file.read(bundle.CHUNK * 4))
    except OSError:
        raise Refused("unknown-key", "this program is no release: it trusts nobody")
    said = manifest.match(envelope, release.device(mine, manifest.MAX_SIZE, manifest.MAX_SIZE), mine.keys)
    f = pending.f
    f[SEQUENCE], f[SIZE], f[DIGEST] = said.sequence, said.size, said.digest
    f[PAYLOAD_SIZE], f[PAYLOAD_DIGEST] = said.payload_size, said.payload_digest
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
    app.mkdir(folder)
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


def give_a_start(hal: "Hal") -> None:
    """Starts that failed (trials.py) were those of another program: this one begins with none."""
    file = Document(hal.state_fs, "trials")
    kept = file.load()
    if kept and kept[0]:
        file.save(bytes((0,)) + kept[1:])


def _drop(hal: "Hal") -> None:
    """What was received is of no use any more."""
    try:
        Whole(hal.state_fs).forget()
    except OSError as exc:
        hal.log("flash: %r" % exc)  # the next session clears it


def _clear(app: "Any", folder: str) -> None:
    """Remove a folder with all in it, if it is there."""
    try:
        entries = [(entry[0], entry[1]) for entry in app.ilistdir(folder)]
    except OSError:
        return
    for name, kind in entries:
        if kind == bundle.IS_FOLDER:
            _clear(app, folder + "/" + name)
        else:
            app.remove(folder + "/" + name)
    app.remove(folder)


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
