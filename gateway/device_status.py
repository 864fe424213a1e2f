"""`tidegate gateway devices` and `profiles` as tables for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.log import printable
from gateway.profile_library import SHIPPED, Library
from gateway.status import span

FLAGS = {1: "", 2: "?", 3: "suspect", 4: "FAIL", 9: "missing"}


def show_devices(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """One line for each device, with what its points said last."""
    out = console or Console()
    table = Table(
        "device", "profile", "behind", "area/site", "state", "last heard", "values", title="devices"
    )
    for row in rows:
        heard = "never" if row["age_s"] is None else f"{span(row['age_s'])} ago"
        state = (
            row["state"]
            if row["state"] in ("up", "unknown")
            else f"{row['state']} for {span(row['state_s'])}"
        )
        cells = (
            row["device"],
            row["profile"],
            f"{row['bus']}, {row['at']}",
            f"{row['area'] or '-'}/{row['site'] or '-'}",
            f"{state}: {printable(row['reason'])}" if row["reason"] else state,
            heard,
            "\n".join(_value(key, value) for key, value in row["values"].items()),
        )
        table.add_row(*map(Text, cells))
    out.print(table)
    out.print(Text(f"{len(rows)} devices."))


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
