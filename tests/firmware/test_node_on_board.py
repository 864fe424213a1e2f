"""The app image on the virtual board: the hal over machine, esp32 and vfs, and a state partition in every condition."""

from __future__ import annotations

import itertools
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import serial

from boards.virtual.board import RS485_UART
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import VirtualBoard
from firmware import nodes
from flash_tools.images import build_app_image, build_state_image
from protocols.wire import identity
from protocols.wire.codes import TRACEBACK
from protocols.wire.messages import (
    SYNCHRONISED,
    UNSYNCHRONISED,
    Hello,
    Ping,
    Readings,
    Status,
    split_unsynced,
)
from tests.firmware.peer import Peer
from tests.firmware.street import CALM, IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60.0


@cache
def app_image() -> bytes:
    return build_app_image(ROOT).data


def state_image(who: identity.Identity = IDENTITY) -> bytes:
    return build_state_image({"identity": identity.encode(who)})


class Station:
    """A board with its sonde, and a gateway's end on its port."""

    def __init__(self, board: VirtualBoard) -> None:
        self.board = board
        self.sonde = ModbusSonde(YOSEMITECH, lambda _: CALM)
        board.attach_uart(RS485_UART, self.sonde)
        nonces = itertools.count(1)
        self.peer = Peer(IDENTITY, lambda n: next(nonces).to_bytes(n, "big"), lambda: int(board.now_s()))
        board.power_on()
        self.port = serial.Serial(str(board.link_path), 115200, timeout=0.05)

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Serve the line until that is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, (
                f"{what}: not within {PATIENCE_S} s; console: {self.board.console[-500:]!r}"
            )
            self.port.write(self.peer.feed(self.port.read(4096)))

    def status(self) -> Status:
        """Ask how it is."""
        count = len(self.peer.of(Status))
        self.port.write(self.peer.send(Ping(count)))
        self.until(lambda: len(self.peer.of(Status)) > count, "a status")
        found: Status = self.peer.of(Status)[-1]
        return found

    def hellos(self) -> int:
        return len([hello for hello in self.peer.of(Hello) if hello.epoch is not None])


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with VirtualBoard(tmp_path, app_image=app_image(), state_image=state_image(), heap_size="160k") as board:
        made = Station(board)
        yield made
        made.port.close()


def test_it_joins_measures_and_answers_in_160_kb(station: Station) -> None:
    station.until(lambda: station.peer.joins == 1, "a join")
    station.until(lambda: station.sonde.requests >= 3, "a measurement")
    health = station.status().health
    assert TRACEBACK not in health
    assert int(health[3]) > 8000, "heap that is free"
    assert health[2] == 1, "power on"
    assert health[8] == 0, "sensor errors"


def test_over_a_reset_it_keeps_its_epoch_its_records_and_its_count_of_boots(station: Station) -> None:
    station.until(lambda: station.peer.joins == 1, "a join")
    station.until(lambda: station.sonde.requests >= 3, "a measurement")
    assert station.status().tq == SYNCHRONISED
    station.board.press_reset()
    station.until(lambda: station.hellos() == 1, "a hello in the old epoch")
    hello = station.peer.of(Hello)[-1]
    assert (hello.boots, hello.reset_cause, station.peer.joins) == (2, 1, 1), "EN is power on to an ESP32"
    assert hello.next_seq >= 2
    station.until(lambda: bool(station.peer.of(Readings)), "the set of the first life")


def test_a_hard_reset_takes_the_rtc_memory_and_so_the_trust_in_the_chips_clock(station: Station) -> None:
    station.until(lambda: station.peer.joins == 1, "a join")
    station.until(lambda: station.sonde.requests >= 3, "a measurement")
    assert station.status().tq == SYNCHRONISED
    assert station.board.rtc_memory
    station.peer.sends_time = False
    station.board.press_reset()
    station.until(lambda: station.hellos() == 1, "a hello")
    status = station.status()
    assert status.tq == UNSYNCHRONISED
    assert split_unsynced(status.time)[0] == 2, "seconds since its second boot"


def test_a_state_partition_that_cannot_be_mounted_is_formatted_and_the_node_asks_to_be_minted(
    tmp_path: Path,
) -> None:
    with VirtualBoard(tmp_path, app_image=app_image(), state_image=b"\x5a" * 524288) as board:
        board.power_on()
        board.wait_console(b"formatted; what this node knew is gone", PATIENCE_S)
        board.wait_console(b"no identity: no file /identity", PATIENCE_S)
        assert board.state == "running"


def test_an_identity_of_an_unknown_node_type_is_told_with_the_types_there_are(tmp_path: Path) -> None:
    image = state_image(IDENTITY._replace(node_type="submarine"))
    with VirtualBoard(tmp_path, app_image=app_image(), state_image=image) as board:
        board.power_on()
        known = ", ".join(sorted(nodes.MODULES))
        board.wait_console(
            b"node type submarine is not in this firmware (it has %s)" % known.encode(), PATIENCE_S
        )
