"""Many units from one table: a CSV with a line per unit, and which board becomes which.

    mac,type,board,area,site,latitude,longitude,settings,calibration
    24:0a:c4:00:01:10,river,esp32_devkitc_sx1262,330110001001,bridge-1,30.2741,120.1551,interval_s=900,ph=17
    ,river,esp32_devkitc_sx1262,330110001001,bridge-2,30.2802,120.1604,,

A line with a MAC is for that board. One without is for the next board that no line names and whose kind it asks for;
its site is its name, so that a second run knows which board has become it. Every mistake of a table is named at once,
as file:line:column.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from flash_tools import calibrations, mint, node_types
from flash_tools.errors import BatchError, FlashToolError
from flash_tools.images import board_constants
from flash_tools.provisioning import Unit, Wanted
from flash_tools.radio_plan import radio_of
from protocols.places import area_problem, position_problem
from protocols.wire.codes import SETTING_NAMES

REQUIRED = ("type", "board", "area", "site")
OPTIONAL = (
    "mac", "address", "latitude", "longitude", "settings", "calibration", "plan", "channel", "channels", "sf",
)  # fmt: skip
COLUMNS = (*REQUIRED, *OPTIONAL)
PROBLEMS_MAX = 20
# More units than a bench sees in a month; a larger table is cut in two.
_ROWS_MAX = 10_000
_BYTES_MAX = 4 * 1024 * 1024


class Row(NamedTuple):
    """A line of the table that has no mistake."""

    line: int
    mac: str | None
    wanted: Wanted


def read(path: Path, root: Path = mint.ROOT) -> list[Row]:
    """BatchError with every mistake."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise BatchError(f"{path}: can not be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BatchError(
            f'{path}:{line}: is not in UTF-8, and its names can only be guessed. In Excel: save as "CSV UTF-8"'
        ) from error
    if len(data) > _BYTES_MAX:
        raise BatchError(f"{path}: larger than {_BYTES_MAX} bytes. Cut it in two")
    return _Table(str(path), root).rows(text)


def row_for(rows: Sequence[Row], mac: str, chip: str, units: Sequence[Unit]) -> Row | None:
    """The line that this board becomes; None when there is none for it.

    ``units``: all of the book. A board that has become a line stays it.
    """
    for row in rows:
        if row.mac == mac:
            return row
    named = {unit.wanted.site: unit.mac for unit in units if unit.is_alive}
    free = [row for row in rows if row.mac is None]
    for row in free:
        if named.get(row.wanted.site) == mac:
            return row
    for row in free:
        if row.wanted.site not in named and chip == board_constants(row.wanted.board).CHIP:
            return row
    return None


