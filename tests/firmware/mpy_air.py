"""The radio port of a node in lockstep: mpy_node.py loads it for nodes on the air, so that others do not carry it."""

from binascii import hexlify


class Port:
    chip = "sx1262"
    tcxo_mv = 1800
    dio2_switches = True
    dbm_max = 22

    def __init__(self, ask, ticks):
        self._ask = ask
        self._ticks = ticks

    def transfer(self, data):
        data[:] = self._ask(b"Z " + hexlify(data))

    def is_busy(self):
        return self._ask(b"Q busy") == b"\x01"

    def is_raised(self):
        return self._ask(b"Q dio1") == b"\x01"

    def reset(self):
        self._ask(b"Q reset")

    def switch(self, is_receiving):
        pass

    def ticks_us(self):
        return self._ticks.ticks_ms() * 1000 & 0x3FFFFFFF
