"""Radios of virtual boards: real MicroPython, the firmware's hal and driver, SPI to the simulated chips, one air."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.clock import BoardClock
from boards.virtual.hub import shared_hub
from hil_tests.world.air import Air
from hil_tests.world.propagation import Spot, open_air
from tests.virtual.conftest import MakeBoard, lines

ROOT = Path(__file__).resolve().parents[2]
BEGIN = f"""
    import sys
    sys.path.append({str(ROOT)!r})
    import machine, time, vfs
    from firmware import radios
    from firmware.hal.board import Board
    from firmware.radios.sx126x import Sx126x
    from protocols.wire.law import Law
    hal = Board()
    hal.configure("virtual")
    radio = Sx126x(hal.radio(), Law(0), hal.clock)
    print(radio.begin(), radio.errors)
    def wait():
        while True:
            event = radio.poll()
            if event is not None:
                return event
            hal.idle(1)
"""


@pytest.fixture
def air() -> Iterator[Air]:
    """Real time, on the thread on which chips live."""
    hub = shared_hub()
    clock = BoardClock(time.time())
    hub.call(lambda: hub.add_clock(clock))
    yield Air(clock, open_air())
    hub.call(lambda: hub.remove_clock(clock))


def chip(air: Air, name: str, x_m: float) -> Sx1262:
    made = Sx1262(air)
    shared_hub().call(lambda: air.place(made, name, Spot(x_m, 0.0)))
    return made


def test_a_packet_goes_from_one_board_to_another(board: MakeBoard, air: Air) -> None:
    sender = board(
        BEGIN
        + """
    radio.start_send(470300000, 7, 14, b"from board to board", False)
    print(wait().kind == radios.SENT, radio.errors)
"""
    )
    listener = board(
        BEGIN
        + """
    radio.start_listen(470300000, 7, False, 0)
    print("listening")
    event = wait()
    print(event.kind == radios.HEARD, bytes(event.payload), -100 < event.rssi_dbm < -60, event.snr_tenth_db)
    radio.sleep()
    print(radio.errors)
"""
    )
    chips = chip(air, "sender", 0.0), chip(air, "listener", 800.0)
    for one, its in zip((sender, listener), chips, strict=True):
        one.attach_radio(its)
    listener.power_on()
    listener.wait_console(b"listening")
    sender.power_on()
    sender.wait("halted")
    listener.wait("halted")
    assert lines(sender) == ["True 0", "True 0"]
    assert lines(listener) == ["True 0", "listening", "True b'from board to board' True 317", "0"]
    assert chips[1].mode == "sleep"
    assert not chips[0].complaints
    assert not chips[1].complaints
    print(f"transfers_to_send={chips[0].transfers} transfers_to_hear={chips[1].transfers}")
