"""The first moments of a life: what must be done before there is a node, and making it. Forgotten when there is one."""

import gc

from firmware.durable import Document
from firmware.errors import NoIdentity, StartFailed, WrongFirmware
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.health import Health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Hal
    from firmware.main import Life
    from firmware.trials import Trials

# Before the reset after a start that failed: a node that cannot start at all must still be heard at its console.
START_PAUSE_MS = 10000
_NO_IDENTITY_MS = 10000


def life(hal: "Hal", made: "Life") -> None:
    """A life with a node, once there is one: without an identity, or on the wrong firmware, it can only say so."""
    while True:
        try:
            made.begin()
            return
        except NoIdentity as exc:
            hal.log("no identity: %s" % exc)
        except WrongFirmware as exc:
            hal.log("wrong firmware: %s" % exc)
        except StartFailed as exc:
            hal.log(str(exc))
            hal.idle(START_PAUSE_MS)
            hal.reset()
        hal.idle(_NO_IDENTITY_MS)
        if made.look_at_s >= 0:  # on trial
            hal.reset()  # and before it this was a node
        hal.feed_watchdog()


def is_on_trial(hal: "Hal") -> bool:
    """Do all that can be done for an update without a node; whether the release that runs is on trial."""
    kept = Document(hal.state_fs, "update").load()
    if not kept or not kept[0]:
        return False
    from firmware import update

    return update.begin(hal)


def node(hal: "Hal") -> "tuple[Any, Trials | None]":
    """What lives until the next reset: a node, and its start for as long as that may come to nothing, or, for a pass,
    what receives it. Raises as Life.begin.
    """
    call = b""
    if hal.reset_cause != CAUSE_DEEP_SLEEP:  # nobody sleeps before a pass that has begun
        call = _called(hal)
        if call and not int.from_bytes(call[:2], "big"):
            from firmware import receive

            return receive.life(hal, call), None
    made = None
    if hal.reset_cause != CAUSE_DEEP_SLEEP:  # a node sleeps only once a start has come to something
        made = trials(hal)
    try:
        from firmware.node import Node

        one = Node(hal, made)
        if made is not None:
            made.started(one)
        if call:
            from firmware import appointment

            appointment.again(one, call)
            appointment.close()
        return one, made
    except (NoIdentity, WrongFirmware):
        raise
    except Exception as exc:  # noqa: BLE001  (whatever a sensor or a document does at a start)
        gc.collect()
        made = made or trials(hal)
        made.failed_again()
        Health(hal, Document(hal.state_fs, "traceback"), 0).crashed(exc)
        raise StartFailed("start failed (%d in a row): %r" % (made.failed, exc))


def _called(hal: "Hal") -> bytes:
    """The pass that this start is called to, or that comes later. It is forgotten with that: power that fails costs an
    appointment, and no more.
    """
    document = Document(hal.state_fs, "pass")
    call = document.load() or b""
    if call:
        document.save(b"")
    return call


def trials(hal: "Hal") -> "Trials":
    """On the heap until the start has come to something."""
    from firmware.trials import Trials

    return Trials(hal)
