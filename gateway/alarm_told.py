"""Alarms as a person reads them: three lines each, whole on 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import alarm_rows
from gateway.areas import Areas
from gateway.asking import date_of
from protocols.alarm_rules import Rule

WIDTH = 80
SEVERITIES = ("", "notice", "warning", "severe", "danger")
_HOUR_S = 3600


def card(alarm: Mapping[str, Any], rules: Mapping[str, Rule], areas: Areas, now_ms: int) -> Iterator[str]:
    """What it is, since when, who was told, and the number of its order."""
    rule = rules.get(alarm["rule"])
    yield from _fold(f"{alarm['id']:<3} {alarm['rule']} at {alarm['site']}: {_state(alarm, now_ms)}", "    ")
    what = "its rule is no longer in the configuration" if rule is None else rule.en
    detail = alarm_rows.detail_text(alarm["detail"])
    node = f"node {alarm['node']:04x}" + (f": {detail}" if detail else "")
    yield from _fold(f"    {SEVERITIES[alarm['severity']]}: {what} ({node})", "    ")
    told = [f"for {teller(areas, alarm['area'], alarm['tier'])}"]
    if alarm["acknowledged_ms"] is not None:
        told.append(f"acknowledged by {alarm['acknowledged_by']}")
    if alarm["silent_until_ms"] > now_ms and alarm["cleared_ms"] is None:
        told.append(f"SILENT until {date_of(alarm['silent_until_ms'])}")
    told += [
        word for mark, word in (("flapping", "comes and goes"), ("late", "heard of late")) if alarm[mark]
    ]
    yield from _fold(f"    order {alarm['order']}; {', '.join(told)}", "    ")


def history(
    changes: list[Mapping[str, Any]], sent: Mapping[str, int], areas: Areas, area: str
) -> Iterator[str]:
    """What happened to it, and which platforms have been told up to where."""
    for change in changes:
        text = f"    {date_of(change['at_ms'])}  {change['kind']}"
        if change["kind"] == "escalated":
            text += f" to {teller(areas, area, change['tier'])}"
        if change["who"]:
            text += f" by {change['who']}"
        if change["why"]:
            text += f": {change['why']}"
        behind = [name for name, upto in sent.items() if upto < change["id"]]
        if behind:
            text += f" (not yet delivered: {', '.join(sorted(behind))})"
        yield from _fold(text, " " * 8)


def teller(areas: Areas, area: str, tier: int) -> str:
    """Who is told at that tier of that area."""
    tiers = areas.tiers(area)
    one = tiers[min(tier, len(tiers) - 1)]
    return " ".join(word for word in (one.level, one.name, one.handler and f"({one.handler})") if word)


def _state(alarm: Mapping[str, Any], now_ms: int) -> str:
    begun_ms, over_ms = alarm["raised_ms"], alarm["cleared_ms"]
    lasted = _span((now_ms if over_ms is None else over_ms) - begun_ms)
    if over_ms is None:
        return f"OPEN since {date_of(begun_ms)}, {lasted}"
    return f"over, {date_of(begun_ms)} for {lasted}"


def _span(ms: int) -> str:
    seconds = max(0, ms // 1000)
    if seconds < 2 * 60:
        return f"{seconds} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds // 60} min"
    return f"{seconds // _HOUR_S} h" if seconds < 48 * _HOUR_S else f"{seconds // (24 * _HOUR_S)} days"


def _fold(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
