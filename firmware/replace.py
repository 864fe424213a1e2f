"""An update of MicroPython itself, from its envelope to its trial: what a start does of it, with the heap to itself.

The envelope comes as any update does and is verified here. Only then the image may come (filling.py), straight into the
place that does not run; it is read back and compared here, and started on trial. Which place is started is known to the
bootloader alone, which goes back by itself at the first start of a trial that was not confirmed: so that start is given
again, three times, before it is called a failure, and one that was confirmed here and found wanting later is left the
same way that it was come to.
"""

import hashlib

from firmware import slots
from firmware.durable import Document, read_file
from firmware.errors import StorageError
from firmware.pending import (
    DIGEST,
    FILLED,
    FILLING,
    ON_TRIAL,
    OUTCOME,
    PAYLOAD_SIZE,
    PHASE,
    PIECES,
    PLACES,
    SEQUENCE,
    SIZE,
    SLOT,
    TRIES,
    drop,
    give_a_start,
)
from protocols.wire import identity, interpreter, manifest, outcomes, release
from protocols.wire.bundle import BundleError, Tree
from protocols.wire.errors import WireError
from protocols.wire.manifest import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal, Places
    from firmware.pending import Pending

# Starts of a trial: power may fail in one.
STARTS_MAX = 3
# Starts that look at the same update before it is given up (install.py).
TRIES_MAX = 12
# What runs, if it came this way: sequence u32 | place u8.
_NAME = "micropython"
_IDENTITY = "/identity"
_CHUNK = 4096
_DESCRIPTOR_END = (
    16  # of the first entry of what was received (pieces.py): the top bit of a setup's descriptor
)


def is_meant(fs: "Any") -> bool:
    """Whether what was received is an update of MicroPython; nothing is trusted for saying so."""
    head = read_file(fs, PIECES, _DESCRIPTOR_END)
    return head is not None and len(head) == _DESCRIPTOR_END and head[-1] >= 0x80


def run(hal: "Hal", pending: "Pending") -> None:
    """Verify an envelope, or start an image that is all there; ends in a reset either way."""
    try:
        if pending.f[TRIES] >= TRIES_MAX:
            raise Refused("flash", "%d starts came to nothing" % TRIES_MAX)
        pending.f[TRIES] += 1
        pending.save()
        if pending.f[PHASE] == FILLED:
            _check(hal, pending)
        else:
            _verify(hal, pending)
    except (Refused, BundleError) as exc:
        hal.log("update of MicroPython refused: %s" % exc.reason)
        pending.end(outcomes.number(exc.reason))
    except WireError:  # pieces that no receiver put there
        pending.end(outcomes.FLASH)
    except MemoryError:
        pending.end(outcomes.MEMORY)
    except (OSError, StorageError) as exc:
        hal.log("flash: %r" % exc)
        hal.reset()  # the next start tries again
    drop(hal)
    hal.reset()


def settle(hal: "Hal", pending: "Pending") -> None:
    """Where the trial stands, by what runs. Returns when that is the one on trial, or when the trial has ended."""
    places = hal.places()
    f = pending.f
    if places is None:
        pending.end(outcomes.FLASH)
        return
    places.steady()
    if places.this == f[SLOT] - PLACES:
        if f[OUTCOME]:  # it was to be left when the power failed
            leave(places)
            hal.reset()
        return
    if not f[OUTCOME] and f[TRIES] < STARTS_MAX:
        _start(hal, pending, places)
    places.confirm()
    give_a_start(hal)
    pending.end(f[OUTCOME] or outcomes.CRASHED)


def leave(places: "Places") -> None:
    """What runs is not started again."""
    if not places.is_pending:  # else that is so already
        places.boot_other()


class Trial:
    """What slots.Slots is to a release, for gate.py."""

    def __init__(self, hal: "Hal", pending: "Pending") -> None:
        self._hal = hal
        self._pending = pending

    def came_to_something(self) -> None:
        """The bootloader does not go back by itself any more: what is waited for may take days."""
        places = self._hal.places()
        if places is not None:
            places.confirm()

    def confirm(self) -> None:
        f = self._pending.f
        data = f[SEQUENCE].to_bytes(4, "little") + bytes((f[SLOT] - PLACES,))
        Document(self._hal.state_fs, _NAME).save(data)

    def roll_back(self) -> None:
        places = self._hal.places()
        if places is not None:
            leave(places)


def sequence(hal: "Hal", places: "Places") -> int:
    """Of the MicroPython that runs; 0: it came by cable."""
    data = Document(hal.state_fs, _NAME).load()
    return int.from_bytes(data[:4], "little") if data and data[4] == places.this else 0


def _verify(hal: "Hal", pending: "Pending") -> None:
    from firmware.pieces import Whole

    f = pending.f
    f[SLOT] = PLACES
    places = hal.places()
    if places is None:
        raise Refused("space", "this board has one place for MicroPython")
    try:
        with Tree(*_program(hal)).open(release.FILE) as file:
            mine = release.decode(file.read(1024))
    except OSError:
        raise Refused("unknown-key", "this program is no release: it trusts nobody")
    whole = Whole(hal.state_fs)
    length = int.from_bytes(whole.read(2), "big")
    board = identity.decode(read_file(hal.state_fs, _IDENTITY, 1024) or b"").board
    wanted = interpreter.device(mine, board, sequence(hal, places), places.room)
    said = manifest.match(whole.read(min(length, manifest.MAX_ENVELOPE + 1)), wanted, mine.keys)
    if said.digest != said.payload_digest or said.size != said.payload_size:
        raise Refused("parameter", "an image is sent as it is")
    f[SEQUENCE], f[SIZE], f[DIGEST] = said[:3]
    f[PAYLOAD_SIZE] = f[TRIES] = 0
    f[SLOT] = PLACES + 1 - places.this
    f[PHASE] = FILLING
    pending.save()
    hal.log("update: MicroPython %d is wanted" % f[SEQUENCE])


def _program(hal: "Hal") -> "tuple[Any, str]":
    app, running = hal.mount(True)
    return app, slots.FOLDERS[running]


def _check(hal: "Hal", pending: "Pending") -> None:
    """The image as it is on flash, and then its trial."""
    places = hal.places()
    if places is None or places.this == pending.f[SLOT] - PLACES:
        pending.end(outcomes.FLASH)
        return
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    left = pending.f[SIZE]
    at = 0
    while left:
        count = min(left, _CHUNK)
        places.read(at, view[:count])
        digest.update(view[:count])
        at += count
        left -= count
        hal.feed_watchdog()
    if digest.digest() != pending.f[DIGEST]:
        raise Refused("payload", "another digest")
    pending.f[PHASE], pending.f[OUTCOME], pending.f[TRIES] = ON_TRIAL, 0, 0
    _start(hal, pending, places)


def _start(hal: "Hal", pending: "Pending", places: "Places") -> None:
    """One more start of the trial; returns only when the chip refuses the image."""
    pending.f[TRIES] += 1
    pending.save()
    give_a_start(hal)
    if places.is_pending:
        places.confirm()  # what runs here is what it falls back on
    try:
        places.boot_other()
    except OSError as exc:
        hal.log("update: MicroPython %d can not be started: %r" % (pending.f[SEQUENCE], exc))
        places.confirm()
        pending.end(outcomes.number("image"))
        hal.reset()
    hal.log("update: MicroPython %d is on trial" % pending.f[SEQUENCE])
    hal.reset()
