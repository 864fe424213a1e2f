"""A bench and a gateway: simulated boards whose flash the real esptool writes, and the daemon that hears them after."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from esptool import cmds

from flash_tools.images import board_constants, build_app_image
from flash_tools.mint import MINT_FILE, Minted, mint
from hil_tests.street import AREA, ROOT, GatewayProcess
from hil_tests.world.esp import image
from hil_tests.world.esp.bench import BenchBoard
from hil_tests.world.esp.boot import TABLE_AT
from hil_tests.world.esp.chip import EspChip
from hil_tests.world.esp.kinds import kind_of
from hil_tests.world.esp.pty_port import PtyPort


@cache
def app_image(board: str, node_type: str) -> bytes:
    return build_app_image(ROOT, board, node_type).data


def parts_of(board: str, node_type: str, state: bytes | None) -> list[tuple[int, bytes]]:
    """(offset, bytes) of everything that makes a node of a blank board; without ``state``, of one that is a node."""
    constants = board_constants(board)
    found = [
        (kind_of(constants.CHIP).bootloader_at, image.release(constants.CHIP)),
        (TABLE_AT, image.board_table(constants)),
        (constants.PARTITIONS["app"][0], app_image(board, node_type)),
    ]
    return [*found, (constants.PARTITIONS["state"][0], state)] if state is not None else found


def write_board(port: Any, parts: list[tuple[int, bytes]]) -> None:
    """As `esptool write-flash` does it, verified, and with its reset at the end. ``port``: a name or an object."""
    esp = cmds.run_stub(cmds.detect_chip(port, connect_attempts=2))
    cmds.attach_flash(esp)
    for part in parts:  # one by one: the table overwrites that of the image before
        cmds.write_flash(esp, [part], no_progress=True)
    esp.hard_reset()
    esp._port.close()


class Bench:
    """One board behind a path, and a gateway that has it as a link and knows its node."""

    def __init__(self, folder: Path, board: str, node_type: str = "river") -> None:
        self.board = board
        self.node_type = node_type
        self.minted: Minted = mint(
            out=folder,
            address=0x0010,
            node_type=node_type,
            board=board,
            area=AREA,
            site="weir-1",
            settings={0: 2, 1: 2, 2: 10},
        )
        self.chip = EspChip(board_constants(board).CHIP)
        self.bench = BenchBoard(folder / "bench", self.chip)
        self.port = PtyPort(self.bench, folder / "tty")
        self.gateway = GatewayProcess(folder / "gateway", {"bench": self.port.path}, None)
        self.gateway.cli("node", "import", str(folder / MINT_FILE))

    def write(self, *, with_state: bool = True) -> None:
        """The gateway must not have the port open."""
        state = self.minted.state_image.read_bytes() if with_state else None
        write_board(str(self.port.path), parts_of(self.board, self.node_type, state))

    def stored(self) -> int:
        with closing(sqlite3.connect(f"file:{self.gateway.database}?mode=ro", uri=True)) as reader:
            (count,) = reader.execute("SELECT count(*) FROM reading").fetchone()
        return int(count)

    def wait(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                node = self.bench.node
                said = node.console[-800:] if node is not None else self.bench.boot
                raise TimeoutError(f"no {what}; {said!r}\n{self.gateway.log_tail()}")
            time.sleep(0.1)

    def close(self) -> None:
        self.port.close()
        self.bench.close()
        self.gateway.kill()
