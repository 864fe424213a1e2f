"""A node's hardware on a virtual clock: the firmware's own files on CPython, thousands at a time.

    station = SimStation(identity, now_ms=world_now, seed=7, water=river.quantities)
    station.to_gateway = callback(bytes)         what the node writes on its serial line
    wait_ms = station.step()                     call again after wait_ms, or at once after:
    station.from_gateway(bytes)
    station.power_cut(); station.power_on()      also press_reset(); flash and RTC memory keep what hardware keeps

``now_ms()`` is the world's time in milliseconds since 1970. A step that blocks (a Modbus transaction) takes its time on
the station's own clock, which so runs up to a second ahead of the world's, and the wait it returns makes up for it.
Everything random comes from the seed. The sonde is the byte-level one of the virtual board, on the same timers.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Any

from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from firmware.errors import NoIdentity
from firmware.hal import (
    CAUSE_HARD_RESET,
    CAUSE_POWER_ON,
    CAUSE_WATCHDOG,
    UART_WAIT_MS,
)
from firmware.hal.clock import Clock
from firmware.node import IDENTITY_PATH, Node
from firmware.steady import steady
from hil_tests.world.flash import BlockDevice, Flash, LittleFs
from protocols.wire import identity as identity_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TICKS_PERIOD = 1 << 30
# Ticks start a minute before they wrap, as on the virtual board.
_TICKS_START = _TICKS_PERIOD - 60_000
# 192 kB: an outbox of 96 kB, and a thousand stations in 200 MB.
STATE_BLOCKS = 48
_FAILURES_MAX = 5
_PAUSE_MS = 1000
HEAP_FREE = 60_000


class SimReset(BaseException):
    """The firmware asked for a reset. Not an Exception: on hardware nothing catches it either."""


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
        self._zero_s = self._clock.now_ms() // 1000 - 946_684_800  # shows the year 2000
        self.lose_memory()

    def lose_memory(self) -> None:
        self._memory = b""

    def read_s(self) -> int:
        return self._clock.now_ms() // 1000 - self._zero_s

    def write_s(self, seconds: int) -> None:
        self._zero_s = self._clock.now_ms() // 1000 - seconds

    def load(self) -> bytes:
        return self._memory

    def save(self, data: bytes) -> None:
        self._memory = data


class SondeLine:
    """The RS-485 line between the node's UART and the sonde."""

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self.baudrate = 9600
        self.char_s = 10 / 9600
        self.received = bytearray()

    def now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def call_later(self, delay_s: float, function: Callable[[], None]) -> _Timer:
        return self._clock.call_later(delay_s, function)

    def send(self, data: bytes) -> None:
        self.received += data


class _Uart:
    def __init__(self, clock: LocalClock, line: SondeLine, sonde: ModbusSonde) -> None:
        self._clock = clock
        self._line = line
        self._sonde = sonde

    def write(self, data: bytes | bytearray) -> int:
        self._sonde.receive(bytes(data))
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


class SimHal:
    """Implements firmware.hal.Hal for one life of a station: from a start to the next reset."""

    def __init__(self, station: SimStation, cause: int) -> None:
        self._station = station
        self.clock = Clock(_Ticks(station.clock, station.ppm), station.rtc)
        self.link: Any = _Link(station.write)
        self.reset_cause = cause
        steady(station.flash)  # as every HAL does before it mounts
        self.state_fs: Any = LittleFs(station.flash)

    def configure(self, board: str) -> None:
        pass  # there are no pins

    def uart(self, port: str, baud_rate: int) -> _Uart:
        return _Uart(self._station.clock, self._station.line, self._station.sonde)

    def read_mv(self, channel: str) -> int:
        return self._station.supply_mv

    def random(self, count: int) -> bytes:
        return self._station.rng.randbytes(count)

    def log(self, text: str) -> None:
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
        flash: BlockDevice | None = None,
    ) -> None:
        self.rng = random.Random(f"{seed} station")
        self.ppm = ppm
        self.clock = LocalClock(now_ms)
        self.rtc = _Rtc(self.clock)
        self.line = SondeLine(self.clock)
        self.sonde = ModbusSonde(YOSEMITECH, water, seed=seed)
        self.sonde.connect(self.line)
        self.to_gateway: Callable[[bytes], None] = lambda _: None
        self.log: list[str] = []
        self.identified: list[bool] = []
        self.fed_ms = 0
        self.supply_mv = 12_600
        self.resets = 0
        self.failures = 0
        self.hal: SimHal | None = None
        self.node: Node | None = None
        self.on_start: Callable[[Node], None] = lambda node: None
        self.flash: BlockDevice = flash if flash is not None else blank_flash(identity)

    def power_on(self) -> None:
        self.rtc.lose_power()
        self._start(CAUSE_POWER_ON)

    def power_cut(self) -> None:
        self.node = None
        self.hal = None

    def press_reset(self) -> None:
        self.rtc.lose_memory()
        self._start(CAUSE_HARD_RESET)

    def watchdog_reset(self) -> None:
        self.rtc.lose_memory()
        self._start(CAUSE_WATCHDOG)

    def step(self) -> int:
        """One step of the node; milliseconds of the world's time until it wants another. Off: a day."""
        if self.node is None:
            return 86_400_000
        self.clock.run_due()
        try:
            wait_ms = self.node.step()
            self.failures = 0
        except PowerLost:
            self.power_cut()
            return self.clock.ahead_ms
        except SimReset:
            self.resets += 1
            self.press_reset()
            wait_ms = 0
        except Exception as exc:  # noqa: BLE001  (what firmware.main does at the top of a node)
            wait_ms = self._failed(exc)
        return self.clock.ahead_ms + wait_ms

    def from_gateway(self, data: bytes) -> None:
        if self.hal is not None:
            self.hal.link.pending += data

    def write(self, data: bytes) -> None:
        self.to_gateway(data)

    def _start(self, cause: int) -> None:
        self.line.received.clear()
        try:
            self.hal = SimHal(self, cause)
            self.node = Node(self.hal)
        except PowerLost:
            self.power_cut()
        except NoIdentity as exc:
            self.log.append(f"no identity: {exc}")
            self.power_cut()
        else:
            self.on_start(self.node)

    def _failed(self, exc: Exception) -> int:
        assert self.node is not None
        self.failures += 1
        self.node.health.crashed(exc)
        if self.failures % _FAILURES_MAX == 0:
            self.press_reset()
        return _PAUSE_MS


def blank_flash(identity: identity_file.Identity, blocks: int = STATE_BLOCKS) -> Flash:
    """A `state` partition as minting leaves it."""
    flash = Flash(blocks)
    LittleFs.mkfs(flash)
    with LittleFs(flash).open(IDENTITY_PATH, "wb") as file:
        file.write(identity_file.encode(identity))
    return flash
