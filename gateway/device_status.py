"""`tidegate gateway devices` and `profiles` as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.config_devices import DeviceSection, ModbusSection
from gateway.log import printable
from gateway.profile_library import SHIPPED, Library
from gateway.profiles import Profile
from gateway.status import span

FLAGS = {1: "", 2: "?", 3: "suspect", 4: "FAIL", 9: "missing"}


def show_devices(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """A few lines for each device, so that names are whole on 80 columns: who and where, how, what it said last."""
    out = console or Console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("device", "where", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("values", overflow="fold", min_width=24)
    for row in rows:
        heard = "never" if row["age_s"] is None else f"{span(row['age_s'])} ago"
        state = [row["state"]]
        if row["state"] not in ("up", "unknown"):
            state[0] += f" for {span(row['state_s'])}"
        if row["reason"]:
            state.append(printable(row["reason"]))
        state.append(f"heard {heard}" if row["age_s"] is not None else "never heard")
        unit = f"unit {row['at']}" if isinstance(row["at"], int) else str(row["at"])
        cells = (
            f"{row['device']}\n{row['profile']}",
            f"{row['bus']}, {unit}\nsite {row['site'] or 'none'}",
            "\n".join(state),
            "\n".join(_value(key, value) for key, value in row["values"].items()),
        )
        table.add_row(*map(Text, cells))
    out.print(table)
    out.print(Text(f"{len(rows)} devices{_count(rows)}."))


def _count(rows: list[dict[str, Any]]) -> str:
    """How many are in each state."""
    states = [row["state"] for row in rows]
    return "".join(f", {states.count(state)} {state}" for state in dict.fromkeys(states))


def line_hints(
    bus: ModbusSection, sections: Iterable[DeviceSection], profiles: Mapping[str, Profile]
) -> list[str]:
    """Devices that leave the factory with other line settings than the bus has. No mistake: they can be set."""
    if bus.transport != "rtu":
        return []
    hints = []
    for section in sections:
        profile = profiles.get(section.profile)
        if section.modbus != bus.name or profile is None or profile.modbus is None:
            continue
        factory = profile.modbus.serial
        if (factory.baud, factory.parity, factory.stop_bits) != (bus.baud, bus.parity, bus.stop_bits):
            hints.append(
                f"  {section.name}: leaves the factory with {factory.baud} baud, parity {factory.parity}; has it "
                f"been set to {bus.baud}, {bus.parity}?"
            )
    return hints


def _value(key: str, value: dict[str, Any]) -> str:
    if value["v"] is None:
        return f"{key}: missing"
    text = f"{key}: {value['v']:.{value['decimals']}f} {value['u']}"
    flag = FLAGS.get(value["q"], "?")
    return f"{text} ({flag})" if flag else text


def show_profiles(folder: Path | None, console: Console | None = None) -> None:
    """Every profile there is, what it is for, and what a [[device]] with it needs."""
    out = console or Console()
    library = Library(folder)
    table = Table("profile", "behind", "points", "what", title="profiles")
    for name in library.names():
        profile = library.get(name)
        file = library.file_of(name)
        own = "" if file is None or file.parent == SHIPPED else " (your own)"
        table.add_row(Text(name + own), profile.source, str(len(profile.points)), Text(profile.title))
    out.print(table)
