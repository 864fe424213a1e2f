"""Events at the probes, found in labelled river records: our detector beside a plain rule baseline, in one run.

    python bench/events.py TUNED.csv[.gz] REPORTED.csv[.gz] …

A record has columns datetime and, for each of temp, cond, ph and do, the raw value under that name (°C, µS/cm, pH,
mg/L) and a technician's label under NAME_qual; turb and stage are used when they are there. An event is a run of
labelled samples. The first record chooses the detector's tuning (best F1 over a small grid, one setting at a time), the
others only report; the first is printed as well, marked "tuned".

baseline   gross range, spike, rate of change, flat line (protocols/wire/quality.py) with the registry's defaults, any
           flag of SUSPECT, FAIL or MISSING
ours       protocols/disturbance.py, and the FAIL of the gross range

A labelled event is found when something is flagged within an hour of it; what is flagged farther from every label is
false, an hour without a flag ends it. recall = found / labelled, precision = found / (found + false): ten flags
inside one labelled week are one find. Where a technician labelled nothing of a series in a whole record, nobody knows
whether there was nothing: "all" counts what is flagged there as false, "labelled" leaves that series out.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from protocols.disturbance import DEFAULT, Disturbance, Tuning
from protocols.measurands import registry
from protocols.wire import quality, quality_limits, schemas

SCHEMA_ID = 2
COLUMNS = ("temp", "cond", "ph", "do", "turb", "stage")  # in the order of the schema
JUDGED = 4  # the first of them
NO_LABEL = ("", "NULL", "-9999")
SLACK_S = 3600
GRID = {"visit": (8, 16, 32), "after": (1, 2, 3)}
MOVED_GRID = {
    "water_temperature": (3, 8),
    "ph": (3, 5, 8),
    "dissolved_oxygen": (3, 5, 8),
    "conductivity": (0, 3, 8),
}

Span = tuple[int, int]
Flags = list[list[bool]]


class Record(NamedTuple):
    """``labels``: events by series, first and last time of each."""

    name: str
    times: list[int]
    rows: list[tuple[int | None, ...]]
    labels: list[list[Span]]


class Score(NamedTuple):
    labelled: int
    found: int
    false: int

    def __add__(self, other: object) -> Score:
        assert isinstance(other, Score)
        return Score(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def recall(self) -> float:
        return self.found / self.labelled if self.labelled else math.nan

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false) if self.found + self.false else math.nan

    @property
    def f1(self) -> float:
        return 2 * self.found / max(1, self.labelled + self.found + self.false)

    def text(self) -> str:
        counts = f"found={self.found} labelled={self.labelled} false={self.false}"
        return f"recall={self.recall:.3f} precision={self.precision:.3f} {counts}"


def read(path: Path) -> Record:
    times: list[int] = []
    rows: list[tuple[int | None, ...]] = []
    labelled: Flags = [[] for _ in range(JUDGED)]
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        reader = csv.DictReader(file)
        wanted = {"datetime", *COLUMNS[:JUDGED], *(f"{name}_qual" for name in COLUMNS[:JUDGED])}
        absent = wanted - set(reader.fieldnames or ())
        if absent:
            raise SystemExit(f"{path}: no column {', '.join(sorted(absent))}; it has {reader.fieldnames}")
        for line in reader:
            times.append(int(datetime.fromisoformat(line["datetime"]).replace(tzinfo=UTC).timestamp()))
            rows.append(tuple(scaled(line.get(name, ""), column) for column, name in enumerate(COLUMNS)))
            for series in range(JUDGED):
                labelled[series].append(line[f"{COLUMNS[series]}_qual"] not in NO_LABEL)
    step_s = min((b - a for a, b in itertools.pairwise(times) if b > a), default=900)
    return Record(path.name, times, rows, [list(spans(times, flags, step_s)) for flags in labelled])


def scaled(cell: str, column: int) -> int | None:
    """The reading as an integer, None where the record has none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    if not math.isfinite(value) or value == -9999:
        return None
    return registry().of_schema(SCHEMA_ID)[column].scaled(value)


