"""What a node needs from the machine it runs on. This package alone imports machine, esp32, time and vfs.

`board.py` is the machine: an ESP32, or the virtual board, which answers to the same module names. The simulated world
(hil_tests/world/sim_hal.py) implements the same interface on CPython. `clock.py` is common to all of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from firmware.hal.clock import Clock
    from firmware.hal.lines import Lines

    class Ticks(Protocol):
        """Milliseconds that wrap, as MicroPython's time module has them."""

        def ticks_ms(self) -> int: ...
        def ticks_diff(self, later: int, earlier: int) -> int: ...
        def sleep_ms(self, ms: int) -> None: ...

    class Rtc(Protocol):
        """The chip's calendar clock, and a few bytes that live about as long as it does."""

        def read_s(self) -> int:
            """Seconds since 1970, right only if it was set since power on."""

        def read_ms(self) -> int:
            """The same in milliseconds: how long a deep sleep was."""

        def write_s(self, seconds: int) -> None: ...
        def load(self) -> bytes: ...
        def save(self, data: bytes) -> None: ...

    class Uart(Protocol):
        def write(self, data: "bytes | bytearray") -> object: ...
        def any(self) -> int:
            """Bytes that have arrived and wait to be read."""

        def readinto(self, buffer: memoryview) -> int:
            """What arrives, at most len(buffer) bytes; 0 when there was nothing for UART_WAIT_MS."""

    class I2c(Protocol):
        """A bus with registers behind addresses, at 400 kHz. OSError: nobody answered, or the bus hangs."""

        def readfrom_mem_into(
            self, address: int, register: int, buffer: "bytearray | memoryview"
        ) -> object: ...
        def writeto_mem(self, address: int, register: int, data: "bytes | bytearray") -> object: ...

    class RadioPort(Protocol):
        """The radio chip's SPI and lines; what a driver in firmware/radios needs of a board, and no more."""

        chip: str  # "sx1262"
        tcxo_mv: "int | None"  # None: a plain crystal
        dio2_switches: bool  # the chip drives the antenna switch itself
        dbm_max: int  # that the board allows

        def transfer(self, data: bytearray) -> None:
            """Select the chip, send and receive so many bytes in place, and let go of it."""

        def is_busy(self) -> bool:
            """Level of BUSY: no command may be sent while it is high."""

        def is_raised(self) -> bool:
            """Level of DIO1, the interrupt."""

        def reset(self) -> None:
            """Pulse NRESET. The chip is busy for some milliseconds after it."""

        def switch(self, is_receiving: bool) -> None:
            """The antenna switch, on boards that have a pin for it."""

        def ticks_us(self) -> int:
            """Microseconds in 30 bits that wrap: the clock on which a bridge tells when it heard and sends."""

    class Cache(Protocol):
        """A few bytes that live over a deep sleep and a soft reset, and over nothing else (cache.py)."""

        def load(self, name: str) -> "bytes | None":
            """What save() was last given under that name, None when it is gone."""

        def save(self, name: str, data: "bytes | bytearray") -> None: ...

    class Link(Protocol):
        """The serial line to the gateway; console lines share it."""

        def read(self) -> bytes:
            """What has arrived, without waiting; b"" when there is nothing."""

        def write(self, data: bytes) -> None: ...

    class Places(Protocol):
        """Two places for MicroPython, one of which runs (places.py)."""

        this: int  # 0 or 1
        room: int  # bytes of the other

        def read(self, at: int, buffer: "bytearray | memoryview") -> None:
            """Out of the other."""

        def erase(self, block: int) -> None: ...
        def write(self, at: int, data: bytes) -> None: ...
        def steady(self) -> None:
            """What says which is started reads the same from now on, whatever a power cut left of it."""

        @property
        def pending(self) -> int:
            """The place that is gone with the next start, unless it is confirmed; -1: none."""

        def confirm(self) -> None: ...
        def boot_other(self) -> None:
            """The other is started next. OSError: it can not be."""

    class Hal(Protocol):
        clock: Clock
        link: Link
        lines: Lines  # what log() was told last
        reset_cause: int  # as hello reports it (SPEC.md 2.1)
        wake: int  # what ended the deep sleep before this life: WAKE_NONE when there was none
        state_fs: Any  # the `state` file system, with the methods of vfs.VfsLfs2

        def program(self) -> tuple[Any, int]:
            """The `app` file system, and the slot that this program is in: 0 for /a, 1 for /b."""

        def open_program(self, path: str) -> Any:
            """A file of the slot that this program is in, to read from. OSError: it is not there."""

        def has_places(self) -> bool:
            """Whether there are two places for MicroPython."""

        def places(self) -> "Places | None":
            """The two places for MicroPython; None on a board that has one MicroPython for good."""

        def configure(self, board: str) -> None:
            """Take the pins of the board of that name; before the methods below. Raises WrongFirmware."""

        def uart(self, port: str, baud_rate: int) -> Uart:
            """The serial port of that name on this board, 8N1: "rs485", "ultrasonic"."""

        def radio(self) -> "RadioPort | None":
            """The radio of this board; None when it has none. Made anew at each call: call it once."""

        def i2c(self, bus: str) -> I2c:
            """The bus of that name on this board: "sensors"."""

        def read_pin(self, name: str) -> int:
            """Level of the input of that name: "door", "float", "presence", "service", "motion"; high when active."""

        def read_mv(self, channel: str) -> int:
            """Millivolts: "supply", the node's own; "loop", what a 4-20 mA current makes over 100 ohm."""

        @property
        def cache(self) -> Cache: ...
        def deep_sleep(self, ms: int, pins: "tuple[str, ...]") -> None:
            """Sleep until one of those inputs is high, at most ``ms`` (0: for ever); ends this life, does not return.

            An input that is high already ends the sleep at once. ValueError: the pin can not end a deep sleep.
            """

        def random(self, count: int) -> bytes:
            """Bytes fit for keys."""

        def log(self, text: str) -> None:
            """A line for a person at the console."""

        def feed_watchdog(self) -> None: ...
        def idle(self, ms: int) -> None:
            """Wait that long, less if something arrives on the link."""

        def reset(self) -> None:
            """Start again; does not return on hardware."""

        def identify(self, is_on: bool) -> None:
            """Show a person at the site which node this is, as well as this board can."""

        def heap_free(self) -> int:
            """Bytes, after a collection."""


# Longest wait for the first byte in Uart.readinto().
UART_WAIT_MS = 10

# Hal.wake
WAKE_NONE = 0
WAKE_TIMER = 1
WAKE_PIN = 2

# Hal.read_mv("loop") is for this shunt, whatever the board has: 4 mA are 400 mV.
LOOP_SHUNT_OHM = 100

# hello's reset_cause (SPEC.md 2.1)
CAUSE_UNKNOWN = 0
CAUSE_POWER_ON = 1
CAUSE_HARD_RESET = 2
CAUSE_WATCHDOG = 3
CAUSE_DEEP_SLEEP = 4
CAUSE_SOFT_RESET = 5
