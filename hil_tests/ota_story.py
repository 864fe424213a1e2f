"""`tidegate demo --scenario ota`: a release is built, signed and rolled out; on one node it fails, and there goes back.

Everything is done by the commands that a maintainer types, in a source tree and a folder of releases of the run's own.
The release is a mistake that somebody could make: the node waits less long for its sonde, to save battery, and one of
the three sondes is an old one that takes its time. The node finds out by itself; nobody tells the gateway.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import TYPE_CHECKING

from littlefs.errors import LittleFSError
from rich.text import Text

from boards.virtual.board import RS485_UART
from boards.virtual.chips.modbus_sonde import YOSEMITECH, ModbusSonde
from firmware import pending
from firmware.durable import Document
from gateway.control import ask
from hil_tests.errors import RigError, StoryFailed
from hil_tests.places import Place, RiverPlace
from hil_tests.stage import settings
from hil_tests.world.flash import Flash, LittleFs

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.virtual.supervisor import VirtualBoard
    from hil_tests.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
# What a maintainer's checkout has, as far as releases are made of it.
SOURCES = ("tidegate.py", "protocols", "firmware", "boards", "flash_tools", "gateway")
KEYGEN = "release keygen --vendor tidegate.example --out daily.key"
BUILD = "release build --node river --board virtual"
SIGN = "release sign river-virtual --key daily.key"
# A release on trial needs more of the heap than one at work.
_HEAP = "192k"
# An old sonde: it answers later than the new release waits, and too early for its next try.
_OLD_SONDE_S = 0.14
CONFIG = "--config gateway/gateway.toml"
# Until all nodes have it, or have it no more.
_CAMPAIGN_S = 240.0
_COMMAND_S = 120.0
_HOUR_S, _HOUR_TAKES_S = 3600, 24
# A trial has begun by then, and has not ended.
_STARTED_S = 5.0
_DRIVER = "firmware/nodes/river_station.py"
_BEFORE = "hal.clock, REGISTER_MAP.baud_rate)"
_AFTER = "hal.clock, REGISTER_MAP.baud_rate, 100)"


class OldSondePlace(RiverPlace):
    def attach(self, board: VirtualBoard) -> None:
        self._board = board
        slow = replace(YOSEMITECH, turnaround_s=_OLD_SONDE_S)
        board.attach_uart(RS485_UART, ModbusSonde(slow, self._quantities))


def places(seed: int) -> list[Place]:
    made = [
        RiverPlace("bridge-1", seed),
        RiverPlace("bridge-2", seed + 1),
        OldSondePlace("bridge-3", seed + 2),
    ]
    for place in made:
        place.heap_size = _HEAP
        place.settings = settings(interval_s=5, report_s=5)
    made[2].settings = settings(interval_s=120, report_s=5)  # an hour of these is to pass quickly
    return list(made)


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


def act(stage: Stage) -> None:
    stage.say("world", "three river stations run release 1; the sonde at bridge-3 is an old one")
    stage.run_s(8)
    path = stage.street.folder / "source" / _DRIVER
    text = path.read_text(encoding="utf-8")
    if text.count(_BEFORE) != 1:
        raise StoryFailed(f"{_DRIVER} is not what this story changes")
    path.write_text(text.replace(_BEFORE, _AFTER), encoding="utf-8")
    stage.say("you", f"change a line of {_DRIVER}:")
    stage.say("you", "it waits 100 ms for a sonde, and no more 300, to save battery")
    type_in(stage, f'{BUILD} --notes "100 ms for a sonde"')
    type_in(stage, SIGN)
    type_in(stage, "release diff river-virtual/1 river-virtual/2")
    canary = next(iter(stage.street.boards))
    type_in(
        stage, f'campaign add releases/river-virtual/0002 --canary {canary} --why "save battery" {CONFIG}'
    )
    campaign = Campaign(stage)
    stage.watchers += [campaign.look, Hour(stage, "bridge-3").look]
    if not stage.wait(lambda: campaign.state == "ended", _CAMPAIGN_S):
        raise StoryFailed(
            f"after {_CAMPAIGN_S:.0f} s the campaign is still {campaign.state}: {campaign.states}"
        )
    type_in(stage, f"campaign show 1 --nodes {CONFIG}")
    ended = {site: state for site, (state, _) in campaign.states.items()}
    if ended != {"bridge-1": "installed", "bridge-2": "installed", "bridge-3": "rolled back"}:
        raise StoryFailed(f"it ended otherwise: {ended}")
    stage.must("update", "note", 30)


class Campaign:
    """What the gateway has of it, told as it changes."""

    def __init__(self, stage: Stage) -> None:
        self.state = ""
        self.states: dict[str, tuple[str, str]] = {}  # of each site, with the reason
        self._stage = stage

    def look(self) -> None:
        reply = ask(self._stage.street.gateway.data, {"operation": "campaign.show", "campaign": "1"})
        if reply is None:
            return
        for row in reply["nodes"]:
            state = (row["state"], row["reason"])
            if state != self.states.get(row["site"]):
                self.states[row["site"]] = state
                because = f", {state[1]}" if state[1] else ""
                self._stage.say("gateway", f"campaign: {row['site']} is {state[0]}{because}")
        if reply["state"] != self.state:
            self.state = reply["state"]
            self._stage.say("gateway", f"campaign: {self.state}")


class Hour:
    """A node gives a release an hour to measure something. Here that hour passes sooner, on this one board."""

    def __init__(self, stage: Stage, site: str) -> None:
        self._stage = stage
        self._site = site
        node = next(node for node, place in stage.street.places.items() if place.site == site)
        self._board = stage.street.boards[node]
        self._trial_s: float | None = None

    def look(self) -> None:
        phase = self._phase()
        if phase in (pending.RECEIVED, pending.VERIFIED) and self._board.time_scale == 1:
            self._board.time_scale = _HOUR_S / _HOUR_TAKES_S  # from its next start on, which is the trial
        elif phase == pending.ON_TRIAL and self._trial_s is None:
            self._trial_s = time.monotonic()
            self._stage.say(
                "world", f"an hour passes at {self._site}, in {_HOUR_TAKES_S:.0f} s of this demonstration"
            )
        elif self._trial_s is not None and time.monotonic() - self._trial_s > _STARTED_S:
            self._board.time_scale = 1  # and then it starts with the release that it had

    def _phase(self) -> int:
        try:
            flash = Flash(image=self._board.read_partition("state", live=True))
            found = Document(LittleFs(flash), pending.NAME).load()
        except (OSError, LittleFSError):
            return pending.NOTHING  # it is being written to
        return found[0] if found else pending.NOTHING


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
