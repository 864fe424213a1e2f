"""A node's hardware on a virtual clock: the firmware's own files on CPython, thousands at a time.

    station = SimStation(identity, now_ms=world_now, seed=7, water=river.quantities)
    station.to_gateway = callback(bytes)         what the node writes on its serial line
    wait_ms = station.step()                     call again after wait_ms, or at once after:
    station.from_gateway(bytes)
    station.power_cut(); station.power_on()      also press_reset(); flash and RTC memory keep what hardware keeps
    station.attach(accelerometer, motion=accelerometer.int1)     a chip on the I2C bus, and the pin it drives
    station.attach_radio(chip, world)            a Sx1262 that has its place in an air on that clock
    station.set_pin("door", 1)                   a contact; then step() at once: it may end a deep sleep

``now_ms()`` is the world's time in milliseconds since 1970. A step that blocks (a Modbus transaction) takes its time on
the station's own clock, which so runs up to a second ahead of the world's, and the wait it returns makes up for it.
Everything random comes from the seed. The sonde is the byte-level one of the virtual board, on the same timers.
"""

from __future__ import annotations

import errno
import functools
import heapq
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from boards.virtual.i2c import HANGS, NOBODY, I2cBus, I2cChip, on_wire_s
from firmware.assembly import IDENTITY_PATH
from firmware.begin import START_PAUSE_MS
from firmware.hal import (
    CAUSE_DEEP_SLEEP,
    CAUSE_HARD_RESET,
    CAUSE_POWER_ON,
    CAUSE_WATCHDOG,
    UART_WAIT_MS,
    WAKE_NONE,
    WAKE_PIN,
    WAKE_TIMER,
)
from firmware.hal.cache import Cache
from firmware.hal.clock import Clock
from firmware.hal.lines import Lines
from firmware.main import Life
from firmware.no_start import NoIdentity, StartFailed
from firmware.node import Node
from firmware.steady import steady
from hil_tests.world.flash import BlockDevice, Flash, LittleFs
from hil_tests.world.sim_radio import SimRadio
from protocols.wire import identity as identity_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boards.virtual.chips.registers import Signal
    from boards.virtual.chips.sx1262 import Sx1262
    from boards.virtual.uart import UartChip
    from firmware.hal import RadioPort
    from hil_tests.world.air import AirClock

_TICKS_PERIOD = 1 << 30
# Ticks start a minute before they wrap, as on the virtual board.
_TICKS_START = _TICKS_PERIOD - 60_000
# 192 kB: an outbox of 96 kB, and a thousand stations in 200 MB.
STATE_BLOCKS = 48
HEAP_FREE = 60_000
_UART_BUFFER = 256  # of an ESP32's driver


class SimReset(BaseException):
    """The firmware asked for a reset. Not an Exception: on hardware nothing catches it either."""


class SimDeepSleep(BaseException):
    """The firmware went to sleep for at most ``ms`` (0: for ever), or until one of ``pins`` is high."""

    def __init__(self, ms: int, pins: tuple[str, ...]) -> None:
        super().__init__(ms, pins)
        self.ms = ms
        self.pins = pins


class PowerLost(BaseException):
    """The supply collapsed inside a flash operation; raised by a flash that can be cut (sim_node.py)."""


class _Timer:
    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self.function = None


