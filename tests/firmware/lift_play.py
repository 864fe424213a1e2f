"""Feeds a recorded truth to the detectors of a lift. Runs on both interpreters; mpy_lift.py is its main program.

A truth is what hil_tests.world.lift_car made of a short story, batch by batch (make_lift_truth.py writes it):

    batch = kind u8 | contacts u8 | pressure i32 | body       little-endian
    kind 1: body = 3 * i16, the sums of ten samples           kind 2: body = 30 * i16, x y z interleaved
    contacts: bit 0 door open, bit 1 somebody there, from bit 2 the service mode
"""

from array import array
from struct import unpack_from

from firmware.lift import Lift

SUMS = 1
SAMPLES = 2
BATCH = 10
BODY_BYTES = {SUMS: 6, SAMPLES: 60}


def play(data, rated_mm_s):
    """[batch number, bit, code, state, detail] of every change that the detectors tell."""
    lift = Lift()
    lift.faults.rated_mm_s = rated_mm_s
    samples = array("h", [0] * 3 * BATCH)
    told = []
    at = number = 0
    while at < len(data):
        kind, contacts, pressure = unpack_from("<BBi", data, at)
        at += 6
        door_open, somebody, mode = contacts & 1 == 1, contacts & 2 == 2, contacts >> 2
        if kind == SUMS:
            sx, sy, sz = unpack_from("<3h", data, at)
            lift.feed_sums(BATCH, sx, sy, sz, pressure, door_open, somebody, mode)
        else:
            for k in range(3 * BATCH):
                samples[k] = unpack_from("<h", data, at + 2 * k)[0]
            lift.feed(samples, BATCH, pressure, door_open, somebody, mode)
        at += BODY_BYTES[kind]
        number += 1
        for change in tuple(lift.changes()):
            told.append([number, change.bit, change.code, change.state, change.detail])
            lift.applied(change)
    return told, lift
