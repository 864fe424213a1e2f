"""What a board shall hold (Wanted), and what has to be sent to one that holds something else (Plan).

All decisions are made here, from what the chip said of itself and the checksums of its flash; nothing is written
before all of them are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from flash_tools.firmware_image import Firmware
from protocols.wire.identity import Identity

if TYPE_CHECKING:
    from flash_tools.blocks import Difference


@dataclass(frozen=True)
class Wanted:
    """One board's content, made before any port is opened.

    ``app``: image of the `app` partition; ``version``: of its firmware, as the node will say it. ``micropython`` None:
    what is on the chip stays. ``state``: image of a newly minted node's `state` partition; None: not a byte of `state`
    is touched. ``erase_state``: it may replace an identity that is there. ``repartition``: so may our table one of
    somebody else. ``mac``: it must be this very board. ``identity``: opens the hello of the boot check; without it
    frames are heard, and not understood.
    """

    board: ModuleType
    app: bytes
    version: str
    micropython: Firmware | None = None
    state: bytes | None = field(default=None, repr=False)  # holds a key
    erase_state: bool = False
    repartition: bool = False
    mac: str | None = None
    identity: Identity | None = None


@dataclass(frozen=True)
class Plan:
    """Region by region, in the order of writing. Empty runs everywhere: the board holds all of it already."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    @property
    def data_bytes(self) -> int:
        return sum(difference.data_bytes for difference in self.differences)
