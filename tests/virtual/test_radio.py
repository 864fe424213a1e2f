"""Radios of virtual boards: real MicroPython, the firmware's hal and driver, SPI to the simulated chips, one air."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import serial

from boards.virtual.chips.sx1262 import Sx1262
from boards.virtual.clock import BoardClock
from boards.virtual.hub import shared_hub
from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import build_app_image, build_state_image
from hil_tests.world.air import Air, Flight
from hil_tests.world.propagation import Spot, open_air
from protocols.wire import identity as identity_file
from tests.firmware.bridge_rig import GatewayEnd, identity
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


# -- a bridge as it ships ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridge_image() -> bytes:
    return build_app_image(ROOT, "virtual", "bridge").data


class Line:
    """The gateway's end of the bridge's port."""

    def __init__(self, board: VirtualBoard) -> None:
        self._port = serial.Serial(str(board.link_path), 115200, timeout=0.05)
        self.gateway = GatewayEnd()

    def say(self, data: bytes) -> None:
        self._port.write(data)

    def wait(self, found: Callable[[GatewayEnd], Sequence[Any]], count: int = 1) -> Sequence[Any]:
        for _ in range(400):
            self.gateway.feed(self._port.read(256))
            if len(found(self.gateway)) >= count:
                return found(self.gateway)
        raise AssertionError(f"waited in vain; the console said {self.gateway.log}")

    def close(self) -> None:
        self._port.close()


def test_the_bridge_image_hears_sends_and_survives_its_gateway(
    bridge_image: bytes, tmp_path: Path, board: MakeBoard, air: Air
) -> None:
    """A real MicroPython process from the image; a node's driver on a second board talks to it."""
    state = build_state_image({"identity": identity_file.encode(identity((0, 0, 1, 7)))})
    node = board(
        BEGIN
        + """
    for text in (b"first", b"second", b"third"):
        hal.idle(1500)
        radio.start_send(470300000, 7, 14, text, False)
        sent = wait()
        hal.clock.sleep_ms(900)
        radio.start_listen(470300000, 7, True, 400)
        event = wait()
        print(event.kind == radios.HEARD, bytes(event.payload))
"""
    )
    chips = chip(air, "bridge", 0.0), chip(air, "node", 800.0)
    flights: list[Flight] = []
    air.taps.append(flights.append)
    with VirtualBoard(tmp_path / "bridge", app_image=bridge_image, state_image=state) as bridge:
        bridge.attach_radio(chips[0])
        node.attach_radio(chips[1])
        bridge.power_on()
        line = Line(bridge)
        line.say(GatewayEnd.ask())
        state_told = line.wait(lambda end: end.states)[-1]
        assert (state_told.form, state_told.plan_id, state_told.channel, state_told.sf) == (1, 0, 0, 7)
        node.power_on()
        heard = line.wait(lambda end: end.heard)[0]
        assert (heard.packet, heard.sf, heard.freq_hz) == (b"first", 7, 470_300_000)
        line.say(GatewayEnd.send(1, heard.at_us + 1_000_000, b"ack of first", sf=7))
        assert line.wait(lambda end: end.results)[0] == (1, 0, "")
        line.say(b"\xff" * 700 + b"\0\2garbage\0")
        line.close()  # the gateway goes away, and comes again
        line = Line(bridge)
        line.say(GatewayEnd.ask())
        heard = line.wait(lambda end: end.heard)[-1]
        line.say(GatewayEnd.send(2, heard.at_us + 1_000_000, b"ack again", sf=7))
        assert line.wait(lambda end: end.results)[-1] == (2, 0, "")
        node.wait("halted")
        assert bridge.counts["boot"] == 1
        line.close()
    assert lines(node)[1:] in (
        ["True b'ack of first'", "True b'ack again'", "False b''"],
        ["True b'ack of first'", "False b''", "True b'ack again'"],
    )
    ups = [flight for flight in flights if not flight.signal.is_inverted]
    downs = [flight for flight in flights if flight.signal.is_inverted]
    late_ms = [
        1000 * min(down.begin_s - up.end_s - 1.0 for up in ups if up.end_s < down.begin_s) for down in downs
    ]
    assert not chips[0].complaints
    print("window_late_ms=" + ",".join(f"{one:.1f}" for one in late_ms))
