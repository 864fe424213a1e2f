"""Runs on MicroPython: the codec's bytes, its heap, and that nothing but DecodeError comes out of garbage.

micropython tests/wire/mpy_readings.py
"""

import gc
import hashlib
import sys

sys.path.insert(0, ".")

from protocols.wire import readings
from tests.wire.readings_cases import REFERENCE, Dice, case, garbage_refused, wander

CASES = 150
SETS = 100


def digest_of_cases():
    """One hash over every body; each is decoded again on the way."""
    digest = hashlib.sha256()
    for seed in range(1, CASES + 1):
        schema, sets = case(seed)
        body = readings.encode(schema, sets.tq, sets.times, sets.rows, sets.flags)
        if readings.decode(schema, sets.times[0], body) != sets:
            raise SystemExit(f"case {seed} does not survive")
        digest.update(body)
    return digest.digest().hex()


def heap_of(call):
    call()
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    call()
    used = gc.mem_alloc() - before
    gc.enable()
    return used


def heap_per_set():
    encoder = readings.SetEncoder(readings.schema(1))
    buf = bytearray(encoder.max_size)
    flags = (1, 1, 3, 1, 9, 1, 1, 4)
    missing_one = (748, 837, 980, 1258, None, -210, 1042, 1234)

    def encode_all():
        for _ in range(SETS):
            encoder.encode_into(buf, 0, REFERENCE, None, 1)
            encoder.encode_into(buf, 0, missing_one, flags, 1)

    return heap_of(encode_all) / SETS


def heap_of_day():
    schema = readings.schema(2)
    rows = wander(Dice(5), 96, (748, 1258, 837, 980, 1423, 1234), 3)
    times = [1790000000 + 900 * i for i in range(96)]
    return heap_of(lambda: readings.encode(schema, 1, times, rows))


def main():
    print(f"digest={digest_of_cases()}")
    print(f"refused={garbage_refused()}")
    print(f"heap_bytes_per_set={heap_per_set():.1f}")
    print(f"heap_bytes_of_day={heap_of_day()}")


main()