class LocalClock:
    """The station's time: the world's, or ahead of it by what the step under way has spent waiting."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._world_ms = now_ms
        self._local_ms = now_ms()
        self._queue: list[tuple[int, int, _Timer]] = []
        self._count = itertools.count()

    def now_ms(self) -> int:
        return max(self._local_ms, self._world_ms())

    def now_s(self) -> float:
        return self.now_ms() / 1000

    @property
    def next_due_ms(self) -> int | None:
        """When something happens next; None: nothing will."""
        while self._queue and self._queue[0][2].function is None:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    @property
    def ahead_ms(self) -> int:
        return max(0, self._local_ms - self._world_ms())

    def call_later(self, delay_s: float, function: Callable[[], None]) -> _Timer:
        timer = _Timer(function)
        due_ms = self.now_ms() + max(0, round(delay_s * 1000))
        heapq.heappush(self._queue, (due_ms, next(self._count), timer))
        return timer

    def run_due(self, until_ms: int | None = None) -> None:
        """Let what is due happen, each at its own moment."""
        target_ms = self.now_ms() if until_ms is None else until_ms
        while self._queue and self._queue[0][0] <= target_ms:
            due_ms, _, timer = heapq.heappop(self._queue)
            self._local_ms = max(self._local_ms, min(due_ms, target_ms))
            if timer.function is not None:
                timer.function()
        self._local_ms = max(self._local_ms, target_ms) if until_ms is not None else self._local_ms

    def spend(self, ms: int) -> None:
        """The node waits inside a step."""
        self.run_due(self.now_ms() + ms)

    def spend_until_event(self, at_most_ms: int) -> None:
        """Wait for whatever happens next, at most that long."""
        end_ms = self.now_ms() + at_most_ms
        due_ms = self._queue[0][0] if self._queue else end_ms
        self.run_due(min(end_ms, max(due_ms, self.now_ms())))


class _Ticks:
    """Milliseconds since the start on a crystal that is ``ppm`` fast."""

    def __init__(self, clock: LocalClock, ppm: float) -> None:
        self._clock = clock
        self._zero_ms = clock.now_ms()
        self._rate = 1 + ppm * 1e-6

    def ticks_ms(self) -> int:
        up_ms = int((self._clock.now_ms() - self._zero_ms) * self._rate)
        return (_TICKS_START + up_ms) % _TICKS_PERIOD

    def ticks_diff(self, later: int, earlier: int) -> int:
        return (later - earlier + _TICKS_PERIOD // 2) % _TICKS_PERIOD - _TICKS_PERIOD // 2

    def sleep_ms(self, ms: int) -> None:
        self._clock.spend(ms)


class _Rtc:
    """Calendar clock and RTC memory; `lose_power` and `lose_memory` say what a reset takes."""

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self.lose_power()

    def lose_power(self) -> None:
        self._zero_ms = self._clock.now_ms() - 946_684_800_000  # shows the year 2000
        self.lose_memory()

    def lose_memory(self) -> None:
        self._memory = b""

    def read_s(self) -> int:
        return (self._clock.now_ms() - self._zero_ms) // 1000

    def read_ms(self) -> int:
        return self._clock.now_ms() - self._zero_ms

    def write_s(self, seconds: int) -> None:
        self._zero_ms = self._clock.now_ms() - seconds * 1000

    def lag_ms(self, ms: int) -> None:
        self._zero_ms += ms

    def load(self) -> bytes:
        return self._memory

    def save(self, data: bytes) -> None:
        self._memory = data


class SondeLine:
    """The line between a UART of the node and the chip at its other end."""

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self.baudrate = 9600
        self.char_s = 10 / 9600
        self.received = bytearray()

    def now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def call_later(self, delay_s: float, function: Callable[[], None]) -> _Timer:
        return self._clock.call_later(delay_s, function)

    def set_baudrate(self, baudrate: int) -> None:
        self.baudrate = baudrate
        self.char_s = 10 / baudrate

    def send(self, data: bytes) -> None:
        self.received += data
        del self.received[:-_UART_BUFFER]


class _Uart:
    """``chip``: None when nothing is connected."""

    def __init__(self, clock: LocalClock, line: SondeLine, chip: UartChip | None) -> None:
        self._clock = clock
        self._line = line
        self._chip = chip

    def write(self, data: bytes | bytearray) -> int:
        if self._chip is not None:
            self._chip.receive(bytes(data))
        return len(data)

    def any(self) -> int:
        return len(self._line.received)

    def readinto(self, buffer: memoryview) -> int:
        received = self._line.received
        if not received:
            self._clock.spend_until_event(UART_WAIT_MS)
        count = min(len(buffer), len(received))
        buffer[:count] = received[:count]
        del received[:count]
        return count


class SimI2c:
    """The I2C bus seen from a node: register transactions that take their time and fail as an ESP32's do."""

    # How long a driver waits for a bus that hangs.
    TIMEOUT_MS = 50

    def __init__(self, clock: LocalClock, bus: I2cBus) -> None:
        self._clock = clock
        self._bus = bus
        self._spent_s = 0.0

    def readfrom_mem_into(self, address: int, register: int, buffer: bytearray | memoryview) -> None:
        if len(buffer):
            data = self._checked(self._bus.read(address, register, len(buffer)), 3 + len(buffer))
            assert isinstance(data, bytes)
            buffer[:] = data

    def writeto_mem(self, address: int, register: int, data: bytes | bytearray) -> None:
        self._checked(self._bus.write(address, register, bytes(data)), 2 + len(data))

    def _checked(self, result: bytes | int, count: int) -> bytes | int:
        if result == HANGS:
            self._clock.spend(self.TIMEOUT_MS)
            raise OSError(errno.ETIMEDOUT)
        self._spent_s += on_wire_s(count)
        if self._spent_s >= 0.001:
            self._clock.spend(int(self._spent_s * 1000))
            self._spent_s %= 0.001
        if result == NOBODY:
            raise OSError(errno.ENODEV)
        return result


