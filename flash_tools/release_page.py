"""The page of a release: one HTML file with nothing outside of it, to be read before somebody says yes."""

from __future__ import annotations

from html import escape
from typing import Any

from flash_tools import release_show
from flash_tools.release_book import Book, Release
from flash_tools.release_show import SPREADING_FACTORS, Change
from protocols.wire import manifest
from protocols.wire import release as release_file

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --soft: #5d6b78; --line: #d8dee4; --paper: #fff; --bar: #2f7d95;
  --grow: #b3541e; --shrink: #3b7d3b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ec; --soft: #9aa7b2; --line: #37424c; --paper: #14191e;
  --bar: #58a6bd; --grow: #e08a55; --shrink: #79b979; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.notes { font-size: 1.1rem; margin: .3rem 0 1rem; } .soft { color: var(--soft); }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { fill: var(--bar); } .grow { color: var(--grow); } .shrink { color: var(--shrink); }
td code { white-space: nowrap; overflow-wrap: normal; } td:first-child { min-width: 8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
"""


def render(book: Book, release: Release) -> str:
    """The page, as text."""
    record = release.record
    earlier = [one for one in book.releases(record["node_type"], record["board"])
               if one.sequence < release.sequence]  # fmt: skip
    before = earlier[-1] if earlier else None
    title = f"{record['node_type']} on {record['board']}, release {release.sequence}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=notes>{escape(record['notes'] or 'No notes were given.')}</p>",
        _facts(book, release),
        "<h2>On the air</h2>",
        _air(release),
        f"<h2>{'What changed since release ' + str(before.sequence) if before else 'What it is made of'}</h2>",
        _changes(release_show.changes(before.files() if before else {}, release.files()), before is None),
        "<h2>Keys</h2>",
        _keys(book, release),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _facts(book: Book, release: Release) -> str:
    record = release.record
    signed = sum(release.envelope(payload) is not None for payload in release.payloads)
    facts = {
        "Vendor": escape(book.data["vendor"]),
        "Commit": f"<code>{escape(str(record['commit'] or 'unknown'))}</code>"
        + (" (files differed from it)" if str(record["commit"]).endswith("+") else ""),
        "Bundle": f"{record['size']:,} bytes in {len(release.files())} files",
        "SHA-256": f"<code>{record['sha256']}</code>",
        "Signed": f"{signed} of {len(release.payloads)} payloads",
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items()) + "</dl>"


def _air(release: Release) -> str:
    """Payloads by spreading factor."""
    head = "".join(f"<th class=n>SF{sf}</th>" for sf in SPREADING_FACTORS)
    rows = []
    for row in release_show.air_rows(release):
        whom = "any node of the class" if row["base"] is None else f"nodes that run release {row['base']}"
        signed = "not signed" if row["envelope"] is None else f"+ {row['envelope']:,} manifest"
        cells = "".join(f"<td class=n>{_sent(row, at)}</td>" for at in range(len(SPREADING_FACTORS)))
        rows.append(
            f"<tr><td>{whom}</td><td class=n>{row['size']:,}<br><span class=soft>{signed}</span></td>"
            f"<td class=n>{row['share']:.1f} %</td>{cells}</tr>"
        )
    return (
        f"<div class=wide><table><tr><th>Sent to</th><th class=n>Bytes</th><th class=n>Of bundle</th>{head}</tr>"
        + "".join(rows)
        + "</table></div><p class=soft>Frames and time on the air of the payload and its manifest by the law of "
        "China (CN470, at most a second each), before anything is sent again.</p>"
    )


def _sent(row: dict[str, Any], at: int) -> str:
    every = [row["air"][at]] + ([row["envelope_air"][at]] if row["envelope_air"] else [])
    frames, us = sum(air.frames for air in every), sum(air.us for air in every)
    return f"{frames:,} frames<br><span class=soft>{release_show.seconds(us)}</span>"


def _changes(found: list[Change], is_first: bool) -> str:
    shown = [change for change in found if change.what != "same"]
    if not shown:
        return "<p>Nothing.</p>"
    most = max(change.delta or 0 for change in shown)
    rows = []
    for change in sorted(shown, key=lambda change: -(change.delta or 0)):
        width = max(1, round(160 * (change.delta or 0) / most))
        rows.append(
            f"<tr><td><code>{escape(change.path)}</code></td><td>{change.what}</td>"
            f"<td class=n>{change.new if change.new else '–'}</td><td class=n>{_growth(change)}</td>"
            f'<td class=n>{change.delta}</td><td><svg width="160" height="10" role="img" '
            f'aria-label="{change.delta} bytes"><rect class="bar" width="{width}" height="10" rx="2"/></svg></td></tr>'
        )
    what = f"{len(shown)} files." if is_first else f"{release_show.summary(found)}."
    return (
        f"<p>{what}</p><div class=wide><table><tr><th>File</th><th></th><th class=n>Bytes</th>"
        "<th class=n>Grew by</th><th class=n>To send</th><th></th></tr>" + "".join(rows) + "</table></div>"
    )


def _growth(change: Change) -> str:
    by = change.new - change.old
    kind = "grow" if by > 0 else "shrink"
    return f"<span class={kind}>{by:+d}</span>" if by else "0"


def _keys(book: Book, release: Release) -> str:
    """Whom nodes with this release will trust."""
    names = {key["kid"]: key["name"] for key in book.data["keys"]}
    said = release_file.decode(release.files()[release_file.FILE])
    rows = []
    for key in said.keys:
        kid = key.kid.hex()
        kind = "" if key.is_revoked else {manifest.ES256: "ES256", manifest.HSS_LMS: "HSS/LMS"}[key.algorithm]
        state = f"revoked: {book.data['revoked'].get(kid, '')}" if key.is_revoked else "trusted"
        rows.append(
            f"<tr><td><code>{kid}</code></td><td>{kind}</td><td>{escape(names.get(kid, ''))}</td>"
            f"<td>{escape(state)}</td></tr>"
        )
    return (
        "<p class=soft>Nodes that run this release take the next one only with the signature of a key that is "
        "trusted here.</p><table><tr><th>Key</th><th>Algorithm</th><th>Name</th><th></th></tr>"
        + "".join(rows) + "</table>"
    )  # fmt: skip
