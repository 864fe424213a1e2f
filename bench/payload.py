"""Bits per reading of real river records, through the real encoder and decoder.

    python bench/payload.py FILE.csv[.gz] …

A record has columns datetime, temp, cond, ph, do, turb and stage (others are ignored): °C, µS/cm, pH, mg/L, NTU and
cm every 15 minutes, as the sensors gave them. A day with all 96 sets becomes one readings message of schema river6, at
a resolution of 0.01, 1, 0.01, 0.01, 0.1 and 0.1; other days are left out. -9999, NULL and empty cells are readings
flagged missing: they are sent and they count. What is measured is the whole message before sealing: CBOR array,
header, first values and all. Every message is decoded again and compared.
"""

from __future__ import annotations

import csv
import gzip
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from protocols.measurands import registry
from protocols.wire import messages, readings

SCHEMA_ID = 2
COLUMNS = ("temp", "cond", "ph", "do", "turb", "stage")  # in the order of the schema
SETS_PER_DAY = 96
# What the header of a station in its second year costs; the node holds the day that it sends.
FIRST_SEQ = 70080
HELD = SETS_PER_DAY - 1

Row = tuple[int | None, ...]
Day = tuple[list[int], list[Row]]


def scaled(cell: str, column: int) -> int | None:
    """The reading as an integer, None where the record has none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    if not math.isfinite(value) or value == -9999:
        return None
    return registry().of_schema(SCHEMA_ID)[column].scaled(value)


def complete_days(path: Path) -> Iterator[Day]:
    """Times and rows of every calendar day that has all its sets."""
    days: dict[str, Day] = {}
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        reader = csv.DictReader(file)
        absent = {"datetime", *COLUMNS} - set(reader.fieldnames or ())
        if absent:
            raise SystemExit(f"{path}: no column {', '.join(sorted(absent))}; it has {reader.fieldnames}")
        for line in reader:
            when = datetime.fromisoformat(line["datetime"]).replace(tzinfo=UTC)
            times, rows = days.setdefault(line["datetime"][:10], ([], []))
            times.append(int(when.timestamp()))
            rows.append(tuple(scaled(line[name], column) for column, name in enumerate(COLUMNS)))
    return (day for day in days.values() if len(day[0]) == SETS_PER_DAY)


def message_of(seq: int, times: list[int], rows: list[Row]) -> bytes:
    """The plain readings message of one day."""
    flags = [tuple(readings.MISSING if value is None else readings.GOOD for value in row) for row in rows]
    body = readings.encode(readings.schema(SCHEMA_ID), readings.SYNCHRONISED, times, rows, flags)
    return messages.encode(messages.Readings(SCHEMA_ID, seq, HELD, times[0], body, None))


def check_round_trip(plain: bytes, times: list[int], rows: list[Row]) -> None:
    """Refuse to report a size for bytes that do not give the readings back."""
    message = messages.decode_up(plain)
    if not isinstance(message, messages.Readings):
        raise SystemExit(
            f"the day at {times[0]} decodes as {type(message).__name__}: a bug in protocols/wire"
        )
    sets = readings.decode(readings.schema(message.schema), message.time, message.body)
    if list(sets.times) != times or list(sets.rows) != rows:
        raise SystemExit(
            f"the day at {times[0]} does not survive encoding and decoding: a bug in protocols/wire"
        )


def report(path: Path) -> str:
    """The line for one record."""
    sizes = []
    for times, rows in complete_days(path):
        plain = message_of(FIRST_SEQ + SETS_PER_DAY * len(sizes), times, rows)
        check_round_trip(plain, times, rows)
        sizes.append(len(plain))
    if not sizes:
        raise SystemExit(f"{path}: no day with {SETS_PER_DAY} sets")
    sets = SETS_PER_DAY * len(sizes)
    bits_per_reading = 8 * sum(sizes) / (sets * len(COLUMNS))
    return (
        f"file={path} readings={sets * len(COLUMNS)} bits_per_reading={bits_per_reading:.3f}"
        f" bytes_per_set={sum(sizes) / sets:.3f}"
    )


def main(paths: list[str]) -> None:
    if not paths:
        raise SystemExit("usage: python bench/payload.py FILE.csv[.gz] …")
    for path in paths:
        if not Path(path).is_file():
            raise SystemExit(f"{path}: no such file")
        print(report(Path(path)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
