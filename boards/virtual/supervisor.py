"""A virtual board: real MicroPython in a process of its own, with its power, flash, chips and USB port in here.

The node's process is the chip's CPU and RAM. It ends as a chip's life ends: by SIGKILL, without a last word, whether
it asked for a deep sleep or a reset, let the watchdog expire, or lost its power. What survives differs and is kept
in files of the board's folder: flash always; RTC memory over deep sleep and soft reset only. The calendar clock
survives everything but a power cut.

    with VirtualBoard(tmp_path, app_image=image) as board:
        board.attach_uart(1, ModbusSonde(YOSEMITECH, river.quantities))
        board.attach_i2c(0, accelerometer)
        board.wire(accelerometer.int1, 33)       # can end a deep sleep
        board.power_on()
        serial.Serial(str(board.link_path))      # as the gateway does
        board.wait("deepsleep")

Methods may be called from any thread and return at once, except the wait functions.
"""

import collections
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from boards.virtual import board as constants
from boards.virtual.bootloader import Bootloader
from boards.virtual.chips.registers import Signal
from boards.virtual.clock import BoardClock, Timer
from boards.virtual.errors import BoardError, WaitTimeout
from boards.virtual.flash import FlashFiles
from boards.virtual.hub import Hub, shared_hub
from boards.virtual.i2c import I2cBus, I2cChip
from boards.virtual.life import Life
from boards.virtual.line import LineFaults
from boards.virtual.micropythons import VirtualMicroPython
from boards.virtual.port import LinkPort
from boards.virtual.sleep import DeepSleep, WakePins
from boards.virtual.spi import RadioChip, RadioLines
from boards.virtual.uart import UartChip

__all__ = ["LineFaults", "UartChip", "UartLine", "VirtualBoard"]

_T = TypeVar("_T")
_CONSOLE_KEPT = 64 * 1024
# An RC slow clock of an ESP32 is off by up to this much in deep sleep.
_SLEEP_DRIFT_MAX = 0.05

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
# What the mask ROM of an ESP32 says at each start, on the console, before anyone can stop it.
_ROM_LINES = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:%s,boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
_ROM_TEXT = {
    PWRON_RESET: b"0x1 (POWERON_RESET)",
    HARD_RESET: b"0xc (SW_CPU_RESET)",
    WDT_RESET: b"0x8 (TG1WDT_SYS_RESET)",
    DEEPSLEEP_RESET: b"0x5 (DEEPSLEEP_RESET)",
    SOFT_RESET: b"",
}


