"""Manhole covers: every opening is told in time, traffic is not told at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.cover_rig import CoverRig, figures

# GB/T 41401-2022.
_LATENCY_MAX_S = 30


def _every_opening_is_told(folder: Path, covers: int, openings: int, seed: int) -> None:
    with CoverRig(folder, covers, seed) as rig:
        rig.settle_in()
        assert rig.poses_learned == covers, f"seed {seed}"
        rig.play(openings)
        said = " ".join(figures(rig))
        print(said)
        missed = [opening for opening in rig.openings if opening.raised_ms is None]
        assert not missed, f"{said}: {missed}"
        assert not rig.false_alarms, said
        late = [opening for opening in rig.openings if not -31 <= opening.latency_s <= _LATENCY_MAX_S]
        assert len(late) <= len(rig.openings) // 100, f"{said}: {late}"
        assert all(opening.cleared_ms is not None for opening in rig.openings), said
        assert rig.judge.problems == []


def test_a_sample_of_openings_is_told_within_thirty_seconds(tmp_path: Path) -> None:
    _every_opening_is_told(tmp_path, covers=2, openings=12, seed=41)


@pytest.mark.soak
def test_two_hundred_openings_are_told_within_thirty_seconds(tmp_path: Path) -> None:
    _every_opening_is_told(tmp_path, covers=8, openings=200, seed=42)
