"""`tidegate gateway status` as tables for a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.log import printable

_BAD_FRAMES = ("refused_crc", "refused_oversize", "refused_kind", "refused_fragment")


def show(status: dict[str, Any], console: Console | None = None) -> None:
    """Print what the daemon's `status` operation returned."""
    out = console or Console()
    reasons = status["reasons"]
    ready = "ready" if not reasons else "not ready: " + "; ".join(reasons)
    # Names and texts come from nodes and files: Text takes them as they are, without markup or emoji.
    out.print(Text(f"{status['name']}: up {span(status['running_s'])}, {ready}"))
    if status["rows"] or not status.get("devices"):
        out.print(_nodes(status["rows"]))
    if status.get("devices"):
        out.print(Text(_devices(status["devices"])))
    if status["links"]:
        out.print(_links(status["links"]))
    if status.get("radios"):
        out.print(_radios(status["radios"]))
        out.print(_air([row for row in status["rows"] if "air" in row]))
    if status["northbounds"]:
        out.print(_northbounds(status["northbounds"]))
    if "store" in status:
        out.print(Text(_buffer(status["store"])))
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(status["refused"].items()) if count)
    out.print(Text(f"refused frames: {refused or 'none'}"))


def _buffer(store: dict[str, float]) -> str:
    """How much can still come while nothing goes out."""
    used, left = store["used_bytes"] / (1 << 20), store["buffer_left_bytes"] / (1 << 20)
    hours = store["buffer_left_hours"]
    lasts = "its rate is not known yet" if hours < 0 else f"{_much(hours)} at the rate of the last day"
    return f"buffer: {used:,.0f} MiB in use, room for {left:,.0f} MiB more: {lasts}"


def _much(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours < 96 else f"{hours / 24:,.0f} days"


def _devices(devices: dict[str, dict[str, float]]) -> str:
    """One line; `tidegate gateway devices` has the rest."""
    quiet = [name for name, row in devices.items() if not row.get("up")]
    shown = ", ".join(map(printable, quiet[:5])) + (" …" if len(quiet) > 5 else "")
    told = f"; not up: {shown}" if quiet else ""
    return f"devices: {len(devices) - len(quiet)} of {len(devices)} up{told} (tidegate gateway devices)"


def _nodes(rows: list[dict[str, Any]]) -> Table:
    """`tidegate gateway node list` has areas, too."""
    table = Table(
        "node", "type", "site", "link", "seen", "runs", "holds", "state",
        title="nodes", title_justify="left", box=None, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        seen = span(row["seen_s"]) if "seen_s" in row else "not yet"
        if row["silent"]:
            seen = "SILENT" if row["waited_s"] is None else f"SILENT {span(row['waited_s'])}"
        health = row.get("health", {})
        state = ", ".join(filter(None, (_state(health), _battery(health))))
        _row(
            table, row["node"], row["type"], row["site"][:18], row.get("link", "")[:12], seen,
            row.get("firmware", ""), _hours(row.get("backlog_hours")), state,
        )  # fmt: skip
    return table


def _state(health: dict[str, int]) -> str:
    """What of a node's own account a person must know, the worst first; empty before its first status."""
    parts = []
    if "safe_mode" in health:
        parts.append(f"SAFE MODE after {health['safe_mode']} failed starts")
    if health.get("alarms_raised"):
        parts.append(f"{health['alarms_raised']} alarms")
    if health.get("maintenance_s"):
        parts.append(f"maintenance, {span(health['maintenance_s'])} left")
    if "wakes" in health:
        parts.append(f"{health['wakes']} wakes")
    return ", ".join(parts)


def _battery(health: dict[str, int]) -> str:
    return f"{health['battery_mv'] / 1000:.2f} V" if "battery_mv" in health else ""


def _links(links: dict[str, dict[str, float]]) -> Table:
    table = Table("link", "state", "frames in", "frames out", "bad frames", "lost", title="links")
    for name, link in links.items():
        bad = int(sum(count for reason, count in link.items() if reason in _BAD_FRAMES))
        left_s = link.get("handed_over_s", 0.0)
        state = "open" if link["open"] else f"handed over, {span(left_s)} left" if left_s else "closed"
        counts = (link["frames_in"], link["frames_out"], bad, link.get("losses", 0))
        _row(table, name, state, *(str(int(count)) for count in counts))
    return table


def _radios(radios: dict[str, dict[str, float]]) -> Table:
    table = Table("radio", "state", "packets in", "packets out", "refused", title="radios")
    for name, radio in radios.items():
        refused = sum(count for reason, count in radio.items() if reason.startswith("refused_"))
        counts = (radio["packets_in"], radio["packets_out"], refused)
        left_s = radio.get("handed_over_s", 0.0)
        state = "ready" if radio["open"] else f"handed over, {span(left_s)} left" if left_s else "not ready"
        _row(table, name, state, *(str(int(count)) for count in counts))
    return table


def _air(rows: list[dict[str, Any]]) -> Table:
    """How each node is heard; margin is what its SNR has over the least at which a packet is received."""
    table = Table(
        "node",
        "radio",
        "of",
        "RSSI",
        "SNR",
        "SF",
        "margin",
        "sends with",
        "packets",
        "lost",
        title="on the air",
    )
    for row in rows:
        air = row["air"]
        _row(
            table,
            row["node"],
            air["radio"],
            str(air["heard_by"]),
            f"{air['rssi_dbm']:.0f} dBm",
            f"{air['snr_db']:.1f} dB",
            str(air["sf"]),
            f"{air['margin_db']:.1f} dB",
            "" if air["dbm"] is None else f"{air['dbm']} dBm",
            str(air["packets"]),
            str(air["lost"]),
        )
    return table


def _northbounds(northbounds: dict[str, dict[str, float]]) -> Table:
    table = Table("northbound", "state", "delivered", "backlog", "oldest", title="northbounds")
    for name, row in northbounds.items():
        state = "connected" if row["connected"] else "not connected"
        _row(
            table,
            name,
            state,
            str(int(row["delivered"])),
            str(int(row["backlog_records"])),
            _hours(row["backlog_hours"]),
        )
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.1f} h"


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = int(seconds)
    for size, unit, small_size, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small_size} {small}"
    return f"{whole} s"
