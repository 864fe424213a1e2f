"""A seeded river: what a sonde in it would measure, as a pure function of seed and time.

Not hydrology, but its grammar: the sun warms the water and drives photosynthesis, so oxygen and pH follow it with a
lag; rain raises the level, flushes turbidity and ammonium in, and dilutes the salts; all of it decays at its own
rate. A look at any moment costs the same and depends on nothing but (seed, time), so two processes, or one that
was restarted, see the same water.

DO saturation is the APHA / Benson-Krause equation (fresh water, 101.325 kPa).
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_DAY_S = 86400
_YEAR_S = 365.2425 * _DAY_S
# The river flows in UTC+8.
_ZONE_S = 8 * 3600
# Rain is felt for this many days.
_RAIN_MEMORY_DAYS = 4

# measurand: (noise of the probe, its resolution); the units are the registry's.
PROBES = {
    "water_temperature": (0.01, 0.01),
    "ph": (0.005, 0.01),
    "dissolved_oxygen": (0.02, 0.01),
    "conductivity": (1.0, 1.0),
    "turbidity": (0.3, 0.1),
    "orp": (1.0, 1.0),
    "ammonia_nitrogen": (0.005, 0.01),
    "level": (0.1, 0.1),
    "supply_voltage": (0.005, 0.01),
}
FAULTS = ("offset", "drift", "stuck", "spike", "missing")


@dataclass(frozen=True)
class Fault:
    """Something wrong with one probe from ``from_s`` until before ``to_s``.

    ``size``: offset: added; drift: added per day since from_s; spike: added in one sample out of eight. A stuck probe
    keeps the value of from_s; a missing one gives none.
    """

    measurand: str
    kind: str
    from_s: float
    to_s: float
    size: float = 0.0

    def __post_init__(self) -> None:
        if self.measurand not in PROBES:
            raise ValueError(f"no measurand {self.measurand!r} in this river; there are {', '.join(PROBES)}")
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(FAULTS)}")


@dataclass(frozen=True)
class Rain:
    """One shower: unix seconds and millimetres."""

    start_s: float
    depth_mm: float


class River:
    def __init__(self, seed: int, faults: Sequence[Fault] = ()) -> None:
        self.seed = seed
        self.faults = tuple(faults)

    def quantities(self, t_s: float) -> dict[str, float]:
        """What the probes show at unix time ``t_s``: measurand -> value; without the missing ones."""
        water = self.water(t_s)
        shown: dict[str, float] = {}
        for measurand, value in water.items():
            faulty = self._with_faults(measurand, value, t_s)
            if faulty is not None:
                shown[measurand] = faulty
        return shown

    def water(self, t_s: float) -> dict[str, float]:
        """The probes without faults: truth, plus noise, at the resolution of each."""
        truth = self.truth(t_s)
        rng = self._random("noise", round(t_s * 1000))
        return {name: _quantised(value, name, rng) for name, value in truth.items()}

    def truth(self, t_s: float) -> dict[str, float]:
        """The river itself."""
        flow, flush = self._rain_response(t_s)
        cloud = self._weather("cloud", t_s)
        sun = max(0.0, math.sin(2 * math.pi * ((t_s + _ZONE_S) / _DAY_S - 0.25))) * (0.3 + 0.7 * cloud)
        # Algae answer the light of the last hours: the peak of oxygen and pH is in the afternoon.
        growth = max(0.0, math.sin(2 * math.pi * ((t_s + _ZONE_S) / _DAY_S - 0.375))) * (0.3 + 0.7 * cloud)
        temperature = self._temperature(t_s) - 0.8 * flow
        oxygen = saturation_mg_l(temperature) * (0.88 + 0.16 * growth - 0.10 * flush)
        ammonia = 0.25 + 0.15 * self._weather("sewer", t_s) + 0.7 * flush
        return {
            "water_temperature": temperature,
            "ph": 7.7 + 0.35 * growth - 0.2 * flow + 0.1 * self._weather("ph", t_s),
            "dissolved_oxygen": max(0.2, oxygen),
            "conductivity": (600 + 60 * self._weather("salt", t_s)) * (1 - 0.45 * min(1.0, flow)),
            "turbidity": 8 + 6 * self._weather("silt", t_s) + 220 * flush,
            "orp": 180 + 8 * oxygen - 60 * flush,
            "ammonia_nitrogen": ammonia,
            "level": 140 + 15 * self._weather("level", t_s) + 110 * flow,
            "supply_voltage": 12.4 + 1.2 * sun,
        }

    def rains(self, day: int) -> list[Rain]:
        """Showers that begin on that day (days since 1970, UTC)."""
        rng = self._random("rain", day)
        if rng.random() > 0.22:
            return []
        count = rng.choice((1, 1, 2))
        return [Rain(day * _DAY_S + rng.uniform(0, _DAY_S), rng.expovariate(1 / 14)) for _ in range(count)]

    def _rain_response(self, t_s: float) -> tuple[float, float]:
        """(flow, first flush), about 1 at the top of a heavy shower."""
        today = int(t_s // _DAY_S)
        flow = flush = 0.0
        for day in range(today - _RAIN_MEMORY_DAYS, today + 1):
            for rain in self.rains(day):
                hours = (t_s - rain.start_s) / 3600
                if hours > 0:
                    flow += rain.depth_mm / 30 * _pulse(hours, rise_h=5, fall_h=18)
                    flush += rain.depth_mm / 30 * _pulse(hours, rise_h=1.5, fall_h=5)
        return flow, min(flush, 3.0)

    def _temperature(self, t_s: float) -> float:
        # Coldest around January 25th; warmest at four in the afternoon.
        season = -math.cos(2 * math.pi * (t_s / _YEAR_S - 25 / 365))
        day = math.cos(2 * math.pi * ((t_s + _ZONE_S) / _DAY_S - 16 / 24))
        return 16.5 + 9.5 * season + 0.9 * day + 2.0 * (self._weather("air", t_s) - 0.5)

    def _weather(self, what: str, t_s: float) -> float:
        """A number from 0 to 1 that wanders smoothly from day to day."""
        day = math.floor(t_s / _DAY_S)
        share = t_s / _DAY_S - day
        smooth = share * share * (3 - 2 * share)
        today = self._random(what, day).random()
        return today + (self._random(what, day + 1).random() - today) * smooth

    def _with_faults(self, measurand: str, value: float, t_s: float) -> float | None:
        for fault in self.faults:
            if fault.measurand == measurand and fault.from_s <= t_s < fault.to_s:
                if fault.kind == "missing":
                    return None
                value = self._wrong(fault, value, t_s)
        return value

    def _wrong(self, fault: Fault, value: float, t_s: float) -> float:
        if fault.kind == "offset":
            return value + fault.size
        if fault.kind == "drift":
            return value + fault.size * (t_s - fault.from_s) / _DAY_S
        if fault.kind == "stuck":
            return self.water(fault.from_s)[fault.measurand]
        struck = self._random("spike", round(t_s * 1000)).random() < 1 / 8
        return value + fault.size if struck else value

    def _random(self, what: str, number: int) -> random.Random:
        return random.Random(f"{self.seed} {what} {number}")


def saturation_mg_l(temperature_cel: float) -> float:
    """Dissolved oxygen of air-saturated fresh water at 101.325 kPa (APHA 4500-O, Benson and Krause)."""
    t = temperature_cel + 273.15
    return math.exp(-139.34411 + 1.575701e5 / t - 6.642308e7 / t**2 + 1.243800e10 / t**3 - 8.621949e11 / t**4)


def _pulse(hours: float, rise_h: float, fall_h: float) -> float:
    """0, up within about rise_h, then down again; 1 at the top."""
    top_h = math.log(fall_h / rise_h) * rise_h * fall_h / (fall_h - rise_h)
    return _two_rates(hours, rise_h, fall_h) / _two_rates(top_h, rise_h, fall_h)


def _two_rates(hours: float, rise_h: float, fall_h: float) -> float:
    return math.exp(-hours / fall_h) - math.exp(-hours / rise_h)


def _quantised(value: float, name: str, rng: random.Random) -> float:
    noise, resolution = PROBES[name]
    return round((value + rng.gauss(0, noise)) / resolution) * resolution
