"""bench/payload.py says what real bytes cost: only complete days, gaps included, one line per record."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.wire.interpreters import ROOT
from tests.wire.readings_cases import Dice, wander

HEAD = "datetime,temp,temp_cor,cond,ph,do,turb,stage\n"


def record(sets: int) -> str:
    """``sets`` rows of 15 minutes each, with a gap of every kind in the first hours."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    lines = [HEAD]
    for i, row in enumerate(wander(Dice(7), sets, (748, 1258, 837, 980, 1423, 1234), 2)):
        temp, cond, ph, do, turb, stage = row
        cells = [
            f"{temp / 100}",
            "NULL",
            f"{cond}",
            f"{ph / 100}",
            f"{do / 100}",
            f"{turb / 10}",
            f"{stage / 10}",
        ]
        if i in (3, 4, 5):
            cells[{3: 0, 4: 2, 5: 6}[i]] = {3: "-9999", 4: "", 5: "NULL"}[i]
        lines.append(f"{start + timedelta(minutes=15 * i):%Y-%m-%d %H:%M}," + ",".join(cells) + "\n")
    return "".join(lines)


def payload(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "bench/payload.py", *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_line_per_record_counts_complete_days_only(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    plain.write_text(record(2 * 96 + 40))
    packed.write_bytes(gzip.compress(record(96).encode()))
    done = payload(plain, packed)
    assert done.returncode == 0, done.stderr
    lines = [
        re.fullmatch(r"file=(\S+) readings=(\d+) bits_per_reading=([\d.]+) bytes_per_set=([\d.]+)", line)
        for line in done.stdout.splitlines()
    ]
    found = [(line[1], int(line[2])) for line in lines if line is not None]
    assert found == [(str(plain), 2 * 576), (str(packed), 576)]
    for line in lines:
        assert line is not None
        assert float(line[4]) * 8 / 6 == pytest.approx(float(line[3]), abs=0.001)
        assert 1 < float(line[3]) < 6


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (HEAD, "no day with 96 sets"),
        ("datetime,temp\n", "no column cond, do, ph, stage, turb"),
        (None, "no such file"),
    ],
)
def test_a_record_that_cannot_be_measured_says_why(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_text(text)
    done = payload(path)
    assert done.returncode != 0
    assert what in done.stderr
