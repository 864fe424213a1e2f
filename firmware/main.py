"""Where a node starts: find out who this is, then step for ever.

A fault in one step is logged, counted and kept, and the node goes on; the same node failing again and again is
reset, and the watchdog sees to a node that does not come round at all.
"""

import gc

from firmware.errors import NoIdentity
from firmware.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Hal

# Failed steps in a row before a reset, and the pause after each.
FAILURES_MAX = 5
_PAUSE_MS = 1000
_NO_IDENTITY_MS = 10000


def run() -> None:
    """What the app image's main.py calls; does not return."""
    from firmware.hal.board import Board

    board = Board()
    if board.was_formatted:
        board.log("state: could not be mounted and was formatted; what this node knew is gone")
    node = start(board)
    loop(board, node)


def start(hal: "Hal") -> "Node":
    """The node, once there is one: without an identity it can only say so."""
    while True:
        try:
            return Node(hal)
        except NoIdentity as exc:
            hal.log("no identity: %s" % exc)
        hal.idle(_NO_IDENTITY_MS)
        hal.feed_watchdog()


def loop(hal: "Hal", node: "Node") -> None:
    failures = 0
    while True:
        try:
            wait_ms = node.step()
            failures = 0
        except Exception as exc:  # noqa: BLE001  (the top of the node: it is kept, told and counted, the node goes on)
            gc.collect()  # the heap may be what failed
            failures += 1
            wait_ms = _PAUSE_MS
            node.health.crashed(exc)
            hal.log("step failed (%d in a row): %r" % (failures, exc))
            if failures >= FAILURES_MAX:
                hal.reset()
        hal.idle(wait_ms)
