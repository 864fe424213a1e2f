"""What the accelerometer below a manhole cover feels: traffic, weather, and whoever opens it. All of it from a seed.

    motion = CoverMotion(seed, start_s=…, trucks_a_day=500)
    motion.turn(at_s, angle_deg, azimuth_deg, over_s)      from then on the cover lies turned by that angle
    chip = Lis3dh(motion.acceleration, steady_until=motion.steady_until, offset_g=motion.offset_g)

Vehicles come as a Poisson process with rush hours; some have another right behind them. Each shakes the cover for 0.2
to 1.9 s, mostly up and down, with an amplitude from a log-normal distribution, and a loose cover rocks under it. Warmth
moves the zero of the chip (0.5 mg a degree at most, LIS3DH datasheet) through day and year, in steps of an hour.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from boards.virtual.chips.lis3dh import Lis3dh, Vector

DAY_S = 86_400
_HOUR_S = 3600
# Vehicles by the hour of the day, relative to each other.
_BY_HOUR = (1, 1, 1, 1, 2, 4, 8, 14, 14, 10, 8, 8, 8, 8, 8, 9, 11, 14, 14, 10, 6, 4, 3, 2)
# One in seven is followed closely: what a traffic light lets go together.
_FOLLOWED = 1 / 7
_BURST_S = (0.2, 1.9)
_AMPLITUDE_MEDIAN_G = 0.12
_AMPLITUDE_SIGMA = 0.8
_AMPLITUDE_MAX_G = 1.8
_ROCK_DEG_MAX = 6.0
_FIFO_DEPTH = 32


@dataclass(frozen=True)
class Burst:
    """One vehicle on the cover."""

    start_s: float
    end_s: float
    amplitude_g: Vector
    freq_hz: float
    phase: float
    rock_deg: float

    def shake(self, t_s: float) -> Vector:
        part = (t_s - self.start_s) / (self.end_s - self.start_s)
        swing = math.sin(math.pi * part) * math.sin(2 * math.pi * self.freq_hz * t_s + self.phase)
        x, y, z = self.amplitude_g
        return (x * swing, y * math.sin(self.phase + 9 * part) * swing, z * swing)


@dataclass(frozen=True)
class Turn:
    """The cover is turned about a lateral axis, smoothly, from one angle to another."""

    start_s: float
    over_s: float
    from_deg: float
    to_deg: float
    azimuth_deg: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.over_s

    def angle_deg(self, t_s: float) -> float:
        if t_s >= self.end_s:
            return self.to_deg
        part = max(0.0, (t_s - self.start_s) / self.over_s)
        return self.from_deg + (self.to_deg - self.from_deg) * part * part * (3 - 2 * part)

    def reaches_s(self, angle_deg: float) -> float:
        """When it first has that angle; it must lie between the two."""
        low, high = self.start_s, self.end_s
        rises = self.to_deg > self.from_deg
        while high - low > 1e-3:
            middle = (low + high) / 2
            if (self.angle_deg(middle) >= angle_deg) == rises:
                high = middle
            else:
                low = middle
        return high


class CoverMotion:
    def __init__(
        self,
        seed: int | str,
        *,
        start_s: float,
        trucks_a_day: float = 500,
        slope_deg: float | None = None,
        is_loose: bool = False,
    ) -> None:
        self.rng = random.Random(f"{seed} cover")
        self.start_s = start_s
        self.passes = 0
        slope = math.radians(self.rng.uniform(0, 4) if slope_deg is None else slope_deg)
        towards = self.rng.uniform(0, 2 * math.pi)
        self.gravity = (
            math.sin(slope) * math.cos(towards),
            math.sin(slope) * math.sin(towards),
            math.cos(slope),
        )
        self.offset_g = (
            self.rng.uniform(-0.04, 0.04),
            self.rng.uniform(-0.04, 0.04),
            self.rng.uniform(-0.04, 0.04),
        )
        self._per_degree_g = tuple(self.rng.uniform(-0.0005, 0.0005) for _ in range(3))
        self._rate_hz = trucks_a_day / (1 + _FOLLOWED) / DAY_S
        self._is_loose = is_loose
        self._bursts: deque[Burst] = deque()  # recent ones and at least one that is still to come
        self._turns: deque[Turn] = deque([Turn(start_s - 1, 1, 0, 0, 0)])
        self._shown_until_s = start_s
        self._follow_s = math.inf
        self._extend(start_s)

    # -- what happens ----------------------------------------------------------------------------------------

    def turn(self, at_s: float, to_deg: float, azimuth_deg: float, over_s: float) -> Turn:
        """Plan a turn behind all others. The chip must be told (`changed`) if it was promised a longer rest."""
        before = self._turns[-1]
        assert at_s >= before.end_s
        turn = Turn(at_s, over_s, before.to_deg, to_deg, azimuth_deg)
        self._turns.append(turn)
        return turn

    def _extend(self, until_s: float) -> None:
        """Vehicles up to the first one that comes after then."""
        while self._shown_until_s <= until_s or not self._bursts:
            start_s = min(self._next_s(self._shown_until_s), self._follow_s)
            self._shown_until_s = start_s
            self._follow_s = (
                start_s + self.rng.uniform(1.5, 4.0) if self.rng.random() < _FOLLOWED else math.inf
            )
            self._bursts.append(self._burst(start_s))
            self.passes += 1

    def _next_s(self, after_s: float) -> float:
        """The next arrival of the Poisson process: thinned by the hour."""
        at_s = after_s
        mean, most = sum(_BY_HOUR) / 24, max(_BY_HOUR)
        if not self._rate_hz:
            return after_s + 1e9
        while True:
            at_s += self.rng.expovariate(self._rate_hz * most / mean)
            if self.rng.random() * most < _BY_HOUR[int(at_s // _HOUR_S) % 24]:
                return at_s

    def _burst(self, start_s: float) -> Burst:
        rng = self.rng
        size = min(_AMPLITUDE_MAX_G, _AMPLITUDE_MEDIAN_G * math.exp(rng.gauss(0, _AMPLITUDE_SIGMA)))
        return Burst(
            start_s,
            start_s + rng.uniform(*_BURST_S),
            (size * rng.uniform(0.1, 0.5), size * rng.uniform(0.1, 0.5), size),
            rng.uniform(6, 45),
            rng.uniform(0, 2 * math.pi),
            rng.uniform(1, _ROCK_DEG_MAX) if self._is_loose else 0.0,
        )

    # -- what is felt ----------------------------------------------------------------------------------------

    def acceleration(self, t_s: float) -> Vector:
        """In g. Asked in order of time, give or take the half minute of a FIFO."""
        self._extend(t_s)
        while len(self._bursts) > 1 and self._bursts[0].end_s < t_s - 60:
            self._bursts.popleft()
        while len(self._turns) > 1 and self._turns[1].start_s < t_s - 60:
            self._turns.popleft()
        angle, azimuth = self._turned(t_s)
        warmth = self.warmth_deg(t_s) - 20
        x, y, z = (g * warmth for g in self._per_degree_g)
        for burst in self._bursts:
            if burst.start_s > t_s:
                break
            if t_s < burst.end_s:
                dx, dy, dz = burst.shake(t_s)
                x, y, z = x + dx, y + dy, z + dz
                angle += burst.rock_deg * abs(math.sin(7 * t_s))
        gx, gy, gz = rotate(self.gravity, angle, azimuth) if angle else self.gravity
        return (gx + x, gy + y, gz + z)

    def angle_deg(self, t_s: float) -> float:
        """How far the cover is turned, shaking aside: the truth."""
        return self._turned(t_s)[0]

    def _turned(self, t_s: float) -> tuple[float, float]:
        found = self._turns[0]
        for turn in self._turns:
            if turn.start_s > t_s:
                break
            found = turn
        return found.angle_deg(t_s), found.azimuth_deg

    def steady_until(self, t_s: float) -> float:
        """The promise of the chip's model: nothing moves before."""
        self._extend(t_s)
        until_s = (t_s // _HOUR_S + 1) * _HOUR_S
        things: list[Burst | Turn] = [*self._bursts, *self._turns]
        for thing in things:
            if thing.start_s <= t_s < thing.end_s:
                return t_s
            if t_s < thing.start_s < until_s:
                until_s = thing.start_s
        return until_s

    def warmth_deg(self, t_s: float) -> float:
        """In the housing; constant for an hour."""
        hour = t_s // _HOUR_S
        day = hour / 24
        return 15 + 15 * math.sin(2 * math.pi * day / 365) + 10 * math.sin(2 * math.pi * (hour % 24 - 9) / 24)


def rotate(vector: Vector, angle_deg: float, azimuth_deg: float) -> Vector:
    """About the lateral axis of that azimuth (Rodrigues)."""
    angle, azimuth = math.radians(angle_deg), math.radians(azimuth_deg)
    nx, ny = math.cos(azimuth), math.sin(azimuth)
    x, y, z = vector
    c, s = math.cos(angle), math.sin(angle)
    along = (nx * x + ny * y) * (1 - c)
    return (x * c + ny * z * s + nx * along, y * c - nx * z * s + ny * along, z * c + (nx * y - ny * x) * s)


class RestingLis3dh(Lis3dh):
    """The chip of boards/virtual, for years: of a rest nothing is computed, and the FIFO gets what it was like."""

    def _skip_to(self, now_s: float) -> None:
        steady_s = min(now_s, self._steady_until(self._next_s))
        periods = int((steady_s - self._next_s) * self._rate_hz()) - 1
        if periods > 0 and self._is_settled():
            x, y, z = (math.floor(value / 4) * 64 for value in self._counts(self._next_s))
            self._next_s += periods / self._rate_hz()
            for _ in range(min(periods, _FIFO_DEPTH)):
                self._push((x, y, z))
