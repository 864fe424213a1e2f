"""`tidegate demo --scenario ota`: a release is built, signed and rolled out: to one station over its cable, then to
three others by one broadcast. On one of them it does not start, and that one goes back by itself.

Everything is done by the commands that a maintainer types, in a source tree and a folder of releases of the run's own.
The release holds a mistake that somebody could make: it divides by a number that is none on a station whose settings
are unusual. The canary has usual ones. What is told of it is ota_watch.py's affair.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import TYPE_CHECKING

from rich.text import Text

from hil_tests.errors import RigError, StoryFailed
from hil_tests.ota_watch import Rollout
from hil_tests.places import Place, RiverPlace
from hil_tests.stage import settings
from hil_tests.world.propagation import Spot

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil_tests.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
# What a maintainer's checkout has, as far as releases are made of it.
SOURCES = ("tidegate.py", "protocols", "firmware", "boards", "flash_tools", "gateway")
KEYGEN = "release keygen --vendor tidegate.example --out daily.key"
BUILD = "release build --node river --board virtual"
SIGN = "release sign river-virtual --key daily.key"
CONFIG = "--config gateway/gateway.toml"
# A release on trial needs more of the heap than one at work.
_HEAP = "192k"
_WATER = {
    "dissolved_oxygen": 8.5, "turbidity": 12.0, "conductivity": 450.0, "ph": 7.4,
    "orp": 210.0, "ammonia_nitrogen": 0.2, "level": 1.2,
}  # fmt: skip
_JOINED_S = 90.0
# Two minutes until all have agreed on a time, the pass, reports, installing, a trial; and as much again for another
# pass, where the air took too many rows.
_CAMPAIGN_S = 480.0
_COMMAND_S = 120.0
# What release 2 does differently.
CHANGES = (
    (
        "firmware/sensors/sonde.py",
        "TRIES = 3\n",
        "TRIES = 3\nREADINGS = 3\nAPART_MS = 200\nSPREAD = 0.5\n",
    ),
    (
        "firmware/sensors/sonde.py",
        "yield from self._read(block, readings)\n                yield 0",
        "yield from self._middle(block, readings)\n                yield 0",
    ),
    (
        "firmware/sensors/sonde.py",
        "    def _act(self,",
        '''\
    def _middle(self, block: int, readings: "Readings") -> "Generator[int, None, None]":
        """Of three readings the middle one: a leaf before a window spoils one of them, seldom two."""
        seen = []
        for _ in range(READINGS):
            yield from self._read(block, readings)
            seen.append(list(readings))
            yield APART_MS
        for i in range(self.count):
            found = sorted([one[i] for one in seen if one[i] is not None])
            readings[i] = found[len(found) // 2] if found else None
            if found and found[-1] - found[0] > SPREAD * max(1, abs(found[0])):
                self.errors += 1  # the probe wants to be looked at

    def _act(self,''',
    ),
    ("firmware/making.py", "import STATUS_S", "import INTERVAL_S, REPORT_S, STATUS_S"),
    (
        "firmware/making.py",
        "    node.status_at_s = node.settings[STATUS_S]\n",
        """\
    # Not all of a street at the same moment: each by its address, among the sets of a report.
    sets = node.settings[REPORT_S] // node.settings[INTERVAL_S]
    node.status_at_s = node.settings[STATUS_S] + node.identity.address % sets
