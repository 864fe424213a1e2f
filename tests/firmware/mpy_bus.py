"""The I2C bus of a node in lockstep (mpy_node.py): each transaction is a question to the test.

G <address> <register> <count>      read; the answer is that many bytes, or none when nobody answers
W <address> <register> <hex>        write; the answer is a byte, or none
"""

from binascii import hexlify


class I2c:
    def __init__(self, ask):
        self._ask = ask

    def readfrom_mem_into(self, address, register, buffer):
        data = self._ask(b"G %d %d %d" % (address, register, len(buffer)))
        if len(data) != len(buffer):
            raise OSError(19)
        buffer[:] = data

    def writeto_mem(self, address, register, data):
        if not self._ask(b"W %d %d " % (address, register) + hexlify(data)):
            raise OSError(19)
