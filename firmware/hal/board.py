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
    UART_WAIT_MS,
)
from firmware.hal.clock import Clock
from firmware.modules import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firmware.hal import Link, Uart

# An ESP32 counts seconds since 2000, other ports since 1970.
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0
# Longer than any step may take (a retried outbox write on worn flash), short enough that nobody drives out for it.
WATCHDOG_MS = 60000
_LINK_READ_MAX = 256


class _Ticks:
    ticks_ms = staticmethod(time.ticks_ms)  # type: ignore[attr-defined]
    ticks_diff = staticmethod(time.ticks_diff)  # type: ignore[attr-defined]
    sleep_ms = staticmethod(time.sleep_ms)  # type: ignore[attr-defined]


class _Rtc:
    def __init__(self) -> None:
        self._rtc = machine.RTC()

    def read_s(self) -> int:
        return int(time.time()) + _EPOCH_S

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
        self.clock = Clock(_Ticks(), _Rtc())
        self._console = _Console()
        self.link: "Link" = self._console
        self.reset_cause = _reset_cause()
        self.state_fs, self.was_formatted = _mount_state()
        self._board: "Any" = None
        self._watchdog = machine.WDT(timeout=WATCHDOG_MS)
        self.feed_watchdog = self._watchdog.feed

    def configure(self, board: str) -> None:
        """Take the pins of this board. ImportError when the image was built for another one."""
        name = "boards." + board + ".board"
        __import__(name)
        self._board = sys.modules[name]

    def uart(self, port: str, baud_rate: int) -> "Uart":
        if port != "rs485":
            raise ValueError("port %s: this firmware knows rs485" % port)
        board = self._board
        return _Uart(board.RS485_UART, baud_rate, board.RS485_TX_PIN, board.RS485_RX_PIN)

    def read_mv(self, channel: str) -> int:
        if channel != "supply":
            raise ValueError("channel %s: this firmware knows supply" % channel)
        board = self._board
        adc = machine.ADC(machine.Pin(board.SUPPLY_ADC_PIN), atten=machine.ADC.ATTN_11DB)
        return int(adc.read_uv() // 1000 * board.SUPPLY_DIVIDER_MILLI // 1000)

    def random(self, count: int) -> bytes:
        return bytes(os.urandom(count))

    def log(self, text: str) -> None:
        print(text)

    def idle(self, ms: int) -> None:
        # In pieces, so that the watchdog sees the node come round.
        self._console.wait(min(ms, WATCHDOG_MS // 4))

    def reset(self) -> None:
        machine.reset()

    def identify(self, is_on: bool) -> None:
        machine.Pin(self._board.LED_PIN, machine.Pin.OUT).value(is_on)

    def heap_free(self) -> int:
        gc.collect()
        return int(gc.mem_free())  # type: ignore[attr-defined]


def _reset_cause() -> int:
    causes = {
        machine.PWRON_RESET: CAUSE_POWER_ON,
        machine.HARD_RESET: CAUSE_HARD_RESET,
        machine.WDT_RESET: CAUSE_WATCHDOG,
        machine.DEEPSLEEP_RESET: CAUSE_DEEP_SLEEP,
        machine.SOFT_RESET: CAUSE_SOFT_RESET,
    }
    return causes.get(machine.reset_cause(), CAUSE_UNKNOWN)


def _mount_state() -> "tuple[Any, bool]":
    """The `state` file system, and whether it had to be formatted: then everything this node knew is gone."""
    try:
        # A boot script may have mounted it, and two mounts would not see each other's writes.
        vfs.umount("/state")
    except OSError:
        pass
    found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="state")
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
