"""The Modbus master against scripted lines, and against the sonde of the virtual board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards.virtual.chips.modbus_sonde import GENERIC_INT16, ModbusSonde
from boards.virtual.chips.modbus_sonde import crc16 as sonde_crc16
from firmware.errors import SensorError
from firmware.sensors.modbus_rtu import MAX_REGISTERS, READ_HOLDING, READ_INPUT, Master, crc16
from hil_tests.world.sim_hal import LocalClock, SondeLine, _Ticks, _Uart

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_MS = 300
# The time-out, and what the longest request and reply take on the wire at 9600 baud.
LONGEST_MS = TIMEOUT_MS + 2 * 20 + (5 + 2 * MAX_REGISTERS) * 12 // 10


def framed(pdu: str) -> bytes:
    data = bytes.fromhex(pdu)
    return data + sonde_crc16(data)


class ScriptedUart:
    """Answers each request with what ``reply`` makes of it, a few bytes at a time."""

    def __init__(self, reply: Callable[[bytes], bytes], piece: int = 3) -> None:
        self.now_ms = 0
        self.requests: list[bytes] = []
        self.waiting = bytearray()
        self._reply = reply
        self._piece = piece

    def write(self, data: bytes | bytearray) -> int:
        self.requests.append(bytes(data))
        self.waiting += self._reply(bytes(data))
        return len(data)

    def any(self) -> int:
        return len(self.waiting)

    def readinto(self, buffer: memoryview) -> int:
        if not self.waiting:
            self.now_ms += 10
            return 0
        self.now_ms += 2
        count = min(self._piece, len(buffer), len(self.waiting))
        buffer[:count] = self.waiting[:count]
        del self.waiting[:count]
        return count

    # -- as a clock
    def ticks_ms(self) -> int:
        return self.now_ms

    def ticks_diff(self, later: int, earlier: int) -> int:
        return later - earlier

    def sleep_ms(self, ms: int) -> None:
        self.now_ms += ms


def master(uart: ScriptedUart) -> Master:
    return Master(uart, uart, 9600, TIMEOUT_MS)  # type: ignore[arg-type]


def answering(*replies: bytes) -> ScriptedUart:
    rest = list(replies)
    return ScriptedUart(lambda _: rest.pop(0) if rest else b"")


@given(st.binary(max_size=64))
def test_the_crc_is_that_of_the_other_implementation(data: bytes) -> None:
    assert crc16(data, 0, len(data)).to_bytes(2, "little") == sonde_crc16(data)


def test_the_frames_of_the_specification() -> None:
    """Modbus application protocol V1.1b3, 6.3: holding registers 108 to 110 hold 022B, 0000 and 0064."""
    uart = answering(framed("11 03 06 02 2B 00 00 00 64"))
    assert bytes(master(uart).read(0x11, READ_HOLDING, 0x6B, 3)) == bytes.fromhex("022B00000064")
    assert uart.requests == [framed("11 03 00 6B 00 03")]


def test_a_read_without_registers_is_answered_without_data() -> None:
    uart = answering(framed("01 03 00"), framed("01 03 00"))
    assert bytes(master(uart).read(1, READ_HOLDING, 0x2500, 0)) == b""
    assert bytes(master(uart).read(1, READ_HOLDING, 0x2E00, 1, 0)) == b""


def test_a_write_is_confirmed_by_its_repetition() -> None:
    uart = ScriptedUart(lambda request: request)
    master(uart).write(1, 0x10, 0xABCD)
    assert uart.requests == [framed("01 06 00 10 AB CD")]
    with pytest.raises(SensorError, match="confirmed another write"):
        master(answering(framed("01 06 00 10 AB CE"))).write(1, 0x10, 0xABCD)


@pytest.mark.parametrize("piece", [1, 2, 8, 64])
def test_an_echo_of_the_request_is_not_taken_for_the_reply(piece: int) -> None:
    reply = framed("01 04 04 3F 80 00 00")
    uart = ScriptedUart(lambda request: request + (request if request[1] == 6 else reply), piece)
    bus = master(uart)
    assert bytes(bus.read(1, READ_INPUT, 0, 2)) == b"\x3f\x80\x00\x00"
    bus.write(1, 5, 6)
    assert not uart.waiting


def test_an_echo_alone_is_no_confirmation_of_a_write_once_the_line_is_known_to_echo() -> None:
    uart = ScriptedUart(lambda request: request + (b"" if request[1] == 6 else framed("01 03 02 00 07")))
    bus = master(uart)
    bus.read(1, READ_HOLDING, 0, 1)
    with pytest.raises(SensorError, match="0 of 8 bytes"):
        bus.write(1, 5, 6)


@pytest.mark.parametrize("noise", [b"\x00", b"\xff\x00", b"\x00\x00\x00\xff"])
def test_noise_before_the_reply_is_skipped(noise: bytes) -> None:
    uart = answering(noise + framed("01 03 02 00 07"))
    assert bytes(master(uart).read(1, READ_HOLDING, 0, 1)) == b"\x00\x07"


def test_an_exception_is_told_by_its_name() -> None:
    bus = master(answering(framed("01 83 02")))
    with pytest.raises(SensorError, match="refused function 3: exception 2, illegal data address"):
        bus.read(1, READ_HOLDING, 0, 4)
    assert (bus.timeouts, bus.garbled, bus.refused) == (0, 0, 1)


@pytest.mark.parametrize(
    "reply",
    [
        framed("01 03 02 00 07")[:-1] + b"\x00",
        framed("01 04 02 00 07"),
        framed("01 03 04 00 07"),
        framed("02 03 02 00 07"),
        b"\x55" * 7,
        b"",
        framed("01 03 02 00 07")[:5],
    ],
    ids=["crc", "function", "size", "address", "garbage", "silence", "half"],
)
def test_whatever_is_no_valid_reply_is_an_error_after_a_bounded_time(reply: bytes) -> None:
    uart = answering(reply)
    bus = master(uart)
    with pytest.raises(SensorError):
        bus.read(1, READ_HOLDING, 0, 1)
    assert bus.timeouts + bus.garbled == 1
    assert uart.now_ms <= LONGEST_MS


@given(st.binary(max_size=300), st.integers(1, 16))
def test_no_bytes_from_the_line_raise_anything_else_or_take_longer(reply: bytes, piece: int) -> None:
    uart = ScriptedUart(lambda _: reply, piece)
    bus = master(uart)
    for _ in range(2):
        began_ms = uart.now_ms
        try:
            bus.read(1, READ_HOLDING, 0, 8)
        except SensorError:
            pass
        assert uart.now_ms - began_ms <= LONGEST_MS + 2 * 300


def test_a_reply_that_came_too_late_is_not_taken_for_the_next_one() -> None:
    uart = answering(b"", framed("01 03 02 00 09"))
    bus = master(uart)
    with pytest.raises(SensorError):
        bus.read(1, READ_HOLDING, 0, 1)
    uart.waiting += framed("01 03 02 00 07")
    assert bytes(bus.read(1, READ_HOLDING, 0, 1)) == b"\x00\x09"


def test_more_registers_than_the_buffer_holds_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="allowed are 0 to 64"):
        master(answering()).read(1, READ_HOLDING, 0, 65)


def test_it_talks_to_the_sonde_of_the_virtual_board() -> None:
    clock = LocalClock(lambda: 1_790_000_000_000)
    line = SondeLine(clock)
    sonde = ModbusSonde(GENERIC_INT16, lambda _: {"ph": 7.5, "orp": -210.0})
    sonde.connect(line)
    bus = Master(_Uart(clock, line, sonde), _Ticks(clock, 0.0), 9600, TIMEOUT_MS)  # type: ignore[arg-type]
    data = bus.read(1, READ_INPUT, 1, 1)
    assert int.from_bytes(data, "big") == 750
    data = bus.read(1, READ_HOLDING, 5, 1)
    assert int.from_bytes(data, "big", signed=True) == -210