class _Link:
    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.pending = bytearray()

    def write(self, data: bytes) -> None:
        self._write(data)

    def read(self) -> bytes:
        data = bytes(self.pending)
        self.pending.clear()
        return data


@dataclass
class _Sleep:
    since_ms: int
    until_ms: int | None
    pins: tuple[str, ...]
    is_woken: bool


class SimHal:
    """Implements firmware.hal.Hal for one life of a station: from a start to the next reset."""

    def __init__(self, station: SimStation, cause: int, wake: int = WAKE_NONE) -> None:
        self._station = station
        self.clock = Clock(_Ticks(station.clock, station.ppm), station.rtc)
        self.link: Any = _Link(station.write)
        self.reset_cause = cause
        self.wake = wake
        self.cache = Cache(station.rtc)
        self.lines = Lines()
        if cause != CAUSE_DEEP_SLEEP:
            steady(station.flash)  # as every HAL does before it mounts
        self.state_fs: Any = LittleFs(station.flash)

    def program(self) -> tuple[Any, int]:
        return self._station.program()

    def open_program(self, path: str) -> Any:
        return self._station.open_program(path)

    def has_places(self) -> bool:
        return False

    def places(self) -> None:
        return None

    def configure(self, board: str) -> None:
        pass  # there are no pins

    def uart(self, port: str, baud_rate: int) -> _Uart:
        line, chip = self._station.uarts.get(port, (SondeLine(self._station.clock), None))
        line.set_baudrate(baud_rate)
        return _Uart(self._station.clock, line, chip)

    def radio(self) -> RadioPort | None:
        return self._station.radio

    def i2c(self, bus: str) -> SimI2c:
        return SimI2c(self._station.clock, self._station.i2c)

    def read_pin(self, name: str) -> int:
        return self._station.pins.get(name, 0)

    def read_mv(self, channel: str) -> int:
        return self._station.loop_mv if channel == "loop" else self._station.supply_mv

    def deep_sleep(self, ms: int, pins: tuple[str, ...]) -> None:
        raise SimDeepSleep(ms, pins)

    def random(self, count: int) -> bytes:
        return self._station.rng.randbytes(count)

    def log(self, text: str) -> None:
        self.lines.keep(text)
        self._station.log.append(text)
        del self._station.log[:-100]

    def feed_watchdog(self) -> None:
        self._station.fed_ms = self._station.clock.now_ms()

    def idle(self, ms: int) -> None:
        raise NotImplementedError("a simulated station never waits inside: whoever steps it does")

    def reset(self) -> None:
        raise SimReset

    def identify(self, is_on: bool) -> None:
        self._station.identified.append(is_on)

    def heap_free(self) -> int:
        return HEAP_FREE


