"""Between reset and the program: which slot is started. It lies beside the slots and is written by the flasher alone.

What it decides with has to outlive every release, so it is small, needs nothing of a slot, and is off the heap again
before the slot's own modules come. No file is written unless a release is on trial.
"""

from firmware.hal.app import Mounted, finish, guard, restart
from firmware.hal.places import pending
from firmware.slots import CRASHES, FOLDERS, NONE, RUNNING, TRIAL, Slots, choose, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WATCHDOG_MS = 60000


def begin(root: str) -> "tuple[str, bool]":
    """The folder of the slot to start, and whether that is on trial; then it is counted.

    ``root``: where `app` is mounted.
    """
    # First of all: what hangs or raises before the program has a watchdog of its own would be silent for ever.
    guard(WATCHDOG_MS)
    is_waking = finish(root)
    fs: "Any" = Mounted(root)
    found = Slots(fs)
    slot = found.starts
    is_new = pending() >= 0  # MicroPython itself is on trial: when this start fails, its bootloader goes back
    if found.record[TRIAL] != NONE:
        # A node sleeps only once a start has come to something. One that sleeps before that has crashed, as others do.
        if not is_waking or found.record[CRASHES]:
            slot = counted(found)
            if is_waking and slot == found.record[RUNNING]:
                restart()  # what runs from now on shall not take over what the other kept for its waking
    folder = choose(fs, slot)
    return root + folder, is_new or (folder == FOLDERS[slot] and slot == found.record[TRIAL])
