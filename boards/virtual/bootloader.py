"""The virtual board's bootloader: which MicroPython is started, by `otadata` and by what is in the two places for it.

What it does is ESP-IDF's (rom/_ota.py). A waking from deep sleep starts what ran before and asks nothing: MicroPython's
builds skip the check there.
"""

from pathlib import Path
from typing import Any

from boards.virtual import micropythons
from boards.virtual.errors import BoardError
from boards.virtual.micropythons import VirtualMicroPython
from boards.virtual.rom import _ota as of_a_chip

_ota: Any = of_a_chip  # runs on the node, too: no annotations there
OTADATA = "otadata"
PLACES = ("ota_0", "ota_1")
_PROGRAMS = {
    "crash": ("-c", "import sys; sys.exit(1)"),
    "hang": ("-c", "import time\nwhile True: time.sleep(60)"),
}


class FileFlash:
    """A partition as its file, changed by the bootloader."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, at: int, count: int) -> bytes:
        return self._path.read_bytes()[at : at + count]

    def erase(self, sector: int) -> None:
        self.write(sector * _ota.SECTOR, b"\xff" * _ota.SECTOR)

    def write(self, at: int, data: bytes) -> None:
        with self._path.open("r+b") as file:
            file.seek(at)
            file.write(data)


class Bootloader:
    """``folder``: of the board. ``place`` is what runs, "" on a board that has one MicroPython for good."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = ""
        self.image: VirtualMicroPython | None = None

    @property
    def has_places(self) -> bool:
        return (self._folder / f"{OTADATA}.bin").exists()

    def start(self) -> None:
        """Choose; BoardError when nothing can be started: a chip would reset for ever."""
        if not self.has_places:
            return
        otadata = _ota.OtaData(FileFlash(self._folder / f"{OTADATA}.bin"))
        images = [micropythons.find(self._folder / f"{place}.bin") for place in PLACES]
        place = _ota.start(otadata, lambda at: images[at] is not None)
        if place is None:
            raise BoardError("no place holds a MicroPython that is whole: this chip is a brick")
        self.place, self.image = PLACES[place], images[place]

    # ---- what that is to the process that plays the chip ----------------------------------------------------------

    @property
    def program(self) -> tuple[str, ...]:
        runs = self.image.runs if self.image else "micropython"
        return _PROGRAMS.get(runs, ("-m", "boot"))

    @property
    def environment(self) -> dict[str, str]:
        if self.image is None:
            return {}
        return {"VBOARD_RUNNING": self.place, "VBOARD_MPY": "other" if self.image.runs == "other-mpy" else ""}

    @property
    def is_crashing(self) -> bool:
        return self.image is not None and self.image.runs == "crash"
