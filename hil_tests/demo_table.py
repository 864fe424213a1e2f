"""What one sees in the demo: a row per node, from the gateway's own store and the nodes' own flash."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.control import ask
from hil_tests.demo_devices import DEVICES
from hil_tests.places import CoverPlace, Place
from protocols.measurands import CLASS_NAMES, water_class
from protocols.wire import readings
from protocols.wire.codes import EVENT_NAMES

if TYPE_CHECKING:
    from hil_tests.consumer import Consumer
    from hil_tests.hotline import Hotline
    from hil_tests.street import Street
    from hil_tests.world.order_desk import DeskOrder

FLAG_STYLE = {readings.SUSPECT: "yellow", readings.FAIL: "bold red"}
CLASS_STYLE = {"I": "bold cyan", "II": "cyan", "III": "green", "IV": "yellow", "V": "red", "劣V": "bold red"}
# One set under way and one waiting for its ack.
BUFFERED_NORMAL = 2
# Looking into a node's flash and asking the daemon cost a few milliseconds, so not with every frame.
FLASH_LOOK_S = 1.0
STATES = ("cleared", "raised", "")
UNITS = {"Cel": "°C"}
STATE_STYLE = {"raised": "bold red", "cleared": "green"}
ORDERS_SHOWN = 3
BOARD_STATES = {"running": "up", "asleep": "asleep"}

# (number, quality flag) by measurand.
Values = dict[str, tuple[float, int]]


@dataclass
class NodeRow:
    """The latest set of one node, and the latest thing that happened to it."""

    node: str
    node_type: str
    board: str
    name: str
    way: tuple[str, str]  # how it came, and more of that
    values: Values = field(default_factory=dict)
    event: str = ""
    event_state: str = ""
    stored: int = 0
    buffered: int = 0
    age_s: float | None = None
    points: list[str] = field(default_factory=list)  # of a device: what it shows


_STORED = """SELECT (SELECT count(*) FROM reading_view WHERE node = ?)
                  + (SELECT count(*) FROM event_view WHERE node = ?)"""


class Board:
    """Looks at a running street without disturbing it: the store is opened read-only, the flash images are copied."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._connection: sqlite3.Connection | None = None
        self._kept: dict[str, int] = {}
        self._looked_s = 0.0
        self._air: dict[str, dict[str, Any]] = {}
        self._devices: list[dict[str, Any]] = []

    def look(self) -> list[NodeRow]:
        """One row per node, in the order of their addresses, then one per device."""
        if time.monotonic() - self._looked_s > FLASH_LOOK_S:
            self._looked_s = time.monotonic()
            self._kept = {node: len(self._street.outbox(node).kept) for node in self._street.boards}
            self._ask()
        if self._connection is None and self._street.gateway.database.exists():
            self._connection = sqlite3.connect(f"file:{self._street.gateway.database}?mode=ro", uri=True)
        return [self._row(node) for node in self._street.boards] + [
            self._device_row(one) for one in self._devices
        ]

    def _ask(self) -> None:
        """What only the running daemon knows: how nodes are heard, and what devices say."""
        status = ask(self._street.gateway.data, {"operation": "status"}) or {"rows": []}
        self._air = {row["node"]: row["air"] for row in status["rows"] if "air" in row}
        listed = ask(self._street.gateway.data, {"operation": "device.list"}) or {"devices": []}
        self._devices = listed["devices"]

    def _device_row(self, told: dict[str, Any]) -> NodeRow:
        device = next(one for one in DEVICES if one.name == told["device"])
        row = NodeRow(told["node"], "device", "running", device.name, device.way)
        row.points = [
            f"{value['v']:.{value['decimals']}f} {UNITS.get(value['u'], value['u'])}"
            for key, value in told["values"].items()
            if key in device.shown and value["v"] is not None
        ]
        row.age_s = told["age_s"]
        if told["state"] != "up":
            row.event, row.event_state = told["reason"] or "waiting", ""
        if self._connection is not None:
            address = int(told["node"], 16)
            (row.stored,) = self._connection.execute(_STORED, (address, address)).fetchone()
        return row

    def _way(self, node: str) -> tuple[str, str]:
        board = self._street.boards[node].state
        state = BOARD_STATES.get(board, board)
        if self._street.places[node].spot is None:
            return "serial", state
        air = self._air.get(node)
        if air is None:
            return "lora", "joining" if board == "running" else state
        return f"lora SF{air['sf']} {state}", f"{air['rssi_dbm']:.0f} dBm {air['snr_db']:.0f} dB"

    def _row(self, node: str) -> NodeRow:
        place = self._street.places[node]
        row = NodeRow(node, place.node_type, self._street.boards[node].state, place.site, self._way(node))
        if self._connection is None:
            return row
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


def told_orders(hotline: Hotline, places: Iterable[Place]) -> list[str]:
    """The latest work orders as the hotline has them, a line each."""
    opened = {place.site: place.opened_s for place in places if isinstance(place, CoverPlace)}
    return [
        told_order(order, hotline, opened.get(str(order.fields["place"])))
        for order in hotline.orders()[-ORDERS_SHOWN:]
    ]


def told_order(order: DeskOrder, hotline: Hotline, opened_s: float | None) -> str:
    """Its number, for what, who was told when, and whether it is closed."""
    told = []
    for at_s, state, area in order.history:
        when = time.strftime("%H:%M:%S", time.localtime(at_s))
        if opened_s is not None and at_s >= opened_s and order.fields["scene"] == "cover_open":
            when = f"{at_s - opened_s:.0f} s"
        told.append(f"{'closed' if state == 2 else hotline.handler(area)} {when}")
    return f"{order.code} {order.fields['scene']} {order.fields['place']}: {', '.join(told)}"


def render(
    rows: list[NodeRow], city: Consumer | None, end_s: float | None, orders: Sequence[str] = ()
) -> RenderableType:
    """The table and the lines under it."""
    table = Table(
        title="Tidegate: what is in a city, and how it comes to the gateway",
        title_justify="left",
        header_style="bold underline",
        box=None,  # fits 80 columns
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for title in ("what", "way", "latest set, latest event"):
        table.add_column(title, no_wrap=True)
    for title in ("kept", "stored", "age s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        way = Text.assemble(row.way[0], "\n", (row.way[1], "dim"))
        latest = Text.assemble(said(row), "\n", _event(row))
        table.add_row(row.name, way, latest, *_tail(row))
    foot = "kept: on the node's flash alone. class: GB 3838-2002, worst single factor."
    if city is not None:
        foot += f" The city has {len(city.judge.records)} records, {city.judge.copies} copies."
    if end_s is not None:
        foot += f" Ends in {max(0, end_s - time.monotonic()):.0f} s."
    told = [Text(order) for order in orders] or [Text("none yet", style="dim")]
    heading = Text("\nWork orders: who was told when; of a theft, seconds since the lever", style="italic")
    return Group(table, heading, *told, Text(foot, style="dim"))


def said(row: NodeRow) -> Text:
    """A node's latest set in one line of at most 35 characters, each number in the colour of its flag."""
    if row.points:
        return Text(", ".join(row.points))
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
    return [
        Text(
            "" if row.node_type == "device" else str(row.buffered),
            style="yellow" if row.buffered > BUFFERED_NORMAL else "",
        ),
        Text(str(row.stored)),
        Text("–" if row.age_s is None else f"{row.age_s:.0f}"),
    ]
