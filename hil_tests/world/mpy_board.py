# mypy: ignore-errors
"""A board in the simulated world, on the real MicroPython: run by hil_tests/world/mpy_station.py.

What runs is what lies in the slot, as on a board. Its hardware and its time are at the other end of stdin and stdout:
every question is a line; every answer is its length (two bytes), the ticks (four), and itself. Time passes nowhere
else, so a node that computes takes none.

    I <ms>          wait; the answer is what arrived on the link
    D <ms>          wait inside a step
    O, U, R         a UART: open, write, read
    P, V            a level, a voltage
    G, W            the I2C bus
    Z, B, Q, Y      the radio: transfer, busy, raised, reset
    K, k, E, e      the calendar clock and its memory
    N <count>       random bytes
    T <hex>         bytes to the gateway; no answer
    L <text>        a line for the console; no answer
    X, S <ms> …     reset, deep sleep: the process ends
"""

import gc
import sys
from binascii import hexlify

gc.threshold(4096)  # as the image's main.py does

import vfs  # noqa: E402

_PERIOD = 1 << 30
_BLOCK = 4096


class Ticks:
    now_ms = 0

    def ticks_ms(self):
        return Ticks.now_ms

    def ticks_diff(self, later, earlier):
        return (later - earlier + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def sleep_ms(self, ms):
        ask(b"D %d" % ms)


def tell(line):
    sys.stdout.buffer.write(line + b"\n")


def ask(line):
    tell(line)
    head = sys.stdin.buffer.read(6)
    if len(head) < 6:
        sys.exit(0)
    Ticks.now_ms = head[2] << 24 | head[3] << 16 | head[4] << 8 | head[5]
    size = head[0] << 8 | head[1]
    return sys.stdin.buffer.read(size) if size else b""


class Rtc:
    def read_ms(self):
        return int.from_bytes(ask(b"E"), "big")

    def read_s(self):
        return self.read_ms() // 1000

    def write_s(self, seconds):
        ask(b"e %d" % seconds)

    def load(self):
        return ask(b"K")

    def save(self, data):
        ask(b"k " + hexlify(data))


class Link:
    arrived = b""

    def read(self):
        data = self.arrived
        self.arrived = b""
        return data

    def write(self, data):
        tell(b"T " + hexlify(data))


class Uart:
    def __init__(self, port, baud_rate):
        self._port = port.encode()
        self._left = b""
        ask(b"O %s %d" % (self._port, baud_rate))

    def write(self, data):
        ask(b"U " + self._port + b" " + hexlify(data))

    def any(self):
        if not self._left:
            self._left = ask(b"R " + self._port + b" 0")
        return len(self._left)

    def readinto(self, buffer):
        if not self._left:
            self._left = ask(b"R " + self._port + b" 1")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class I2c:
    def readfrom_mem_into(self, address, register, buffer):
        data = ask(b"G %d %d %d" % (address, register, len(buffer)))
        if len(data) != len(buffer):
            raise OSError(19)
        buffer[:] = data

    def writeto_mem(self, address, register, data):
        if not ask(b"W %d %d " % (address, register) + hexlify(data)):
            raise OSError(19)


class Radio:
    chip = "sx1262"
    tcxo_mv = 1800
    dio2_switches = True
    dbm_max = 22

    def transfer(self, data):
        data[:] = ask(b"Z " + hexlify(data))

    def is_busy(self):
        return ask(b"B") == b"\x01"

    def is_raised(self):
        return ask(b"Q") == b"\x01"

    def reset(self):
        ask(b"Y")

    def switch(self, is_receiving):
        pass

    def ticks_us(self):
        return Ticks.now_ms * 1000 & 0x3FFFFFFF


class File:
    """A block device in a file."""

    def __init__(self, path, blocks):
        self._file = open(path, "r+b")  # noqa: SIM115  (as long as the node lives)
        self._blocks = blocks

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
    def __init__(self, state, app, slot, cause, wake):
        from firmware.hal.clock import Clock
        from firmware.hal.lines import Lines

        self.reset_cause = cause
        self.wake = wake
        self._rtc = Rtc()
        self._app = app
        self._slot = slot
        self.clock = Clock(Ticks(), self._rtc)
        self.link = Link()
        self.lines = Lines()
        self.state_fs = vfs.VfsLfs2(state)

    @property
    def cache(self):
        from firmware.hal.cache import Cache

        return Cache(self._rtc)

    def program(self):
        return self._app, self._slot

    def open_program(self, path):
        return open(sys.path[0] + "/" + path, "rb")

    def has_places(self):
        return False

    def places(self):
        return None

    def configure(self, board):
        __import__("boards." + board + ".board")

    def uart(self, port, baud_rate):
        return Uart(port, baud_rate)

    def radio(self):
        return Radio()

    def i2c(self, bus):
        return I2c()

    def read_pin(self, name):
        return ask(b"P " + name.encode())[0]

    def read_mv(self, channel):
        return int.from_bytes(ask(b"V " + channel.encode()), "big")

    def random(self, count):
        return ask(b"N %d" % count)

    def log(self, text):
        self.lines.keep(text)
        tell(b"L " + text.replace("\n", " / ").encode())

    def feed_watchdog(self):
        pass

    def idle(self, ms):
        self.link.arrived += ask(b"I %d" % ms)

    def deep_sleep(self, ms, pins):
        tell(b"S %d " % ms + " ".join(pins).encode())
        sys.exit(0)

    def reset(self):
        tell(b"X")
        sys.exit(0)

    def identify(self, is_on):
        pass

    def heap_free(self):
        gc.collect()
        return gc.mem_free()


def begin(state, state_blocks, app, app_blocks, slot, cause, wake):
    ask(b"D 0")  # ticks begin somewhere
    fs = vfs.VfsLfs2(File(app, int(app_blocks)))
    vfs.mount(fs, "/app")
    sys.path[:] = ["/app/" + "ab"[int(slot)], ".frozen"]
    from firmware import main

    hal = Hal(File(state, int(state_blocks)), fs, int(slot), int(cause), int(wake))
    main.loop(hal, main.start(hal))


begin(*sys.argv[1:])
