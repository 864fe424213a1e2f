"""The serial line to the probe of a node in lockstep (mpy_node.py).

U <hex>     bytes to the probe; no answer
R <ms>      wait for the probe; the answer is what arrived
"""

from binascii import hexlify


class Uart:
    def __init__(self, tell, ask, ticks):
        self._tell = tell
        self._ask = ask
        self._ticks = ticks
        self._left = b""

    def write(self, data):
        self._tell(b"U " + hexlify(data))

    def any(self):
        self._left = self._left or self._ask(b"R 0")
        return len(self._left)

    def readinto(self, buffer):
        if not self._left:
            self._ticks.sleep_ms(10)
            self._left = self._ask(b"R 10")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
