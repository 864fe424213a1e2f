"""Power that fails in any flash operation of a whole update, from its offer on: it still comes to its end.

Each cut leaves its operation half done as cutflash.py says. After the restart the node runs the old release or the new
one, whole; the gateway goes on by what it hears, and in the end the new one runs, with all records and settings.
"""

from __future__ import annotations

import random

import pytest

from firmware import pending
from hil_tests.world.cutflash import VARIANTS
from tests.firmware.update_story import OnALine, OnTheAir, Story

STAGES = ["offer", "agree", "receive", "next", "whole"]
KINDS = {"air": OnTheAir, "line": OnALine}
# Of each stage; a story on the air takes 0.2 s.
SAMPLED = 2
# Rows are put away one like the other, and to install is swept in all ways elsewhere (test_install.py).
ALIKE = ("receive", "whole")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware.gate.gc.collect", lambda: None)  # of a heap that is not the node's


def operations(kind: str) -> dict[int, str]:
    """Those of an update that nothing disturbs, from its offer to the end that the gateway took; the stage of each."""
    story: Story = KINDS[kind](0)
    received = pending.received

    def noted(hal: object, silent: int) -> bool:
        story.mark("whole")
        return received(hal, silent)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "received", noted)
        story.tell()
    end = story.flash.chip.ops
    assert not story.wrong()
    made: dict[int, str] = {}
    for (first, stage), (after, _) in zip(story.marks, [*story.marks[1:], (end, "")], strict=True):
        made.update(dict.fromkeys(range(first, after), stage))
    assert set(made.values()) == set(STAGES)
    return made


def cut(kind: str, operation: int, variant: int) -> tuple[list[str], int]:
    """What was wrong in the end, and how often the gateway began again."""
    story: Story = KINDS[kind](0)
    story.flash.chip.rng = type(story.flash.chip.rng)(1000 * operation + variant)
    story.flash.cut_after(operation - story.flash.chip.ops, variant)
    try:
        story.tell()
        found = story.wrong()
    except AssertionError as exc:  # of what judges while it listens
        found = [str(exc)]
    return found + ["the power did not fail"] * (story.cuts != 1), story.turns


def sweep(kind: str, cuts: list[tuple[int, int]], stage_of: dict[int, str]) -> None:
    """Every cut of the list; a line of figures for each stage."""
    wrong: dict[str, list[str]] = {stage: [] for stage in STAGES}
    turns = dict.fromkeys(STAGES, 0)
    for operation, variant in cuts:
        found, turned = cut(kind, operation, variant)
        stage = stage_of[operation]
        turns[stage] = max(turns[stage], turned)
        if found:
            wrong[stage].append(f"{kind}: operation {operation} as {VARIANTS[variant]}: {found}")
    for stage in STAGES:
        count = sum(stage_of[operation] == stage for operation, _ in cuts)
        print(f"link={kind} story={stage} cuts={count} wrong={len(wrong[stage])} turns_max={turns[stage]}")
        assert count
    assert not any(wrong.values()), [line for lines in wrong.values() for line in lines[:3]]


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_to_its_end_after_some_cuts(kind: str) -> None:
    stage_of = operations(kind)
    rng = random.Random(f"whole update {kind}")
    cuts = [
        (operation, rng.randrange(len(VARIANTS)))
        for stage in STAGES
        for operation in sorted(rng.sample([at for at in stage_of if stage_of[at] == stage], SAMPLED))
    ]
    sweep(kind, cuts, stage_of)


@pytest.mark.soak
@pytest.mark.parametrize("share", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_to_its_end_after_a_cut_anywhere(kind: str, share: int) -> None:
    """Every operation in each of the four, in two of the eight ways, or in one (ALIKE)."""
    stage_of = operations(kind)
    cuts = [
        (operation, (share + half + operation) % len(VARIANTS))
        for operation in stage_of
        for half in ((0, 4) if stage_of[operation] not in ALIKE else (0,))
    ]
    assert {operation for operation, _ in cuts} == set(stage_of)
    sweep(kind, cuts, stage_of)
