"""Where a node starts: find out who this is, then step for ever.

A fault in one step is logged, counted and kept, and the node goes on; the same node failing again and again is
reset, and the watchdog sees to a node that does not come round at all. Starts that come to nothing are counted
(trials.py): after three the node starts without its sensors, so that somebody can ask it what is wrong.
"""

import gc

from firmware.errors import NodeError
from firmware.modules import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal
    from firmware.node import Node
    from firmware.trials import Trials

# Failed steps in a row before a reset, and the pause after each.
FAILURES_MAX = 5
_PAUSE_MS = 1000


class Life:
    """From a start to the next reset: begin(), then step() for ever."""

    def __init__(self, hal: "Hal") -> None:
        self._hal = hal
        self._failures = 0  # failed steps in a row
        self._trials: "Trials | None" = None
        self.look_at_s = -1  # uptime, while this release is on trial
        self._slowest_ms = 0  # of the steps since that look

    def begin(self) -> "Node":
        """Make the node. NoIdentity, WrongFirmware: it can not be one. StartFailed: any other fault; it is counted."""
        from firmware import begin  # not on the heap while the node is made: there is no room beside it

        hal = self._hal
        self.look_at_s = int(begin.is_on_trial(hal)) - 1
        call = begin.called(hal)
        made = begin.receiver(hal, call)
        if made is None:
            self._trials = begin.counted(hal)
        del begin
        forget("firmware.begin")
        self.node = made or self._with_node(call)
        return self.node

    def _with_node(self, call: bytes) -> "Node":
        try:
            from firmware.node import Node

            node = Node(self._hal, self._trials)
            if self._trials is not None:
                self._trials.started(node)
            if call:
                from firmware import appointment

                appointment.again(node, call)
                appointment.close()
            return node
        except Exception as exc:
            from firmware import begin

            begin.failed(self._hal, self._trials, exc)
            raise

    def step(self) -> int:
        """One step of the node; milliseconds to the next."""
        node = self.node
        clock = self._hal.clock
        try:
            begun_ms = clock.ticks_ms()
            wait_ms = node.step()
            self._slowest_ms = max(self._slowest_ms, clock.ticks_diff(clock.ticks_ms(), begun_ms))
            self._failures = 0
            if self._trials is not None and node.has_measured:
                self._trials.succeeded(node)
                self._trials = None
                forget("firmware.trials")
                return 0  # it may have something to tell
            uptime_s = self._hal.clock.uptime_s()
            # From its first measurement on, or when there was none for long.
            if 0 <= self.look_at_s <= uptime_s and (self._trials is None or uptime_s >= 3600):
                from firmware import gate

                self.look_at_s = gate.look(node, self._slowest_ms)
                gate.close()
                self._slowest_ms = 0
                return 0  # there may be more to look at before it sleeps
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


def run() -> None:
    """What the app image's main.py calls; does not return."""
    from firmware.hal.board import Board

    board = Board()
    if board.was_formatted:
        board.log("state: could not be mounted and was formatted; what this node knew is gone")
    loop(board, start(board))


def start(hal: "Hal") -> "Life":
    """A life with a node, once there is one."""
    life = Life(hal)
    while True:
        try:
            life.begin()
            return life
        except NodeError as exc:
            from firmware import begin

            begin.none(hal, life, exc)


def loop(hal: "Hal", life: "Life") -> None:
    while True:
        try:
            hal.idle(life.step())
        except MemoryError:
            # Even saying what failed found no room. Nothing that is kept is in RAM alone: begin again at once, and do
            # not wait for the watchdog.
            hal.reset()