class SimStation:
    """A river station: flash, clock, sonde, and a node while it has power."""

    def __init__(
        self,
        identity: identity_file.Identity,
        *,
        now_ms: Callable[[], int],
        water: Callable[[float], Mapping[str, float]],
        seed: int = 0,
        ppm: float = 0.0,
        sleep_drift: float = 0.0,
        flash: BlockDevice | None = None,
    ) -> None:
        self.rng = random.Random(f"{seed} station")
        self.ppm = ppm
        self.clock = LocalClock(now_ms)
        self.rtc = _Rtc(self.clock)
        self.line = SondeLine(self.clock)
        self.sonde = ModbusSonde(YOSEMITECH, water, seed=seed)
        self.sonde.connect(self.line)
        self.uarts: dict[str, tuple[SondeLine, UartChip | None]] = {"rs485": (self.line, self.sonde)}
        self.to_gateway: Callable[[bytes], None] = lambda _: None
        self.log: list[str] = []
        self.identified: list[bool] = []
        self.fed_ms = 0
        self.supply_mv = 12_600
        self.loop_mv = 0
        self.i2c = I2cBus()
        self.radio: SimRadio | None = None
        self.pins: dict[str, int] = {}
        # The oscillator of the deep sleep: this much slow, as a fraction.
        self.sleep_drift = sleep_drift
        self.sleep: _Sleep | None = None
        self.boot_ms = 0  # from a wake to the first line of the node's program
        self.resets = 0
        self.starts = 0
        self.awake_ms = 0  # in lives that ended with a sleep
        self._started_ms = 0
        self.hal: SimHal | None = None
        self._life: Life | None = None
        self._reset_at_ms: int | None = None  # after a start that failed
        self.node: Node | None = None
        self.on_start: Callable[[Node], None] = lambda node: None
        self.flash: BlockDevice = flash if flash is not None else blank_flash(identity)

    def attach(self, chip: I2cChip, **outputs: Signal) -> None:
        """A chip on the I2C bus; ``outputs``: the pins that its signals drive, by the firmware's names for them."""
        self.i2c.attach(chip, self.clock)
        for name, signal in outputs.items():
            signal.connect(functools.partial(self.set_pin, name))

    def attach_uart(self, port: str, chip: UartChip) -> None:
        """Wire a chip to the port of that name, instead of what is there."""
        line = SondeLine(self.clock)
        self.uarts[port] = (line, chip)
        chip.connect(line)

    def attach_radio(self, chip: Sx1262, world: AirClock, tcxo_mv: int | None = 1800) -> None:
        """A radio chip that has its place in an air; ``world``: the clock of that air."""
        self.radio = SimRadio(chip, self.clock, world, tcxo_mv)

    def set_pin(self, name: str, level: int) -> None:
        """What this wakes runs at the next step(), even if the level was a short one."""
        self.pins[name] = level
        if level and self.sleep is not None and name in self.sleep.pins:
            self.sleep.is_woken = True

    def power_on(self) -> None:
        self.rtc.lose_power()
        if self.radio is not None:
            self.radio.power(True)
        self._start(CAUSE_POWER_ON)

    def power_cut(self) -> None:
        if self.radio is not None:
            self.radio.power(False)
        self.node = None
        self.hal = None
        self.sleep = None
        self._reset_at_ms = None

    def press_reset(self) -> None:
        self.rtc.lose_memory()
        self._start(CAUSE_HARD_RESET)

    def watchdog_reset(self) -> None:
        self.rtc.lose_memory()
        self._start(CAUSE_WATCHDOG)

    def step(self) -> int:
        """One step of the node; milliseconds of the world's time until it wants another. Off: a day."""
        if self.sleep is not None:
            return self._sleep_on(self.sleep)
        if self._reset_at_ms is not None:
            return self._wait_for_reset(self._reset_at_ms)
        if self.node is None or self._life is None:
            return 86_400_000
        self.clock.run_due()
        try:
            wait_ms = self._life.step()
        except PowerLost:
            self.power_cut()
            return self.clock.ahead_ms
        except SimReset:
            self.resets += 1
            self.press_reset()
            wait_ms = 0
        except SimDeepSleep as sleep:
            wait_ms = self._fall_asleep(sleep)
        return self.clock.ahead_ms + wait_ms

    def _wait_for_reset(self, at_ms: int) -> int:
        left_ms = at_ms - self.clock.now_ms()
        if left_ms <= 0:
            self.resets += 1
            self.press_reset()
        return self.clock.ahead_ms + max(0, left_ms)

    def program(self) -> tuple[Any, int]:
        raise OSError(19, "this node has no slots")  # one that has: sim_slots.py

    def open_program(self, path: str) -> Any:
        raise OSError(2, path)  # its program is that of this process

    def from_gateway(self, data: bytes) -> None:
        if self.hal is not None:
            self.hal.link.pending += data

    def write(self, data: bytes) -> None:
        self.to_gateway(data)

    def _fall_asleep(self, asked: SimDeepSleep) -> int:
        self.node = None
        self.hal = None
        now_ms = self.clock.now_ms()
        self.awake_ms += now_ms - self._started_ms
        slept_ms = round(asked.ms * (1 + self.sleep_drift))
        is_high = any(self.pins.get(name, 0) for name in asked.pins)
        self.sleep = _Sleep(now_ms, now_ms + slept_ms if asked.ms > 0 else None, asked.pins, is_high)
        return 0

    def _sleep_on(self, sleep: _Sleep) -> int:
        """What ends the sleep may be due now; milliseconds to the next thing that may."""
        self.clock.run_due()
        now_ms = self.clock.now_ms()
        if sleep.is_woken:
            self._wake_up(sleep, WAKE_PIN)
            return self.clock.ahead_ms
        if sleep.until_ms is not None and now_ms >= sleep.until_ms:
            self._wake_up(sleep, WAKE_TIMER)
            return self.clock.ahead_ms
        dues = [due for due in (sleep.until_ms, self.clock.next_due_ms) if due is not None]
        return max(0, min(dues) - now_ms) if dues else 86_400_000

    def _wake_up(self, sleep: _Sleep, wake: int) -> None:
        slept_ms = self.clock.now_ms() - sleep.since_ms
        # The calendar clock ran on the same oscillator.
        self.rtc.lag_ms(slept_ms - round(slept_ms / (1 + self.sleep_drift)))
        self.sleep = None
        self.clock.spend(self.boot_ms)
        self._start(CAUSE_DEEP_SLEEP, wake)

    def _start(self, cause: int, wake: int = WAKE_NONE) -> None:
        self.line.received.clear()
        self.sleep = None
        self.node = None
        self._reset_at_ms = None
        self.starts += 1
        self._started_ms = self.clock.now_ms()
        try:
            self.hal = SimHal(self, cause, wake)
            self._life = Life(self.hal)
            self.node = self._life.begin()
        except StartFailed as exc:
            self.log.append(str(exc))
            self._reset_at_ms = self.clock.now_ms() + START_PAUSE_MS
        except PowerLost:
            self.power_cut()
        except NoIdentity as exc:
            self.log.append(f"no identity: {exc}")
            self.power_cut()
        else:
            if isinstance(self.node, Node):  # and not a life that receives an update: that keeps no records
                self.on_start(self.node)


def blank_flash(identity: identity_file.Identity, blocks: int = STATE_BLOCKS) -> Flash:
    """A `state` partition as minting leaves it."""
    flash = Flash(blocks)
    LittleFs.mkfs(flash)
    with LittleFs(flash).open(IDENTITY_PATH, "wb") as file:
        file.write(identity_file.encode(identity))
    return flash
