"""A shaft with a car, as the chips on the car feel it: acceleration and air as functions of time.

    shaft = Shaft((0.0, 4.5, 7.5), LiftDrive(1.75, 0.9, 1.2))
    end_s = shaft.ride(now_s, 2)               to a floor
    end_s = shaft.stop_on_the_way(now_s, 0, 5.9)   what the safety circuit does

For a node on its own clock, with the register-level chips of the virtual board: `Lis3dh(shaft.acceleration)`,
`Bmp390(shaft.air)`. lift_car.py feeds detectors directly, by the day.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from hil_tests.world.lift_profile import DT_S, distance_of, emergency, profile
from hil_tests.world.lift_sensors import G_M_S2

if TYPE_CHECKING:
    from hil_tests.world.lift_profile import LiftDrive

_PA = 101_000.0
_PA_PER_M = 11.9
_CELSIUS = 21.0
# How the chip is mounted: a little out of true.
_LEAN_G = (0.02, -0.035)


class Shaft:
    def __init__(self, heights_m: tuple[float, ...], drive: LiftDrive, floor: int = 0) -> None:
        self.heights_m = heights_m
        self.drive = drive
        self.height_m = heights_m[floor]  # at the end of the latest movement
        self._starts: list[float] = []
        self._moves: list[tuple[list[float], list[float]]] = []  # accelerations; heights after each

    def ride(self, at_s: float, floor: int) -> float:
        """To a floor; when the car stands there."""
        return self._move(at_s, profile(self.heights_m[floor] - self.height_m, self.drive))

    def stop_on_the_way(self, at_s: float, floor: int, height_m: float) -> float:
        """Towards a floor, stopped at about that height; when the car stands."""
        distance_m = self.heights_m[floor] - self.height_m
        return self._move(at_s, emergency(distance_m, self.drive, abs(height_m - self.height_m)))

    def acceleration(self, t_s: float) -> tuple[float, float, float]:
        """In g, with gravity."""
        vertical = 0.0
        at = self._at(t_s)
        if at is not None:
            accelerations, _ = self._moves[at[0]]
            if at[1] < len(accelerations):
                vertical = accelerations[at[1]]
        return (*_LEAN_G, 1 + vertical / G_M_S2)

    def air(self, t_s: float) -> tuple[float, float]:
        """Pascal and degrees Celsius."""
        return _PA - _PA_PER_M * self.height_at(t_s), _CELSIUS

    def height_at(self, t_s: float) -> float:
        at = self._at(t_s)
        if at is None:
            return self.heights_m[0] if not self._moves else self._moves[0][1][0]
        heights = self._moves[at[0]][1]
        return heights[min(at[1], len(heights) - 1)]

    def _at(self, t_s: float) -> tuple[int, int] | None:
        move = bisect_right(self._starts, t_s) - 1
        return None if move < 0 else (move, int((t_s - self._starts[move]) / DT_S))

    def _move(self, at_s: float, accelerations: list[float]) -> float:
        speeds = accumulate(a * DT_S for a in accelerations)
        heights = [self.height_m + x for x in accumulate(v * DT_S for v in speeds)]
        made_m, _ = distance_of(accelerations)
        heights.append(self.height_m + made_m)
        self._starts.append(at_s)
        self._moves.append((accelerations, heights))
        self.height_m += made_m
        return at_s + len(accelerations) * DT_S
