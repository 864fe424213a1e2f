"""`tidegate gateway devices` and `profiles` as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.config_devices import DeviceSection, ModbusSection
from gateway.log import printable
from gateway.profile_library import SHIPPED, Library
from gateway.profiles import Profile
from gateway.status import span

FLAGS = {1: "", 2: "?", 3: "suspect", 4: "FAIL", 9: "missing"}


STYLES = {"up": "green", "down": "bold red", "suspect": "yellow", "probing": "yellow"}


def show_devices(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """A few lines for each device, so that 80 columns cut nothing: how it is, what and where, what it said last."""
    out = console or Console()
    width = max((len(row["device"]) for row in rows), default=0)
    for row in rows:
        state = row["state"]
        head = Text(f"{row['device']:{width}}  ", "bold")
        head.append(state, STYLES.get(state, ""))
        if state not in ("up", "unknown"):
            head.append(f" for {span(row['state_s'])}", "not bold")
        heard = "never heard" if row["age_s"] is None else f"heard {span(row['age_s'])} ago"
        head.append(f", {heard}" + (f": {printable(row['reason'])}" if row["reason"] else ""), "not bold")
        out.print(head)
        unit = f"unit {row['at']}" if isinstance(row["at"], int) else row["at"]
        place = f"site {row['site']}, area {row['area']}" if row["site"] else "no site"
        _lines(out, f"{row['profile']} behind {row['bus']}, {unit}; {place}")
        if row["values"]:
            _lines(out, ", ".join(_value(key, value) for key, value in row["values"].items()))
    out.print(Text(f"{len(rows)} devices{_count(rows)}."))


def _lines(out: Console, text: str) -> None:
    out.print(Padding(Text(text), (0, 0, 0, 4), expand=False))


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
        return f"{key} missing"
    text = f"{key} {value['v']:.{value['decimals']}f} {value['u']}"
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
