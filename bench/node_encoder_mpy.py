"""The half of node_encoder.py that runs on MicroPython; prints name=value pairs."""

import gc
import io
import struct
import sys
import time

sys.path.insert(0, ".")

from protocols.wire import readings

REFERENCE = (748, 837, 980, 1258, 1423, -210, 1042, 1234)
SETS = 500
ROUNDS = 7


# ---- the encoder to compare with, built as micropython-lib's cbor2 is


def _head(major, argument):
    if argument < 24:
        return struct.pack(">B", major | argument)
    if argument < 0x100:
        return struct.pack(">BB", major | 24, argument)
    if argument < 0x10000:
        return struct.pack(">BH", major | 25, argument)
    if argument < 0x100000000:
        return struct.pack(">BI", major | 26, argument)
    return struct.pack(">BQ", major | 27, argument)


def _encode_int(encoder, value):
    if value >= 0:
        encoder.write(_head(0x00, value))
    else:
        encoder.write(_head(0x20, -1 - value))


def _encode_list(encoder, value):
    encoder.write(_head(0x80, len(value)))
    for item in value:
        encoder.encode(item)


ENCODERS = {int: _encode_int, list: _encode_list}


class GenericEncoder:
    def __init__(self, file):
        self._file = file

    def _find(self, value):
        return ENCODERS[type(value)]

    def write(self, data):
        self._file.write(data)

    def encode(self, value):
        found = self._find(value)
        if not found:
            raise TypeError(f"no CBOR for {type(value)}")
        found(self, value)


def dump(value, file, **options):
    GenericEncoder(file, **options).encode(value)


def dumps(value, **options):
    file = io.BytesIO()
    dump(value, file, **options)
    return file.getvalue()


# ---- measuring


def encode_ours(encoder, buf, values):
    for _ in range(SETS):
        encoder.encode_into(buf, 0, values, None, readings.SYNCHRONISED)


def encode_generic(values):
    for _ in range(SETS):
        dumps(values)


def us_per_set(call, *args):
    gc.collect()
    start = time.ticks_us()
    call(*args)
    return time.ticks_diff(time.ticks_us(), start) / SETS


def heap_per_set(call, *args):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    call(*args)
    used = gc.mem_alloc() - before
    gc.enable()
    return used / SETS


def day_of_six():
    """96 sets that wander as a river does; the exact numbers do not matter here."""
    row = [748, 1258, 837, 980, 1423, 1234]
    state = 1
    rows = []
    for _ in range(96):
        for i in range(6):
            state = state * 75 % 65537
            row[i] += state % 9 - 4
        rows.append(tuple(row))
    return rows


def batch_heap(rows):
    """All that is allocated while a day is encoded, garbage included: an upper bound of what it needs at once."""
    schema = readings.schema(2)
    times = [1790000000 + 900 * i for i in range(96)]
    readings.encode(schema, readings.SYNCHRONISED, times, rows)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    start = time.ticks_us()
    readings.encode(schema, readings.SYNCHRONISED, times, rows)
    elapsed_us = time.ticks_diff(time.ticks_us(), start)
    used = gc.mem_alloc() - before
    gc.enable()
    return used, elapsed_us


def main():
    encoder = readings.SetEncoder(readings.schema(1))
    buf = bytearray(encoder.max_size)
    as_list = list(REFERENCE)
    ours = []
    generic = []
    for _ in range(ROUNDS):
        ours.append(us_per_set(encode_ours, encoder, buf, REFERENCE))
        generic.append(us_per_set(encode_generic, as_list))
    ours.sort()
    generic.sort()
    ours_us = ours[ROUNDS // 2]
    generic_us = generic[ROUNDS // 2]
    print(f"heap_bytes_per_set={heap_per_set(encode_ours, encoder, buf, REFERENCE):.1f}")
    print(f"us_per_set={ours_us:.2f}")
    print(f"cbor_heap_bytes_per_set={heap_per_set(encode_generic, as_list):.1f}")
    print(f"cbor_us_per_set={generic_us:.2f}")
    print(f"ratio={ours_us / generic_us:.2f}")
    used, elapsed_us = batch_heap(day_of_six())
    print(f"batch_heap_bytes={used:d}")
    print(f"batch_us_per_reading={elapsed_us / 576:.1f}")


main()
