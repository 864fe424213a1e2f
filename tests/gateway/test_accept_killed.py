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


def run_and_kill(folder: Path, lines: int) -> set[tuple[int, int, int]]:
    """Start it, read so many lines, kill it; every id that it said is safe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.accept_until_killed", str(folder)],
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


def check(folder: Path, safe: set[tuple[int, int, int]]) -> int:
    """The store after the kill: how many records it holds."""
    with device_desk(folder, "level-1", "level-2") as desk:
        found = desk.store.readings(0, 1 << 40, 1 << 40)
        ids = Counter((one.ledger.node, one.ledger.number, one.seq) for one in found)
        assert safe <= ids.keys()
        assert max(ids.values()) == 1
        by_epoch: dict[tuple[int, int], list[int]] = {}
        for node, number, seq in ids:
            by_epoch.setdefault((node, number), []).append(seq)
        assert all(sorted(seqs) == list(range(1, len(seqs) + 1)) for seqs in by_epoch.values())
        assert len(by_epoch) == 2  # one epoch for each device, whatever happened
        rows = desk.store.read(audit.balance)
        assert all(row.holds and row.lost == 0 and row.missing == 0 for row in rows)
        return len(found)


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.soak)])
def test_no_id_is_reused_and_no_gap_is_left(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(SEED)
    safe: set[tuple[int, int, int]] = set()
    records = 0
    for _ in range(rounds):
        safe |= run_and_kill(tmp_path, rng.randrange(1, 3000))
        records = check(tmp_path, safe)
    print(f"kills={rounds} safe={len(safe)} records={records} seed={SEED}")
