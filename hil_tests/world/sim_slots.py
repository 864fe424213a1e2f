"""A simulated station whose `app` partition has slots: updates are received, verified and applied by the firmware.

What a slot holds is a bundle that was really made of the one before; what runs is the firmware of this source tree,
whichever slot was started. What is different about a release is done from outside: ``on_start`` is called with the
sequence of the release that starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware import slots
from firmware.hal import CAUSE_DEEP_SLEEP, CAUSE_HARD_RESET, WAKE_NONE
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.sim_hal import SimReset, SimStation
from protocols.wire import release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

APP_BLOCKS = 128


class SlotStation(SimStation):
    """``files``: of the release that it was flashed with."""

    def __init__(self, identity: Any, *, files: Mapping[str, bytes], **options: Any) -> None:
        super().__init__(identity, **options)
        self.app = Flash(APP_BLOCKS)
        LittleFs.mkfs(self.app)
        fs = LittleFs(self.app)
        for path, data in files.items():
            write_file(fs, f"{slots.FOLDERS[0]}/{path}", data)
        self.running = 0  # the slot of this life
        self.sequences: list[int] = []  # the release of each start
        self.on_release: Callable[[int], None] = lambda sequence: None

    def program(self) -> tuple[Any, int]:
        return LittleFs(self.app), self.running

    def open_program(self, path: str) -> Any:
        return LittleFs(self.app).open(f"{slots.FOLDERS[self.running]}/{path}", "rb")

    def sequence(self) -> int:
        with self.open_program(release.FILE) as file:
            return int(release.decode(file.read()).sequence)

    def _start(self, cause: int, wake: int = WAKE_NONE) -> None:
        """What installs an update ends with a reset, before there is a node."""
        while True:
            try:
                self._boot(cause, wake)
                return
            except SimReset:
                self.resets += 1
                self.rtc.lose_memory()
                cause, wake = CAUSE_HARD_RESET, WAKE_NONE

    def _boot(self, cause: int, wake: int) -> None:
        """As firmware/starter.py does it."""
        found = slots.Slots(LittleFs(self.app))
        slot = found.starts
        is_waking = cause == CAUSE_DEEP_SLEEP
        if found.record[slots.TRIAL] != slots.NONE and (not is_waking or found.record[slots.CRASHES]):
            slot = slots.counted(found)
            if is_waking and slot == found.record[slots.RUNNING]:
                raise SimReset
        self.running = slots.FOLDERS.index(slots.choose(LittleFs(self.app), slot))
        self.sequences.append(self.sequence())
        self.on_release(self.sequences[-1])
        super()._start(cause, wake)


def write_file(fs: LittleFs, path: str, data: bytes) -> None:
    at = ""
    for part in path.split("/")[1:-1]:
        at += f"/{part}"
        try:
            fs.stat(at)
        except OSError:
            fs.mkdir(at)
    with fs.open(path, "wb") as file:
        file.write(data)
