# mypy: ignore-errors
"""The node's end of the control channel, and the one clock that machine, time and select share.

The supervisor passes VBOARD="control fd,reset cause,wake reason,rtc_us,scale_milli,mac,flash folder,partitions,uarts"
with partitions "label:offset:size;..." and uarts "id:fd;...". Every message is one datagram of text; an answer is a
decimal number padded to 12 bytes, because a file of MicroPython reads until it has all the bytes asked for.
"""

import os

import utime

_TICKS_PERIOD = 1 << 30
# Ticks start a minute before they wrap, so that every test of the node lives through the wrap.
_TICKS_START_US = (_TICKS_PERIOD - 60000) * 1000
# Waits from here on are sped up by time_scale.
_SCALED_FROM_MS = 20

_field = os.getenv("VBOARD").split(",")
_control = open(int(_field[0]), "r+b")
CAUSE = int(_field[1])
WAKE = int(_field[2])
_rtc_us = int(_field[3])
SCALE_MILLI = int(_field[4])
MAC = bytes.fromhex(_field[5])
FOLDER = _field[6]
PARTITIONS = _field[7]
UARTS = _field[8]
del _field

_start_us = utime.ticks_us()


def tell(message):
    _control.write(message)


def ask(message):
    _control.write(message)
    return int(_control.read(12))


def end(message):
    """Ask for the end of this life; the supervisor kills the process, so nothing of ours runs any more."""
    _control.write(message)
    while True:
        _control.read(12)


def up_us():
    return utime.ticks_us() - _start_us


def ticks_us():
    return up_us() + _TICKS_START_US


def rtc_us(new=None):
    """Microseconds since 2000-01-01 on the chip's calendar clock."""
    global _rtc_us
    if new is not None:
        _rtc_us = new - up_us()
        tell(b"rtc %d" % new)
    return _rtc_us + up_us()


def skip(ms):
    """The board's clock jumps; what the chips on the bus had to do meanwhile has been done on return."""
    global _start_us
    ask(b"skip %d" % ms)
    _start_us -= ms * 1000


def sleep_ms(ms):
    if SCALE_MILLI == 1000 or ms < _SCALED_FROM_MS:
        utime.sleep_ms(ms)
        return
    began_us = utime.ticks_us()
    utime.sleep_ms(ms * 1000 // SCALE_MILLI)
    # The host's sleep may end up to a millisecond early; the board's never does.
    left_ms = ms - (utime.ticks_us() - began_us) // 1000
    if left_ms > 0:
        skip(left_ms)


def poll(wait, timeout_ms):
    """Call wait(milliseconds) with the share of real time that a wait of timeout_ms costs on this board."""
    if SCALE_MILLI == 1000 or timeout_ms < _SCALED_FROM_MS:
        return wait(timeout_ms)
    real_ms = timeout_ms * 1000 // SCALE_MILLI
    began_us = utime.ticks_us()
    ready = wait(real_ms)
    spent_us = utime.ticks_us() - began_us
    if ready:
        passed_ms = min(timeout_ms, spent_us * SCALE_MILLI // 1000000)
    else:
        passed_ms = timeout_ms
    if passed_ms * 1000 > spent_us:
        skip(passed_ms - spent_us // 1000)
    return ready


def jump(ms):
    """On a sped up board: go to the next thing a chip does, at most ms ahead. Says how many milliseconds passed."""
    global _start_us
    passed_ms = ask(b"jump %d" % ms)
    _start_us -= passed_ms * 1000
    return passed_ms
