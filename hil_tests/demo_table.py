"""What one sees in the demo: a row per station, from the gateway's own store and the nodes' own flash."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protocols.measurands import CLASS_NAMES
from protocols.northbound import derived
from protocols.wire import readings

if TYPE_CHECKING:
    from hil_tests.consumer import Consumer
    from hil_tests.street import Street

# (measurand, column title, decimals): in the order of the sonde's data sheet.
COLUMNS = (
    ("water_temperature", "T °C", 1),
    ("ph", "pH", 2),
    ("dissolved_oxygen", "DO", 2),
    ("conductivity", "µS/cm", 0),
    ("turbidity", "NTU", 1),
    ("orp", "mV", 0),
    ("ammonia_nitrogen", "NH3-N", 2),
    ("level", "cm", 1),
)
FLAG_STYLE = {readings.SUSPECT: "yellow", readings.FAIL: "bold red"}
CLASS_STYLE = {"I": "bold cyan", "II": "cyan", "III": "green", "IV": "yellow", "V": "red", "劣V": "bold red"}
# One set under way and one waiting for its ack.
BUFFERED_NORMAL = 2
# Looking into a node's flash costs a few milliseconds, so not with every frame.
FLASH_LOOK_S = 1.0


@dataclass
class StationRow:
    """The latest set of one station. ``values``: measurand -> (number, quality flag)."""

    node: str
    link: str
    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    grade: str = "–"
    stored: int = 0
    buffered: int = 0
    age_s: float | None = None


_STORED = """SELECT (SELECT count(*) FROM reading_view WHERE node = ?)
                  + (SELECT count(*) FROM event_view WHERE node = ?)"""


class Board:
    """Looks at a running street without disturbing it: the store is opened read-only, the flash images are copied."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._connection: sqlite3.Connection | None = None
        self._kept: dict[str, int] = {}
        self._looked_s = 0.0

    def look(self) -> list[StationRow]:
        """One row per station, in the order of their addresses."""
        if time.monotonic() - self._looked_s > FLASH_LOOK_S:
            self._looked_s = time.monotonic()
            self._kept = {node: len(self._street.outbox(node).kept) for node in self._street.boards}
        return [self._row(node) for node in self._street.boards]

    def _row(self, node: str) -> StationRow:
        row = StationRow(node, self._street.boards[node].state)
        database = next(iter(self._street.gateway.data.glob("*.db")), None)
        if database is None:
            return row
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        address = int(node, 16)
        (row.stored,) = self._connection.execute(_STORED, (address, address)).fetchone()
        row.buffered = max(0, self._kept.get(node, 0) - row.stored)
        latest = self._connection.execute(
            "SELECT received_ms, time, schema, body FROM reading_view WHERE node = ? ORDER BY id DESC LIMIT 1",
            (address,),
        ).fetchone()
        if latest is not None:
            self._fill(row, *latest)
        return row

    @staticmethod
    def _fill(row: StationRow, received_ms: int, time_s: int, schema_id: int, body: bytes) -> None:
        schema = readings.schema(schema_id)
        sets = readings.decode(schema, max(0, time_s), body)
        flags = sets.flags[0] if sets.flags else (readings.GOOD,) * len(schema.series)
        for series, value, flag in zip(schema.series, sets.rows[0], flags, strict=True):
            if value is not None:
                row.values[series.name] = (value / 10**series.decimals, flag)
        said = derived.of(schema_id, sets.rows[0], flags)
        if said is not None and said.water_class is not None:
            row.grade = CLASS_NAMES[said.water_class]
        row.age_s = max(0.0, time.time() - received_ms / 1000)


def render(rows: list[StationRow], city: Consumer | None, end_s: float | None) -> RenderableType:
    """The table and the line under it."""
    table = Table(
        title="Tidegate: three river stations",
        title_justify="left",
        header_style="bold underline",
        box=None,  # fits 80 columns
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("node", no_wrap=True)
    for title in (*(title for _, title, _ in COLUMNS), "class", "link", "kept", "stored", "age s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.node, *(_cell(row, name, decimals) for name, _, decimals in COLUMNS), *_tail(row))
    foot = "class: GB 3838-2002, worst single factor. kept: on the node's flash alone."
    if city is not None:
        foot += f" The city has {len(city.judge.records)} records, {city.judge.copies} copies."
    if end_s is not None:
        foot += f" Ends in {max(0, end_s - time.monotonic()):.0f} s."
    return Group(table, Text(foot, style="dim"))


def _cell(row: StationRow, name: str, decimals: int) -> Text:
    if name not in row.values:
        return Text("–", style="dim")
    value, flag = row.values[name]
    return Text(f"{value:.{decimals}f}", style=FLAG_STYLE.get(flag, ""))


def _tail(row: StationRow) -> list[Text]:
    return [
        Text(row.grade, style=CLASS_STYLE.get(row.grade, "")),
        Text("up" if row.link == "running" else row.link, style="" if row.link == "running" else "yellow"),
        Text(str(row.buffered), style="yellow" if row.buffered > BUFFERED_NORMAL else ""),
        Text(str(row.stored)),
        Text("–" if row.age_s is None else f"{row.age_s:.0f}"),
    ]
