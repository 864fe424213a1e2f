"""Thirty seeded days of mixed lifts, judged: a week of one lift without faults, and 23 lifts with every fault a day.

python -m hil_tests.world.lift_soak            prints a line per lift, and the sum
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from firmware.lift import Lift
from hil_tests.world.lift_car import Car, building
from hil_tests.world.lift_day import LiftDay
from hil_tests.world.lift_judge import Score, judge

DAY_S = 86400.0
FAULTS = (
    "trapped_between_floors",
    "trapped_at_floor",
    "trapped_in_service",
    "stopped_out_of_zone",
    "overspeed",
    "door_open_run",
    "unintended_movement",
    "long_stay",
    "door_cycling",
    "overran_top",
    "overran_bottom",
    "rough_ride",
)


@dataclass(frozen=True, slots=True)
class Case:
    seed: int
    floors: int
    speed_m_s: float
    days: float
    faults: tuple[str, ...]


FAULT_FREE_WEEK = Case(1, 12, 1.75, 7, ())
_MIXED = (
    (2, 1.0),
    (2, 1.0),
    (3, 1.0),
    (4, 1.0),
    (5, 1.0),
    (6, 1.0),
    (6, 1.75),
    (7, 1.5),
    (8, 1.6),
    (9, 1.75),
    (11, 1.75),
    (12, 1.75),
    (14, 2.0),
    (16, 1.75),
    (18, 2.0),
    (18, 2.5),
    (20, 2.5),
    (24, 1.75),
    (25, 2.5),
    (28, 3.0),
    (33, 2.5),
    (40, 3.0),
    (40, 4.0),
)
CASES = (
    FAULT_FREE_WEEK,
    *(Case(2 + k, floors, speed, 1, FAULTS) for k, (floors, speed) in enumerate(_MIXED)),
)
# What `make test` runs of it: a small, a usual and the fastest lift with every fault; a day of the week without any.
SAMPLE = (CASES[1], CASES[12], CASES[23], Case(1, 12, 1.75, 1, ()))


def run(case: Case) -> Score:
    """One lift: commissioned, then its days."""
    where = building(random.Random(f"{case.seed} building"), case.floors, case.speed_m_s)
    lift = Lift()
    lift.faults.rated_mm_s = round(case.speed_m_s * 1000)
    car = Car(where, f"{case.seed} car", lift)
    day = LiftDay(car)
    day.commission()
    learned_s = car.t_s
    day.run(case.days * DAY_S, list(case.faults))
    return judge(car.truth, car.told, learned_s)


def main() -> None:
    total = Score()
    for case in CASES:
        score = run(case)
        print(f"seed={case.seed} floors={case.floors} speed={case.speed_m_s} {score.text()}", flush=True)
        for what in score.missed + score.false_codes + score.wrong_floors + score.spurious:
            print("  ", what)
        total.add(score)
    print(total.text())


if __name__ == "__main__":
    main()
