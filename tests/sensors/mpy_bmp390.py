"""Compensation on MicroPython: cases come in, results go out. Run by test_bmp390.py."""

import sys

from firmware.sensors.bmp390 import compensate

for line in sys.stdin:
    numbers = [int(word) for word in line.split()]
    print("%d %d" % compensate(tuple(numbers[2:]), numbers[0], numbers[1]))
