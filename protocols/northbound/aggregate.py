"""What a regulator gets of a period: least, mean and greatest of the samples that count, and one flag. Pure integers.

    aggregate([Sample(748, "N"), Sample(752, "N"), Sample(None, "B")])  -> minimum 748, maximum 752, total 1500, flag
    "B"

A sample counts when its flag is N. A period is N when enough of its samples count; else it has the flag of most of
those that do not. Its figures are always those of the samples that count: a figure under a flag other than N is still
the best there is, and the flag says not to judge by it.

Flags as HJ 212 has them: N normal, F out of service, M maintenance, S entered by hand, D fault, C calibration, T out of
range, B no communication with the instrument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from protocols.wire.schemas import FAIL, MISSING

NORMAL, STOPPED, MAINTENANCE, MANUAL, FAULT, CALIBRATING, OUT_OF_RANGE, NO_LINK = "NFMSDCTB"
# Of flags that are equally frequent, the one a person must act on first.
PRECEDENCE = (FAULT, NO_LINK, OUT_OF_RANGE, CALIBRATING, MAINTENANCE, STOPPED, MANUAL)
# Of 100: an hour of which a quarter is missing still stands for the hour.
SHARE_PERCENT = 75


class Sample(NamedTuple):
    """One reading: a scaled integer, None where there is none, and the flag that it would have alone."""

    value: int | None
    flag: str


class Aggregate(NamedTuple):
    """Of one series in one period. Minimum, maximum and total are of the `valid` ones of the samples that `came`;
    scaled integers."""

    came: int
    valid: int
    minimum: int | None
    maximum: int | None
    total: int
    flag: str

    def mean(self, scale: int) -> float | None:
        """The float nearest to the mean; `scale`: integers per unit."""
        return self.total / (self.valid * scale) if self.valid else None


def sample_flag(
    value: int | None, quality: int, low: int, high: int, *, maintenance: bool = False, calibrating: bool = False
) -> str:  # fmt: skip
    """The flag of one reading by its QARTOD flag. SUSPECT and UNKNOWN count: they ask for a look, and are no fault."""
    if calibrating:
        return CALIBRATING
    if maintenance:
        return MAINTENANCE
    if value is None or quality == MISSING:
        return NO_LINK
    if not low <= value <= high:
        return OUT_OF_RANGE
    return FAULT if quality == FAIL else NORMAL


def aggregate(
    samples: Iterable[Sample], *, expected: int = 0, share_percent: int = SHARE_PERCENT
) -> Aggregate:
    """`expected`: how many samples the period should have; those that never came are NO_LINK. 0: not known."""
    count = valid = total = 0
    minimum: int | None = None
    maximum: int | None = None
    others: dict[str, int] = {}
    for value, flag in samples:
        count += 1
        if flag != NORMAL or value is None:
            flag = NO_LINK if flag == NORMAL else flag
            others[flag] = others.get(flag, 0) + 1
            continue
        valid += 1
        total += value
        minimum = value if minimum is None or value < minimum else minimum
        maximum = value if maximum is None or value > maximum else maximum
    if expected > count:
        others[NO_LINK] = others.get(NO_LINK, 0) + expected - count
    flag = _flag(valid, max(count, expected), others, share_percent)
    return Aggregate(count, valid, minimum, maximum, total, flag)


def _flag(valid: int, due: int, others: dict[str, int], share_percent: int) -> str:
    if due == 0:
        return NO_LINK
    if valid * 100 >= due * share_percent:
        return NORMAL
    return max(PRECEDENCE, key=lambda flag: (others.get(flag, 0), -PRECEDENCE.index(flag)))


def best_source(sources: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """Of several instruments at one station that measure the same: the one with the most samples that count.

    They are never mixed: the mean of two probes that disagree is a value that nobody measured.
    """
    return max(sources, key=lambda one: sum(sample.flag == NORMAL for sample in one), default=())
