"""Manhole covers in a street, with the real gateway: who opens them, what must be told of it, and when it arrived.

    with CoverRig(folder, covers=4, seed=7) as rig:
        rig.settle_in()
        rig.play(openings=50)
        for opening in rig.openings: …      each with the alarm it calls for, and when that reached the city

The truth is taken from the plan of the turns alone; nothing of the firmware is asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards.virtual.chips.lis3dh import Lis3dh
from hil_tests.sim_rig import SimRig
from hil_tests.world.sim_node import SimNode
from hil_tests.world.street_cover import CoverMotion, Turn

TILTED, UPTURNED, DISPLACED = "cover_tilted", "cover_upturned", "cover_displaced"
# The settings of the node type.
_TILT_DEG, _HOLD_S, _UPTURNED_DEG, _DISPLACED_DEG, _DISPLACED_S = 15, 5, 90, 5, 600
# Angles that are neither clearly so nor clearly not, for a chip whose zero moves by two degrees with the weather.
_UNCLEAR_DEG = ((13.0, 17.0), (87.5, 92.5))
_BOOT_MS = 800
_SLEEP_DRIFT_MAX = 0.05
# The chip's noise is some 20 times the density of its data sheet: a street is never quiet.
_NOISE = 20.0


@dataclass
class Opening:
    """One time that a cover is turned and put back."""

    node: str
    angle_deg: float
    over_s: float
    opened: Turn | None = None
    closed: Turn | None = None
    raised_ms: int | None = None  # when the city had the alarm
    cleared_ms: int | None = None
    others: list[str] = field(default_factory=list)  # further alarms of the same opening

    @property
    def calls_for(self) -> str:
        if self.angle_deg > _UPTURNED_DEG:
            return UPTURNED
        return TILTED if self.angle_deg > _TILT_DEG else DISPLACED

    @property
    def due_s(self) -> float:
        """The end of the hold time."""
        assert self.opened is not None
        if self.calls_for == UPTURNED:
            return self.opened.reaches_s(_UPTURNED_DEG)
        if self.calls_for == TILTED:
            return self.opened.reaches_s(_TILT_DEG) + _HOLD_S
        return self.opened.reaches_s(_DISPLACED_DEG) + _DISPLACED_S

    @property
    def latency_s(self) -> float:
        return float("inf") if self.raised_ms is None else self.raised_ms / 1000 - self.due_s


class CoverRig(SimRig):
    def __init__(
        self, folder: Path, covers: int, seed: int, trucks_a_day: float = 500, pace_s: float = 150
    ) -> None:
        self.motions: dict[str, CoverMotion] = {}
        self.chips: dict[str, Lis3dh] = {}
        self.openings: list[Opening] = []
        self.false_alarms: list[str] = []
        self.poses_learned = 0
        self._open: dict[str, Opening] = {}
        self._trucks_a_day = trucks_a_day
        self._pace_s = pace_s
        super().__init__(folder, covers, seed=seed, node_type="cover", settings={})

    def outfit(self, station: SimNode) -> None:
        rng = self.random(f"outfit {station.name}")
        motion = CoverMotion(
            f"{self.seed} {station.name}",
            start_s=self.world.unix_ms() / 1000,
            trucks_a_day=self._trucks_a_day,
            is_loose=rng.random() < 0.5,
        )
        chip = Lis3dh(
            motion.acceleration,
            steady_until=motion.steady_until,
            seed=rng.getrandbits(31),
            offset_g=motion.offset_g,
            noise=_NOISE,
        )
        self.motions[station.name], self.chips[station.name] = motion, chip
        board = station.station
        board.attach(chip, motion=chip.int1)
        board.supply_mv = 3600
        board.boot_ms = _BOOT_MS
        board.sleep_drift = rng.uniform(-_SLEEP_DRIFT_MAX, _SLEEP_DRIFT_MAX)

    # -- what is played --------------------------------------------------------------------------------------

    def settle_in(self) -> None:
        """Installed, joined, pose learned, and long enough for each node to know how its sleep's clock errs."""
        self.run_s(3600 + 300)

    def play(self, openings: int) -> None:
        """Open covers one after the other, each cover for itself, until that many were opened and put back."""
        share, rest = divmod(openings, len(self.motions))
        for index, node in enumerate(self.motions):
            self._plan(node, share + (index < rest))
        while self._open or any(opening.closed is None for opening in self.openings):
            self.run_s(60)
        self.run_s(150)

    def _plan(self, node: str, count: int) -> None:
        rng = self.random(f"openings {node}")
        at_s = self.world.now_s + rng.uniform(10, 600)
        for _ in range(count):
            opening = Opening(node, self._angle(rng), _over_s(rng))
            stays_s = rng.uniform(30, 200) + (_DISPLACED_S + 60 if opening.calls_for == DISPLACED else 0)
            azimuth = rng.uniform(0, 360)
            self.openings.append(opening)
            self.world.at(at_s, self._opener(opening, azimuth))
            at_s += opening.over_s + stays_s
            self.world.at(at_s, self._closer(opening, azimuth, rng.uniform(0.8, 3)))
            at_s += self._pace_s + rng.uniform(0, 200)

    def _angle(self, rng: random.Random) -> float:
        return _angle(rng)

    def _opener(self, opening: Opening, azimuth: float) -> Any:
        def act() -> None:
            opening.opened = self._turn(opening.node, opening.angle_deg, azimuth, opening.over_s)
            self._open[opening.node] = opening

        return act

    def _closer(self, opening: Opening, azimuth: float, over_s: float) -> Any:
        def act() -> None:
            opening.closed = self._turn(opening.node, 0.0, azimuth, over_s)
            # A displacement may be told as late as this, and an end a minute after the cover lies right.
            self.world.after(140, lambda: self._forget(opening))

        return act

    def _forget(self, opening: Opening) -> None:
        del self._open[opening.node]

    def _turn(self, node: str, to_deg: float, azimuth: float, over_s: float) -> Turn:
        turn = self.motions[node].turn(self.world.unix_ms() / 1000, to_deg, azimuth, over_s)
        self.chips[node].changed()
        self.stations[node].look()
        return turn

    # -- what arrives ----------------------------------------------------------------------------------------

    def _taken(self, record: dict[str, Any]) -> None:
        super()._taken(record)
        event = record.get("event")
        if not event:
            return
        name, state = str(event["name"]), str(event["state"])
        if name == "pose_learned":
            self.poses_learned += 1
            return
        opening = self._open.get(str(record["node"]))
        if opening is None or not name.startswith("cover_"):
            self.false_alarms.append(f"{record['node']} at {self.world.now_s:.0f} s: {name} {state}")
        elif name != opening.calls_for:
            opening.others.append(f"{name} {state}")
        elif state == "raised":
            opening.raised_ms = opening.raised_ms or self.world.unix_ms()
        else:
            opening.cleared_ms = self.world.unix_ms()


def _angle(rng: random.Random) -> float:
    while True:
        angle = rng.uniform(10, 180) if rng.random() < 0.8 else rng.uniform(10, 25)
        if not any(low < angle < high for low, high in _UNCLEAR_DEG):
            return angle


def _over_s(rng: random.Random) -> float:
    """By hand, or slowly: something that slips."""
    return rng.uniform(0.6, 3) if rng.random() < 0.7 else rng.uniform(5, 60)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def figures(rig: CoverRig) -> Iterator[str]:
    latencies = [opening.latency_s for opening in rig.openings]
    yield f"openings={len(latencies)} found={sum(opening.raised_ms is not None for opening in rig.openings)}"
    yield f"false_alarms={len(rig.false_alarms)} truck_passes={sum(m.passes for m in rig.motions.values())}"
    yield f"latency_p50_s={percentile(latencies, 0.5):.1f} latency_p99_s={percentile(latencies, 0.99):.1f}"
    yield f"latency_max_s={max(latencies):.1f} seed={rig.seed}"
