"""How a lift accelerates: jerk-limited movements between two heights, sampled at 100 Hz.

    profile(30.0, LiftDrive(2.5, 1.0, 1.2))    -> accelerations in m/s², one per 10 ms, whose double integral is 30 m

The seven phases of an ideal drive, after Peters: jerk, constant acceleration, jerk, constant speed, and the same back.
Where the distance is too short for the speed or the acceleration, they are not reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

DT_S = 0.01
# Two-speed lifts creep to the floor for this far.
CREEP_M = 0.12
CREEP_M_S = 0.1


@dataclass(frozen=True, slots=True)
class LiftDrive:
    """``creeps``: an older drive that levels in at creeping speed. ``brake_m_s2``: what an emergency stop does."""

    speed_m_s: float
    acceleration_m_s2: float
    jerk_m_s3: float
    creeps: bool = False
    brake_m_s2: float = 3.0


def _ramp(speed: float, acceleration: float, jerk: float) -> tuple[float, float]:
    """(seconds of each jerk phase, seconds of constant acceleration) that reach a speed."""
    if speed * jerk <= acceleration * acceleration:
        return math.sqrt(speed / jerk), 0.0
    jerk_s = acceleration / jerk
    return jerk_s, speed / acceleration - jerk_s


def _ramp_m(speed: float, acceleration: float, jerk: float) -> float:
    jerk_s, constant_s = _ramp(speed, acceleration, jerk)
    return speed * (2 * jerk_s + constant_s) / 2


def _reached(distance_m: float, drive: LiftDrive) -> float:
    """The speed that can be reached on the way."""
    if 2 * _ramp_m(drive.speed_m_s, drive.acceleration_m_s2, drive.jerk_m_s3) <= distance_m:
        return drive.speed_m_s
    low, high = 0.0, drive.speed_m_s
    for _ in range(50):
        middle = (low + high) / 2
        if 2 * _ramp_m(middle, drive.acceleration_m_s2, drive.jerk_m_s3) < distance_m:
            low = middle
        else:
            high = middle
    return low


def change(from_m_s: float, to_m_s: float, acceleration: float, jerk: float) -> list[float]:
    """Accelerations that change one speed into another, exactly."""
    step = to_m_s - from_m_s
    jerk_s, constant_s = _ramp(abs(step), acceleration, jerk)
    total_s = 2 * jerk_s + constant_s
    count = max(1, round(total_s / DT_S))
    out = []
    for k in range(count):
        t = (k + 0.5) * DT_S
        out.append(jerk * max(0.0, min(t, total_s - t, jerk_s)))
    scale = step / (sum(out) * DT_S)
    return [a * scale for a in out]


def distance_of(accelerations: list[float], from_m_s: float = 0.0) -> tuple[float, float]:
    """(metres, final speed) of a list of accelerations."""
    v, x = from_m_s, 0.0
    for a in accelerations:
        x += v * DT_S + a * DT_S * DT_S / 2
        v += a * DT_S
    return x, v


@lru_cache(maxsize=4096)
def _positive(distance_mm: int, drive: LiftDrive) -> tuple[float, ...]:
    distance_m = distance_mm / 1000
    creep = drive.creeps and distance_m > 1.0
    if creep:
        distance_m -= CREEP_M
    speed = _reached(distance_m, drive)
    up = change(0.0, speed, drive.acceleration_m_s2, drive.jerk_m_s3)
    end_m_s = CREEP_M_S if creep else 0.0
    down = change(speed, end_m_s, drive.acceleration_m_s2, drive.jerk_m_s3)
    tail: list[float] = []
    if creep:
        last = change(CREEP_M_S, 0.0, 0.3, 3.0)
        left_m = CREEP_M - distance_of(last, CREEP_M_S)[0]
        tail = [0.0] * max(0, round(left_m / CREEP_M_S / DT_S)) + last
    fixed = up + down + tail
    ends_m = distance_of(up)[0] + distance_of(down + tail, speed)[0]
    total_m = distance_mm / 1000
    cruise = max(0, round((total_m - ends_m) / speed / DT_S))
    made_m = ends_m + cruise * DT_S * speed
    scale = total_m / made_m
    return tuple(a * scale for a in up + [0.0] * cruise + down + tail) if fixed else ()


def profile(distance_m: float, drive: LiftDrive) -> list[float]:
    """Accelerations of a trip of that length, downward when it is negative."""
    sign = 1.0 if distance_m > 0 else -1.0
    return [a * sign for a in _positive(round(abs(distance_m) * 1000), drive)]


def emergency(distance_m: float, drive: LiftDrive, travel_m: float) -> list[float]:
    """A trip of ``distance_m`` that the safety circuit ends after about ``travel_m``: (the car stops where it does)."""
    sign = 1.0 if distance_m > 0 else -1.0
    v = x = 0.0
    out = []
    for a in _positive(round(abs(distance_m) * 1000), drive):
        if x + v * v / (2 * drive.brake_m_s2) >= travel_m:
            break
        x += v * DT_S + a * DT_S * DT_S / 2
        v += a * DT_S
        out.append(a)
    return [a * sign for a in out + change(v, 0.0, drive.brake_m_s2, 40.0)]


def settling(amplitude_m_s2: float) -> list[float]:
    """A car that has stopped swings on its ropes for a moment: 4 Hz, gone after half a second."""
    swing = [
        amplitude_m_s2 * math.exp(-k * DT_S / 0.15) * math.sin(2 * math.pi * 4 * k * DT_S) for k in range(80)
    ]
    mean = sum(swing) / len(swing)
    return [a - mean for a in swing]
