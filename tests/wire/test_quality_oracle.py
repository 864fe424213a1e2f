"""Quality flags are those of ioos-qc 3 on over a thousand random series; its answers are recorded (`make oracle`)."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.wire import interpreters, mpy_quality_series

RECORDED = Path(__file__).with_name("quality_oracle.txt.gz")
BYTES_MAX = 300_000


def recorded() -> list[str]:
    return gzip.decompress(RECORDED.read_bytes()).decode().splitlines()


def test_every_flag_is_that_of_ioos_qc() -> None:
    lines = recorded()
    assert len(lines) == mpy_quality_series.COUNT >= 1000
    flags = sum(mpy_quality_series.compared(number, line) for number, line in enumerate(lines))
    print(f"\nquality series={len(lines)} flags={flags} differ=0")
    assert flags > 250_000


def test_the_series_exercise_every_answer_of_every_test() -> None:
    said = {test: Counter[str]() for test in mpy_quality_series.TESTS}
    for line in recorded():
        for test, flags in zip(mpy_quality_series.TESTS, line.split(" "), strict=True):
            said[test].update(flags)
    possible = {"gross": "1349", "spike": "12349", "rate": "139", "flat": "1349"}
    for test, answers in possible.items():
        assert min(said[test][answer] for answer in answers) >= 200, (test, said[test])
    assert RECORDED.stat().st_size < BYTES_MAX


def test_a_wrong_flag_would_be_noticed() -> None:
    line = recorded()[0]
    with pytest.raises(AssertionError, match="series 0, gross: ours"):
        mpy_quality_series.compared(0, ("4" if line[0] == "1" else "1") + line[1:])


def test_a_share_of_the_series_on_micropython() -> None:
    said = interpreters.micropython("tests/wire/mpy_quality.py")
    print(said)
    assert re.match(r"quality series=200 flags=\d{5}\n", said), said
