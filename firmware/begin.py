"""The first moments of a life: what is done before a node is made, and when that failed. Forgotten while it is made."""

import gc

from firmware.durable import Document
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.health import Health
from firmware.no_start import NoIdentity, StartFailed, WrongFirmware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.main import Life
    from firmware.trials import Trials

# Before the reset after a start that failed: a node that cannot start at all must still be heard at its console.
START_PAUSE_MS = 10000
_NO_IDENTITY_MS = 10000


def none(hal: "Hal", life: "Life", exc: Exception) -> None:
    """There is no node: without an identity, or on the wrong firmware, it can only say so. Else it is tried again."""
    if isinstance(exc, StartFailed):
        hal.log(str(exc))
        hal.idle(START_PAUSE_MS)
        hal.reset()
    hal.log(("no identity: %s" if isinstance(exc, NoIdentity) else "wrong firmware: %s") % exc)
    hal.idle(_NO_IDENTITY_MS)
    if life.look_at_s >= 0:  # on trial
        hal.reset()  # and before it this was a node
    hal.feed_watchdog()


def is_on_trial(hal: "Hal") -> bool:
    """Do all that can be done for an update without a node; whether the release that runs is on trial."""
    kept = Document(hal.state_fs, "update").load()
    if not kept or not kept[0]:
        return False
    from firmware import update

    found = update.begin(hal)
    del update
    gc.collect()  # not at every start: in a simulated world with thousands of them it is what takes the time
    return found


def receiver(hal: "Hal", call: bytes) -> "Any":
    """What lives in place of a node when this start is called to a pass; None when it is not."""
    if not call or int.from_bytes(call[:2], "big"):
        return None
    from firmware import receive

    return receive.life(hal, call)


def failed(hal: "Hal", made: "Trials | None", exc: Exception) -> None:
    """The node could not be made; raises as Life.begin."""
    if isinstance(exc, (NoIdentity, WrongFirmware)):
        raise exc
    gc.collect()
    made = made or trials(hal)
    made.failed_again()
    Health(hal, Document(hal.state_fs, "traceback"), 0).crashed(exc)
    raise StartFailed("start failed (%d in a row): %r" % (made.failed, exc))


def called(hal: "Hal") -> bytes:
    """The pass that this start is called to, or that comes later. It is forgotten with that: power that fails costs an
    appointment, and no more.
    """
    if hal.reset_cause == CAUSE_DEEP_SLEEP:  # nobody sleeps before a pass that has begun
        return b""
    document = Document(hal.state_fs, "call")
    call = document.load() or b""
    if call:
        document.save(b"")
    return call


def counted(hal: "Hal") -> "Trials | None":
    """This start, which may come to nothing: a node sleeps only once one has come to something."""
    return None if hal.reset_cause == CAUSE_DEEP_SLEEP else trials(hal)


def trials(hal: "Hal") -> "Trials":
    """On the heap until the start has come to something."""
    from firmware.trials import Trials

    return Trials(hal)
