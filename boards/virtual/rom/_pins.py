# mypy: ignore-errors
"""The parts of `machine` that are loaded when they are first asked for: Pin and ADC."""

from _board import ask, tell


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2

    def __init__(self, number, mode=-1, pull=-1, value=None, hold=None):
        # Held or not: what a pin drives stays in the supervisor, which lets go of nothing in a deep sleep.
        self._number = number
        self.init(mode, pull, value)

    def init(self, mode=-1, pull=-1, value=None):
        if pull == self.PULL_UP or pull == self.PULL_DOWN:
            tell(b"pull %d %d" % (self._number, pull == self.PULL_UP))
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return ask(b"pin %d" % self._number)
        tell(b"set %d %d" % (self._number, 1 if level else 0))
        return None

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3

    def __init__(self, pin, atten=ATTN_0DB):
        self._pin = pin._number if isinstance(pin, Pin) else pin
        self._full_uv = 0
        self.atten(atten)

    def atten(self, atten):
        # Typical input ranges of an ESP32's ADC per attenuation.
        self._full_uv = (950000, 1250000, 1750000, 3100000)[atten]

    def read_uv(self):
        return min(ask(b"adc %d" % self._pin), self._full_uv)

    def read_u16(self):
        return self.read_uv() * 65535 // self._full_uv

    def read(self):
        return self.read_u16() >> 4
