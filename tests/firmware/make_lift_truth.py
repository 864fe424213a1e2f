"""Writes tests/firmware/truth/lift.bin and lift.json: a short story of a lift, what happened, what must be told.

    python -m tests.firmware.make_lift_truth

Run it when the detectors are meant to say something else, and read the difference in lift.json before you commit it.
"""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING

from hil_tests.world.lift_car import Car, building
from hil_tests.world.lift_day import LiftDay
from tests.firmware.lift_play import SAMPLES, SUMS, play

if TYPE_CHECKING:
    from array import array

TRUTH = Path(__file__).parent / "truth"
SEED = 3
FLOORS = 4
SPEED_M_S = 1.6
STORY = ("journey", "trapped_between_floors", "overspeed", "unintended_movement", "door_open_run", "journey")


class Recorder:
    """In the place of the detectors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.batches = 0

    def feed(
        self,
        samples: array[int],
        count: int,
        pressure: int | None,
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None:
        self._head(SAMPLES, pressure, door_open, somebody, mode)
        self.data += pack(f"<{3 * count}h", *samples)

    def feed_sums(
        self,
        count: int,
        sx: int,
        sy: int,
        sz: int,
        pressure: int | None,
        door_open: bool,
        somebody: bool,
        mode: int,
    ) -> None:
        self._head(SUMS, pressure, door_open, somebody, mode)
        self.data += pack("<3h", sx, sy, sz)

    def changes(self) -> tuple[()]:
        return ()

    def applied(self, change: object) -> None:
        raise AssertionError(change)

    def _head(self, kind: int, pressure: int | None, door_open: bool, somebody: bool, mode: int) -> None:
        self.data += pack("<BBi", kind, door_open | somebody << 1 | mode << 2, pressure)
        self.batches += 1


def record() -> tuple[bytes, dict[str, object]]:
    recorder = Recorder()
    car = Car(building(random.Random(f"{SEED} building"), FLOORS, SPEED_M_S), f"{SEED} truth", recorder)
    day = LiftDay(car)
    day.commission()
    for name in STORY:
        if name == "journey":
            day.journey()
        else:
            day.script[name]()
    truth = {
        "rated_mm_s": round(SPEED_M_S * 1000),
        "batches": recorder.batches,
        "trips": [
            [trip.start_s, trip.end_s, trip.from_floor, trip.to_floor]
            for trip in car.truth.trips
            if not trip.is_short
        ],
        "faults": [[fault.name, fault.code, fault.at_s, fault.until_s] for fault in car.truth.faults],
    }
    return bytes(recorder.data), truth


def main() -> None:
    data, truth = record()
    told, lift = play(data, truth["rated_mm_s"])
    truth |= {"heights": lift.floors.heights, "told": told}
    TRUTH.mkdir(exist_ok=True)
    (TRUTH / "lift.bin").write_bytes(zlib.compress(data, 9))
    lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in truth.items())
    (TRUTH / "lift.json").write_text("{\n" + lines.replace("], [", "],\n  [") + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
