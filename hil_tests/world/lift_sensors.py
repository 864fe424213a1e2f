"""What the accelerometer and the barometer on a car make of its movements: their errors, seeded.

LIS3DH at ±2 g through its FIFO, which keeps ten bits: steps of 4 mg, rounded down, 220 µg/√Hz (1.6 mg at 50 Hz of
bandwidth), an offset of up to 40 mg that drifts 0.5 mg/K, a sensitivity off by up to 2 %, mounted out of true by up to
8 degrees about two axes. BMP390-class barometer: 1 Pa of noise. The noise comes from tapes that are drawn once per
sensor and read from a random place each time.

A batch in which nobody moves is given as the sums of its ten samples, from a tape of such sums: what is drawn for it is
what ten samples would add up to. `sums()` and `samples()` are shown to agree by tests/world/test_lift.py.
"""

from __future__ import annotations

import math
import random
from array import array
from math import floor

G_M_S2 = 9.80665
BATCH = 10
STEP_MG = 4
NOISE_MG = 0.220 * math.sqrt(50)
_TAPE = 1 << 15
_SUMS = 1 << 11
_VIBRATION = 1 << 14


class Accelerometer:
    """``samples()`` at full rate for what moves, ``sums`` for what rests."""

    def __init__(self, rng: random.Random) -> None:
        tilt_x, tilt_y = math.radians(rng.uniform(-8, 8)), math.radians(rng.uniform(-8, 8))
        up = (math.sin(tilt_x), math.sin(tilt_y) * math.cos(tilt_x), math.cos(tilt_x) * math.cos(tilt_y))
        self._axis = tuple(part * rng.uniform(0.98, 1.02) for part in up)
        self._offset = tuple(rng.uniform(-40, 40) for _ in range(3))
        self.drift_mg = 0.0  # of the z axis, by temperature; in quarters
        self._by_drift: dict[float, list[int]] = {}
        self._noise = [[rng.gauss(0, NOISE_MG) for _ in range(_TAPE)] for _ in range(3)]
        self._rng = rng
        self._sums = [self._sum_tape(axis) for axis in range(3)]
        self._at = 0

    def samples(self, vertical_mg: list[float]) -> array[int]:
        """x, y, z interleaved for accelerations of the car in mg, up positive, gravity apart."""
        count = len(vertical_mg)
        out = array("h", bytes(6 * count))
        for axis in range(3):
            scale = self._axis[axis]
            at_rest = 1000 * scale + self._offset[axis] + (self.drift_mg if axis == 2 else 0.0)
            noise = self._stretch(axis, count)
            out[axis::3] = array(
                "h",
                [
                    floor((a * scale + n + at_rest) / STEP_MG) * STEP_MG
                    for a, n in zip(vertical_mg, noise, strict=True)
                ],
            )
        return out

    def next_sums(self) -> tuple[int, int, int]:
        """A batch at rest."""
        self._at = at = (self._at + 1) % _SUMS
        sums = self._sums
        return sums[0][at], sums[1][at], sums[2][at]

    def drift_to(self, mg: float) -> None:
        """The steps of ten bits meet the noise elsewhere when the offset drifts, so each quarter mg has a tape."""
        self.drift_mg = drift = round(4 * mg) / 4
        if drift not in self._by_drift:
            self._by_drift[drift] = self._tape_at(1000 * self._axis[2] + self._offset[2] + drift)
        self._sums[2] = self._by_drift[drift]

    def shuffle(self) -> None:
        """Go on somewhere else on the tape of sums."""
        self._at = self._rng.randrange(_SUMS)

    def _stretch(self, axis: int, count: int) -> list[float]:
        tape = self._noise[axis]
        at = self._rng.randrange(_TAPE)
        while at + count > len(tape):
            tape = tape + tape
        return tape[at : at + count]

    def _sum_tape(self, axis: int) -> list[int]:
        at_rest = 1000 * self._axis[axis] + self._offset[axis]
        return self._tape_at(at_rest)

    def _tape_at(self, at_rest: float) -> list[int]:
        """Sums of a batch, drawn sample by sample through the same steps."""
        gauss, mean, sigma = self._rng.gauss, at_rest / STEP_MG, NOISE_MG / STEP_MG
        return [STEP_MG * sum([floor(gauss(mean, sigma)) for _ in range(BATCH)]) for _ in range(_SUMS)]


