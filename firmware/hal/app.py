"""The `app` partition on a board: mounted by MicroPython at /, by the virtual board elsewhere."""

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
    """Below that folder, with the methods of vfs.VfsLfs2."""

    def __init__(self, root: str) -> None:
        self._root = root

    def stat(self, path: str) -> "Any":
        return os.stat(self._root + path)

    def statvfs(self, path: str) -> "Any":
        return os.statvfs(self._root + path)

    def ilistdir(self, path: str) -> "Any":
        return os.ilistdir(self._root + path)  # type: ignore[attr-defined]

    def open(self, path: str, mode: str) -> "Any":
        return open(self._root + path, mode)

    def mkdir(self, path: str) -> None:
        os.mkdir(self._root + path)

    def remove(self, path: str) -> None:
        os.remove(self._root + path)


def finish(root: str) -> bool:
    """What a power cut left half programmed, before a program is read. Whether the node wakes from deep sleep.

    A slot that is being written and the one that runs share a tree: a half-programmed cell in one can hide files of
    the other. No cut comes before a waking.
    """
    if machine.reset_cause() == machine.DEEPSLEEP_RESET:
        return True
    for label in _LABELS:
        for found in esp32.Partition.find(esp32.Partition.TYPE_DATA, label=label):
            from firmware.steady import steady  # while it can be read

            place = root or "/"
            vfs.umount(place)
            steady(found)
            vfs.mount(vfs.VfsLfs2(found), place)  # type: ignore[abstract]
            os.chdir(place)
            return False
    return False


def guard(watchdog_ms: int) -> None:
    """A program begins that may hang before it has a watchdog of its own."""
    machine.WDT(timeout=watchdog_ms)


def restart() -> None:
    machine.reset()
