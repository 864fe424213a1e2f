"""The parts of the story of `ota` that need no boards: what it changes, what it shows, and how it judges itself.

All of it, with real firmware in a real broadcast, is in test_stories.py (soak).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from hil_tests import ota_watch
from hil_tests import stage as stage_of
from hil_tests.errors import StoryFailed
from hil_tests.ota_story import CHANGES, ROOT, change, places
from hil_tests.ota_watch import Rollout, bar
from hil_tests.stage import Stage
from protocols.wire import group, outcomes
from protocols.wire.codes import SETTING_NAMES

CRASH = b"start failed (1 in a row): ZeroDivisionError('divide by zero',)"
INTERVAL_KEY, REPORT_KEY = SETTING_NAMES.index("interval_s"), SETTING_NAMES.index("report_s")


def test_the_change_of_the_story_fits_these_sources_and_is_a_program(tmp_path: Path) -> None:
    for name in {name for name, _, _ in CHANGES}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    change(tmp_path)
    for name in {name for name, _, _ in CHANGES}:
        compile((tmp_path / name).read_text(encoding="utf-8"), name, "exec")
    with pytest.raises(StoryFailed, match="is not what this story changes"):
        change(tmp_path)


def test_the_last_station_alone_has_settings_at_which_the_new_release_divides_by_nothing() -> None:
    shares = [place.settings[REPORT_KEY] // place.settings[INTERVAL_KEY] for place in places(1)]
    assert [share > 0 for share in shares] == [True, True, True, False]
    assert [place.spot is None for place in places(1)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("share", "told"), [(-1, "░░░░"), (0, "░░░░"), (0.5, "██░░"), (1, "████"), (1.4, "████")]
)
def test_a_bar_is_never_longer_than_it_is(share: float, told: str) -> None:
    assert bar(share, 4) == told


def test_what_goes_to_everybody_is_told_from_what_goes_to_one() -> None:
    packet = group.seal(group.key_of(bytes(16), 7), 0, b"\x08\x01\x00row")
    assert ota_watch.is_for_everybody(packet)
    assert not ota_watch.is_for_everybody(packet[:3])
    assert not ota_watch.is_for_everybody(packet[:2] + b"\x00\x12" + packet[4:])


class _Sky:
    def __init__(self) -> None:
        self.chips: dict[str, Any] = {}
        self.air = SimpleNamespace(taps=[], loss=0.0)

    def call(self, function: Any) -> Any:
        return function()


def rollout(monkeypatch: pytest.MonkeyPatch, running: dict[str, int]) -> Rollout:
    """A story that has come to its end, as far as its judge sees it."""
    every = {f"{0x10 + at:04x}": place for at, place in enumerate(places(1))}
    street = SimpleNamespace(
        sky=_Sky(),
        places=every,
        boards={node: SimpleNamespace(read_partition=lambda label, live, node=node: node) for node in every},
    )
    stage = SimpleNamespace(street=street, console=Console(width=80), watchers=[], say=lambda who, text: None)
    made = Rollout(stage)  # type: ignore[arg-type]
    monkeypatch.setattr(ota_watch, "release_on", lambda node: running[node])
    monkeypatch.setattr(Rollout, "_rows_alone", lambda self, node: 0)
    for node, place in every.items():
        is_last = node == "0013"
        state, reason = ("rolled back", "crashed") if is_last else ("installed", "")
        made.nodes[node] = {"node": node, "site": place.site, "state": state, "reason": reason}
        made.rows_heard[node] = 5
    made._said["0013"] = [CRASH]
    return made


GOOD = {"0010": 2, "0011": 2, "0012": 2, "0013": 1}


def test_a_story_that_came_true_is_told_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout(monkeypatch, GOOD).conclude()
    said = capsys.readouterr().out
    assert said.count("broadcast, 5 packets of it") == 3
    assert "its cable, as the canary" in said
    assert max(map(len, said.splitlines())) <= 80


def _not_installed(made: Rollout) -> None:
    made.nodes["0011"]["state"] = "receiving"


def _not_heard(made: Rollout) -> None:
    made.rows_heard["0012"] = 0


def _for_another_reason(made: Rollout) -> None:
    made.nodes["0013"]["reason"] = "unhealthy"


def _without_a_word(made: Rollout) -> None:
    made._said["0013"] = []


@pytest.mark.parametrize("wrong", [_not_installed, _not_heard, _for_another_reason, _without_a_word])
def test_a_story_that_did_not_come_true_is_not_told_as_if(
    monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    made = rollout(monkeypatch, GOOD)
    wrong(made)
    with pytest.raises(StoryFailed):
        made.conclude()


def test_it_is_the_flash_that_says_what_a_node_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoryFailed, match="runs release 1"):
        rollout(monkeypatch, {**GOOD, "0012": 1}).conclude()
    with pytest.raises(StoryFailed, match="runs release 2"):
        rollout(monkeypatch, {**GOOD, "0013": 2}).conclude()


def test_a_long_line_goes_on_under_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(SimpleNamespace(), None, Console(width=60))  # type: ignore[arg-type]
    stage.say("node", f"bridge-4 says: {CRASH.decode()}")
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("   0.0 s  node     bridge-4 says: start failed")
    assert rest
    assert all(line.startswith(" " * 19) and len(line) <= 60 for line in rest)


def test_how_an_update_ended_is_told_in_words() -> None:
    event = {"name": "update_ended", "detail": f"[2, {outcomes.CRASHED}]"}
    assert stage_of._detail(event) == "release 2, crashed"
    assert stage_of._detail({"name": "cover_tilted", "detail": "40"}) == "40"
    assert (
        ota_watch._explained("update: release 2 ended with 0") == "update: release 2 ended with 0 (installed)"
    )
    assert (
        ota_watch._explained("update: release 2 is on trial in /b") == "update: release 2 is on trial in /b"
    )


def test_a_broadcast_that_sent_nothing_says_why() -> None:
    planned = {"sf": 7, "begins_in_s": 76.0, "coming": 2, "asked": 0, "sent": 0, "left": None}
    assert ota_watch._held([planned]) == (
        "no row was sent: it waits for one that missed its call; broadcast at SF7 in 1 min 16 s: 2 nodes so far"
    )
    assert ota_watch._held([]) == "no row was sent: nobody came"
