"""Compares what a lift's detectors said with what happened. Shares nothing with them but the codes of SPEC.md 2.3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hil_tests.world.lift_day import TRAPPED

if TYPE_CHECKING:
    from firmware.alarms import Change
    from hil_tests.world.lift_car import Truth

TRIP = 32
RAISED = 1
# A trip is told when the car has stood for a moment, at the latest when the door should have opened.
_TOLD_LATE_S = 9.0
_OVERLAP_S = 1.0


@dataclass(slots=True)
class Score:
    trips: int = 0
    told: int = 0
    found: int = 0
    stops: int = 0
    stops_right: int = 0
    faults: int = 0
    faults_found: int = 0
    trapped_s: list[float] = field(default_factory=list)
    false_codes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    wrong_floors: list[str] = field(default_factory=list)
    spurious: list[str] = field(default_factory=list)
    full_rate_s: float = 0.0
    total_s: float = 0.0

    @property
    def recall(self) -> float:
        return self.found / max(1, self.trips)

    @property
    def floors_right(self) -> float:
        return self.stops_right / max(1, self.stops)

    def add(self, other: Score) -> None:
        for name in ("trips", "told", "found", "stops", "stops_right", "faults", "faults_found"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("trapped_s", "false_codes", "missed", "wrong_floors", "spurious"):
            getattr(self, name).extend(getattr(other, name))
        self.full_rate_s += other.full_rate_s
        self.total_s += other.total_s

    def text(self) -> str:
        trapped = self.trapped_s or [0.0]
        return (
            f"days={self.total_s / 86400:.2f} full_rate_s={self.full_rate_s:.0f} trips={self.trips} "
            f"recall={self.recall:.5f} spurious_trips={len(self.spurious)} stops={self.stops} "
            f"floor_right={self.floors_right:.5f} faults={self.faults} faults_found={self.faults_found} "
            f"trapped={len(self.trapped_s)} trapped_min_s={min(trapped):.1f} trapped_max_s={max(trapped):.1f} "
            f"false_codes={len(self.false_codes)}"
        )


def judge(truth: Truth, told: list[tuple[float, Change]], since_s: float = 0.0) -> Score:
    """``since_s``: trips before it (the ride that teaches the floors) count for recall, not for the floor."""
    score = Score(total_s=truth.total_s, full_rate_s=truth.full_rate_s)
    trips = [(t_s, change.detail) for t_s, change in told if change.code == TRIP]
    score.told = len(trips)
    at = 0
    for trip in truth.trips:
        score.trips += not trip.is_short
        while at < len(trips) and trips[at][0] < trip.start_s + _OVERLAP_S:
            score.spurious.append(f"{trips[at][0]:.1f} s: {trips[at][1]}")
            at += 1
        found = at < len(trips) and trips[at][0] <= trip.end_s + _TOLD_LATE_S
        if not found:
            if not trip.is_short:
                score.missed.append(f"{trip}")
            continue
        score.found += not trip.is_short
        detail = trips[at][1]
        at += 1
        if trip.start_s >= since_s and trip.to_floor >= 0:
            score.stops += 1
            right = isinstance(detail, list) and detail[1] == trip.to_floor
            score.stops_right += right
            if not right:
                score.wrong_floors.append(f"{trip}: told {detail}")
    score.spurious += [f"{t_s:.1f} s: {detail}" for t_s, detail in trips[at:]]
    _judge_faults(score, truth, told)
    return score


def _judge_faults(score: Score, truth: Truth, told: list[tuple[float, Change]]) -> None:
    raised = [(t_s, change) for t_s, change in told if change.state == RAISED]
    for fault in truth.faults:
        score.faults += 1
        hits = [
            t_s for t_s, change in raised if change.code == fault.code and fault.at_s <= t_s <= fault.until_s
        ]
        score.faults_found += bool(hits)
        if not hits:
            score.missed.append(f"{fault}")
        elif fault.code == TRAPPED:
            score.trapped_s.append(hits[0] - fault.at_s)
    for t_s, change in raised:
        explained = any(
            fault.at_s <= t_s <= fault.until_s and change.code in {fault.code, *fault.also}
            for fault in truth.faults
        )
        if not explained:
            score.false_codes.append(f"{t_s:.1f} s: {change}")
