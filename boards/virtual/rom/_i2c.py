# mypy: ignore-errors
"""I2C of an ESP32 port, loaded when it is first asked for. The bus and its chips live in the supervisor.

A transaction takes at least its time on the wire, and fails as on an ESP32: ENODEV when nobody acknowledges, ETIMEDOUT
when somebody holds the bus.
"""

import errno

import utime
from _board import ask, receive_into, sleep_ms

_NOBODY = -1


class I2C:
    def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
        self._id = id
        self._freq = freq
        self._timeout_us = timeout

    def _transact(self, message, count, buffer=None):
        """One question to the bus; ``count`` bytes travel on the wire, addresses included."""
        began_us = utime.ticks_us()
        found = ask(message)
        if found < _NOBODY:
            sleep_ms(self._timeout_us // 1000)
            raise OSError(errno.ETIMEDOUT)
        if found > 0:
            receive_into(buffer)
        # Nine clocks a byte, and three for the conditions around them.
        left_us = (9 * count + 3) * 1000000 // self._freq - utime.ticks_diff(utime.ticks_us(), began_us)
        if left_us > 0:
            utime.sleep_us(left_us)
        if found == _NOBODY:
            raise OSError(errno.ENODEV)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        if len(buf):
            self._transact(b"i2cr %d %d %d %d" % (self._id, addr, memaddr, len(buf)), 3 + len(buf), buf)

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        buf = bytearray(nbytes)
        self.readfrom_mem_into(addr, memaddr, buf)
        return bytes(buf)

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        data = b"".join([b" %d" % byte for byte in bytes(buf)])
        self._transact(b"i2cw %d %d %d%s" % (self._id, addr, memaddr, data), 2 + len(buf))

    def scan(self):
        found = []
        for addr in range(8, 120):
            try:
                self._transact(b"i2cw %d %d -1" % (self._id, addr), 1)
                found.append(addr)
            except OSError:
                pass
        return found
