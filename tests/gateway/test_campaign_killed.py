"""`tidegate campaign add` killed in the middle: there is a whole campaign or none, and the same command again tells."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tidegate
from tests.gateway.desk import HandClock, desk, stopped_gateway
from tests.gateway.release_files import write_release
from tests.gateway.test_campaign_cli import ADD, CONFIG
from tests.killing import kill_before, moments, steps_of

SEED = 7
KILLS = 3
NODES = 12


def campaign(*words: str) -> Result:
    return CliRunner().invoke(tidegate.app, ["campaign", *words])


def add() -> None:
    done = campaign(*ADD, "--waves", "50%,100%")
    if done.exit_code:
        raise done.exception or AssertionError(done.output)


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A gateway that does not run, as often as one likes."""
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    stopped_gateway(Path(), CONFIG)
    write_release(Path("releases"))

    async def enrol() -> None:
        with desk(Path("data"), HandClock()) as office:
            await office.enrol(*range(0x11, 0x11 + NODES))

    asyncio.run(enrol())

    def copy(name: str) -> None:
        shutil.copytree(made, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)

    return copy


def test_a_kill_leaves_a_whole_campaign_or_none(begin: Callable[[str], None]) -> None:
    kill_and_ask_again(begin, KILLS)


@pytest.mark.soak
def test_a_kill_at_each_moment_leaves_a_whole_campaign_or_none(begin: Callable[[str], None]) -> None:
    kill_and_ask_again(begin, 60)


def kill_and_ask_again(begin: Callable[[str], None], kills: int) -> None:
    begin("here")
    add()  # which loads what it loads once
    begin("whole")
    steps = steps_of(add)
    killed, begun = 0, 0
    for step in moments(steps, SEED, kills):
        begin(str(step))
        killed += kill_before(step, add)
        found = json.loads(campaign("list", "--json").stdout)
        again = campaign(*ADD, "--waves", "50%,100%")
        if found:
            begun += 1
            assert again.exit_code == 2
            assert (
                f"{NODES} of these nodes are in campaign 1 (river 2), which is running"
                in str(again.exception or "") + again.output + again.stderr
            )
        else:
            assert again.exit_code == 0, again.output
        (one,) = json.loads(campaign("list", "--json").stdout)
        whole = json.loads(campaign("show", "1", "--json").stdout)
        assert (one["state"], len(whole["nodes"]), len(whole["payloads"])) == ("running", NODES, 2)
        assert sum(sum(wave["states"].values()) for wave in whole["waves"]) == NODES
    print(f"killed={killed} begun={begun}")
    assert killed > 0
