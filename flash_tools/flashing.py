"""Flashing one board, top to bottom: connect → identify → check → plan → write → verify → boot check.

    flashed = flash_board("/dev/ttyUSB0", wanted, Progress())

Everything raised is a FlashError that says what was found, what was expected and what to do; whatever was written by
then, the same call finishes it. What is returned was verified, every block of every region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flash_tools.plan import Wanted


class Progress:
    """Told what happens, from the thread that flashes. A caller that wants to show it overrides these."""

    def stage(self, name: str) -> None:
        """One of: connect, identify, check, write, verify, boot."""

    def found(self, facts: ChipFacts) -> None:
        """The chip said who it is."""

    def sent(self, done: int, total: int) -> None:
        """Bytes of the images that are in the flash, of those that had to be sent."""


@dataclass(frozen=True)
class ChipFacts:
    """What a chip says of itself. ``mac`` as printed on modules: 24:0a:c4:00:01:10."""

    chip: str
    mac: str
    revision: str
    flash_size: int
    secure_boot: bool = False
    flash_encryption: bool = False


@dataclass(frozen=True)
class Flashed:
    """A board that holds what was wanted. ``data_bytes`` are of the images, ``line_bytes`` what went over the line."""

    facts: ChipFacts
    version: str
    micropython: str
    app_digest: str
    blocks_sent: int
    blocks_total: int
    data_bytes: int
    line_bytes: int
    state_written: bool
    booted: str  # "hello": sealed and understood; "frames": heard without a key; "": not asked for


def flash_board(port: str | Any, wanted: Wanted, progress: Progress, *, boot_s: float = 60.0) -> Flashed:
    """Make the board at this port (a device, a URL, or an object like pyserial's Serial) hold what is wanted."""
    raise NotImplementedError
