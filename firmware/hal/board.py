"""The machine underneath: an ESP32 with stock MicroPython, or the virtual board, which has modules of the same names.

What differs between boards is in boards/<name>/board.py and reached by configure(), once the identity has said which
board this is.
"""

import gc
import os
import select
import sys
import time

import esp32
import machine
import micropython
import vfs

from firmware.hal import (
    CAUSE_DEEP_SLEEP,
    CAUSE_HARD_RESET,
    CAUSE_POWER_ON,
    CAUSE_SOFT_RESET,
    CAUSE_UNKNOWN,
    CAUSE_WATCHDOG,
    LOOP_SHUNT_OHM,
    UART_WAIT_MS,
    WAKE_NONE,
    WAKE_PIN,
    WAKE_TIMER,
)
from firmware.hal.clock import Clock
from firmware.hal.lines import Lines
from firmware.modules import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Cache, I2c, Link, Places, RadioPort, Uart
    from firmware.hal.radio_port import Port

# An ESP32 counts seconds since 2000, other ports since 1970.
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0
# Longer than any step may take (a retried outbox write on worn flash), short enough that nobody drives out for it.
WATCHDOG_MS = 60000
_LINK_READ_MAX = 256
# Subtypes of partitions that are no program.
_OTADATA, _ANY = 0, 0xFF
_I2C_HZ = 400000


class _Ticks:
    ticks_ms = staticmethod(time.ticks_ms)  # type: ignore[attr-defined]
    ticks_diff = staticmethod(time.ticks_diff)  # type: ignore[attr-defined]
    sleep_ms = staticmethod(time.sleep_ms)  # type: ignore[attr-defined]


class _Rtc:
    def __init__(self) -> None:
        self._rtc = machine.RTC()

    def read_s(self) -> int:
        return int(time.time()) + _EPOCH_S

    def read_ms(self) -> int:
        return int(time.time_ns() // 1000000) + _EPOCH_S * 1000

    def write_s(self, seconds: int) -> None:
        t = time.gmtime(seconds - _EPOCH_S)
        self._rtc.datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))

    def load(self) -> bytes:
        return bytes(self._rtc.memory())

    def save(self, data: bytes) -> None:
        self._rtc.memory(data)


class _Console:
    """The link is the console: frames between zero bytes, text in between (SPEC.md section 4)."""

    def __init__(self) -> None:
        # A frame may hold the byte that would otherwise stop the program.
        micropython.kbd_intr(-1)
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._byte = bytearray(1)

    def wait(self, ms: int) -> bool:
        return bool(self._poll.poll(ms))

    def read(self) -> bytes:
        # Byte by byte: on every port a read of more may wait for all of them.
        data = bytearray()
        while len(data) < _LINK_READ_MAX and self._poll.poll(0):
            if not self._in.readinto(self._byte):  # type: ignore[union-attr]
                break
            data.extend(self._byte)
        return bytes(data)

    def write(self, data: bytes) -> None:
        self._out.write(data)


class _Uart:
    def __init__(self, number: int, baud_rate: int, tx: int, rx: int) -> None:
        self._uart = machine.UART(
            number,
            baudrate=baud_rate,
            bits=8,
            parity=None,
            stop=1,
            tx=tx,
            rx=rx,
            timeout=UART_WAIT_MS,
            timeout_char=2,
        )
        self.write = self._uart.write
        self.any = self._uart.any

    def readinto(self, buffer: memoryview) -> int:
        return self._uart.readinto(buffer) or 0


