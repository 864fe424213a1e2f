"""On MicroPython: receivers that lose rows have the whole update, and what the heap held at most on the way.

micropython -X heapsize=160k tests/wire/mpy_ota.py
"""

import gc
import sys

sys.path.insert(0, ".")

from protocols.wire import ota, parity

ROWS = 1024


class Memory:
    """Pieces in memory that is taken beforehand, as flash is: what they need is not the heap's."""

    def __init__(self, size):
        self.size = size
        self.head = b""
        self.pieces = {region: bytearray(ROWS * size) for region in (0, 1)}
        self.there = bytearray(ROWS)

    def _place(self, number):
        return self.pieces[number // ota.REDUCED], number % ota.REDUCED

    def put(self, number, data):
        if number == ota.HEAD:
            self.head = bytes(data)
            return
        region, at = self._place(number)
        region[at * self.size : (at + 1) * self.size] = data
        self.there[at] = 1

    def get(self, number):
        if number == ota.HEAD:
            return self.head
        region, at = self._place(number)
        return bytes(region[at * self.size : (at + 1) * self.size])

    def numbers(self):
        return [at for at in range(ROWS) if self.there[at]] + ([ota.HEAD] if self.head else [])

    def clear(self):
        self.head = b""


def piece(number, size):
    return bytes([(number * 7 + at * 13) & 0xFF for at in range(size)])


def coded(number, count, size):
    data = bytes(size)
    for at in parity.members(parity.row(number, count)):
        data = parity.add(data, piece(at + 1, size))
    return data


def transfer(count, size, lose_each):
    """The most heap that the receiver held."""
    node = ota.OtaReceiver(Memory(size), count * size)
    node.hear(1, ota.Setup(count, size, 0, 0, 0).encode())
    gc.collect()
    before, most, number = gc.mem_alloc(), 0, 0

    def measure():
        gc.collect()
        return gc.mem_alloc() - before

    while not node.is_solved:
        number += 1
        if number % 10 >= lose_each:
            node.hear(1, ota.data_fragment(number, coded(number, count, size)))
        if node.deficit() == 0:
            most = max(most, measure())
    while not node.work():
        pass
    for number in range(1, count + 1):
        if node.read(number) != piece(number, size):
            raise ValueError("fragment %d of %d is wrong" % (number, count))
    return most


for count, size, lose_each in ((13, 20, 0), (20, 20, 1), (94, 8, 3), (427, 4, 3)):
    print("fragments=%d lost=%d0%% heap_bytes=%d" % (count, lose_each, transfer(count, size, lose_each)))
print("whole")
