"""kill -9 at any moment: what was said to be safe is there, no id is given twice, and no gap is left unexplained."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway import audit
from tests.gateway.device_desk import device_desk

ROOT = Path(__file__).parents[2]
SEED = 20_261_128


def run_and_kill(folder: Path, lines: int, *words: str) -> set[tuple[int, int, int]]:
    """Start it, read so many lines, kill it; every id that it said is safe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.accept_until_killed", str(folder), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    safe = set()
    for _ in range(lines):
        node, number, seq = process.stdout.readline().split()
        safe.add((int(node), int(number), int(seq)))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # what it said since may be cut in the middle of a line
    return safe


def check(folder: Path, safe: set[tuple[int, int, int]]) -> tuple[int, int]:
    """The store after the kill: how many records it holds, and how many it lists as lost.

    They are made faster than a busy disk takes them, so some may have had no room; each of those must be listed.
    """
    with device_desk(folder, "level-1", "level-2") as desk:
        found = desk.store.readings(0, 1 << 40, 1 << 40)
        ids = Counter((one.ledger.node, one.ledger.number, one.seq) for one in found)
        assert safe <= ids.keys()
        assert max(ids.values()) == 1
        assert (
            len({(node, number) for node, number, _ in ids}) == 2
        )  # one epoch for each device, whatever happened
        rows = desk.store.read(audit.balance)
        assert [row for row in rows if not row.holds or row.missing] == []
        return len(found), sum(row.lost for row in rows)


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.soak)])
def test_no_id_is_reused_and_no_gap_is_left(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(SEED)
    safe: set[tuple[int, int, int]] = set()
    records = lost = 0
    for _ in range(rounds):
        safe |= run_and_kill(tmp_path, rng.randrange(1, 3000))
        records, lost = check(tmp_path, safe)
    print(f"kills={rounds} safe={len(safe)} records={records} lost={lost} seed={SEED}")


def test_sets_that_had_no_room_are_listed_when_it_is_killed_just_after(tmp_path: Path) -> None:
    safe: set[tuple[int, int, int]] = set()
    listed = []
    for _ in range(2):
        safe |= run_and_kill(tmp_path, 4000, "stalls")
        listed.append(check(tmp_path, safe)[1])
    assert 0 < listed[0] < listed[1]