class UartLine:
    """One UART of the board, seen from the chip on it."""

    def __init__(self, clock: BoardClock, write: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._write = write
        self.baudrate = 115200
        self.char_s = 10 / 115200

    def set_format(self, baudrate: int, bits: int, parity: int, stop: int) -> None:
        self.baudrate = baudrate
        self.char_s = (1 + bits + (parity >= 0) + stop) / baudrate

    def now_s(self) -> float:
        return self._clock.now_s()

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        return self._clock.call_later(delay_s, function)

    def send(self, data: bytes) -> None:
        self._write(data)


class VirtualBoard:
    def __init__(
        self,
        directory: Path,
        *,
        app_image: bytes | Path | None = None,
        state_image: bytes | Path | None = None,
        micropython: bytes | None = None,
        firmware: Path | None = None,
        heap_size: str = "160k",
        seed: int = 0,
        time_scale: float = 1.0,
        world_start_s: float | None = None,
        mac: bytes | None = None,
        boot_text: bool = True,
        hub: Hub | None = None,
    ) -> None:
        """``firmware``: run main.py of this folder instead of the app partition's (development).

        ``micropython``: an image of micropythons.py, for a board with two places for one.
        ``time_scale``: waits of the node and deep sleeps pass that many times faster; its work does not.
        ``world_start_s``: unix seconds at which this board's world starts, default now.
        """
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._flash = FlashFiles(self.directory)
        if micropython is not None:
            self._flash.make_places()
            self._flash.write("ota_0", micropython + b"\xff" * (-len(micropython) % constants.BLOCK_SIZE))
            self._flash.erase("otadata")
        self._bootloader = Bootloader(self.directory)
        self._rtc_path = self.directory / "rtc.bin"
        self._firmware = firmware
        self._heap_size = heap_size
        self._scale = max(1.0, time_scale)
        self.sleep_drift = random.Random(f"{seed} sleep").uniform(-_SLEEP_DRIFT_MAX, _SLEEP_DRIFT_MAX)
        self.mac = mac or bytes((0x02,)) + random.Random(f"{seed} mac").randbytes(5)
        self._boot_text = boot_text
        self.faults: LineFaults | None = None
        self.adc_uv: dict[int, int] = {constants.SUPPLY_ADC_PIN: 2_520_000}
        self.pins: dict[int, int] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self._changed = threading.Condition()
        self._state = "off"
        self._console = bytearray()
        self._console_total = 0

        self._hub = hub or shared_hub()
        self._clock = BoardClock(time.time() if world_start_s is None else world_start_s)
        self.link_path = self.directory / "tty"
        self._port = LinkPort(self._hub, self.link_path, self._from_gateway)
        self._unplugged_name = ""
        self._lines: dict[int, UartLine] = {}
        self._chips: dict[int, UartChip] = {}
        self._i2c: dict[int, I2cBus] = {}
        self._radio = RadioLines()
        self._life: Life | None = None
        self._wake_pins = WakePins()
        self._sleep: DeepSleep | None = None
        self._watchdog_ms = 0
        self._watchdog: Timer | None = None
        self._erase_rtc()
        self._rtc_zero_s = self._clock.now_s()  # world time at which the calendar clock said 2000-01-01
        for label, image in (("app", app_image), ("state", state_image)):
            if image is not None:
                self._flash.write(label, image.read_bytes() if isinstance(image, Path) else image)
        self._hub.call(lambda: self._hub.add_clock(self._clock))
        self._hub.call(self._port.plug)

    @property
    def time_scale(self) -> float:
        """How many times faster the node's waits pass. Another one holds from its next start on."""
        return self._scale

    @time_scale.setter
    def time_scale(self, scale: float) -> None:
        self._scale = max(1.0, scale)

    # ---- what a person at the bench does -------------------------------------------------------------------------

    def attach_uart(self, number: int, chip: UartChip) -> None:
        """Wire a chip to UART ``number``; before power_on."""
        line = UartLine(self._clock, lambda data: self._to_uart(number, data))
        self._lines[number] = line
        self._chips[number] = chip
        chip.connect(line)

    def attach_i2c(self, number: int, chip: I2cChip) -> I2cBus:
        """Wire a chip to I2C bus ``number``; the bus, which a test may let hang."""
        bus = self._i2c.setdefault(number, I2cBus())
        self.call(lambda: bus.attach(chip, self._clock))
        return bus

    def attach_radio(self, chip: RadioChip) -> None:
        """Solder a chip to the radio's SPI and lines (RADIO_* in board.py)."""

        def attach() -> None:
            def drive(level: int) -> None:
                self._drive(constants.RADIO_DIO1_PIN, level)

            self._radio.attach(chip, self._clock, drive, self._state != "off")

        self.call(attach)

    def wire(self, signal: Signal, pin: int) -> None:
        """Let an output of a chip drive a pin."""
        self.call(lambda: signal.connect(lambda level: self._drive(pin, level)))

    def set_pin(self, pin: int, level: int) -> None:
        """Close a contact to the supply (1) or open it (0)."""
        self.call(lambda: self._drive(pin, level))

    def call(self, function: Callable[[], _T]) -> _T:
        """Do something to a chip: on the thread on which chips live."""
        return self._hub.call(function)

    def power_on(self) -> None:
        self._hub.call(self._power_on)

    def power_cut(self) -> None:
        """The supply is gone between two instructions: RAM, RTC memory and calendar clock are lost."""
        self._hub.call(lambda: self._power_off("power_cut"))

    def press_reset(self) -> None:
        """The EN button: a chip can not tell it from a power-on."""
        self._hub.call(self._press_reset)

    def unplug(self) -> None:
        """Pull the USB cable of a board that has its own supply: the port disappears, the node runs on."""

        def pull() -> None:
            self._unplugged_name = self._port.unplug()

        self._hub.call(pull)

    def replug(self) -> None:
        """Plug it in again: another device name behind the same link."""
        self._hub.call(lambda: self._port.plug(avoid=self._unplugged_name))

    def flash(self, label: str, image: bytes | Path) -> None:
        self._must_be_off("flash")
        self._flash.write(label, image.read_bytes() if isinstance(image, Path) else image)

    def erase(self, label: str) -> None:
        self._must_be_off("erase")
        self._flash.erase(label)

    def read_partition(self, label: str, *, live: bool = False) -> bytes:
        """``live``: as it is this moment, while the node may be writing."""
        if not live:
            self._must_be_off("read")
        return self._flash.read(label)

    def close(self) -> None:
        """End the board and its process; the folder stays."""

        def end() -> None:
            self._power_off("closed")
            self._port.unplug()
            self._hub.remove_clock(self._clock)

        self._hub.call(end)

    def __enter__(self) -> "VirtualBoard":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- what can be seen ----------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """ "off", "running", "asleep", or "halted": main.py ended and only a reset brings it back."""
        return self._state

    @property
    def is_watched(self) -> bool:
        """Whether a watchdog is counting: then what is halted comes round by itself."""
        return self._watchdog is not None

    @property
    def console(self) -> bytes:
        """The last 64 KiB the node wrote, link frames and all, before any line fault."""
        with self._changed:
            return bytes(self._console)

    @property
    def port(self) -> LinkPort:
        return self._port

    @property
    def micropython(self) -> tuple[str, VirtualMicroPython | None]:
        """The place that was started from, and what it holds; "" on a board that has one for good."""
        return self._bootloader.place, self._bootloader.image

    @property
    def rtc_memory(self) -> bytes:
        return self._rtc_path.read_bytes()

    @property
    def pid(self) -> int | None:
        life = self._life
        return life.process.pid if life else None

    def now_s(self) -> float:
        """World time of this board in unix seconds."""
        return self._clock.now_s()

    def wait(self, event: str, count: int = 1, timeout_s: float = 30.0) -> None:
        """Until counts[event] is at least ``count``: boot, deepsleep, reset, soft_reset, wdt, power_cut, halted."""
        self._wait_for(lambda: self.counts[event] >= count, timeout_s, f"{event!r} to happen {count} time(s)")

    def wait_console(self, text: bytes, timeout_s: float = 30.0, *, count: int = 1) -> None:
        """Until ``text`` stands in ``console`` at least ``count`` times."""
        self._wait_for(lambda: self._console.count(text) >= count, timeout_s, f"{text!r} on the console")

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise WaitTimeout(
                    f"waited {timeout_s:g} s for {what}; the board is {self._state}, events so far "
                    f"{dict(self.counts)}, it said last: {bytes(self._console[-400:])!r}"
                )

    # ---- lives of the node (hub thread from here on) -------------------------------------------------------------

    def _must_be_off(self, verb: str) -> None:
        if self._state != "off":
            raise BoardError(f"can not {verb} the flash of a board that is {self._state}; power_cut() first")

    def _happened(self, event: str, state: str) -> None:
        with self._changed:
            self.counts[event] += 1
            self._state = state
            self._changed.notify_all()

    def _power_on(self) -> None:
        if self._state != "off":
            raise BoardError(f"the board is {self._state} already; power_on() needs it off")
        self._rtc_zero_s = self._clock.now_s()
        self._radio.power(True)
        self._start(PWRON_RESET)

    def _power_off(self, event: str) -> None:
        if self._state == "off":
            return
        self._end_life()
        self._radio.power(False)
        self._erase_rtc()
        self._happened(event, "off")

    def _press_reset(self) -> None:
        if self._state == "off":
            raise BoardError("the board is off; power_on() first")
        self._restart("press_reset", PWRON_RESET)

    def _restart(self, event: str, cause: int, *, keep_rtc: bool = False) -> None:
        self._end_life()
        if not keep_rtc:
            self._erase_rtc()
        self._happened(event, "off")
        self._start(cause)

    def _deepsleep(self, sleep_ms: int, rtc_us: int) -> None:
        self._end_life()
        self._happened("deepsleep", "asleep")

        def wake(reason: int, slept_s: float) -> None:
            # The calendar clock ran on the same slow oscillator: it believes it slept as long as it was told.
            self._rtc_zero_s = self._clock.now_s() - (rtc_us / 1e6 + slept_s / (1 + self.sleep_drift))
            self._sleep = None
            self._start(DEEPSLEEP_RESET, reason)

        # No time and no pin is no wake source: only a reset brings it back.
        slept_s = sleep_ms / 1000 * (1 + self.sleep_drift) if sleep_ms > 0 else None
        self._sleep = DeepSleep(self._clock, self._scale, slept_s, wake)
        self._sleep.look(self._wake_pins.reason(self.pins))

    def _start(self, cause: int, wake: int = 0) -> None:
        if self._boot_text and _ROM_TEXT[cause]:
            self._from_node(_ROM_LINES % _ROM_TEXT[cause])
        self._wake_pins = WakePins()
        if cause not in (DEEPSLEEP_RESET, SOFT_RESET):
            self._bootloader.start()
        self._life = self._new_life(cause, wake)
        self._happened("boot", "running")

    def _new_life(self, cause: int, wake: int) -> Life:
        partitions = ";".join(f"{k}:{at}:{size}" for k, (at, size) in self._flash.partitions.items())
        rtc_us = int((self._clock.now_s() - self._rtc_zero_s) * 1e6)
        folder = self.directory.resolve()
        fields = (cause, wake, rtc_us, round(self._scale * 1000), self.mac.hex(), folder, partitions)
        return Life(
            self._hub,
            folder,
            heap_size=self._heap_size,
            main=str(self._firmware.resolve()) if self._firmware else "/app",
            facts=",".join(map(str, fields)),
            environment=self._bootloader.environment,
            program=self._bootloader.program,
            is_scaled=self._scale != 1,
            has_radio=self._radio.is_attached,
            uarts=tuple(self._lines),
            on_console=self._from_node,
            on_command=self._command,
            on_uart=lambda number, data: self._chips[number].receive(data),
            on_exit=self._ended_by_itself,
        )

    def _end_life(self) -> None:
        if self._sleep is not None:
            self._sleep.end()
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._sleep = self._watchdog = None
        self._watchdog_ms = 0
        if self._life is not None:
            self._life.end()
            self._life = None
        self._radio.let_go()

    def _ended_by_itself(self, life: Life) -> None:
        if self._life is not life:
            return
        if self._bootloader.is_crashing:
            self._restart("panic", WDT_RESET)
            return
        # A watchdog that was started goes on counting: main.py has ended, but the chip has not.
        life.end()
        self._life = None
        self._happened("halted", "halted")

    def _erase_rtc(self) -> None:
        self._rtc_path.write_bytes(b"")

    # ---- the node's control messages -----------------------------------------------------------------------------

    def _command(self, message: bytes) -> int | bytes | None:
        """One message of the node; what to answer, or None."""
        text, is_raw, raw = message.partition(b"\0")  # bytes for a bus stand behind a zero
        verb, *fields = text.split()
        handler = self._COMMANDS.get(verb)
        if handler is None:
            raise BoardError(f"the machine module sent {message!r}, which this supervisor does not know")
        return handler(self, *map(int, fields), raw) if is_raw else handler(self, *map(int, fields))

    def _sleep_command(self, sleep_ms: int, rtc_us: int) -> None:
        self._deepsleep(sleep_ms, rtc_us)

    def _reset_command(self) -> None:
        self._restart("reset", HARD_RESET)

    def _soft_command(self) -> None:
        self._restart("soft_reset", SOFT_RESET, keep_rtc=True)

    def _wdt_command(self, timeout_ms: int) -> None:
        self._watchdog_ms = timeout_ms
        self._feed_command()

    def _feed_command(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        # The node rounds its feeds down to eighths of the time-out; it gets them back here.
        self._watchdog = self._clock.call_later(self._watchdog_ms * 1.125 / 1000, self._watchdog_expired)

    def _watchdog_expired(self) -> None:
        self._restart("wdt", WDT_RESET)

    def _rtc_command(self, rtc_us: int) -> None:
        self._rtc_zero_s = self._clock.now_s() - rtc_us / 1e6

    def _uart_command(self, number: int, baudrate: int, bits: int, parity: int, stop: int) -> None:
        if number in self._lines:
            self._lines[number].set_format(baudrate, bits, parity, stop)

    def _skip_command(self, skip_ms: int) -> int:
        self._hear_uarts()
        self._clock.skip(skip_ms / 1000)
        return 0

    def _jump_command(self, at_most_ms: int) -> int:
        self._hear_uarts()
        before_s = self._clock.now_s()
        whole_ms = -(-self._clock.skip_to_next(at_most_ms / 1000) * 1000 // 1)
        self._clock.skip(before_s + whole_ms / 1000 - self._clock.now_s())
        return int(whole_ms)

    def _hear_uarts(self) -> None:
        """What the node sent before it asked to skip must reach the chips before time passes."""
        if self._life is not None:
            self._life.take_uarts()

    def _drive(self, pin: int, level: int) -> None:
        self.pins[pin] = level
        if self._sleep is not None:
            self._sleep.look(self._wake_pins.reason(self.pins))

    def _i2c_read_command(self, number: int, address: int, register: int, count: int) -> int | bytes:
        return self._i2c_bus(number).read(address, register, count)

    def _i2c_write_command(self, number: int, address: int, register: int, *data: int) -> int:
        return self._i2c_bus(number).write(address, register, bytes(data))

    def _i2c_bus(self, number: int) -> I2cBus:
        return self._i2c.setdefault(number, I2cBus())  # nobody on it: it acknowledges nothing

    def _ext0_command(self, level: int, *pins: int) -> int:
        return self._wake_pins.set_ext0(level, pins)

    def _ext1_command(self, level: int, *pins: int) -> int:
        return self._wake_pins.set_ext1(level, pins)

    def _pull_command(self, pin: int, up: int) -> None:
        self.pins.setdefault(pin, up)

    def _set_command(self, pin: int, level: int) -> None:
        self.pins[pin] = level
        self._radio.set(pin, level)

    def _pin_command(self, pin: int) -> int:
        level = self._radio.level(pin)
        return self.pins.get(pin, 0) if level is None else level

    def _spi_command(self, number: int, mode: int, mosi: bytes) -> bytes:
        return self._radio.exchange(number, mode, mosi)

    def _adc_command(self, pin: int) -> int:
        return self.adc_uv.get(pin, 0)

    _COMMANDS: Mapping[bytes, Callable[..., int | bytes | None]] = {
        b"sleep": _sleep_command,
        b"reset": _reset_command,
        b"soft": _soft_command,
        b"wdt": _wdt_command,
        b"feed": _feed_command,
        b"rtc": _rtc_command,
        b"uart": _uart_command,
        b"skip": _skip_command,
        b"jump": _jump_command,
        b"pull": _pull_command,
        b"set": _set_command,
        b"pin": _pin_command,
        b"adc": _adc_command,
        b"spi": _spi_command,
        b"i2cr": _i2c_read_command,
        b"i2cw": _i2c_write_command,
        b"ext0": _ext0_command,
        b"ext1": _ext1_command,
    }

    # ---- bytes ---------------------------------------------------------------------------------------------------

    def _from_node(self, data: bytes) -> None:
        # The port first: whoever waits for text on the console may rely on it having passed the port.
        self._port.send(self.faults.pass_through(data, "up") if self.faults else data)
        with self._changed:
            self._console += data
            del self._console[:-_CONSOLE_KEPT]
            self._changed.notify_all()

    def _from_gateway(self, data: bytes) -> None:
        data = self.faults.pass_through(data, "down") if self.faults else data
        if self._life is not None:  # a sleeping chip's UART hears nothing
            self._life.type_in(data)

    def _to_uart(self, number: int, data: bytes) -> None:
        if self._life is not None:
            self._life.to_uart(number, data)