def spans(times: list[int], flags: list[bool], gap_s: int) -> Iterator[Span]:
    """Runs of flagged samples, joined over at most gap_s."""
    first = last = None
    for time_s, flag in zip(times, flags, strict=True):
        if not flag:
            continue
        if first is None or last is None or time_s - last > gap_s:
            if first is not None and last is not None:
                yield first, last
            first = time_s
        last = time_s
    if first is not None and last is not None:
        yield first, last


def baseline(record: Record) -> Flags:
    found: Flags = []
    for series, limits in enumerate(quality_limits.limits_of(schemas.schema(SCHEMA_ID))[:JUDGED]):
        checker = quality.Checker(limits)
        flags: list[bool] = []
        for time_s, row in zip(record.times, record.rows, strict=True):
            flags.append(
                checker.check(time_s, row[series]) in (schemas.SUSPECT, schemas.FAIL, schemas.MISSING)
            )
            if len(flags) > 1 and checker.spike_before in (schemas.SUSPECT, schemas.FAIL):
                flags[-2] = True
        found.append(flags)
    return found


def ours(record: Record, tuning: Tuning) -> Flags:
    schema = schemas.schema(SCHEMA_ID)
    limits = quality_limits.limits_of(schema)
    detector = Disturbance(schema, tuning)
    found: Flags = [[] for _ in range(JUDGED)]
    for row in record.rows:
        disturbed = detector.update(row)
        for series in range(JUDGED):
            is_impossible = quality.gross_range(row[series], limits[series]) == schemas.FAIL
            found[series].append(disturbed[series] or is_impossible)
    return found


def scores(record: Record, flags: Flags) -> list[Score]:
    """One per series."""
    result = []
    for labels, flagged in zip(record.labels, flags, strict=True):
        finds = list(spans(record.times, flagged, SLACK_S))
        found = sum(any(_near(label, find) for find in finds) for label in labels)
        false = sum(not any(_near(label, find) for label in labels) for find in finds)
        result.append(Score(len(labels), found, false))
    return result


def _near(label: Span, find: Span) -> bool:
    return find[0] - SLACK_S <= label[1] and label[0] <= find[1] + SLACK_S


def total(series: list[Score]) -> Score:
    return sum(series, Score(0, 0, 0))


def tuned(record: Record) -> Tuning:
    """The best of a small grid on this record, one setting after the other; a tie keeps what was before."""
    best = DEFAULT
    best_f1 = total(scores(record, ours(record, best))).f1
    for change in changes():
        tuning = change(best)
        f1 = total(scores(record, ours(record, tuning))).f1
        if f1 > best_f1:
            best, best_f1 = tuning, f1
    return best


def changes() -> Iterator[Callable[[Tuning], Tuning]]:
    for field, values in GRID.items():
        for value in values:
            yield lambda tuning, field=field, value=value: tuning._replace(**{field: value})  # type: ignore[misc]
    for name, values in MOVED_GRID.items():
        for value in values:
            yield lambda tuning, name=name, value=value: tuning._replace(moved={**tuning.moved, name: value})  # type: ignore[misc]


def report(record: Record, tuning: Tuning, role: str) -> dict[str, Score]:
    """Print the lines of one record; the totals by detector."""
    totals = {}
    for detector, flags in (("baseline", baseline(record)), ("ours", ours(record, tuning))):
        by_series = scores(record, flags)
        for name, score in zip(COLUMNS, by_series, strict=False):
            print(f"record={record.name} role={role} detector={detector} series={name} {score.text()}")
        labelled = total([score for score in by_series if score.labelled])
        totals[detector] = total(by_series)
        print(f"record={record.name} role={role} detector={detector} series=labelled {labelled.text()}")
        print(
            f"record={record.name} role={role} detector={detector} series=all {totals[detector].text()}",
            flush=True,
        )
    return totals


def main(paths: list[str]) -> None:
    if len(paths) < 2:
        raise SystemExit("usage: python bench/events.py TUNED.csv[.gz] REPORTED.csv[.gz] …")
    for path in paths:
        if not Path(path).is_file():
            raise SystemExit(f"{path}: no such file")
    first = read(Path(paths[0]))
    tuning = tuned(first)
    print(f"tuning={tuning} chosen_on={first.name}")
    report(first, tuning, "tuned")
    for path in paths[1:]:
        report(read(Path(path)), tuning, "reported")


if __name__ == "__main__":
    main(sys.argv[1:])
