"""Campaigns as a person reads them: whole on 80 columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gateway.asking import date_of
from gateway.campaign_plan import percent
from gateway.campaign_reasons import ADVICE
from gateway.campaign_rows import FINAL, GONE, INSTALLED, NODE_STATES, REFUSED, ROLLED_BACK
from gateway.errors import CommandError
from gateway.log import printable
from gateway.status import span

_BAR = 24
_WIDTH = 80
# What a bar is made of, in order: how it ended, on the way, not begun.
_ENDS = ((INSTALLED, "█"), (ROLLED_BACK, "R"), (REFUSED, "X"), (GONE, "?"))
_ON_THE_WAY = "▒"
_WAITING = "·"
_ALONE = Text("no gateway is running: it goes on when one does. Start it: tidegate gateway run")
_COLUMNS = (
    "node", "site", "area", "board", "wave", "state", "reason", "lwm2m_state", "lwm2m_result", "suit_reason", "ran",
    "target", "base", "session", "received", "fragments", "tries", "vanished", "changed_ms",
)  # fmt: skip


def begun(made: dict[str, Any]) -> list[str]:
    """What `add` prints."""
    lines = [f"campaign {made['id']} ({made['name']}): {_count(made['nodes'])}."]
    lines += [f"  wave {at}: {name}, {_count(count)}" for at, (name, count) in enumerate(made["waves"], 1)]
    if made["left_out"]:
        lines.append(f"{made['left_out']} other nodes of these types are left out, as you chose.")
    return [*lines, f"Watch it: tidegate campaign watch {made['id']}"]


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def bar(states: dict[str, int], width: int = _BAR) -> str:
    """Every state that anybody is in has a mark at least, as long as there is room."""
    total = sum(states.values())
    if not total:
        return _WAITING * width
    moving = total - states["waiting"] - sum(states[state] for state, _ in _ENDS)
    parts = [(states[state], mark) for state, mark in _ENDS] + [(moving, _ON_THE_WAY)]
    marks = ""
    for count, mark in parts:
        if count:
            marks += mark * max(1, int(count * width / total))
    if len(marks) > width:  # the longest gives way
        marks = marks.replace("█", "", len(marks) - width) if "█" in marks else marks[:width]
    fill = _WAITING if states["waiting"] else (marks[0] if marks else _WAITING)
    return (
        marks + _WAITING * (width - len(marks)) if fill == _WAITING else fill * (width - len(marks)) + marks
    )


def print_list(found: list[dict[str, Any]], console: Console | None = None) -> None:
    out = console or Console()
    if not found:
        out.print("no campaign yet. Begin one: tidegate campaign add RELEASE --why …")
        return
    table = Table("id", "name", "state", "since", "progress", "done", title="campaigns")
    for one in found:
        total = sum(one["states"].values())
        ended = sum(one["states"][state] for state in (*FINAL, GONE))
        _row(table, str(one["id"]), one["name"][:20], one["state"], date_of(one["changed_ms"])[5:16],
             bar(one["states"], 14), f"{ended}/{total}")  # fmt: skip
    out.print(table)


def print_one(found: dict[str, Any], console: Console | None = None) -> None:
    (console or Console()).print(picture(found))


def picture(found: dict[str, Any], *, is_served: bool = True) -> Group:
    """The head, the waves, and what went wrong."""
    reasons = [Text(line) for line in _reasons(found)]
    return Group(
        *(Text(line) for line in _head(found)), _waves(found), *reasons, *([] if is_served else [_ALONE])
    )


def _head(found: dict[str, Any]) -> Iterable[str]:
    head = f"campaign {found['id']} ({printable(found['name'])}): {found['state'].upper()}"
    told = printable(found["told"])
    if told and len(head) + len(told) < _WIDTH - 1:
        yield f"{head}: {told}"
    else:
        yield head
        if told:
            yield f"  {told}"
    yield f"  begun {date_of(found['created_ms'])} by {printable(found['who'])}: {printable(found['why'])}"
    plan = found["plan"]
    hours = ", ".join(f"{_minute(begin)}-{_minute(end)}" for begin, end in plan["windows"])
    yield (
        f"  at {hours} {plan['zone'] or 'local time'}" if hours else "  at any hour"
    ) + f", {plan['air_share'] * 3600:.0f} s of air an hour"
    yield (
        f"  halts at {plan['halt_count']} failures and more than {percent(plan['halt_share'])}, "
        f"waits {span(plan['patience_s'])} for a silent node"
    )
    for one in found.get("passes", ()):
        yield f"  {pass_told(one)}"
    if found.get("waits_for_clock"):  # a daemon that was not restarted since an upgrade does not say
        yield "  nothing begins: hours want a clock that is in time, and this one is not."
        yield "  Set up NTP, or assume_synchronised = true under [clock] of gateway.toml."
    elif found["opens_in_s"]:
        yield f"  outside its hours; goes on in {span(found['opens_in_s'])}"
    yield from _holds(found)
    if found["state"] == "halted":
        yield f"  Look at the reasons, then: tidegate campaign resume {found['id']} --why …, or abort"


def _holds(found: dict[str, Any]) -> Iterable[str]:
    """Who is waited for, when they are few."""
    holds = found["holds"]
    if found["state"] != "running" or not 0 < holds["count"] <= len(holds["first"]):
        return
    for one in holds["first"]:
        because = f", {one['reason']}" if one["reason"] else ""
        yield f"  wave {one['wave'] + 1} waits for {one['node']} ({one['state']}{because}), {span(one['left_s'])} more"
    first = holds["first"][0]["node"]
    yield f"  To go on without it: tidegate campaign skip {found['id']} {first} --why …"


def pass_told(one: dict[str, Any]) -> str:
    """A broadcast that is planned or under way."""
    count = _count(one["coming"])
    if one["left"] is None:
        asked = f", {one['asked']} asked" if one["asked"] else ""
        return f"broadcast at SF{one['sf']} in {span(one['begins_in_s'])}: {count} so far{asked}"
    return f"broadcast at SF{one['sf']}: {one['sent']} of {one['sent'] + one['left']} rows sent to {count}"


def _minute(at: int) -> str:
    return f"{at // 60:02d}:{at % 60:02d}"


def _waves(found: dict[str, Any]) -> Table:
    table = Table("wave", "nodes", "progress", "ok", "bad", "gone", "busy", "waits")
    table.columns[0].no_wrap = True
    rows = [(f"{at} {one['name']}", one["states"]) for at, one in enumerate(found["waves"], 1)]
    for at, (name, states) in enumerate([*rows, ("all", found["states"])]):
        failed = states[ROLLED_BACK] + states[REFUSED]
        total = sum(states.values())
        busy = total - states["waiting"] - states[INSTALLED] - states[GONE] - failed
        mark = "▶" if at == found["wave"] and found["state"] == "running" and at < len(rows) else ""
        _row(table, f"{mark}{name}"[:16], str(total), bar(states, 12),
             *(str(count) for count in (states[INSTALLED], failed, states[GONE], busy, states["waiting"])))  # fmt: skip
    return table


def _reasons(found: dict[str, Any]) -> Iterable[str]:
    for reason, count in sorted(found["reasons"].items(), key=lambda pair: -pair[1]):
        yield f"{count} × {reason}: {ADVICE.get(reason, 'not known to this gateway: it is older than the node.')}"


def states(wanted: list[str]) -> list[str]:
    """Checked; "rolled-back" is as good as "rolled back"."""
    found = []
    for one in wanted:
        plain = one.strip().lower().replace("-", " ").replace("_", " ")
        if plain not in NODE_STATES:
            near = get_close_matches(plain, NODE_STATES, 1, 0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(
                f"--state {one!r:.40} is not allowed. Allowed are {', '.join(NODE_STATES)}.{hint}"
            )
        found.append(plain)
    return found


def print_nodes(nodes: list[dict[str, Any]], console: Console | None = None) -> None:
    (console or Console()).print(_nodes(nodes))


def _nodes(nodes: list[dict[str, Any]]) -> Table:
    table = Table(
        "node", "site", "wave", "state", "reason", "release", "has", "since", box=None, padding=(0, 2, 0, 0)
    )
    for column in table.columns:
        column.no_wrap = True
    for row in nodes:
        ran = "?" if row["ran"] is None else str(row["ran"])
        target = "?" if row["target"] is None else str(row["target"])
        _row(table, row["node"], row["site"][:14], str(row["wave"] + 1), row["state"], row["reason"][:13],
             f"{ran} → {target}", _has(row), date_of(row["changed_ms"])[5:16])  # fmt: skip
    return table


def _has(row: dict[str, Any]) -> str:
    """How much of it a node said to have."""
    if row["state"] not in ("receiving", "received") or row["received"] is None:
        return ""
    return f"{100 * row['received'] // max(1, row['fragments'])} %"


def report(found: dict[str, Any], kind: str) -> str:
    """For a file: `kind` is json, csv or txt."""
    if kind == "json":
        return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    stream = io.StringIO()
    if kind == "csv":
        writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(found["nodes"])
        return stream.getvalue()
    out = Console(file=stream, width=80)
    print_one(found, out)
    print_nodes(found["nodes"], out)
    return stream.getvalue()


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))
