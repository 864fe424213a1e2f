"""The `app` partition on a board: mounted by MicroPython at /, by the virtual board elsewhere, with a slot on the path.

To read it, it may stay as it is; whoever writes mounts it anew, so that what a power cut left half programmed is
finished first (steady.py).
"""

import os

import esp32
import machine
import vfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What board.py calls APP_LABEL: that of the stock partition table, and of the virtual board.
_LABELS = ("vfs", "app")


class Mounted:
    """Below that folder, with the methods of vfs.VfsLfs2 that reading a document takes."""

    def __init__(self, root: str) -> None:
        self._root = root

    def stat(self, path: str) -> "Any":
        return os.stat(self._root + path)

    def open(self, path: str, mode: str) -> "Any":
        return open(self._root + path, mode)


def remount(root: str, is_steady: bool) -> "Any":
    """The file system, fit to be written to; mounted again at the same place."""
    for label in _LABELS:
        found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=label)
        if found:
            break
    else:
        raise OSError("no partition of the program: flash the partition table of this board")
    from firmware.steady import steady  # while it can be read

    place = root or "/"
    vfs.umount(place)
    if not is_steady:
        steady(found[0])
    fs = vfs.VfsLfs2(found[0])  # type: ignore[abstract]
    vfs.mount(fs, place)
    os.chdir(place)
    return fs


def guard(watchdog_ms: int) -> bool:
    """A program begins that may hang before it has a watchdog of its own. Whether it wakes from deep sleep."""
    machine.WDT(timeout=watchdog_ms)
    return bool(machine.reset_cause() == machine.DEEPSLEEP_RESET)
