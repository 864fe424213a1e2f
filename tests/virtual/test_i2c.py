"""The I2C bus of a virtual board, and pins that end a deep sleep, as `machine` and the firmware's hal see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from boards.virtual.board import INPUT_PINS, LOOP_ADC_PIN, SENSORS_I2C
from boards.virtual.chips.registers import RegisterChip, Signal
from tests.virtual.conftest import MakeBoard, lines

ROOT = Path(__file__).resolve().parent.parent.parent


class Memory(RegisterChip):
    """256 registers, of which number 7 drives an output a second after it was written."""

    def __init__(self, address: int = 0x50) -> None:
        super().__init__(address)
        self.bytes = bytearray(range(256))
        self.out = Signal()

    def _power_on(self) -> None:
        pass

    def _read(self, register: int, count: int) -> bytes:
        return bytes(self.bytes[register : register + count])

    def _write(self, register: int, data: bytes) -> None:
        self.bytes[register : register + len(data)] = data
        if register == 7:
            delay_s = float(data[0])
            self.timers.call_later(delay_s, lambda: self.out.set(1))
            self.timers.call_later(delay_s + 0.01, lambda: self.out.set(0))


TALK = """
    import machine, time
    i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=400000)
    i2c.writeto_mem(0x50, 16, b"\\x01 \\x00\\xff")
    long = bytearray(200)
    began = time.ticks_us()
    i2c.readfrom_mem_into(0x50, 16, long)
    took = time.ticks_diff(time.ticks_us(), began)
    print(bytes(long[:5]), long[199], took >= 203 * 9 * 1000000 // 400000, i2c.readfrom_mem(0x50, 255, 1), i2c.scan())
    try:
        i2c.readfrom_mem_into(0x51, 0, long)
    except OSError as error:
        print(error.errno)
"""


def test_registers_are_written_and_read_in_the_time_the_wire_takes(board: MakeBoard) -> None:
    one = board(TALK)
    one.attach_i2c(SENSORS_I2C, Memory())
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["b'\\x01 \\x00\\xff\\x14' 215 True b'\\xff' [80]", "19"], "ENODEV as on an ESP32"


@pytest.mark.parametrize(
    ("fault", "bus_hangs", "expected"),
    [
        ("absent", False, "19"),
        ("hangs", False, "timeout True"),
        (None, True, "timeout True"),
        ("flaky", False, "19"),
    ],
)
def test_a_fault_is_the_error_an_esp32_gives(
    board: MakeBoard, fault: str | None, bus_hangs: bool, expected: str
) -> None:
    one = board("""
        import errno, machine, time
        began = time.ticks_ms()
        try:
            machine.SoftI2C(scl=machine.Pin(22), sda=machine.Pin(21)).writeto_mem(0x50, 0, b"1")
            print("written")
        except OSError as error:
            took = time.ticks_diff(time.ticks_ms(), began)
            print("timeout %s" % (45 <= took) if error.errno == errno.ETIMEDOUT else error.errno)
    """)
    chip = Memory()
    bus = one.attach_i2c(SENSORS_I2C, chip)
    chip.fault, bus.hangs = fault, bus_hangs
    one.power_on()
    one.wait("halted")
    assert lines(one) == [expected]


def test_two_chips_can_not_have_one_address(board: MakeBoard) -> None:
    one = board("")
    one.attach_i2c(0, Memory())
    with pytest.raises(ValueError, match="0x50 of this bus is taken"):
        one.attach_i2c(0, Memory())


SLEEP = """
    import esp32, machine
    print(machine.reset_cause(), machine.wake_reason())
    if machine.reset_cause() == 1:
        machine.I2C(0).writeto_mem(0x50, 7, b"\\x14")
        %s
        machine.deepsleep(%d)
"""
EXT1 = "esp32.wake_on_ext1((machine.Pin(33), machine.Pin(32)), esp32.WAKEUP_ANY_HIGH)"
EXT0 = "esp32.wake_on_ext0(machine.Pin(33), True)"


@pytest.mark.parametrize(
    ("source", "ms", "reason", "slept_s"),
    [(EXT1, 0, 3, 20), (EXT1, 3_600_000, 3, 20), (EXT0, 3_600_000, 2, 20), ("", 3_600_000, 4, 3600)],
)
def test_the_output_of_a_chip_ends_a_deep_sleep(
    board: MakeBoard, source: str, ms: int, reason: int, slept_s: int
) -> None:
    """An hour at a thousand times the speed: the chip's pulse of 10 ms after 20 s is not slept through."""
    one = board(SLEEP % (source, ms), time_scale=1000)
    chip = Memory()
    one.attach_i2c(SENSORS_I2C, chip)
    one.wire(chip.out, INPUT_PINS["motion"])
    began_s = one.now_s()
    one.power_on()
    one.wait("boot", 2)
    one.wait("halted")
    assert lines(one) == ["1 0", f"4 {reason}"]
    assert slept_s * 0.95 <= one.now_s() - began_s <= slept_s * 1.05 + 5


def test_a_contact_that_closes_ends_a_sleep_without_end_and_one_that_is_closed_does_so_at_once(
    board: MakeBoard,
) -> None:
    one = board(SLEEP.replace("if machine.reset_cause() == 1:", "if True:") % (EXT1, 0))
    one.attach_i2c(SENSORS_I2C, Memory())
    one.power_on()
    one.wait("deepsleep")
    one.set_pin(INPUT_PINS["float"], 1)
    one.wait("boot", 4)
    one.power_cut()
    assert lines(one)[:3] == ["1 0", "4 3", "4 3"]


def test_a_pin_outside_of_the_rtc_domain_is_refused(board: MakeBoard) -> None:
    one = board("""
        import esp32, machine
        try:
            esp32.wake_on_ext1((machine.Pin(33), machine.Pin(5)), esp32.WAKEUP_ANY_HIGH)
        except ValueError as error:
            print(error)
    """)
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["invalid pin"]


HAL = f"""
    import sys
    sys.path.append({str(ROOT)!r})
    import vfs, esp32
    from firmware.hal.board import Board
    hal = Board()
    hal.configure("virtual")
    i2c = hal.i2c("sensors")
    data = bytearray(2)
    i2c.readfrom_mem_into(0x50, 3, data)
    print(hal.reset_cause, hal.wake, bytes(data), hal.read_pin("door"), hal.read_pin("float"), hal.read_mv("loop"),
          hal.cache.load("pose"))
    try:
        hal.i2c("radio")
    except ValueError as error:
        print(error)
    if hal.wake == 0:
        hal.clock.set(1790000000, 0)
        hal.cache.save("pose", b"\\x01\\x02")
        hal.deep_sleep(0, ("motion",))
    print(hal.clock.now()[0] // 100)
"""


def test_the_firmwares_hal_on_the_board(board: MakeBoard) -> None:
    one = board(HAL)
    one.attach_i2c(SENSORS_I2C, Memory())
    one.set_pin(INPUT_PINS["float"], 1)
    one.adc_uv[LOOP_ADC_PIN] = 1_440_000  # 12 mA over the 120 ohm of this board
    one.power_on()
    one.wait("deepsleep")
    one.set_pin(INPUT_PINS["motion"], 1)
    one.wait("halted")
    refusal = "bus radio: this firmware knows sensors"
    assert lines(one) == [
        "1 0 b'\\x03\\x04' 0 1 1200 None",
        refusal,
        "4 2 b'\\x03\\x04' 0 1 1200 b'\\x01\\x02'",
        refusal,
        "17900000",
    ]
