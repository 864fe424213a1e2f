"""A flood behind one bridge: a radio that hears one packet at a time, and nothing while it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_tests.air_rig import AirRig
from hil_tests.cover_rig import percentile

_STORED_MAX_S = 300
# The set of an alarm wants no answer; whether it came is asked with the fourth after it, ten minutes apart.
_ASKED_AFTER_S = 3600


def _a_flood(folder: Path, covers: int, within_s: float, sf: int, stored_max_s: float, seed: int) -> None:
    town = AirRig(folder, covers, seed, towers=0, bridges=1, channels=1, sf=sf, install_s=10 * covers)
    with town as rig:
        rig.settle_in()
        assert rig.poses_learned == covers, f"seed {seed}: {rig.describe()}"
        lifted = rig.storm(within_s)
        rig.run_s(within_s + stored_max_s)
        latencies = [opening.latency_s for opening in lifted]
        told = sum(opening.raised_ms is not None for opening in lifted)
        print(f"\nbridge=1 sf={sf} covers={covers} within_s={within_s:.0f} told={told}", end=" ")
        print(f"p50_s={percentile(latencies, 0.5):.1f} p99_s={percentile(latencies, 0.99):.1f}", end=" ")
        print(f"max_s={max(latencies):.1f} packets_up={rig.packets['up']}", end=" ")
        print(f"packets_down={rig.packets['down']} seed={seed}")
        assert max(latencies) <= stored_max_s, f"seed {seed}: {rig.describe()}"
        due = {record for station in rig.stations.values() for record in station.held()}
        rig.run_s(_ASKED_AFTER_S)
        missing = sorted(due - rig.judge.records.keys())
        assert not missing, f"seed {seed}, {len(missing)} of {len(due)}: {missing[:5]}"
        books = rig.books()
        assert not books.problems, f"seed {seed}: {books.problems[:5]}"
        assert not books.invented, f"seed {seed}: {books.line()}"


def test_a_flood_behind_a_bridge_is_told_of_every_cover(tmp_path: Path) -> None:
    _a_flood(tmp_path, covers=20, within_s=6, sf=7, stored_max_s=_STORED_MAX_S, seed=21)


@pytest.mark.soak
def test_two_hundred_covers_are_lifted_within_a_minute_behind_one_bridge_and_all_are_told(
    tmp_path: Path,
) -> None:
    _a_flood(tmp_path, covers=200, within_s=60, sf=7, stored_max_s=_STORED_MAX_S, seed=22)
