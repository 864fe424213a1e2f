"""The station record as a page for the folder in the cabinet: it needs nothing beside itself, and prints on A4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from flash_tools import label
from flash_tools.accept import FAILED, OK, OPEN, SKIPPED
from flash_tools.provisioning import Unit

_WORDS = {OK: "ok", FAILED: "FAILED", OPEN: "open", SKIPPED: "n/a"}

_STYLE = """
 body { font: 10pt/1.35 Helvetica, Arial, sans-serif; color: #111; max-width: 182mm; margin: 10mm auto; }
 h1 { font-size: 17pt; margin: 0 0 1mm; } h2 { font-size: 12pt; margin: 7mm 0 2mm; }
 .verdict { font-weight: bold; border: 0.6mm solid; padding: 1mm 3mm; display: inline-block; }
 .good { color: #0b5d1e; } .bad { color: #a40000; } .wait { color: #6b4e00; }
 table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
 padding: 0.8mm 2mm 0.8mm 0; border-bottom: 0.2mm solid #bbb; overflow-wrap: anywhere; }
 th { font-weight: bold; } .key { width: 30mm; color: #444; } .state { width: 15mm; }
 .limit { width: 58mm; color: #444; }
 .when .key { width: 42mm; white-space: nowrap; } .head { margin-bottom: 3mm; }
 .head { display: flex; justify-content: space-between; gap: 6mm; } .head svg { border: 0.2mm solid #bbb; flex: none; }
 .sign { margin-top: 14mm; display: flex; gap: 12mm; }
 .sign div { border-top: 0.2mm solid #111; flex: 1; padding-top: 1mm; }
 @page { size: A4; margin: 14mm; } @media print { body { margin: 0; } tr { break-inside: avoid; } }
"""


def html(unit: Unit, record: Mapping[str, Any]) -> str:
    """The page."""
    wait = any(step["state"] == OPEN for step in record["steps"])
    if record["passed"]:
        word, tone = ("PROVISIONED, not yet accepted in its place", "wait") if wait else ("PASSED", "good")
    else:
        word, tone = (f"NOT PASSED: {record['state']}", "bad")
    position = record["position"]
    about = {
        "Node": f"{record['node'].upper()} ({record['node_type']})",
        "Board": record["board"],
        "MAC": record["mac"],
        "Area": record["area"],
        "Site": record["site"] or "none yet",
        "Position": "not given" if position is None else f"{position[0]:.6f}, {position[1]:.6f} (WGS-84)",
        "Firmware": record["firmware"] or "not flashed yet",
        "Station": f"{record['station']}, {record['who'] or 'unknown'}",
    }
    rows = _pairs(about.items())
    steps = "\n".join(_row(step) for step in record["steps"])
    history = _pairs((f"{when[:10]} {when[11:]}", what) for when, what in record["history"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Station record of node {escape(record['node'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<div class="head"><div><h1>Station record: node {escape(record["node"].upper())}</h1>\n'
        f'<p class="verdict {tone}">{escape(word)}</p></div>\n{label.svg(unit)}</div>\n'
        f"<table>\n{rows}\n</table>\n<h2>What was found, and its limit</h2>\n"
        '<table>\n<tr><th class="key">step</th><th class="state">outcome</th><th>found</th>'
        f'<th class="limit">limit</th></tr>\n{steps}\n</table>\n'
        f'<h2>History</h2>\n<table class="when">\n{history}\n</table>\n'
        '<div class="sign"><div>date, place</div><div>signature</div></div>\n</body>\n</html>\n'
    )


def _row(step: Mapping[str, str]) -> str:
    tone = {OK: "good", FAILED: "bad", OPEN: "wait"}.get(step["state"], "")
    word = _WORDS.get(step["state"], step["state"])
    return (
        f'<tr><td class="key">{escape(step["step"])}</td><td class="state {tone}">{escape(word)}</td>'
        f'<td>{escape(step["value"])}</td><td class="limit">{escape(step["limit"])}</td></tr>'
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        f'<tr><td class="key">{escape(left)}</td><td>{escape(right)}</td></tr>' for left, right in pairs
    )
