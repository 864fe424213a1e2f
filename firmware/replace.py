"""An update of MicroPython itself, before its trial (tried.py): what a start does of it, with the heap to itself.

The envelope comes as any update does and is verified here. Only then the image may come (filling.py), straight into the
place that does not run; it is read back and compared here, and started.
"""

import hashlib

from firmware import slots, tried
from firmware.durable import read_file
from firmware.errors import StorageError
from firmware.pending import (
    DIGEST,
    FILLED,
    FILLING,
    JUDGE,
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
)
from protocols.wire import identity, interpreter, manifest, outcomes, release
from protocols.wire.bundle import BundleError, Tree
from protocols.wire.errors import WireError
from protocols.wire.manifest import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.pending import Pending

# Starts that look at the same update before it is given up (install.py).
TRIES_MAX = 12
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


def _verify(hal: "Hal", pending: "Pending") -> None:
    from firmware.pieces import Whole

    f = pending.f
    f[SLOT] = PLACES
    places = hal.places()
    if places is None:
        raise Refused("space", "this board has one place for MicroPython")
    mine = _mine(hal)
    whole = Whole(hal.state_fs)
    length = int.from_bytes(whole.read(2), "big")
    board = identity.decode(read_file(hal.state_fs, _IDENTITY, 1024) or b"").board
    wanted = interpreter.device(mine, board, tried.sequence(hal, places), places.room)
    said = manifest.match(whole.read(min(length, manifest.MAX_ENVELOPE + 1)), wanted, mine.keys)
    if said.digest != said.payload_digest or said.size != said.payload_size:
        raise Refused("parameter", "an image is sent as it is")
    f[SEQUENCE], f[SIZE], f[DIGEST] = said[:3]
    f[PAYLOAD_SIZE] = f[TRIES] = 0
    f[JUDGE] = mine.sequence
    f[SLOT] = PLACES + 1 - places.this
    f[PHASE] = FILLING
    pending.save()
    hal.log("update: MicroPython %d is wanted" % f[SEQUENCE])


def _mine(hal: "Hal") -> "release.Release":
    """What the slot that runs says of itself."""
    try:
        with Tree(*_program(hal)).open(release.FILE) as file:
            return release.decode(file.read(1024))
    except OSError:
        raise Refused("unknown-key", "this program is no release: it trusts nobody")


def _program(hal: "Hal") -> "tuple[Any, str]":
    app, running = hal.program()
    return app, slots.FOLDERS[running]


def _check(hal: "Hal", pending: "Pending") -> None:
    """The image as it is on flash, and then its trial."""
    places = hal.places()
    if places is None or places.this == pending.f[SLOT] - PLACES:
        pending.end(outcomes.FLASH)
        return
    if _mine(hal).sequence != pending.f[JUDGE]:
        raise Refused("unknown-key", "it was verified by another release, and its envelope is gone")
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
    pending.f[OUTCOME] = pending.f[TRIES] = 0
    tried.start(hal, pending, places)
