"""`tidegate demo --scenario …` as a person types it: real boards, the real daemon, exit code 0 for a whole story."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tidegate
from hil_tests.stage import Stage, Story
from hil_tests.stories import STORIES

ROOT = Path(__file__).resolve().parents[2]


def play(name: str, timeout_s: float, end: str = "The alarm arrived.") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "demo", "--scenario", name],
        capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert end in done.stdout
    assert "lost=0 duplicate=0" in done.stdout
    return done.stdout


def test_a_stolen_cover_is_known_to_the_city() -> None:
    said = play("cover-stolen", 500)
    kept, committed, received = (
        said.index(what) for what in ("kept cover_tilted raised", "committed cover_t", "received cover_t")
    )
    assert kept < committed < received
    assert "received cover_upturned raised" in said
    steps = ("told grid-1", "acknowledged by hotline: zhang-3", "received cover_upturned cleared", ": closed")
    told = [kept, *(said.index(step) for step in steps)]
    assert told == sorted(told)
    assert said.count("cover_open at lid-1") == 1, "one order"
    assert "now told" not in said, "who took it has it"
    print(*[line for line in said.splitlines() if "after the lever" in line], sep="\n")


@pytest.mark.xdist_group("real_time")
@pytest.mark.soak
def test_somebody_trapped_in_a_lift_is_known_to_the_city_and_freed() -> None:
    said = play("trapped", 400)
    assert said.index("received lift_trapped raised") < said.index("received lift_trapped cleared")
    print(next(line for line in said.splitlines() if "after the stop" in line))


@pytest.mark.xdist_group("real_time")
@pytest.mark.soak
def test_a_discharge_is_known_to_the_city() -> None:
    said = play("discharge", 240)
    assert "received discharge_suspected raised" in said
    print(next(line for line in said.splitlines() if "after the spill" in line))


@pytest.mark.xdist_group("real_time")
@pytest.mark.soak
def test_a_release_goes_out_by_cable_and_by_broadcast_and_one_node_goes_back() -> None:
    said = play("ota", 900, "The release is where it works, and nowhere else.")
    steps = (
        "release build", "release sign", "campaign add", "bridge-1 is installed", "rows sent to 3 nodes",
        "bridge-4 is rolled back, crashed", "got release 2 by",
    )  # fmt: skip
    told = [said.index(step) for step in steps]
    assert told == sorted(told)
    assert "1 × crashed" in said
    assert len(re.findall(r"broadcast, \d+ packets of it", said)) == 3
    print(*[line for line in said.splitlines() if "packets of it" in line or "at once" in line], sep="\n")


def test_a_story_that_does_not_come_to_its_end_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(stage: Stage) -> None:
        stage.must("cover_tilted", "raised", 1)

    monkeypatch.setitem(STORIES, "never", Story("Nothing happens", STORIES["cover-stolen"].places, never))
    done = CliRunner().invoke(tidegate.app, ["demo", "--scenario", "never"])
    assert done.exit_code == 1
    assert "The story did not come to its end: after 1 s still no cover_tilted (raised)" in done.output


def test_a_story_that_there_is_not_is_told_with_those_there_are() -> None:
    done = CliRunner().invoke(tidegate.app, ["demo", "--scenario", "cover-stole"])
    assert done.exit_code == 2
    assert "There are cover-stolen, trapped, discharge, ota. Did you mean cover-stolen?" in done.output


def test_a_story_takes_no_other_world() -> None:
    done = CliRunner().invoke(tidegate.app, ["demo", "--scenario", "trapped", "--world", "river.csv"])
    assert done.exit_code == 2
    assert "a story brings its own world" in done.output
