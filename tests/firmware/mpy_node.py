"""A node on the real MicroPython in lockstep with a test: run by tests/firmware/lockstep.py, not by pytest.

The firmware runs here as it is on a board, from the compiled image tree, in a limited heap. Its hardware is at the
other end of stdin and stdout: every question is one line, every answer two bytes of length and that many bytes. Time
only passes when the node waits, so a week takes as long as its steps do.

    I <ms>      wait; the answer is what arrived on the link (at once, if something is there)
    U, R        the sonde: mpy_uart.py
    T <hex>     bytes to the gateway; no answer
    P <name>    an input; the answer is a byte
    A <name>    an analogue input; the answer is two bytes of millivolts
    G, W        the I2C bus: mpy_bus.py
    Z, Q        the radio: mpy_air.py
    L <text>    a line for the console; no answer
    M <bytes>   heap in use after a collection; no answer
    X           reset: the process ends
    S <ms> <pins>   deep sleep: the process ends; the next one finds the RTC memory in its file
"""

import gc
import os
import sys
from binascii import hexlify

gc.threshold(4096)  # as the image's main.py does

import vfs  # noqa: E402

from firmware import main  # noqa: E402
from firmware.hal.clock import Clock  # noqa: E402
from firmware.hal.lines import Lines  # noqa: E402

_PERIOD = 1 << 30
_BLOCK = 4096


def tell(line):
    """In bytes, like all that is said here: a short text would be one more name, and names have a cliff."""
    sys.stdout.buffer.write(line + b"\n")


def ask(line):
    tell(line)
    head = sys.stdin.buffer.read(2)
    if len(head) < 2:
        sys.exit(0)
    size = head[0] << 8 | head[1]
    return sys.stdin.buffer.read(size) if size else b""


class Ticks:
    """Starts a minute before the wrap."""

    now_ms = _PERIOD - 60000

    def ticks_ms(self):
        return Ticks.now_ms

    def ticks_diff(self, later, earlier):
        return (later - earlier + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def sleep_ms(self, ms):
        Ticks.now_ms = (Ticks.now_ms + ms) % _PERIOD


class Rtc:
    """A calendar that nobody sets; its memory is a file, which the other end removes when a chip would lose it."""

    def __init__(self, path, since_ms):
        self._path = path
        self._since_ms = since_ms

    def read_s(self):
        return 946684800

    def read_ms(self):
        return self._since_ms + (Ticks.now_ms + 60000) % _PERIOD

    def write_s(self, seconds):
        pass

    def load(self):
        try:
            with open(self._path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def save(self, data):
        with open(self._path, "wb") as file:
            file.write(data)


class Link:
    def __init__(self):
        self.arrived = b""

    def read(self):
        data = self.arrived
        self.arrived = b""
        return data

    def write(self, data):
        tell(b"T " + hexlify(data))


class File:
    """A block device in a file: the state partition."""

    def __init__(self, path):
        self._file = open(path, "r+b")  # noqa: SIM115  (as long as the node lives)
        self._blocks = os.stat(path)[6] // _BLOCK

    def readblocks(self, block, buf, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.write(buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return _BLOCK
        return 0  # littlefs writes only to blocks it has erased: the file need not show it


class Hal:
    def __init__(self, state, cause, wake, since_ms):
        self.reset_cause = cause
        self.wake = wake
        ticks = Ticks()
        self._rtc = Rtc(state + ".rtc", since_ms)
        self.clock = Clock(ticks, self._rtc)
        self.link = Link()
        self.lines = Lines()
        self._ticks = ticks
        self.state_fs = vfs.VfsLfs2(File(state))

    def configure(self, board):
        pass

    def open_program(self, path):
        raise OSError(2)

    def uart(self, port, baud_rate):
        # Like the bus: only on the heap of nodes that have a probe there.
        return __import__("mpy_uart").Uart(tell, ask, self._ticks)

    def radio(self):
        return __import__("mpy_air").Port(ask, self._ticks)

    def i2c(self, bus):
        # Beside this file in the tree that runs; only on the heap of nodes that have a bus.
        return __import__("mpy_bus").I2c(ask)

    @property
    def cache(self):
        from firmware.hal.cache import Cache

        return Cache(self._rtc)

    def deep_sleep(self, ms, pins):
        gc.collect()
        tell(b"M %d" % gc.mem_alloc())
        tell(b"S %d " % ms + " ".join(pins).encode())
        sys.exit(0)

    def read_pin(self, name):
        return ask(b"P " + name.encode())[0]

    def read_mv(self, channel):
        return int.from_bytes(ask(b"A " + channel.encode()), "big")

    def random(self, count):
        return os.urandom(count)

    def log(self, text):
        self.lines.keep(text)
        tell(b"L " + text.encode())

    def feed_watchdog(self):
        pass

    def idle(self, ms):
        gc.collect()
        tell(b"M %d" % gc.mem_alloc())
        # The first four bytes of the answer are the milliseconds that have passed.
        answer = ask(b"I %d" % ms)
        self._ticks.sleep_ms(int.from_bytes(answer[:4], "big"))
        self.link.arrived += answer[4:]

    def program(self):
        # Without that file it has no slots: what was received can not be installed here.
        return vfs.VfsLfs2(File(self._rtc._path[:-3] + "app")), int(sys.argv[5])

    def reset(self):
        tell(b"X")
        sys.exit(0)

    def identify(self, is_on):
        pass

    def heap_free(self):
        gc.collect()
        return gc.mem_free()


hal = Hal(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
main.loop(hal, main.start(hal))
