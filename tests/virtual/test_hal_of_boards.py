"""The firmware's hal where boards differ: chips without ext1, switched supplies, LEDs, and firmware that is too old."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from boards.virtual.board import INPUT_PINS, SUPPLY_ADC_PIN
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.supervisor import VirtualBoard
from flash_tools.images import build_app_image, build_state_image
from protocols.wire import identity
from tests.firmware.street import IDENTITY
from tests.virtual.conftest import lines

if TYPE_CHECKING:
    from tests.virtual.conftest import MakeBoard

ROOT = Path(__file__).resolve().parents[2]
BEGIN = f"""
    import sys
    sys.path.append({str(ROOT)!r})
    import esp32, machine, vfs
    from firmware.no_start import WrongFirmware
    from firmware.hal.board import Board
    hal = Board()
    hal.configure("virtual")
    this = sys.modules["boards.virtual.board"]
"""


def test_a_chip_without_ext1_is_woken_by_gpio(board: MakeBoard) -> None:
    one = board(
        BEGIN
        + """
    print(hal.wake)
    if hal.wake == 0:
        del esp32.wake_on_ext1
        hal.deep_sleep(0, ("motion",))
"""
    )
    one.power_on()
    one.wait("deepsleep")
    one.set_pin(INPUT_PINS["motion"], 1)
    one.wait("halted")
    assert lines(one) == ["0", "2"]


def test_supplies_are_switched_on_when_they_are_needed_and_that_of_the_divider_off_again(
    board: MakeBoard,
) -> None:
    one = board(
        BEGIN
        + """
    this.SENSORS_POWER_PIN, this.SENSORS_POWER_ON = 12, 0
    this.SUPPLY_SWITCH_PIN, this.SUPPLY_SWITCH_ON = 13, 0
    done = []
    class Pin(machine.Pin):
        def value(self, level=None):
            if level is not None:
                done.append((self._number, int(level)))
            return super().value(level)
    machine.Pin = Pin
    print(hal.read_mv("supply"), done)
    done.clear()
    hal.uart("rs485", 9600)
    print(done)
""",
        uart=ModbusSonde(YOSEMITECH, lambda _: {}),
    )
    one.adc_uv[SUPPLY_ADC_PIN] = 2_400_000
    one.power_on()
    one.wait("halted")
    assert lines(one) == ["12000 [(13, 0), (13, 1)]", "[(12, 0)]"]


def test_an_led_is_lit_by_the_level_of_its_board_and_a_board_without_one_stays_dark(board: MakeBoard) -> None:
    one = board(
        BEGIN
        + """
    for pin, on in ((2, 1), (21, 0), (None, 1)):
        this.LED_PIN, this.LED_ON = pin, on
        hal.identify(True)
        hal.identify(False)
    print("done")
"""
    )
    one.power_on()
    one.wait("halted")
    # The console says so as well: it is all that a board without an LED can do.
    assert lines(one) == 3 * ["identify: this is it", "identify: over"] + ["done"]
    assert [one.pins[2], one.pins[21]] == [0, 1]


def test_a_board_refuses_a_micropython_that_is_too_old_for_it_and_an_image_of_another_board(
    board: MakeBoard,
) -> None:
    one = board(
        BEGIN
        + """
    this.MICROPYTHON_MIN = (9, 1, 0)
    for name in ("virtual", "esp9"):
        try:
            hal.configure(name)
        except WrongFirmware as error:
            print(error)
"""
    )
    one.power_on()
    one.wait("halted")
    too_old, not_ours = lines(one)
    assert too_old.startswith("board virtual needs MicroPython (9, 1, 0), this is (1, ")
    assert not_ours == "this image was not built for board esp9"


def test_a_node_on_an_image_of_another_board_stays_on_its_console_and_says_so(tmp_path: Path) -> None:
    who = IDENTITY._replace(board="esp32c3_devkitm")
    state = build_state_image({"identity": identity.encode(who)})
    with VirtualBoard(
        tmp_path, app_image=build_app_image(ROOT, "virtual", "river").data, state_image=state
    ) as one:
        one.power_on()
        one.wait_console(b"wrong firmware: this image was not built for board esp32c3_devkitm", 60)
        assert one.state == "running"


def test_a_radio_is_held_asleep_over_a_deep_sleep_and_its_switch_is_low(board: MakeBoard) -> None:
    """On a board with a pin for the switch. A floating NSS would wake the radio; a hold lasts until the next start."""
    one = board(
        BEGIN
        + """
    this.RADIO_RXEN_PIN = 5
    done = []
    class Pin(machine.Pin):
        def __init__(self, number, mode=-1, pull=-1, value=None, hold=None):
            if hold is not None:
                done.append((number, value, hold))
            super().__init__(number, mode, pull, value)
    machine.Pin = Pin
    machine.deepsleep = lambda ms: print("sleeps", ms, done)
    esp32.gpio_deep_sleep_hold = lambda is_on: done.append(is_on)
    port = hal.radio()
    print(port.chip, port.tcxo_mv, port.dio2_switches, port.dbm_max, done)
    done.clear()
    port.switch(True)
    print(machine.Pin(5).value(), port.is_busy(), port.is_raised())
    hal.deep_sleep(1000, ())
    this.RADIO_CHIP = None
    print(hal.radio())
"""
    )
    one.power_on()
    one.wait("halted")
    assert lines(one) == [
        "sx1262 1800 True 22 [(15, 1, False), (23, 1, False), (5, 0, False)]",
        "1 0 0",
        "sleeps 1000 [(15, 1, True), (5, 0, True), True]",
        "None",
    ]
