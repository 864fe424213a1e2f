# mypy: ignore-errors
"""The node's end of the control channel, and the one clock that machine, time and select share.

The supervisor passes VBOARD="control fd,reset cause,wake reason,rtc_us,scale_milli,mac,flash folder,partitions,uarts"
with partitions "label:offset:size;..." and uarts "id:fd;...". Every message is one datagram of text; an answer is a
decimal number padded to 12 bytes, because a file of MicroPython reads until it has all the bytes asked for. Answers
that are bytes follow as a datagram of their own.
"""

import os

import utime

_TICKS_PERIOD = 1 << 30
# Ticks start a minute before they wrap, so that every test of the node lives through the wrap.
_TICKS_START_US = (_TICKS_PERIOD - 60000) * 1000

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


def receive_into(buffer):
    """The bytes that belong to the answer just given; as many as the buffer takes."""
    _control.readinto(buffer)


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


def advance(ms):
    """The board's clock jumps."""
    global _start_us
    _start_us -= ms * 1000


def sleep_ms(ms):
    if SCALE_MILLI == 1000:
        utime.sleep_ms(ms)
    else:
        import _scaled

        _scaled.sleep_ms(ms)