def parse_mac(text: str) -> str | None:
    """As printed on modules: 24:0a:c4:00:01:10; read with or without colons or dashes. None when it is none."""
    digits = re.sub(r"[:-]", "", text.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        return None
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


class _Table:
    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root
        self._problems: list[str] = []
        self._columns: dict[str, int] = {}

    def rows(self, text: str) -> list[Row]:
        found: list[Row] = []
        try:
            reader = csv.reader(io.StringIO(text, newline=None), strict=True, delimiter=_delimiter(text))
            self._head(next(reader, []))
            if not self._problems:
                for cells in reader:
                    if len(found) >= _ROWS_MAX:
                        raise BatchError(f"{self._name}: more than {_ROWS_MAX} units. Cut the table in two")
                    if any(cell.strip() for cell in cells):
                        found += self._row(reader.line_num, _filled(cells, len(self._columns)))
        except csv.Error as error:
            self._problems.append(f"{self._name}: not CSV: {error}")
        self._alone(found)
        if len(self._problems) > PROBLEMS_MAX:
            self._problems[PROBLEMS_MAX:] = [f"… and {len(self._problems) - PROBLEMS_MAX} more"]
        if self._problems:
            raise BatchError("\n".join(self._problems))
        if not found:
            raise BatchError(
                f"{self._name}: names no unit. Write one line per unit below the line of columns"
            )
        return found

    def _head(self, cells: Sequence[str]) -> None:
        for column, cell in enumerate(_filled(cells), 1):
            name = cell.strip().lower()
            if name not in COLUMNS:
                near = get_close_matches(name, COLUMNS, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]}?" if near else ""
                self._tell(
                    1, column, f"no column {cell.strip()!r:.40}. There are: {', '.join(COLUMNS)}.{hint}"
                )
            elif name in self._columns:
                self._tell(1, column, f"column {name} stands there twice")
            else:
                self._columns[name] = column
        for name in REQUIRED:
            if name not in self._columns and not self._problems:
                self._tell(1, len(cells) + 1, f"column {name} is missing. Needed are {', '.join(REQUIRED)}")

    def _row(self, line: int, cells: Sequence[str]) -> Iterator[Row]:
        if len(cells) != len(self._columns):
            problem = (
                f"{len(cells)} cells, and {len(self._columns)} columns. A cell with a comma goes in quotes"
            )
            self._tell(line, min(len(cells), len(self._columns)) + 1, problem)
            return
        row = {name: cells[column - 1].strip() for name, column in self._columns.items()}
        before = len(self._problems)
        for name, problem in self._cell_problems(row):
            self._tell(line, self._columns.get(name, 1), problem)
        if len(self._problems) > before:
            return
        try:
            wanted = wanted_of(row, self._root)
        except CellError as error:
            self._tell(line, self._columns.get(error.column, 1), str(error))
            return
        yield Row(line, parse_mac(row.get("mac", "")), wanted)

    def _cell_problems(self, row: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name in REQUIRED:
            if not row[name]:
                yield name, f"{name} is missing"
        if row.get("mac") and parse_mac(row["mac"]) is None:
            yield "mac", f"MAC {row['mac']!r:.40}: write 12 hexadecimal digits, as 24:0a:c4:00:01:10"
        for name in ("channel", "channels", "sf"):
            if row.get(name) and not re.fullmatch(r"[0-9]{1,3}", row[name]):
                yield name, f"{name} {row[name]!r:.40}: write a whole number"
        for name, check in _checks(row, self._root):
            if row.get(name) or name not in REQUIRED:
                try:
                    check()
                except FlashToolError as error:
                    yield name, str(error)

    def _alone(self, rows: Sequence[Row]) -> None:
        """No board, no address and no site twice."""
        values: dict[str, Callable[[Row], str | int | None]] = {
            "mac": lambda row: row.mac,
            "address": lambda row: row.wanted.address,
            "site": lambda row: row.wanted.site,
        }
        for column, value_of in values.items():
            first: dict[object, int] = {}
            for row in rows:
                value = value_of(row)
                if value is not None and value in first:
                    shown = f"{value:04x}" if isinstance(value, int) else value
                    problem = f"{column} {shown} stands in line {first[value]} already"
                    self._tell(row.line, self._columns[column], problem)
                first.setdefault(value, row.line)

    def _tell(self, line: int, column: int, problem: str) -> None:
        self._problems.append(f"{self._name}:{line}:{column}: {problem}")


class CellError(BatchError):
    """What is wrong with one text, and the column that it stands in."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(problem)
        self.column = column


def wanted_of(row: Mapping[str, str], root: Path = mint.ROOT) -> Wanted:
    """What a board is to become, from texts by the names of COLUMNS. CellError for the first that is wrong."""
    node_type, board, area, site = row["type"], row["board"], row["area"], row.get("site") or None
    for column, check in _checks(row, root):
        with _cell(column):
            check()
    with _cell("plan"):
        channels = row.get("channels")
        count = int(channels) if channels else None
        radio = radio_of(
            row.get("plan") or None, int(row.get("channel") or 0), count, int(row.get("sf") or 0)
        )
        mint.check_radio(node_type, board, radio)
    with _cell("settings"):
        settings = mint.parse_settings(row.get("settings", "").split(), node_type)
        mint.check_settings(node_type, settings, radio is not None)
    latitude, longitude = _position(row.get("latitude", ""), row.get("longitude", ""))
    with _cell("calibration"):
        found = calibrations.parse(row.get("calibration", "").split(), node_type)
    address = _address(row)
    return Wanted(
        node_type,
        board,
        area,
        site,
        latitude,
        longitude,
        address,
        {SETTING_NAMES[key]: value for key, value in settings.items()},
        tuple(calibrations.text_of(one, node_type) for one in found),
        radio,
    )


def _checks(row: Mapping[str, str], root: Path) -> list[tuple[str, Callable[[], object]]]:
    """Of the cells that can be judged whatever stands in the others, by column."""
    types, boards = node_types.minted(root), node_types.boards(root)
    return [
        ("type", lambda: node_types.choose("node type", row["type"], types, root / "firmware/nodes")),
        ("board", lambda: node_types.choose("board", row["board"], boards, root / "boards")),
        ("area", lambda: _refuse(area_problem(row["area"]))),
        ("site", lambda: mint.check_level("site", row.get("site") or None)),
        ("latitude", lambda: _position(row.get("latitude", ""), row.get("longitude", ""))),
        ("address", lambda: _address(row)),
    ]


def _address(row: Mapping[str, str]) -> int | None:
    return mint.parse_address(row["address"]) if row.get("address") else None


def _filled(cells: Sequence[str], least: int = 0) -> Sequence[str]:
    """Without the empty cells that a spreadsheet puts behind the last column."""
    size = len(cells)
    while size > least and not cells[size - 1].strip():
        size -= 1
    return cells[:size]


def _delimiter(text: str) -> str:
    """A spreadsheet whose numbers have commas separates cells with semicolons, and one that copies, with tabs."""
    head = text.partition("\n")[0]
    return max(",;\t", key=head.count)


@contextlib.contextmanager
def _cell(column: str) -> Iterator[None]:
    try:
        yield
    except FlashToolError as error:
        raise CellError(column, str(error)) from error


def _position(latitude: str, longitude: str) -> tuple[float | None, float | None]:
    if not latitude and not longitude:
        return None, None
    texts = {"latitude": latitude, "longitude": longitude}
    numbers = []
    for name, text in texts.items():
        if not re.fullmatch(r"[+-]?[0-9]{1,3}(\.[0-9]{1,9})?", text):
            raise BatchError(
                f"{name} {text!r:.40}: write degrees with decimals (WGS-84), as 30.2741, and both"
            )
        numbers.append(float(text))
    _refuse(position_problem(numbers[0], numbers[1]))
    return numbers[0], numbers[1]


def _refuse(problem: str) -> None:
    if problem:
        raise BatchError(problem)
