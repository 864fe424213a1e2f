"""Runs on MicroPython: the truth of a lift, what its detectors say, and that a batch allocates nothing.

micropython tests/firmware/mpy_lift.py
"""

import gc
import json
import sys
from array import array

sys.path.insert(0, ".")

import deflate

from firmware.lift import Lift
from firmware.lift_motion import MOVING
from tests.firmware.lift_play import BATCH, play


def heap_of_batches():
    """Bytes that 200 batches of a car at rest and 200 of one that runs leave on the heap."""
    lift = Lift()
    still = array("h", [12, -8, 1000] * BATCH)
    up = array("h", [12, -8, 1080] * BATCH)
    used = []
    for _ in range(100):
        lift.feed(still, BATCH, 10132500, False, False, 1)
    for moves in (False, True):
        if moves:
            for _ in range(20):
                lift.feed(up, BATCH, 10132500, False, False, 1)
            if lift.motion.state != MOVING:
                raise SystemExit("it does not move")
        pressure = 10132500
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        for _ in range(200):
            lift.feed(still, BATCH, pressure, False, False, 1)
            if moves:
                pressure -= 180
        used.append(gc.mem_alloc() - before)
        gc.enable()
    if lift.motion.state != MOVING:
        raise SystemExit("it does not run on")
    return used


def main():
    with open("tests/firmware/truth/lift.json") as file:
        rated_mm_s = json.load(file)["rated_mm_s"]
    with open("tests/firmware/truth/lift.bin", "rb") as file:
        data = deflate.DeflateIO(file, deflate.ZLIB).read()
    told, lift = play(data, rated_mm_s)
    print(json.dumps({"told": told, "heights": lift.floors.heights, "heap": heap_of_batches()}))


main()
