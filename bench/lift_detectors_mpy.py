"""The half of lift_detectors.py that runs on MicroPython; prints name=value pairs, each the best of several rounds."""

import gc
import sys
import time
from array import array

sys.path.insert(0, ".")

from firmware.lift import Lift
from firmware.lift_motion import MOVING

BATCH = 10
BATCHES = 40
ROUNDS = 50
STILL = array("h", [12, -8, 1000] * BATCH)
UP = array("h", [12, -8, 1080] * BATCH)
# At its speed, with some vibration for the filters to cross zero.
RUNS = array("h", [12, -8, 1012, 12, -8, 990, 12, -8, 1004, 12, -8, 986, 12, -8, 1008] * 2)
# 1.5 m/s upwards.
PRESSURE_STEP = -180


class Car:
    def __init__(self):
        self.lift = Lift()
        self.pressure = 10132500
        self.feed(STILL, 100, 0)

    def feed(self, samples, batches, step):
        lift = self.lift
        pressure = self.pressure
        for _ in range(batches):
            lift.feed(samples, BATCH, pressure, False, True, 1)
            pressure += step
        self.pressure = pressure


def loop(count):
    x = 0
    for k in range(count):
        x = (x + k) & 0xFFFF
    return x


def ns_per(count, prepare, call):
    """The best of the rounds: what else runs on this machine only ever adds."""
    best = 1 << 60
    for _ in range(ROUNDS):
        of_round = prepare()
        gc.collect()
        start = time.ticks_us()
        call(of_round)
        best = min(best, time.ticks_diff(time.ticks_us(), start) * 1000 // count)
    return best


def at_speed():
    car = Car()
    car.feed(UP, 20, 0)
    car.feed(STILL, 20, PRESSURE_STEP)
    return car


def ride(car):
    car.feed(RUNS, BATCHES, PRESSURE_STEP)
    if car.lift.motion.state != MOVING or not car.lift.run_ms:
        raise SystemExit("it does not run")


def main():
    samples = BATCHES * BATCH
    figures = {
        "loop_ns": ns_per(2000, lambda: 2000, loop),
        "rest_ns": ns_per(samples, Car, lambda car: car.feed(STILL, BATCHES, 0)),
        "unrest_ns": ns_per(20 * BATCH, Car, lambda car: car.feed(UP, 20, 0)),
        "ride_ns": ns_per(samples, at_speed, ride),
    }
    print(" ".join(f"{name}={value}" for name, value in figures.items()))


main()
