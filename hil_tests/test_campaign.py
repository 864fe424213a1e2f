"""A campaign of many nodes: some brick their health check, some vanish, and the gateway has bad luck.

The gateway is the real one, its nodes are light ones (world/fleet_node.py). What a report says is held against what
each node really runs.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from gateway.campaign_files import read_folder
from hil_tests.fleet_rig import FleetRig
from hil_tests.system import GATEWAY_EPOCHS
from hil_tests.world.fleet_node import HEALTHY, UNHEALTHY, VANISHES
from hil_tests.world.sim_gateway import AFTER, BEFORE
from protocols.wire import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hil_tests.world.fleet_node import FleetNode

_HOUR_S = 3600
# What the campaign brings. Of the nodes nine in ten were flashed with the one before it, the others missed that, too.
_RELEASE = 3
_HALT_SHARE, _HALT_COUNT = 0.03, 2
_PATIENCE_S = 6 * _HOUR_S
_OFF_S = 24 * _HOUR_S
# A campaign that goes on for so long neither ends nor halts.
_STANDS_S = 20 * 24 * _HOUR_S


@dataclass
class Figures:
    nodes: int = 0
    installed: int = 0
    rolled_back: int = 0
    gone: int = 0
    halts: int = 0
    exposed_at_halt: int = 0
    failed_at_halt: int = 0
    kills: int = 0
    off_h: float = 0.0
    on_trial_while_off: int = 0
    trial_h_max: float = 0.0
    silent: int = 0
    campaign_h: float = 0.0
    frames: int = 0
    records: int = 0
    cpu_s: float = 0.0


class Story:
    """One campaign, and who looks after it."""

    def __init__(self, folder: Path, fates: list[str], seed: int, report_s: float) -> None:
        runs = {index: 1 if index % 10 == 7 else 2 for index in range(len(fates))}
        self.rig = rig = FleetRig(folder, fates, seed, report_s, runs, releases=_RELEASE - 1)
        self.nodes = list(rig.fleet.nodes.values())
        self.folder = rig.shop.release(_RELEASE).folder
        self.figures = Figures(len(fates))
        self._random = rig.random("story")

    def node(self, name: str) -> FleetNode:
        return self.rig.fleet.nodes[int(name, 16)]

    # -- a person ----------------------------------------------------------------------------------------------------

    def ask(self, operation: str, **words: Any) -> dict[str, Any]:
        request = {"operation": f"campaign.{operation}", **words}
        found: dict[str, Any] = self.rig.ask(lambda gateway: gateway.operations.handle(request, "mei"), 60)
        return found

    def begin(self) -> None:
        self.ask(
            "add", why="the third release", name="third", releases=[read_folder(self.folder)], canary=0.02,
            shares=[0.2, 0.5, 1.0], by="", types=[], areas=[], boards=[], nodes=[], windows=[], zone="",
            air_share=0.05, halt_share=_HALT_SHARE, halt_count=_HALT_COUNT, patience_s=_PATIENCE_S, soak_s=0,
        )  # fmt: skip

    def look(self) -> dict[str, Any]:
        return self.ask("show", campaign="third")

    def until_it_stands(self) -> dict[str, Any]:
        """It is halted or over."""
        end_s = self.rig.world.now_s + _STANDS_S
        while (found := self.look())["state"] == "running":
            assert self.rig.world.now_s < end_s, f"seed {self.rig.seed}: it goes on and on: {found['states']}"
            self.rig.run_s(300)
        return found

    def resume(self) -> None:
        self.figures.halts += 1
        self.ask("resume", campaign="third", why="these sensors are known, the next release is for them")

    # -- bad luck ----------------------------------------------------------------------------------------------------

    def kill(self, when: Callable[[FleetNode], bool], count: int, off_s: float) -> int:
        """Kill the gateway in the middle of a commit, once that holds of so many nodes; of how many it held."""
        rig, end_s = self.rig, self.rig.world.now_s + _STANDS_S
        while sum(map(when, self.nodes)) < count:
            assert rig.world.now_s < end_s, f"seed {rig.seed}: never {count} nodes at once"
            rig.run_s(0.5)
        phase = self._random.choice((BEFORE, AFTER))
        died: list[str] = []

        def cut() -> str:
            died.append(phase)
            return phase

        rig.alive.cut_at(cut)
        while not died:
            rig.run_s(0.1)
        found = sum(map(when, self.nodes))
        rig.kill_gateway()
        rig.run_s(off_s)
        rig.start_gateway()
        self.figures.kills += 1
        return found


def play(folder: Path, nodes: int, seed: int, report_s: float) -> Figures:
    began_s = time.process_time()
    random = Random(f"{seed} fates")
    unhealthy, gone = round(nodes * 0.05), max(1, round(nodes * 0.02))
    fates = [UNHEALTHY] * unhealthy + [VANISHES] * gone + [HEALTHY] * (nodes - unhealthy - gone)
    random.shuffle(fates)
    story = Story(folder, fates, seed, report_s)
    with story.rig as rig:
        figures = story.figures
        rig.run_s(report_s + 300)
        story.begin()
        began_world_s = rig.world.now_s
        _halts_in_time(story)
        story.resume()
        story.kill(lambda node: node.is_receiving, 1 + nodes // 50, 60)
        _off_for_a_day(story)
        while story.until_it_stands()["state"] == "halted":
            story.resume()
        figures.campaign_h = (rig.world.now_s - began_world_s) / 3600
        _reports_truthfully(story)
        _telemetry_is_whole(story)
        figures.frames = rig.fleet.frames_up + rig.fleet.frames_down
    figures.cpu_s = time.process_time() - began_s
    print("\n" + " ".join(f"{name}={value:.4g}" for name, value in asdict(figures).items()))
    return figures


def _halts_in_time(story: Story) -> None:
    """At the threshold, and then nothing begins that has not begun."""
    found, nodes = story.until_it_stands(), story.nodes
    figures = story.figures
    assert found["state"] == "halted", found["states"]
    figures.failed_at_halt = found["failed"]
    assert found["failed"] >= _HALT_COUNT
    assert found["failed"] > _HALT_SHARE * found["ended"]
    waiting = [row["node"] for row in found["nodes"] if row["wave"] > found["wave"]]
    assert waiting, f"seed {story.rig.seed}: it halted after everybody had it"
    story.rig.run_s(3 * _HOUR_S)
    figures.exposed_at_halt = sum(_RELEASE in node.starts for node in nodes)
    assert not any(_RELEASE in story.node(name).starts for name in waiting)
    still = story.look()
    assert still["state"] == "halted"
    assert still["wave"] == found["wave"]


def _off_for_a_day(story: Story) -> None:
    """The gateway dies while nodes are on trial, and is away for a day: nobody goes back for want of an ack."""
    figures = story.figures

    def tries(node: FleetNode) -> bool:
        return node.fate == HEALTHY and (node.is_installing or node.trial is not None)

    wanted = max(2, figures.nodes // 50)
    figures.on_trial_while_off = story.kill(tries, wanted, _OFF_S)
    figures.off_h = _OFF_S / _HOUR_S
    story.rig.run_s(_HOUR_S)
    long = [node for node in story.nodes if max(node.tried_s, default=0) > _OFF_S - _HOUR_S]
    assert len(long) >= wanted, "they were on trial for all of it, and stayed"
    figures.trial_h_max = max(max(node.tried_s) for node in long) / _HOUR_S


def _reports_truthfully(story: Story) -> None:
    figures, rows = story.figures, {row["node"]: row for row in story.look()["nodes"]}
    assert len(rows) == figures.nodes
    for name, row in rows.items():
        node = story.node(name)
        truth, reason = "installed", ""
        if node.fate == UNHEALTHY:
            truth, reason = "rolled back", "unhealthy"
            assert node.endings == [(_RELEASE, outcomes.UNHEALTHY)]
            assert node.runs.sequence < _RELEASE
        elif node.fate == HEALTHY:
            assert node.endings == [(_RELEASE, outcomes.INSTALLED)]
            assert node.runs.sequence == _RELEASE
        else:
            truth, reason = "gone", row["reason"]
            assert reason in ("never-heard", "lost")
            assert not node.is_on
        assert (row["state"], row["reason"]) == (truth, reason), (
            f"seed {story.rig.seed}: {name} ({node.fate})"
        )
    told = Counter(row["state"] for row in rows.values())
    figures.installed, figures.rolled_back, figures.gone = (
        told[state] for state in ("installed", "rolled back", "gone")
    )
    figures.silent = sum(outcome == outcomes.SILENT for node in story.nodes for _, outcome in node.endings)
    assert figures.silent == 0


def _telemetry_is_whole(story: Story) -> None:
    """What nodes had acknowledged, the city has, each once."""
    rig, figures = story.rig, story.figures
    rig.run_s(_HOUR_S)
    assert not rig.judge.problems
    found = Counter(name for name, epoch, _ in rig.judge.records if epoch < GATEWAY_EPOCHS)
    for node in story.nodes:
        name = f"{node.address:04x}"
        assert node.acknowledged <= found[name] <= node.next_seq - 1
        assert not node.is_on or len(node.waiting) <= 2, f"{name}: {len(node.waiting)} records wait"
    figures.records = sum(found.values())


def test_a_campaign_of_sixty_nodes_is_halted_killed_left_alone_for_a_day_and_ends_well(
    tmp_path: Path,
) -> None:
    play(tmp_path, 60, 5, 2 * _HOUR_S)


@pytest.mark.soak
def test_a_campaign_of_a_thousand_nodes(tmp_path: Path) -> None:
    play(tmp_path, 1000, 1, 2 * _HOUR_S)
