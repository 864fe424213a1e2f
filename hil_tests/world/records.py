"""Water from a real record: a CSV or CSV.gz of 15-minute samples, played at any speed.

The header names the columns: `datetime`, then `temp,cond,ph,do,turb,stage` and, for each, a technician's correction
`x_cor` and label `x_qual`. -9999, NULL and empty cells say "no data".
"""

import bisect
import csv
import gzip
import math
import zlib
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from hil_tests.errors import HilError

# column of the file: measurand; the units agree (Cel, uS/cm, pH, mg/L, NTU, cm)
COLUMNS = {
    "temp": "water_temperature",
    "cond": "conductivity",
    "ph": "ph",
    "do": "dissolved_oxygen",
    "turb": "turbidity",
    "stage": "level",
}
_NO_DATA = {"", "NULL", "null", "NA", "NaN", "nan", "-9999", "-9999.0"}
# A sample stands for the water until the next one, but not across a hole in the record.
_HELD_S = 3600


class RecordError(HilError):
    """The file is not a record of this format; the message says where."""


class Record:
    """``start_s``: the world time (unix seconds) at which the record's first sample is shown; with ``skip_s``, the
    sample that lies so many seconds of the record later.

    ``speed``: seconds of the record per second of world. At its end the record starts again, unless ``loop`` is False.
    ``corrected``: the technician's values instead of the raw ones.
    """

    def __init__(
        self,
        path: Path,
        *,
        speed: float = 1.0,
        start_s: float = 0.0,
        skip_s: float = 0.0,
        loop: bool = True,
        corrected: bool = False,
    ) -> None:
        if speed <= 0:
            raise RecordError(f"speed {speed:g}: must be above 0")
        self.path = Path(path)
        self.speed = speed
        self.start_s = start_s
        self.skip_s = skip_s
        self.loop = loop
        self.times_s = array("d")
        self.columns: dict[str, array[float]] = {}
        with _open_text(self.path) as lines:
            self._read(lines, "_cor" if corrected else "")
        self.duration_s = self.times_s[-1] - self.times_s[0] + 900.0

    def quantities(self, t_s: float) -> dict[str, float]:
        """The sample in force at world time ``t_s``; without what has no data then."""
        elapsed_s = self.skip_s + (t_s - self.start_s) * self.speed
        if self.loop:
            elapsed_s %= self.duration_s
        return self.at(self.times_s[0] + elapsed_s)

    def at(self, time_s: float) -> dict[str, float]:
        """The same by the record's own time (unix seconds)."""
        row = bisect.bisect_right(self.times_s, time_s) - 1
        if row < 0 or time_s - self.times_s[row] >= _HELD_S:
            return {}
        return {name: values[row] for name, values in self.columns.items() if not math.isnan(values[row])}

    def _read(self, lines: Iterable[str], suffix: str) -> None:
        reader = csv.reader(lines)
        header = next(reader, [])
        if "datetime" not in header:
            raise RecordError(f"{self.path}:1: no column `datetime`; found {', '.join(header) or 'nothing'}")
        time_at = header.index("datetime")
        places = {name: header.index(key + suffix) for key, name in COLUMNS.items() if key + suffix in header}
        if not places:
            raise RecordError(
                f"{self.path}:1: none of the columns {', '.join(key + suffix for key in COLUMNS)}; "
                f"found {', '.join(header)}"
            )
        self.columns = {name: array("d") for name in places}
        for row in reader:
            if row:
                self._take(reader.line_num, row, time_at, places)
        if not self.times_s:
            raise RecordError(f"{self.path}: no samples below the header")

    def _take(self, line: int, row: list[str], time_at: int, places: dict[str, int]) -> None:
        if len(row) <= max(time_at, *places.values()):
            raise RecordError(f"{self.path}:{line}: {len(row)} cells, fewer than the header has")
        time_s = self._time_s(line, row[time_at])
        if self.times_s and time_s <= self.times_s[-1]:
            return  # a repeated stamp (end of daylight saving): the first one stands
        self.times_s.append(time_s)
        for name, place in places.items():
            self.columns[name].append(self._number(line, row[place]))

    def _time_s(self, line: int, cell: str) -> float:
        try:
            return datetime.fromisoformat(cell).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise RecordError(f"{self.path}:{line}: time {cell!r}, expected like 2019-01-01 00:15") from None

    def _number(self, line: int, cell: str) -> float:
        if cell.strip() in _NO_DATA:
            return math.nan
        try:
            value = float(cell)
        except ValueError:
            raise RecordError(f"{self.path}:{line}: {cell!r} is not a number") from None
        return math.nan if value == -9999 else value


def _open_text(path: Path) -> "_Lines":
    return _Lines(path)


class _Lines:
    """The lines of a plain or gzipped file, with its errors said as RecordError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[str]:
        try:
            with open(self._path, "rb") as file:
                zipped = file.read(2) == b"\x1f\x8b"
            opener = gzip.open if zipped else open
            self._file = opener(self._path, "rt", encoding="utf-8-sig", newline="")
        except OSError as error:
            raise RecordError(f"{self._path}: {error.strerror or error}") from error
        return self._lines()

    def _lines(self) -> Iterator[str]:
        try:
            yield from self._file
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise RecordError(f"{self._path}: can not be read: {error}") from error

    def __exit__(self, *exc: object) -> None:
        self._file.close()
