"""On MicroPython: no declared length and no nesting costs more heap than the bytes at hand do.

micropython -X heapsize=160k tests/wire/mpy_bombs.py
"""

import gc
import sys

sys.path.insert(0, ".")

from protocols.wire import cbor, messages
from protocols.wire.errors import DecodeError

ARGUMENTS = (
    "190200",
    "1a7fffffff",
    "1affffffff",
    "1b7fffffffffffffff",
    "1b8000000000000000",
    "1bffffffffffffffff",
)
# The exception, its message, and the integer that was declared.
ALLOWED = 2048


def bombs():
    for argument in ARGUMENTS:
        form = bytes.fromhex(argument)
        for major in (0x40, 0x60, 0x80, 0xA0, 0xC0):
            bomb = bytes((major | form[0],)) + form[1:]
            for prefix in (b"", b"\x81", b"\x81\x81", b"\x86\x01", b"\xa1\x00"):
                yield prefix + bomb
    yield b"\x81" * 512
    yield b"\xa1\x00" * 256


def cost_of(decode, data):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    try:
        decode(data)
        raise ValueError("accepted: " + data.hex())
    except DecodeError:
        return gc.mem_alloc() - before
    finally:
        gc.enable()


def main():
    count = over = worst = 0
    for data in bombs():
        for decode in (cbor.loads, messages.decode_up, messages.decode_down):
            cost = cost_of(decode, data)
            count += 1
            over += cost > ALLOWED
            worst = max(worst, cost)
    print(f"bombs refused={count} over={over} worst={worst}")


main()
