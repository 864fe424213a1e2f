"""What one sees in the demo: a row per node, from the gateway's own store and the nodes' own flash."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protocols.measurands import CLASS_NAMES, water_class
from protocols.wire import readings
from protocols.wire.codes import EVENT_NAMES

if TYPE_CHECKING:
    from hil_tests.consumer import Consumer
    from hil_tests.street import Street

FLAG_STYLE = {readings.SUSPECT: "yellow", readings.FAIL: "bold red"}
CLASS_STYLE = {"I": "bold cyan", "II": "cyan", "III": "green", "IV": "yellow", "V": "red", "劣V": "bold red"}
# One set under way and one waiting for its ack.
BUFFERED_NORMAL = 2
# Looking into a node's flash costs a few milliseconds, so not with every frame.
FLASH_LOOK_S = 1.0
STATES = ("cleared", "raised", "")
STATE_STYLE = {"raised": "bold red", "cleared": "green"}
BOARD_STATES = {"running": "up", "deepsleep": "asleep"}

# (number, quality flag) by measurand.
Values = dict[str, tuple[float, int]]


@dataclass
class NodeRow:
    """The latest set of one node, and the latest thing that happened to it."""

    node: str
    node_type: str
    board: str
    values: Values = field(default_factory=dict)
    event: str = ""
    event_state: str = ""
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

    def look(self) -> list[NodeRow]:
        """One row per node, in the order of their addresses."""
        if time.monotonic() - self._looked_s > FLASH_LOOK_S:
            self._looked_s = time.monotonic()
            self._kept = {node: len(self._street.outbox(node).kept) for node in self._street.boards}
        return [self._row(node) for node in self._street.boards]

    def _row(self, node: str) -> NodeRow:
        row = NodeRow(node, self._street.places[node].node_type, self._street.boards[node].state)
        if not self._street.gateway.database.exists():
            return row
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{self._street.gateway.database}?mode=ro", uri=True)
        address = int(node, 16)
        (row.stored,) = self._connection.execute(_STORED, (address, address)).fetchone()
        row.buffered = max(0, self._kept.get(node, 0) - row.stored)
        latest = self._connection.execute(
            "SELECT received_ms, time, schema, body FROM reading_view WHERE node = ? ORDER BY id DESC LIMIT 1",
            (address,),
        ).fetchone()
        if latest is not None:
            self._fill(row, *latest)
        event = self._connection.execute(
            "SELECT code, state FROM event_view WHERE node = ? AND kind = 2 ORDER BY id DESC LIMIT 1",
            (address,),
        ).fetchone()
        if event is not None:
            row.event, row.event_state = EVENT_NAMES.get(event[0], f"code {event[0]}"), STATES[event[1]]
        return row

    @staticmethod
    def _fill(row: NodeRow, received_ms: int, time_s: int, schema_id: int, body: bytes) -> None:
        schema = readings.schema(schema_id)
        sets = readings.decode(schema, max(0, time_s), body)
        flags = sets.flags[0] if sets.flags else (readings.GOOD,) * len(schema.series)
        for series, value, flag in zip(schema.series, sets.rows[0], flags, strict=True):
            if value is not None:
                row.values[series.name] = (value / 10**series.decimals, flag)
        row.age_s = max(0.0, time.time() - received_ms / 1000)


def render(rows: list[NodeRow], city: Consumer | None, end_s: float | None) -> RenderableType:
    """The table and the line under it."""
    table = Table(
        title="Tidegate: a river station, a manhole cover and a lift",
        title_justify="left",
        header_style="bold underline",
        box=None,  # fits 80 columns
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for title in ("node", "type", "latest set", "latest event", "board"):
        table.add_column(title, no_wrap=True)
    for title in ("kept", "stored", "age s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.node, row.node_type, said(row), _event(row), *_tail(row))
    foot = "kept: on the node's flash alone. class: GB 3838-2002, worst single factor."
    if city is not None:
        foot += f" The city has {len(city.judge.records)} records, {city.judge.copies} copies."
    if end_s is not None:
        foot += f" Ends in {max(0, end_s - time.monotonic()):.0f} s."
    return Group(table, Text(foot, style="dim"))


def said(row: NodeRow) -> Text:
    """A node's latest set in one line of at most 35 characters, each number in the colour of its flag."""
    if not row.values:
        return Text("–", style="dim")
    return SAID[row.node_type](row.values)


def _river(values: Values) -> Text:
    good = {name: value for name, (value, flag) in values.items() if flag != readings.FAIL}
    grade = water_class(good).grade
    name = CLASS_NAMES[grade] if grade is not None else "–"
    return Text.assemble(
        _number(values, "water_temperature", 1), "°C pH ", _number(values, "ph", 2), " DO ",
        _number(values, "dissolved_oxygen", 1), " class ", (name, CLASS_STYLE.get(name, "")),
    )  # fmt: skip


def _cover(values: Values) -> Text:
    warmth = (", ", _number(values, "air_temperature", 0), " °C") if "air_temperature" in values else ()
    return Text.assemble(
        "tilt ", _number(values, "tilt", 1), "°, ", _number(values, "supply_voltage", 2), " V", *warmth
    )


def _lift(values: Values) -> Text:
    return Text.assemble(
        "floor ", _number(values, "floor", 0), ", ", _number(values, "trips", 0), " trips, ",
        _number(values, "car_speed", 1), " m/s",
    )  # fmt: skip


SAID: dict[str, Callable[[Values], Text]] = {"river": _river, "cover": _cover, "lift": _lift}


def _number(values: Values, name: str, decimals: int) -> Text:
    if name not in values:
        return Text("–", style="dim")
    value, flag = values[name]
    return Text(f"{value:.{decimals}f}", style=FLAG_STYLE.get(flag, ""))


def _event(row: NodeRow) -> Text:
    # Lift events say "lift" in a row that says so already.
    name = row.event.removeprefix(f"{row.node_type}_").replace("_", " ")
    return Text(f"{name} {row.event_state}".rstrip(), style=STATE_STYLE.get(row.event_state, ""))


def _tail(row: NodeRow) -> list[Text]:
    state = BOARD_STATES.get(row.board, row.board)
    return [
        Text(state, style="" if row.board in BOARD_STATES else "yellow"),
        Text(str(row.buffered), style="yellow" if row.buffered > BUFFERED_NORMAL else ""),
        Text(str(row.stored)),
        Text("–" if row.age_s is None else f"{row.age_s:.0f}"),
    ]
