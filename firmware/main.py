"""Where a node starts: find out who this is, then step for ever.

A fault in one step is logged, counted and kept, and the node goes on; the same node failing again and again is
reset, and the watchdog sees to a node that does not come round at all. Starts that come to nothing are counted
(trials.py): after three the node starts without its sensors, so that somebody can ask it what is wrong.
"""

import gc

from firmware.durable import Document
from firmware.errors import NoIdentity, StartFailed, WrongFirmware
from firmware.hal import CAUSE_DEEP_SLEEP
from firmware.health import Health
from firmware.modules import forget
from firmware.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.trials import Trials

# Failed steps in a row before a reset, and the pause after each.
FAILURES_MAX = 5
_PAUSE_MS = 1000
# Before the reset after a start that failed: a node that cannot start at all must still be heard at its console.
START_PAUSE_MS = 10000
_NO_IDENTITY_MS = 10000


class Life:
    """From a start to the next reset: begin(), then step() for ever."""

    def __init__(self, hal: "Hal") -> None:
        self._hal = hal
        self._failures = 0  # failed steps in a row
        self._trials: "Trials | None" = None
        self._look_at_s = -1  # uptime, while this release is on trial

    def begin(self) -> "Node":
        """Make the node. NoIdentity, WrongFirmware: it can not be one. StartFailed: any other fault; it is counted."""
        hal = self._hal
        kept = Document(hal.state_fs, "update").load()
        if kept and kept[0]:
            from firmware import update  # on the heap until all that can be done of it without a node is done

            self._look_at_s = int(update.begin(hal)) - 1
            del update
            gc.collect()
        if hal.reset_cause != CAUSE_DEEP_SLEEP:  # a node sleeps only once a start has come to something
            self._trials = _trials(hal)
        trials = self._trials
        try:
            self.node = Node(hal, trials)
            if trials is not None:
                trials.started(self.node)
            return self.node
        except (NoIdentity, WrongFirmware):
            raise
        except Exception as exc:  # noqa: BLE001  (whatever a sensor or a document does at a start)
            gc.collect()
            trials = trials or _trials(hal)
            trials.failed_again()
            Health(hal, Document(hal.state_fs, "traceback"), 0).crashed(exc)
            raise StartFailed("start failed (%d in a row): %r" % (trials.failed, exc))

    def step(self) -> int:
        """One step of the node; milliseconds to the next."""
        node = self.node
        try:
            wait_ms = node.step()
            self._failures = 0
            if self._trials is not None and node.has_measured:
                self._trials.succeeded(node)
                self._trials = None
                forget("firmware.trials")
                return 0  # it may have something to tell
            self._judge(node)
            if node.nap is not None and self._trials is None:
                node.nap.look(node)  # does not return if the node sleeps
            return wait_ms
        except Exception as exc:  # noqa: BLE001  (the top of the node: it is kept, told and counted, the node goes on)
            gc.collect()  # the heap may be what failed
            self._failures += 1
            node.health.crashed(exc)
            self._hal.log("step failed (%d in a row): %r" % (self._failures, exc))
        if self._failures >= FAILURES_MAX:
            if self._trials is not None:
                self._trials.failed_again()
            self._hal.reset()
        return _PAUSE_MS

    def _judge(self, node: "Node") -> None:
        """Whether this release may stay: from its first measurement on, or when there was none for long."""
        uptime_s = self._hal.clock.uptime_s()
        if 0 <= self._look_at_s <= uptime_s and (self._trials is None or uptime_s >= 3600):
            from firmware import gate

            self._look_at_s = gate.look(node)
            gate.close()


def _trials(hal: "Hal") -> "Trials":
    from firmware.trials import Trials  # on the heap until the start has come to something

    return Trials(hal)


def run() -> None:
    """What the app image's main.py calls; does not return."""
    from firmware.hal.board import Board

    board = Board()
    if board.was_formatted:
        board.log("state: could not be mounted and was formatted; what this node knew is gone")
    loop(board, start(board))


def start(hal: "Hal") -> "Life":
    """A life with a node, once there is one: without an identity, or on the wrong firmware, it can only say so."""
    life = Life(hal)
    while True:
        try:
            life.begin()
            return life
        except NoIdentity as exc:
            hal.log("no identity: %s" % exc)
        except WrongFirmware as exc:
            hal.log("wrong firmware: %s" % exc)
        except StartFailed as exc:
            hal.log(str(exc))
            hal.idle(START_PAUSE_MS)
            hal.reset()
        hal.idle(_NO_IDENTITY_MS)
        if life._look_at_s >= 0:
            hal.reset()  # on trial, and before it this was a node
        hal.feed_watchdog()


def loop(hal: "Hal", life: "Life") -> None:
    while True:
        try:
            hal.idle(life.step())
        except MemoryError:
            # Even saying what failed found no room. Nothing that is kept is in RAM alone: begin again at once, and do
            # not wait for the watchdog.
            hal.reset()
