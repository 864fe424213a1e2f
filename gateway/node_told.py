"""Nodes and what they run, as a person reads it: whole on 80 columns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.asking import date_of
from gateway.campaign_reasons import ADVICE
from gateway.log import printable
from gateway.status import span

_NAME_CHARS = 34  # of area and site; the area has twelve digits


def print_list(nodes: list[dict[str, Any]], console: Console | None = None) -> None:
    """A line each, and how many run what."""
    out = console or Console()
    table = Table(
        "node", "type", "area/site", "release", "firmware", "registered", box=None, padding=(0, 2, 0, 0)
    )
    for column in table.columns:
        column.no_wrap = True
    table.columns[3].justify = "right"
    for node in nodes:
        program = node["program"]
        place = f"{node['area']}/{node['site']}"
        cells = (
            f"{node['address']:04x}", node["node_type"], _cut(place), _release(program),
            program["firmware"] or "?", date_of(node["added_ms"])[:10],
        )  # fmt: skip
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if nodes:
        out.print(table)
    out.print(Text(_count(nodes)))


def _cut(place: str) -> str:
    return place if len(place) <= _NAME_CHARS else place[: _NAME_CHARS - 1] + "…"


def _release(program: dict[str, Any]) -> str:
    """ "?": it has not said hello to this gateway; "none": its program is no release, and takes no update."""
    if not program["at_ms"]:
        return "?"
    return str(program["release"] or "none")


def _count(nodes: list[dict[str, Any]]) -> str:
    counted = Counter((node["node_type"], _release(node["program"])) for node in nodes)
    told = ", ".join(f"{count} × {kind} {release}" for (kind, release), count in sorted(counted.items()))
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}" + (f": {told}." if told else ".")


def print_one(
    node: dict[str, Any],
    campaigns: list[dict[str, Any]],
    live: dict[str, Any] | None,
    console: Console | None = None,
) -> None:
    """`live`: its row of `status`, while a gateway runs."""
    out = console or Console()
    program = node["program"]
    board = f" on {program['board']}" if program["board"] else ""
    out.print(
        Text(
            printable(
                f"node {node['address']:04x}: {node['node_type']}{board}, {node['area']}/{node['site']}"
            )
        )
    )
    for line in (_runs(program), f"registered {date_of(node['added_ms'])}", _heard(live)):
        _line(out, line)
    if not campaigns:
        _line(out, "in no campaign yet")
    for one in campaigns:
        _line(out, _campaign(one))
        if one["reason"]:
            out.print(Padding(Text(ADVICE.get(one["reason"], one["reason"])), (0, 0, 0, 4), expand=False))


def _line(out: Console, text: str) -> None:
    out.print(Padding(Text(printable(text)), (0, 0, 0, 2), expand=False))


def _runs(program: dict[str, Any]) -> str:
    if not program["at_ms"]:
        return "what it runs is not known: it tells that when it starts"
    release = f"release {program['release']}" if program["release"] else "no release (so it takes no update)"
    firmware = f", firmware {program['firmware']}" if program["firmware"] else ""
    return f"runs {release}{firmware}, since {date_of(program['at_ms'])}"


def _heard(live: dict[str, Any] | None) -> str:
    if live is None:
        return "no gateway is running: how it is, only a running one can tell"
    if "seen_s" not in live:
        return "not heard since the gateway's start"
    silent = "; SILENT" if live["silent"] else ""
    return f"heard {span(live['seen_s'])} ago by {live['link']}{silent}"


def _campaign(one: dict[str, Any]) -> str:
    ran = "?" if one["ran"] is None else str(one["ran"])
    target = "?" if one["target"] is None else str(one["target"])
    because = f" ({one['reason']})" if one["reason"] else ""
    return (
        f"campaign {one['campaign']} ({one['name']}): {ran} → {target}, {one['state']}{because} "
        f"since {date_of(one['changed_ms'])}"
    )
