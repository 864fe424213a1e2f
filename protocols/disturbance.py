"""Somebody or something at the probes: what no test of one series alone can see. Causal, bounded, in integers.

A technician who lifts a sonde, wipes it or restarts its logger leaves the same trace at every station: some readings of
a set fail to come, or several series jump in one step by far more than they ever do by themselves. That is a visit.
Within it a series is disturbed when a reading of it is missing, or when it moved by more than `moved` of its usual
steps; what stood still while the others were lifted is as good as before.

The usual step of a series is a running mean of its own steps, each counted at most three times over, so that neither
noise nor a visit makes it numb; `floor` keeps a series that stands still from calling its last digit a jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from protocols.wire.schemas import Schema

# The running mean: of some 64 steps, kept with 6 bits behind the point.
_SHIFT = 6
_CAP = 3


class Tuning(NamedTuple):
    """In usual steps. ``visit``: two series that jump so far in one set are a visit; ``moved``: what disturbs a series
    in one, by measurand; ``after``: sets that a visit goes on."""

    visit: int
    moved: dict[str, int]
    after: int


# Smallest usual step, in steps of the reading. A measurand that is not here takes no part: turbidity and level jump by
# themselves in every storm.
FLOORS = {"water_temperature": 5, "ph": 1, "dissolved_oxygen": 5, "conductivity": 1}
# Tuned on one labelled record and reported on another: bench/events.py.
DEFAULT = Tuning(
    visit=16, moved={"water_temperature": 3, "ph": 3, "dissolved_oxygen": 8, "conductivity": 0}, after=2
)


class Disturbance:
    """One station. update() takes each set in order of time and says which series it disturbs."""

    def __init__(self, schema: Schema, tuning: Tuning = DEFAULT) -> None:
        self._tuning = tuning
        self._names = [series.name for series in schema.series]
        self._floors = [FLOORS.get(name, 0) for name in self._names]
        count = len(self._names)
        self._last: list[int | None] = [None] * count
        self._usual = [floor * _CAP << _SHIFT for floor in self._floors]
        self._before = [0] * count  # jump of the set before, in usual steps
        self._left = 0  # sets that the visit goes on

    def update(self, values: Sequence[int | None]) -> list[bool]:
        """Which series this set disturbs, in the order of the schema."""
        tuning, floors = self._tuning, self._floors
        jumps = [self._step(index, value) for index, value in enumerate(values)]
        missing = [floor > 0 and value is None for floor, value in zip(floors, values, strict=True)]
        is_partial = any(missing) and any(value is not None for value in values)
        if is_partial or sum(jump >= tuning.visit for jump in jumps) >= 2:
            self._left = tuning.after + 1
        disturbed = [
            floor > 0
            and self._left > 0
            and (missing[index] or max(jumps[index], self._before[index]) >= tuning.moved.get(name, 0))
            for index, (floor, name) in enumerate(zip(floors, self._names, strict=True))
        ]
        self._left = max(0, self._left - 1)
        self._before = jumps
        return disturbed

    def _step(self, index: int, value: int | None) -> int:
        """How far the series jumped, in usual steps, and learn from it."""
        floor, last = self._floors[index], self._last[index]
        if value is None or not floor:
            return 0
        self._last[index] = value
        if last is None:
            return 0
        step = abs(value - last) << _SHIFT
        usual = max(self._usual[index], floor << _SHIFT)
        self._usual[index] += (min(step, _CAP * usual) - usual) >> _SHIFT
        return step // usual
