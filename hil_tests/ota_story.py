"""`tidegate demo --scenario ota`: a release is built, signed and rolled out; on one node it fails, and there goes back.

Everything is done by the commands that a maintainer types, in a source tree and a folder of releases of the run's own.
The release is a mistake that somebody could make: it talks to the sonde as the maker's new manual has it, and one of
the three sondes is older than that. The node finds out by itself: no sensor answers, and after an hour it goes back.
"""

from __future__ import annotations

import math
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
# What sondes understand: newer ones read their values by function 4, too.
_NEW_SONDE, _OLD_SONDE = (3, 4, 16), (3, 16)
_WATER = {
    "dissolved_oxygen": 8.5, "turbidity": 12.0, "conductivity": 450.0, "ph": 7.4,
    "orp": 210.0, "ammonia_nitrogen": 0.2, "level": 1.2,
}  # fmt: skip
CONFIG = "--config gateway/gateway.toml"
# Until all nodes have it, or have it no more.
_CAMPAIGN_S = 240.0
_COMMAND_S = 120.0
_HOUR_S, _HOUR_TAKES_S = 3600, 24
# A trial has begun by then, and has not ended.
_STARTED_S = 5.0
_DRIVER = "firmware/sensors/sonde_yosemitech.py"
_CHANGES = (
    ("import READ_HOLDING", "import READ_HOLDING, READ_INPUT"),
    ("Block(READ_HOLDING,", "Block(READ_INPUT,"),
)


class Station(RiverPlace):
    """``functions``: of Modbus, that its sonde knows. Its water is quiet: an alarm comes before any update."""

    def __init__(self, site: str, seed: int, functions: tuple[int, ...]) -> None:
        super().__init__(site, seed, _quiet_water)
        self.heap_size = _HEAP
        self.settings = settings(interval_s=5, report_s=5)
        self._map = replace(YOSEMITECH, functions=functions)

    def attach(self, board: VirtualBoard) -> None:
        self._board = board
        board.attach_uart(RS485_UART, ModbusSonde(self._map, self._quantities))


def _quiet_water(now_s: float) -> dict[str, float]:
    return _WATER | {"water_temperature": 14 + 0.4 * math.sin(now_s / 60)}


def places(seed: int) -> list[Place]:
    stations = [Station(f"bridge-{number}", seed, _NEW_SONDE) for number in (1, 2)]
    old = Station("bridge-3", seed, _OLD_SONDE)
    old.settings = settings(interval_s=120, report_s=5)  # an hour of these is to pass quickly
    return [*stations, old]


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
    stage.untold = frozenset({"clock_stepped"})  # of the one on which an hour passes so soon
    stage.say("world", "three stations run release 1; bridge-3 has an old sonde")
    stage.run_s(8)
    path = stage.street.folder / "source" / _DRIVER
    text = path.read_text(encoding="utf-8")
    for before, after in _CHANGES:
        if text.count(before) != 1:
            raise StoryFailed(f"{_DRIVER} is not what this story changes")
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    stage.say("you", f"change {_DRIVER}:")
    stage.say("you", "values are read by function 4, as its new manual says")
    type_in(stage, f'{BUILD} --notes "values by function 4"')
    type_in(stage, SIGN)
    type_in(stage, "release diff river-virtual/1 river-virtual/2")
    canary = next(iter(stage.street.boards))
    type_in(stage, f'campaign add releases/river-virtual/0002 --canary {canary} --why "new manual" {CONFIG}')
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
    """A node gives a release an hour to measure something. Here that hour passes sooner, on this one board; its line is
    unplugged meanwhile, or the gateway would set its clock back again and again.
    """

    def __init__(self, stage: Stage, site: str) -> None:
        self._stage = stage
        self._site = site
        node = next(node for node, place in stage.street.places.items() if place.site == site)
        self._board = stage.street.boards[node]
        self._trial_s: float | None = None
        self._is_over = False

    def look(self) -> None:
        phase = self._phase()
        if self._is_over or phase is None:
            return
        if phase in (pending.RECEIVED, pending.VERIFIED):
            self._board.time_scale = _HOUR_S / _HOUR_TAKES_S  # from its next start on, which is the trial
        elif phase == pending.ON_TRIAL and self._trial_s is None:
            self._trial_s = time.monotonic()
            self._board.unplug()
            self._stage.say("world", f"the line to {self._site} is unplugged, and an hour passes there")
        elif phase == pending.ON_TRIAL:
            if self._trial_s is not None and time.monotonic() - self._trial_s > _STARTED_S:
                self._board.time_scale = 1  # and then it starts with the release that it had
        elif self._trial_s is not None:
            self._is_over = True
            self._board.replug()
            self._stage.say("world", f"{self._site} is back")

    def _phase(self) -> int | None:
        """None: not known, it is being written to."""
        try:
            flash = Flash(image=self._board.read_partition("state", live=True))
            found = Document(LittleFs(flash), pending.NAME).load()
        except (OSError, LittleFSError):
            return None
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
