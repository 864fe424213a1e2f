"""A campaign for river stations, covers and a lift at once, each on the real MicroPython and on the air.

Everything that can come between happens in one story: a lid is opened before its pass and another one within it, a
station loses its power while it receives, the gateway is killed in the middle of a commit while it broadcasts, and on
one station the release is not healthy. What the campaign reports is held against what lies on the boards' flash.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from gateway.campaign_files import read_folder
from hil_tests.cover_rig import Opening
from hil_tests.mixed_rig import Member, MixedRig, Workshop
from hil_tests.stage import settings
from hil_tests.world.river import River
from hil_tests.world.sim_gateway import AFTER, BEFORE
from protocols.wire import codes, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hil_tests.world.mpy_station import MpyNode

OLD, NEW = 1, 2
RIVER = settings(interval_s=300, report_s=300, status_s=600)
COVER = settings(interval_s=900, report_s=900, status_s=900)
CANARIES = ("bridge-1", "lid-1")
CUT, OLD_PROBE, LIFT = "bridge-3", "bridge-4", "lift-1"
OPENED_BEFORE, OPENED_WITHIN = "lid-2", "lid-3"
MEMBERS = (
    *(Member("river", f"bridge-{number}", RIVER) for number in range(1, 6)),
    *(Member("cover", f"lid-{number}", COVER) for number in range(1, 4)),
    Member("lift", LIFT, RIVER),
)
COVER_ALONE = tuple(member for member in MEMBERS if member.site == OPENED_WITHIN)
PLACE: dict[str, Any] = {"across_m": 800.0, "towers": 1, "loss": 0.03}
_ALARM_MAX_S = 30
_OPEN_S = 200
_ROWS_BEFORE = 5
# An update of one cover takes about two minutes.
_MOMENTS, _MOMENT_MAX_S = 12, 150
_FLOORS = (1, 3, 0, 2, 1, 3)
_HOUR_S = 3600
_LONGEST_H = 6
# What that probe takes for an answer, and what release 2 waits for one: no try hears the answer to the one before it.
_SLOW_S, _WAITS_MS = 0.29, 10
# So much that is new in each program makes a pass of half a minute.
_TABLE_BYTES = 3000


def releases(shop: Workshop) -> tuple[dict[str, Any], dict[str, Any]]:
    """The second one has a table more, and is too impatient for old probes."""
    first = shop.release()
    table = random.Random("table").randbytes(_TABLE_BYTES)
    calibration = "firmware/calibration.py"
    shop.change(calibration, "\n\ndef begin(", f"\nTABLE = {table!r}\n\n\ndef begin(")
    line = "step, value = args\n    node"
    shop.change(
        calibration, line, line.replace("node", f"value += TABLE[value % {_TABLE_BYTES}] // 255\n    node")
    )
    shop.change("firmware/sensors/modbus_rtu.py", "timeout_ms: int = 300", f"timeout_ms: int = {_WAITS_MS}")
    return first, shop.release()


class Story:
    """``did``: what happened so far, and when. ``opens_s``: so long after it was asked a lid is opened, be it in a pass
    or not."""

    def __init__(self, rig: MixedRig, opens_s: float | None = None) -> None:
        self.rig = rig
        self.opens_s = opens_s
        self.did: dict[str, float] = {}
        self.openings: dict[str, Opening] = {}
        self.random = rig.random("story")
        self.states: dict[str, str] = {}
        self.sites = {member.site for member in rig.members}
        # What is to happen, as far as those are there who have a part in it.
        self.plan = {OPENED_BEFORE, OPENED_WITHIN} & self.sites
        if CUT in self.sites:
            self.plan |= {"gateway killed", "power cut"}
        if LIFT in self.sites:
            self.plan |= {"lift rides"}
        if OLD_PROBE in self.sites:
            sonde = ModbusSonde(replace(YOSEMITECH, turnaround_s=_SLOW_S), River(rig.seed).quantities)
            rig.named(OLD_PROBE).station.attach_uart("rs485", sonde)

    def begin(self, folders: list[Path]) -> None:
        canary = [self.rig.named(site).name for site in CANARIES if site in self.sites]
        self.rig.campaign(
            "add", why="a table, and less patience", name="mixed", releases=[read_folder(one) for one in folders],
            canary=canary or 0, shares=[1.0], by="", types=[], areas=[], boards=[], nodes=[], windows=[], zone="",
            air_share=0.25, halt_share=0.5, halt_count=3, patience_s=24 * _HOUR_S, soak_s=0,
        )  # fmt: skip

    def look(self) -> dict[str, Any]:
        found = self.rig.campaign("show", campaign="mixed")
        self.states = {row["site"]: row["state"] for row in found["nodes"]}
        return found

    def to_its_end(self) -> dict[str, Any]:
        rig = self.rig
        end_s = rig.world.now_s + _LONGEST_H * _HOUR_S
        while (found := self.look())["state"] == "running":
            assert rig.world.now_s < end_s, (
                f"seed {rig.seed}: it goes on and on: {self.states}\n{self.told()}"
            )
            self.meddle()
            rig.run_s(2)
        return found

    # -- what comes between ----------------------------------------------------------------------------------

    def meddle(self) -> None:
        if CUT in self.sites:
            is_begun = self._is_receiving(CUT) and self._rows() >= _ROWS_BEFORE
            self._once("gateway killed", is_begun, self._kill)
            is_there = self._is_receiving(CUT)  # after it, or later in another pass
            self._once("power cut", is_there and "gateway killed" in self.did, self._cut_power)
        if OPENED_BEFORE in self.sites:
            is_called = self.states[OPENED_BEFORE] == "receiving"
            self._once(OPENED_BEFORE, is_called, lambda: self._open(OPENED_BEFORE))
        if OPENED_WITHIN in self.sites:
            is_asked = self.opens_s is not None and self.states[OPENED_WITHIN] != "waiting"
            is_time = is_asked or (self.opens_s is None and self._is_receiving(OPENED_WITHIN))
            self._once(OPENED_WITHIN, is_time, lambda: self._open(OPENED_WITHIN))
        if LIFT in self.sites:
            self._once("lift rides", self.states[LIFT] in ("asked", "offered"), self._ride)

    def _once(self, what: str, is_time: bool, action: Callable[[], None]) -> None:
        if is_time and what not in self.did:
            self.did[what] = self.rig.world.now_s
            action()

    def _rows(self) -> int:
        return int(self.rig.alive.campaigns.engine.counters["broadcast_rows"])

    def _is_receiving(self, site: str) -> bool:
        """Whether that life of it has begun, and not ended."""
        said = [
            line
            for line in self.rig.named(site).station.log
            if line.startswith(("receiving", "update", "tide"))
        ]
        return said[-1:] != [] and said[-1].startswith("receiving")

    def _kill(self) -> None:
        rig, died = self.rig, []
        phase = self.random.choice((BEFORE, AFTER))

        def cut() -> str:
            died.append(phase)
            return phase

        rig.alive.cut_at(cut)
        rig.wait_until(lambda: bool(died), 60, "commit")
        rig.kill_gateway()
        rig.run_s(self.random.uniform(5, 40))
        rig.start_gateway()

    def _cut_power(self) -> None:
        node = self.rig.named(CUT)
        node.power_off()
        self.rig.run_s(self.random.uniform(1, 30))
        node.power_on()

    def _ride(self) -> None:
        """It comes to no pass that it is called to meanwhile."""
        rig, name = self.rig, self.rig.named(LIFT).name
        at_s = rig.world.now_s
        for floor in _FLOORS:
            at_s = rig.ride(name, floor, at_s)

    def _open(self, site: str) -> None:
        rig, node = self.rig, self.rig.named(site)
        opening, azimuth = Opening(node.name, self.random.uniform(20, 80), 1.0), self.random.uniform(0, 360)
        self.openings[site] = opening
        rig.openings.append(opening)
        opens_s = self.random.uniform(0, 10) if self.opens_s is None else self.opens_s
        rig.world.after(opens_s, rig._opener(opening, azimuth))
        rig.world.after(opens_s + _OPEN_S, rig._closer(opening, azimuth, 1.0))

    def is_quiet(self) -> bool:
        """Whether every lid that was opened lies as it should again, and the city knows."""
        return all(opening.cleared_ms is not None for opening in self.openings.values())

    # -- judging ---------------------------------------------------------------------------------------------

    def told(self) -> str:
        """For a failure."""
        lines = [f"{site}: {self.rig.named(site).station.log[-6:]}" for site in self.states]
        return "\n".join([f"seed {self.rig.seed}; {self.did}", *lines])

    def judge(self, report: dict[str, Any]) -> None:
        seed = f"seed {self.rig.seed}"
        assert set(self.did) == self.plan, self.told()
        rows = {row["site"]: row for row in report["nodes"]}
        assert rows.keys() == self.sites
        for site, row in rows.items():
            node = self.rig.named(site)
            is_old = site == OLD_PROBE
            truth = ("rolled back", "unhealthy") if is_old else ("installed", "")
            assert (row["state"], row["reason"]) == truth, f"{seed}: {site}\n{self.told()}"
            assert node.station.runs == (OLD if is_old else NEW), f"{seed}: {site}"
            assert NEW in node.station.sequences
            wanted = [[NEW, outcomes.UNHEALTHY if is_old else outcomes.INSTALLED]]
            assert self._details(node, codes.UPDATE) == wanted, f"{seed}: {site}"
        assert report["failed"] == (OLD_PROBE in self.sites)

    def _details(self, node: MpyNode, code: int) -> list[Any]:
        """Of events of that code, as the city has them."""
        records = self.rig.judge.records.items()
        found = [(key, one["event"]) for key, one in records if key[0] == node.name and "event" in one]
        return [
            event["detail"] for _, event in sorted(found, key=lambda one: one[0]) if event["code"] == code
        ]

    def judge_alarms(self) -> list[float]:
        """Each once, in time, and its end; those of the pass ended that pass."""
        rig, seed = self.rig, f"seed {self.rig.seed}"
        false = [alarm for alarm in rig.false_alarms if ": cover_" in alarm]
        assert not false, f"{seed}: {false}"
        records = rig.judge.records.values()
        told = Counter(
            (one["node"], one["event"]["name"], one["event"]["state"]) for one in records if "event" in one
        )
        for site, opening in self.openings.items():
            assert opening.others == [], f"{seed}: {site} {opening}"
            assert opening.latency_s <= _ALARM_MAX_S, f"{seed}: {site} {opening.latency_s}"
            for state in ("raised", "cleared"):
                assert told[opening.node, opening.calls_for, state] == 1, f"{seed}: {site} {state} {told}"
        if OPENED_WITHIN in self.sites and self.opens_s is None:
            within = rig.named(OPENED_WITHIN).station.log
            assert sum("is high" in line for line in within) >= 1, f"{seed}: {within}"
            assert sum(line.startswith("receiving") for line in within) >= 2, f"{seed}: {within}"
        return [opening.latency_s for opening in self.openings.values()]


def play(
    folder: Path, first: dict[str, Any], second: dict[str, Any], members: Sequence[Member], seed: int
) -> str:
    """What the city had of it, and when."""
    began_s = time.process_time()
    with MixedRig(folder, first, members, seed, **PLACE) as rig:
        story = Story(rig)
        rig.settle_in()
        story.begin([release.folder for release in second.values()])
        begun_s = rig.world.now_s
        report = story.to_its_end()
        minutes = (rig.world.now_s - begun_s) / 60
        did = " ".join(f"{what.replace(' ', '_')}_s={at_s - begun_s:.0f}" for what, at_s in story.did.items())
        print(f"\nseed={seed} nodes={len(members)} minutes={minutes:.0f} {did}")
        rig.wait_until(story.is_quiet, _HOUR_S, "ends of alarms")
        rig.deliver_all()
        story.judge(report)
        latencies = story.judge_alarms()
        books = rig.books()
        told = hashlib.sha256(repr(sorted(rig.judge.records.items())).encode()).hexdigest()[:16]
        counters = rig.alive.campaigns.engine.counters
        print(
            f"installed={report['states']['installed']} rolled_back={report['states']['rolled back']} "
            f"alarm_max_s={max(latencies, default=0):.1f} rows_to_all={counters['broadcast_rows']} "
            f"rows_alone={counters['rows']} told={told} cpu_s={time.process_time() - began_s:.0f}"
        )
        print(books.line())
        books.balance()
        assert books.stored == len(books.delivered)
        return told


def test_a_cover_that_is_opened_in_a_pass_alarms_and_is_updated_after_it(
    tmp_path: Path, base_seed: int
) -> None:
    """One part of it, alone."""
    first, second = releases(Workshop(tmp_path / "shop", ("cover",)))
    play(tmp_path / "rig", first, second, COVER_ALONE, base_seed)


@pytest.mark.soak
def test_a_lid_that_opens_at_any_moment_of_an_update_is_told_in_time(tmp_path: Path, base_seed: int) -> None:
    """Asleep before it, in it, between two passes, while it installs, on trial, or after it."""
    first, second = releases(Workshop(tmp_path / "shop", ("cover",)))
    folders = [release.folder for release in second.values()]
    rng, told_s = random.Random(f"{base_seed} moments"), []
    for seed in range(base_seed, base_seed + _MOMENTS):
        with MixedRig(tmp_path / str(seed), first, COVER_ALONE, seed, **PLACE) as rig:
            story = Story(rig, rng.uniform(0, _MOMENT_MAX_S))
            rig.settle_in()
            story.begin(folders)
            report = story.to_its_end()
            rig.wait_until(story.is_quiet, _HOUR_S, "end of the alarm")
            told_s += story.judge_alarms()
            assert report["states"]["installed"] == 1, story.told()
    print(f"\nopenings={len(told_s)} alarm_max_s={max(told_s):.1f} seed={base_seed}")


@pytest.mark.soak
def test_the_same_seed_is_the_same_run_on_real_micropython(tmp_path: Path, base_seed: int) -> None:
    first, second = releases(Workshop(tmp_path / "shop", ("cover",)))
    once, again = (play(tmp_path / name, first, second, COVER_ALONE, base_seed) for name in ("once", "again"))
    assert once == again, f"seed {base_seed}"


@pytest.mark.soak
def test_a_campaign_of_three_types_on_real_micropython(tmp_path: Path, base_seed: int) -> None:
    first, second = releases(Workshop(tmp_path / "shop", ("river", "cover", "lift")))
    play(tmp_path / "rig", first, second, MEMBERS, base_seed)
