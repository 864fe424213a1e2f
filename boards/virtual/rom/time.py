# mypy: ignore-errors
"""`time` of an ESP32 port: epoch 2000, ticks of 30 bits that wrap, no floats from time()."""

import utime
from _board import rtc_us, sleep_ms
from _board import ticks_us as _us

_EPOCH_2000 = 946684800
_MASK = (1 << 30) - 1
_HALF = 1 << 29


def ticks_ms():
    return (_us() // 1000) & _MASK


def ticks_us():
    return _us() & _MASK


ticks_cpu = ticks_us


def ticks_add(ticks, delta):
    if not -_HALF < delta < _HALF:
        raise OverflowError("ticks interval overflow")
    return (ticks + delta) & _MASK


def ticks_diff(end, start):
    return ((end - start + _HALF) & _MASK) - _HALF


def sleep(seconds):
    sleep_ms(int(seconds * 1000))


def sleep_us(us):
    utime.sleep_us(us)


def time():
    return rtc_us() // 1000000


def time_ns():
    return rtc_us() * 1000


def gmtime(seconds=None):
    if seconds is None:
        seconds = time()
    return utime.gmtime(int(seconds) + _EPOCH_2000)[:8]


localtime = gmtime


def mktime(parts):
    # The supervisor runs the node in UTC. The ninth field (summer time) is the host C library's, not an ESP32's.
    return int(utime.mktime(tuple(parts[:8]) + (0,))) - _EPOCH_2000
