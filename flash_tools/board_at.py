"""A board at a port, as a station run sees it (station.py): flashing.py and boot_check.py behind one open port.

The port stays open from the first question to the hello: what a node says at its start is not lost between two steps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flash_tools import boot_check, chip, firmware_image, flashing, ports, shipped
from flash_tools.chip import ChipFacts
from flash_tools.errors import BootFailed, FlashError
from flash_tools.firmware_image import Firmware, Version
from flash_tools.flash_run import Journaled, note_flashed
from flash_tools.flashing import Content, Progress
from flash_tools.images import board_constants
from flash_tools.journal import Journal
from flash_tools.mint import ROOT
from flash_tools.shipped import Program
from flash_tools.station import BoardAt, Booted, Order, Written


@dataclass(frozen=True)
class Manner:
    """How every board of a run is flashed. ``micropython``: a file or a folder of them; None: what is there stays."""

    micropython: Path | None = None
    version: Version | None = None
    release: Path | None = None  # a release, or a folder of them; None: what is built is none
    downgrade: bool = False
    erase_state: bool = False
    repartition: bool = False
    boot_s: float = boot_check.BOOT_S
    baud: int = chip.FAST_BAUD
    attempts: int = chip.CONNECT_ATTEMPTS
    root: Path = ROOT


@dataclass
class Images:
    """What goes onto boards beside an identity, made once per kind of board."""

    manner: Manner
    _apps: dict[tuple[str, str], Program] = field(default_factory=dict)
    _firmware: dict[str, Firmware] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def make(self, board: str, node_type: str) -> None:
        """The images of one kind, unless they are made already."""
        with self._turn:
            if (board, node_type) not in self._apps:
                self._apps[board, node_type] = shipped.program(
                    self.manner.root, board, node_type, self.manner.release
                )
            if self.manner.micropython is not None and board not in self._firmware:
                found = firmware_image.load(
                    self.manner.micropython, board_constants(board), self.manner.version
                )
                self._firmware[board] = found

    def content(self, order: Order) -> Content:
        """Raises before anything is written when there is no image for this board."""
        wanted, manner = order.unit.wanted, self.manner
        board = board_constants(wanted.board)
        self.make(wanted.board, wanted.node_type)
        made = self._apps[wanted.board, wanted.node_type]
        return Content(
            board=board,
            app=made.image.data,
            release=made.release,
            version=made.version,
            micropython=self._firmware.get(wanted.board),
            state=order.state,
            erase_state=manner.erase_state or order.replaces,
            # A run that was killed after it had flashed this board, and before the book had it: the node lives.
            may_live=True,
            repartition=manner.repartition,
            downgrade=manner.downgrade,
            mac=order.unit.mac,
            identity=order.identity,
        )


class BoardAtPort:
    """BoardAt of station.py."""

    def __init__(self, line: Any, where: str, images: Images, told: Journaled) -> None:
        self._line = line
        self._where = where
        self._images = images
        self._told = told

    def write(self, order_for: Callable[[ChipFacts], Order]) -> Written:
        manner = self._images.manner
        chosen: list[Content] = []

        def content_for(facts: ChipFacts) -> Content:
            chosen.append(self._images.content(order_for(facts)))
            return chosen[0]

        done = flashing.flash_board(
            self._line, content_for, self._told, boot_s=0, baud=manner.baud, attempts=manner.attempts
        )
        note_flashed(self._told, done, chosen[0])
        return Written(
            chip=done.facts.chip,
            revision=done.facts.revision,
            flash_size=done.facts.flash_size,
            secure_boot=done.facts.secure_boot,
            flash_encryption=done.facts.flash_encryption,
            version=done.version,
            micropython=done.micropython,
            app_digest=done.app_digest,
            blocks_sent=done.blocks_sent,
            blocks_total=done.blocks_total,
            data_bytes=done.data_bytes,
        )

    def boot(self, order: Order) -> Booted:
        content = self._images.content(replace(order, state=None))
        self._told.stage("boot")
        self._line.baudrate = content.board.CONSOLE_BAUD
        heard = boot_check.watch(self._line, self._where, content, self._images.manner.boot_s)
        on_air = order.identity.radio is not None
        if heard != ("greeting" if on_air else "hello"):
            raise BootFailed(
                self._where,
                "a node without an identity" if heard == "no identity" else f"{heard} of a node",
                f"the sealed hello of {order.unit.name}",
                f"Its `state` is gone, and its key with it. End the unit (tidegate provision scrap {order.unit.name} "
                "--why …) and run this with --again",
            )
        if on_air:
            return Booted(
                "greets on its console", "a greeting: on the air nothing sealed is said here", content.version
            )
        return Booted("sealed hello, opened with its key", "a sealed hello of this node", content.version)


@contextlib.contextmanager
def opened(
    port: Any, images: Images, journal: Journal, progress_of: Callable[[str], Progress]
) -> Iterator[BoardAt]:
    """``port``: a device, a URL, or an object like pyserial's Serial, which stays open."""
    where = port if isinstance(port, str) else str(port.name)
    told = Journaled(journal, where, progress_of(where))
    with contextlib.ExitStack() as stack:
        line = port
        if isinstance(port, str):
            line = ports.open_port(port)
            stack.callback(line.close)
        try:
            yield BoardAtPort(line, where, images, told)
        except FlashError as error:
            told.note("failed", kind=type(error).__name__, why=str(error))
            raise