class Board:
    """Implements firmware.hal.Hal."""

    def __init__(self) -> None:
        self._rtc = _Rtc()
        self.clock = Clock(_Ticks(), self._rtc)
        self._console = _Console()
        self.link: "Link" = self._console
        self.lines = Lines()
        self.reset_cause = _reset_cause()
        self.wake = _wake()
        self.state_fs, self.was_formatted = _mount_state()
        self._board: "Any" = None
        self._radio: "Port | None" = None
        self._watchdog = machine.WDT(timeout=WATCHDOG_MS)
        self.feed_watchdog = self._watchdog.feed

    def program(self) -> "tuple[Any, int]":
        from firmware.hal.app import Mounted

        forget("firmware.hal.app")
        return Mounted(sys.path[0][:-2]), int(sys.path[0].endswith("b"))

    def open_program(self, path: str) -> "Any":
        return open(sys.path[0] + "/" + path, "rb")

    def has_places(self) -> bool:
        return bool(_partitions(_OTADATA, None))

    def places(self) -> "Places | None":
        from firmware.hal.places import find

        forget("firmware.hal.places")
        return find()

    def configure(self, board: str) -> None:
        """Take the pins of this board. WrongFirmware when image or MicroPython are not for it."""
        from firmware.no_start import WrongFirmware

        name = "boards." + board + ".board"
        try:
            __import__(name)
        except ImportError:
            raise WrongFirmware("this image was not built for board " + board)
        self._board = sys.modules[name]
        wanted = self._board.MICROPYTHON_MIN
        this = tuple(sys.implementation.version[:3])
        if this < wanted:
            raise WrongFirmware("board %s needs MicroPython %s, this is %s" % (board, wanted, this))

    def uart(self, port: str, baud_rate: int) -> "Uart":
        board = self._board
        _switch(board.SENSORS_POWER_PIN, board.SENSORS_POWER_ON)
        if port == "rs485":
            return _Uart(board.RS485_UART, baud_rate, board.RS485_TX_PIN, board.RS485_RX_PIN)
        if port == "ultrasonic":
            return _Uart(board.ULTRASONIC_UART, baud_rate, board.ULTRASONIC_TX_PIN, board.ULTRASONIC_RX_PIN)
        raise ValueError("port %s: this firmware knows rs485 and ultrasonic" % port)

    def radio(self) -> "RadioPort | None":
        if self._board.RADIO_CHIP is None:
            return None
        from firmware.hal.radio_port import Port

        self._radio = Port(self._board)
        return self._radio

    def i2c(self, bus: str) -> "I2c":
        if bus != "sensors":
            raise ValueError("bus %s: this firmware knows sensors" % bus)
        board = self._board
        scl = machine.Pin(board.SENSORS_SCL_PIN)
        return machine.I2C(board.SENSORS_I2C, scl=scl, sda=machine.Pin(board.SENSORS_SDA_PIN), freq=_I2C_HZ)

    def read_pin(self, name: str) -> int:
        return int(self._input(name).value())

    def read_mv(self, channel: str) -> int:
        board = self._board
        if channel == "supply":
            is_on = board.SUPPLY_SWITCH_ON
            _switch(board.SUPPLY_SWITCH_PIN, is_on)
            uv = _read_uv(board.SUPPLY_ADC_PIN)
            _switch(board.SUPPLY_SWITCH_PIN, not is_on)
            return int(uv // 1000 * board.SUPPLY_DIVIDER_MILLI // 1000)
        if channel == "loop":
            return int(_read_uv(board.LOOP_ADC_PIN) // 10 * LOOP_SHUNT_OHM // board.LOOP_SHUNT_OHM // 100)
        raise ValueError("channel %s: this firmware knows supply and loop" % channel)

    @property
    def cache(self) -> "Cache":
        from firmware.hal.cache import Cache

        return Cache(self._rtc)

    def deep_sleep(self, ms: int, pins: "tuple[str, ...]") -> None:
        if pins:
            inputs = tuple([self._input(name) for name in pins])
            # RISC-V chips have no ext1, and MicroPython for them no function of that name.
            wake_on = getattr(esp32, "wake_on_ext1", None) or esp32.wake_on_gpio
            wake_on(inputs, esp32.WAKEUP_ANY_HIGH)
        if self._radio is not None:
            self._radio.hold()
        machine.deepsleep(ms)

    def random(self, count: int) -> bytes:
        return bytes(os.urandom(count))

    def log(self, text: str) -> None:
        self.lines.keep(text)
        print(text)

    def idle(self, ms: int) -> None:
        # In pieces, so that the watchdog sees the node come round.
        self._console.wait(min(ms, WATCHDOG_MS // 4))

    def reset(self) -> None:
        machine.reset()

    def identify(self, is_on: bool) -> None:
        self.log("identify: this is it" if is_on else "identify: over")
        _switch(self._board.LED_PIN, is_on == self._board.LED_ON)

    def _input(self, name: str) -> "machine.Pin":
        number = self._board.INPUT_PINS.get(name)
        if number is None:
            raise ValueError("input %s: this board has none, see INPUT_PINS in its board.py" % name)
        return machine.Pin(number, machine.Pin.IN, machine.Pin.PULL_DOWN)

    def heap_free(self) -> int:
        gc.collect()
        return int(gc.mem_free())  # type: ignore[attr-defined]


def _partitions(subtype: int, label: "str | None") -> "list[Any]":
    return list(esp32.Partition.find(esp32.Partition.TYPE_DATA, subtype, label))


def _switch(pin: "int | None", level: "int | bool") -> None:
    """Drive an output; a board that has no such pin needs none."""
    if pin is not None:
        machine.Pin(pin, machine.Pin.OUT).value(level)


def _read_uv(pin: int) -> int:
    return int(machine.ADC(machine.Pin(pin), atten=machine.ADC.ATTN_11DB).read_uv())


def _reset_cause() -> int:
    causes = {
        machine.PWRON_RESET: CAUSE_POWER_ON,
        machine.HARD_RESET: CAUSE_HARD_RESET,
        machine.WDT_RESET: CAUSE_WATCHDOG,
        machine.DEEPSLEEP_RESET: CAUSE_DEEP_SLEEP,
        machine.SOFT_RESET: CAUSE_SOFT_RESET,
    }
    return causes.get(machine.reset_cause(), CAUSE_UNKNOWN)


def _wake() -> int:
    if _reset_cause() != CAUSE_DEEP_SLEEP:
        return WAKE_NONE
    return WAKE_TIMER if machine.wake_reason() == machine.TIMER_WAKE else WAKE_PIN


def _mount_state() -> "tuple[Any, bool]":
    """The `state` file system, and whether it had to be formatted: then everything this node knew is gone."""
    try:
        # A boot script may have mounted it, and two mounts would not see each other's writes.
        vfs.umount("/state")
    except OSError:
        pass
    found = _partitions(_ANY, "state")
    if not found:
        raise OSError("no partition labelled `state`: flash the partition table of this board")
    if _reset_cause() != CAUSE_DEEP_SLEEP:
        from firmware.steady import steady

        steady(found[0])
        forget("firmware.steady")
    try:
        return vfs.VfsLfs2(found[0]), False  # type: ignore[abstract]
    except OSError:
        vfs.VfsLfs2.mkfs(found[0])
        return vfs.VfsLfs2(found[0]), True  # type: ignore[abstract]
