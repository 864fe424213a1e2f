# mypy: ignore-errors
"""`machine` of an ESP32 port, as far as Tidegate's nodes use it. The chips behind it live in the supervisor.

On a chip all this is C in flash; here it takes from the node's heap, so what few nodes use is loaded on first use.
"""

import errno
import io

import _board
import uselect
import utime
from _board import end, tell

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
PIN_WAKE = 2
EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4


def reset_cause():
    return _board.CAUSE


def wake_reason():
    return _board.WAKE


def unique_id():
    return _board.MAC


def freq(hz=None):
    return 160000000


def idle():
    utime.sleep_ms(1)


def lightsleep(time_ms=None):
    if time_ms is None:
        raise OSError(errno.EPERM)  # no wake source can be set yet: it would sleep for ever
    _board.sleep_ms(time_ms)


def deepsleep(time_ms=0):
    end(b"sleep %d %d" % (time_ms, _board.rtc_us()))


def reset():
    end(b"reset")


def soft_reset():
    end(b"soft")


class WDT:
    def __init__(self, id=0, timeout=5000):
        self._feed_us = timeout * 1000 // 8
        self._fed_us = _board.up_us()
        tell(b"wdt %d" % timeout)

    def feed(self):
        # A feed costs the supervisor a wake-up; an eighth of the time-out is close enough to each of them.
        now_us = _board.up_us()
        if now_us - self._fed_us >= self._feed_us:
            self._fed_us = now_us
            tell(b"feed")


class RTC:
    _MEMORY_MAX = 2048

    def datetime(self, parts=None):
        import time

        if parts is None:
            t = time.gmtime()
            return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], _board.rtc_us() % 1000000)
        y, month, day, _, h, minute, s, us = parts
        _board.rtc_us(time.mktime((y, month, day, h, minute, s, 0, 0)) * 1000000 + us)
        return None

    def memory(self, data=None):
        path = _board.FOLDER + "/rtc.bin"
        if data is None:
            with open(path, "rb") as file:
                return file.read()
        if len(data) > self._MEMORY_MAX:
            raise ValueError("buffer too long")
        with open(path, "wb") as file:
            file.write(data)
        return None


class UART(io.IOBase):
    """A UART whose wire is a socket to the supervisor. Reads as an ESP32's: None when nothing came in time."""

    def __init__(self, id, baudrate=115200, **options):
        for row in _board.UARTS.split(";"):
            if row.startswith("%d:" % id):
                self._fd = int(row.split(":")[1])
                break
        else:
            raise ValueError("UART(%d) does not exist" % id)
        self._id = id
        self._file = open(self._fd, "r+b")
        self._poll = uselect.poll()
        self._poll.register(self._file, uselect.POLLIN)
        self._timeout = self._timeout_char = self._sent_at_us = 0
        self._rx = bytearray()
        self.init(baudrate, **options)

    def init(self, baudrate=115200, bits=8, parity=None, stop=1, **options):
        # As the stock UART: what is not given again keeps its value. Pins and buffer sizes mean nothing to a socket.
        self._timeout = options.get("timeout", self._timeout)
        self._timeout_char = options.get("timeout_char", self._timeout_char)
        parity = -1 if parity is None else parity
        # One character, rounded up: what the transmitter needs, and the least pause a receiver can see.
        self._char_us = ((1 + bits + (parity >= 0) + stop) * 1000000 + baudrate - 1) // baudrate
        tell(b"uart %d %d %d %d %d" % (self._id, baudrate, bits, parity, stop))

    def deinit(self):
        self._poll.unregister(self._file)

    def _pull(self):
        while self._poll.poll(0):
            data = self._file.read(256)
            if not data:
                return
            self._rx.extend(data)

    def _wait(self, timeout_ms):
        """True when at least one byte is there."""
        if self._rx:
            return True
        self._pull()
        while not self._rx and timeout_ms > 0:
            if _board.SCALE_MILLI == 1000:
                self._poll.poll(timeout_ms)
                timeout_ms = 0
            else:
                import _scaled

                timeout_ms -= max(1, _scaled.jump(timeout_ms))
            self._pull()
        return len(self._rx) > 0

    def any(self):
        self._pull()
        return len(self._rx)

    def read(self, count=-1):
        timeout_ms = self._timeout
        out = bytearray()
        while (count < 0 or len(out) < count) and self._wait(timeout_ms):
            take = len(self._rx) if count < 0 else count - len(out)
            out += self._rx[:take]
            self._rx = self._rx[take:]
            timeout_ms = self._timeout_char
        return bytes(out) if out else None

    def readinto(self, buf, count=None):
        data = self.read(len(buf) if count is None else min(count, len(buf)))
        if data is None:
            return None
        buf[: len(data)] = data
        return len(data)

    def readline(self):
        out = bytearray()
        while not out.endswith(b"\n"):
            byte = self.read(1)
            if byte is None:
                break
            out += byte
        return bytes(out) if out else None

    def write(self, data):
        now_us = _board.up_us()
        self._sent_at_us = max(now_us, self._sent_at_us) + len(data) * self._char_us
        return self._file.write(data)

    def txdone(self):
        return _board.up_us() >= self._sent_at_us

    def flush(self):
        left_us = self._sent_at_us - _board.up_us()
        if left_us > 0:
            utime.sleep_us(left_us)

    def ioctl(self, request, argument):
        if request == 3:  # MP_STREAM_POLL
            ready = argument & uselect.POLLOUT
            if argument & uselect.POLLIN and self.any():
                ready |= uselect.POLLIN
            return ready
        return -1


def __getattr__(name):
    if name in ("I2C", "SoftI2C"):
        import _i2c

        return _i2c.I2C
    if name == "SPI":
        import _spi

        return _spi.SPI
    import _pins

    return getattr(_pins, name)