class Air:
    """Pressure in 1/100 Pa on a car: weather, gusts, the stack in the shaft, the air conditioning, the barometer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._base_pa = rng.uniform(99_000, 102_500)
        self._waves = [
            (rng.uniform(150, 350), rng.uniform(60_000, 120_000), rng.uniform(0, 6.28)),
            (rng.uniform(30, 90), rng.uniform(9_000, 20_000), rng.uniform(0, 6.28)),
            (rng.uniform(1, 4), rng.uniform(30, 90), rng.uniform(0, 6.28)),
        ]
        self.celsius = rng.uniform(5, 32)
        self.noise = array("i", [round(rng.gauss(0, 100)) for _ in range(_SUMS)])
        self.step_pa = 0.0  # where the air of the car is going to, beside the weather
        self._step_now = 0.0
        self._at = 0

    def weather_pa(self, t_s: float) -> float:
        pa = self._base_pa
        for height, period_s, phase in self._waves:
            pa += height * math.sin(2 * math.pi * t_s / period_s + phase)
        return pa

    def warmth_mg(self, t_s: float) -> float:
        """What the shaft's temperature does to an accelerometer: 0.5 mg/K, 4 K by the day and 2 K by the hour."""
        return 2.0 * math.sin(t_s / 13_750 + self._base_pa) + math.sin(t_s / 700)

    def pa_per_m(self) -> float:
        return self._base_pa * 0.0341632 / (273.15 + self.celsius)

    def is_settled(self) -> bool:
        return abs(self.step_pa - self._step_now) < 0.05

    def read(self, weather_pa: float, height_m: float, tau_s: float = 0.6) -> int:
        """The barometer 0.1 s later."""
        self._step_now += (self.step_pa - self._step_now) * min(1.0, 0.1 / tau_s)
        self._at = (self._at + 1) % _SUMS
        pa = weather_pa + self._step_now - height_m * self.pa_per_m()
        return int(pa * 100) + self.noise[self._at]

    @property
    def step_now_pa(self) -> float:
        return self._step_now

    def shuffle(self) -> None:
        self._at = self._rng.randrange(_SUMS)


class Vibration:
    """Guide rails, people: zero-mean tapes in mg for a stretch at full rate."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._rails = _rails(rng)

    def rails(self, count: int, rms_mg: float) -> list[float]:
        at = self._rng.randrange(_VIBRATION)
        tape = self._rails
        while at + count > len(tape):
            tape = tape + tape
        return [a * rms_mg for a in tape[at : at + count]]

    def people(self, count: int, amplitude_mg: float, freq_hz: float) -> list[float]:
        """Steps: a swing at the frequency of walking with its overtone, coming and going."""
        step = 2 * math.pi * freq_hz * 0.01
        phase = self._rng.uniform(0, 6.28)
        sin = math.sin
        return [
            amplitude_mg * (0.7 * sin(step * k + phase) + 0.3 * sin(2 * step * k)) * abs(sin(0.011 * k))
            for k in range(count)
        ]


def _rails(rng: random.Random) -> list[float]:
    """Noise between about 3 and 15 Hz, of unit power, that joins up at its ends well enough."""
    out = []
    slow = fast = 0.0
    for _ in range(_VIBRATION):
        fast += (rng.gauss(0, 1) - fast) * 0.6
        slow += (fast - slow) * 0.17
        out.append(fast - slow)
    rms = math.sqrt(sum(a * a for a in out) / len(out))
    return [a / rms for a in out]
