"""What follows from a set of readings, for northbounds to put beside it: class, black-odorous grade, oxygen saturation.

    of(1, (2000, 780, 830, 600, 300, 250, 42, 1000), None)
        -> Derived(water_class=2, worst="ammonia_nitrogen", do_saturation_percent=91.3, black_odorous=0)

Measured values are never altered. Failed and missing readings are left out; what is left of a set without a factor of
the standards gives None. Saturation is that of fresh water under standard pressure, from the set's own temperature.

Each answer is looked up by the scaled integer it follows from: water says the same few hundred values all day.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from protocols.measurands import CLASS_I_SATURATION_PERCENT, black_odorous, registry, water_class
from protocols.water import do_saturation_mg_l
from protocols.wire.schemas import FAIL, MISSING

_NO_READING = (FAIL, MISSING)
# Answers that are remembered per series, about 150 bytes each; then it begins anew.
_ANSWERS_MAX = 2048
# Where the formula holds.
_FREEZING_CEL = 0.0
_HOTTEST_CEL = 40.0


class Derived(NamedTuple):
    """``water_class``: 1 to 5, or 6 for worse than V; ``worst``: the first factor of that class; ``black_odorous``: 0
    not, 1 light, 2 heavy. None: nothing in the set tells."""

    water_class: int | None
    worst: str | None
    do_saturation_percent: float | None
    black_odorous: int | None


class _Grades(dict[int, tuple[int | None, int | None]]):
    """(class, black-odorous grade) of one series by its scaled integer; made when first asked for."""

    def __init__(self, name: str, decimals: int) -> None:
        super().__init__()
        self.name = name
        self.unit = 10**decimals

    def __missing__(self, value: int) -> tuple[int | None, int | None]:
        if len(self) >= _ANSWERS_MAX:
            self.clear()
        one = {self.name: value / self.unit}
        answer = self[value] = water_class(one).grade, black_odorous(one).grade
        return answer


class _Saturation(dict[int, float | None]):
    """mg/L of oxygen at which water of that scaled temperature is full; None where nothing can be said."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self._unit = 10**decimals

    def __missing__(self, value: int) -> float | None:
        if len(self) >= _ANSWERS_MAX:
            self.clear()
        t_cel = value / self._unit
        # Supercooled water is judged as freezing; beyond the other end nobody made a formula.
        answer = None if t_cel > _HOTTEST_CEL else do_saturation_mg_l(max(t_cel, _FREEZING_CEL))
        self[value] = answer
        return answer


class _Plan(NamedTuple):
    factors: tuple[tuple[int, _Grades], ...]
    oxygen: int | None
    temperature: int | None
    saturation: _Saturation


@functools.cache
def _plan(schema: int) -> _Plan | None:
    """Which series of a schema are factors of a standard; None: none is."""
    series = registry().of_schema(schema)
    names = [measurand.name for measurand in series]
    factors = tuple(
        (index, _Grades(measurand.name, measurand.decimals))
        for index, measurand in enumerate(series)
        if water_class({measurand.name: 1.0}).by or black_odorous({measurand.name: 1.0}).by
    )
    if not factors:
        return None
    oxygen, temperature = (
        names.index(name) if name in names else None for name in ("dissolved_oxygen", "water_temperature")
    )
    return _Plan(factors, oxygen, temperature, _Saturation(registry().by_name["water_temperature"].decimals))


def of(schema: int, values: Sequence[int | None], flags: Sequence[int] | None) -> Derived | None:
    """What follows from one set; None for a schema that knows nothing of water quality."""
    plan = _plan(schema)
    if plan is None:
        return None
    grade = worst = black = percent = None
    for index, grades in plan.factors:
        value = values[index]
        if value is None or (flags is not None and flags[index] in _NO_READING):
            continue
        this_grade, this_black = grades[value]
        if index == plan.oxygen:
            percent = _percent(plan, value / grades.unit, values, flags)
            if percent is not None and percent >= CLASS_I_SATURATION_PERCENT:
                this_grade = 1
        if this_grade is not None and (grade is None or this_grade > grade):
            grade, worst = this_grade, grades.name
        if this_black is not None and (black is None or this_black > black):
            black = this_black
    return Derived(grade, worst, percent, black)


def _percent(
    plan: _Plan, do_mg_l: float, values: Sequence[int | None], flags: Sequence[int] | None
) -> float | None:
    index = plan.temperature
    if index is None or (flags is not None and flags[index] in _NO_READING):
        return None
    temperature = values[index]
    full = None if temperature is None else plan.saturation[temperature]
    return None if full is None else 100 * do_mg_l / full
