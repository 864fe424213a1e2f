# mypy: ignore-errors
"""SPI of an ESP32 port, loaded when it is first asked for. The chips live in the supervisor; NSS is a pin."""

import utime
from _board import ask, receive_into


class SPI:
    MSB = 0
    LSB = 1

    def __init__(self, id, baudrate=500000, *, polarity=0, phase=0, sck=None, mosi=None, miso=None):
        self._id = id
        self._baudrate = baudrate
        self._mode = polarity << 1 | phase

    def write_readinto(self, write_buf, read_buf):
        if len(write_buf) != len(read_buf):
            raise ValueError("buffers must be the same length")
        began_us = utime.ticks_us()
        ask(b"spi %d %d\0" % (self._id, self._mode) + write_buf)
        receive_into(read_buf)
        left_us = 8000000 * len(write_buf) // self._baudrate - utime.ticks_diff(utime.ticks_us(), began_us)
        if left_us > 0:
            utime.sleep_us(left_us)

    def readinto(self, buf, write=0):
        self.write_readinto(bytes([write]) * len(buf), buf)

    def read(self, nbytes, write=0):
        buf = bytearray(nbytes)
        self.readinto(buf, write)
        return bytes(buf)

    def write(self, buf):
        self.write_readinto(buf, bytearray(len(buf)))

    def deinit(self):
        pass
