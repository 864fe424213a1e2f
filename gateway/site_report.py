"""A page for the folder of a site: what was found, and how well it was heard. One file, nothing loaded, printable."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:60em;color:#111}
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.6em 0 .4em}p.note{color:#555;margin:.2em 0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid #ccc}
th{border-bottom:2px solid #555}td.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{display:inline-block;width:6em;height:.7em;border:1px solid #777;vertical-align:middle}
.bar i{display:block;height:100%;background:#3a7d44}.bar.bad i{background:#b3261e}
@media print{body{margin:0;max-width:none}tr{break-inside:avoid}.bar i{print-color-adjust:exact}}
"""
# Below this share a line or a place needs a look.
SHARE_GOOD = 0.98


class Share(NamedTuple):
    """A part of a whole, shown as a bar."""

    part: float


class Part(NamedTuple):
    """A headed table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


def page(title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """The whole page."""
    body = "".join(_part(part) for part in parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="note">{escape(subtitle)}</p>{body}</body></html>\n'
    )


def _part(part: Part) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in part.columns)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in part.rows)
    note = f'<p class="note">{escape(part.note)}</p>' if part.note else ""
    empty = "" if part.rows else '<p class="note">Nothing was found.</p>'
    return f"<h2>{escape(part.title)}</h2>{note}<table><tr>{head}</tr>{rows}</table>{empty}"


def _cell(cell: object) -> str:
    if isinstance(cell, Share):
        percent = 100 * min(max(cell.part, 0.0), 1.0)
        bad = "" if cell.part >= SHARE_GOOD else " bad"
        bar = f'<span class="bar{bad}"><i style="width:{percent:.0f}%"></i></span>'
        return f'<td class="n">{percent:.1f} % {bar}</td>'
    if isinstance(cell, float):
        return f'<td class="n">{cell:.1f}</td>'
    if isinstance(cell, int):
        return f'<td class="n">{cell}</td>'
    return f"<td>{escape(_visible(str(cell)))}</td>"


def _visible(text: str) -> str:
    """A name from the air may hold anything: what does not print, or turns the line about, is written out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