""",
    ),
)


class Station(RiverPlace):
    """Its water is quiet: a node that has an alarm to tell does not receive."""

    def __init__(self, site: str, seed: int, spot: Spot | None, interval_s: int, report_s: int) -> None:
        super().__init__(site, seed, _quiet_water, spot)
        self.heap_size = _HEAP
        self.settings = settings(interval_s=interval_s, report_s=report_s)
        if spot is not None:
            self.settings |= settings(radio_sf=7)


def _quiet_water(now_s: float) -> dict[str, float]:
    return _WATER | {"water_temperature": 14 + 0.4 * math.sin(now_s / 60)}


def places(seed: int) -> list[Place]:
    """The last one reports more often than it measures."""
    return [
        Station("bridge-1", seed, None, 5, 5),
        Station("bridge-2", seed, Spot(400, 100), 7, 7),
        Station("bridge-3", seed, Spot(900, -300), 8, 8),
        Station("bridge-4", seed, Spot(1500, 200), 10, 9),
    ]


def image(folder: Path, node_type: str) -> bytes:
    """What the nodes are flashed with: release 1, built in a source tree that is this one's copy."""
    tree = folder / "source"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "vectors", "*.md")
            shutil.copytree(ROOT / name, tree / name, ignore=left_out)
        else:
            shutil.copy2(ROOT / name, tree / name)
    run(folder, KEYGEN)
    run(folder, f"{BUILD} --image")
    run(folder, SIGN)
    return (folder / "releases/river-virtual/0001/app.img").read_bytes()


def run(
    folder: Path, command: str, width: int = 80, wait: Callable[[Popen[str]], object] = Popen.wait
) -> str:
    """What `tidegate …` prints there; it is run from the source tree of the run."""
    environment = os.environ | {"PYTHONPATH": str(folder / "source"), "COLUMNS": str(width)}
    arguments = [sys.executable, "-m", "tidegate", *shlex.split(command)]
    # Less than a pipe holds is printed, so nobody has to read while it runs.
    with Popen(arguments, stdout=PIPE, stderr=STDOUT, text=True, cwd=folder, env=environment) as process:
        wait(process)
        found, _ = process.communicate(timeout=_COMMAND_S)
    if process.returncode:
        raise RigError(f"tidegate {command}: exit {process.returncode}: {found}")
    return found


def change(tree: Path) -> None:
    """Make of release 1 in that source tree what is to be release 2."""
    for name, before, after in CHANGES:
        path = tree / name
        text = path.read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise StoryFailed(f"{name} is not what this story changes")
        path.write_text(text.replace(before, after), encoding="utf-8")


def act(stage: Stage) -> None:
    street = stage.street
    stage.say("world", "this takes five to seven minutes: two are the notice that")
    stage.say("world", "nodes get of a broadcast, so that sleepers are there")
    stage.say("world", "four river stations run release 1: bridge-1 is on a cable,")
    stage.say("world", "2, 3 and 4 on the air; bridge-4 has unusual settings")
    rollout = Rollout(stage)
    with rollout.shown():
        if not stage.wait(lambda: rollout.are_heard, _JOINED_S):
            raise StoryFailed(f"after {_JOINED_S:.0f} s not every station was heard")
        change(street.folder / "source")
        stage.say("you", "change firmware/sensors/sonde.py:")
        stage.say("you", "of three readings the middle one counts")
        stage.say("you", "change firmware/making.py:")
        stage.say("you", "stations tell their status at moments of their own")
        type_in(stage, f'{BUILD} --notes "middle of three readings"')
        type_in(stage, SIGN)
        type_in(stage, "release diff river-virtual/1 river-virtual/2")
        canary = next(iter(street.boards))
        type_in(
            stage,
            f"campaign add releases/river-virtual/0002 --canary {canary} --air 25%"
            f' --why "turbidity jumps" {CONFIG}',
        )
        rollout.begin()
        if not stage.wait(lambda: rollout.state == "ended", _CAMPAIGN_S):
            raise StoryFailed(
                f"after {_CAMPAIGN_S:.0f} s the campaign is {rollout.state or 'unknown'}: {rollout.told()}"
            )
    type_in(stage, f"campaign show 1 --nodes {CONFIG}")
    rollout.conclude()


def type_in(stage: Stage, command: str) -> str:
    """A command as it is typed, and what it prints; the world goes on meanwhile."""
    stage.say("you", f"$ tidegate {command}")
    found = run(
        stage.street.folder,
        command,
        stage.console.width,
        lambda process: stage.wait(lambda: process.poll() is not None, _COMMAND_S),
    )
    stage.console.print(Text(found.rstrip(), style="dim"))
    return found


PARTS = (places, act, image, "The release is where it works, and nowhere else.")
