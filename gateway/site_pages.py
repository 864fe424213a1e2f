"""The pages for the folder of a site: what a scan of a bus or of the air found, and how a running gateway is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.pollers.modbus_ports import SERIAL, Place
from gateway.pollers.modbus_scan import TRIALS, Finding, Scan
from gateway.site_report import Part, Share, page

if TYPE_CHECKING:
    from gateway.pollers.ble_survey import Survey
    from gateway.profiles import Profile

# Below this level a Bluetooth device is lost as soon as a van parks before it.
LEVEL_WEAK_DBM = -85


def bus_page(place: Place, work: Scan) -> str:
    """The printable page of a scan of a bus."""
    rows = [
        (
            each.unit,
            line_words(each, place.kind),
            Share(each.answered_share),
            each.spoilt,
            each.silent,
            1000 * each.latency_s,
            fit_words(each),
            str(each.says),
        )
        for each in work.found
    ]
    columns = ("unit", "line", "answered", "spoilt", "silent", "median ms", "seems to be", "says it is")
    noise = [(settings.baud, settings.parity, count) for settings, count in work.noise.items()]
    asked = f"Each was asked {TRIALS} times or as ordered, after it had been found."
    parts = [Part("Devices", columns, rows, asked)]
    if noise:
        parts.append(Part("Answers that could not be read", ("baud", "parity", "count"), noise))
    return page(f"Modbus bus {place}", f"Scanned {_now()}", parts)


def line_words(finding: Finding, place_kind: str) -> str:
    settings = finding.settings
    return f"{settings.baud} 8{settings.parity}{settings.stop_bits}" if place_kind == SERIAL else "network"


def fit_words(finding: Finding) -> str:
    if not finding.fits:
        return "no profile fits"
    best = finding.fits[0]
    words = f"{best.profile} {best.plausible}/{best.points}"
    return f"{words} ({best.identity})" if best.identity else words


def air_page(survey: Survey, seconds: float, known: dict[str, Profile]) -> str:
    """The printable page of a Bluetooth survey."""
    from gateway.pollers.ble_survey import fitting  # bleak: a page about a bus does without

    rows = [
        (
            one.address,
            one.name,
            f"{one.best_dbm} dBm" + ("" if one.best_dbm >= LEVEL_WEAK_DBM else ", weak"),
            f"{one.rssi_dbm} dBm",
            60 * one.count / seconds,
            one.seems(),
            ", ".join(fitting(known, one.latest)) or "none",
        )
        for one in survey.by_strength()
    ]
    columns = (
        "address",
        "name",
        "best level",
        "last level",
        "adverts a minute",
        "seems to be",
        "profiles that fit",
    )
    note = f"Heard within {seconds:g} s, the nearest first. A level below {LEVEL_WEAK_DBM} dBm will not last."
    if survey.dropped:
        note += f" {survey.dropped} adverts of further addresses were not noted."
    return page("Bluetooth devices", f"Scanned {_now()}", [Part("Devices", columns, rows, note)])


def gateway_page(status: dict[str, Any], devices: Sequence[dict[str, Any]]) -> str:
    """The printable page of a running gateway."""
    buses = [
        (name, int(row["requests"]), _share(row), int(row["silent"]), int(row["spoilt"]), row["busy_seconds"])
        for name, row in status.get("modbus", {}).items()
    ]
    adapters = [
        (
            name,
            "passive" if row["passive"] else "active",
            _a_minute(row["adverts"], status),
            int(row["addresses"]),
            _slots(row),
            f"{row['restarts']:g} restarts, {row['start_errors']:g} errors, {row['resets']:g} power cycles",
        )
        for name, row in status.get("ble", {}).items()
    ]
    nodes = [
        (row["node"], row.get("type", ""), row.get("site", ""), row.get("link", "-"), _level(row))
        for row in status.get("rows", [])
    ]
    return page(
        f"Gateway {status.get('name', '')}",
        f"As it is {_now()}",
        [
            Part("Modbus buses", ("bus", "requests", "answered", "silent", "spoilt", "busy s"), buses),
            Part(
                "Bluetooth adapters",
                ("adapter", "scan", "adverts a minute", "addresses", "connections", "since it started"),
                adapters,
            ),
            Part(
                "Devices",
                ("device", "profile", "bus", "at", "state", "answered", "level", "last values"),
                [_device(each, status) for each in devices],
                _ANSWERED,
            ),
            Part("Nodes", ("node", "type", "site", "link", "level"), nodes),
        ],
    )


_ANSWERED = (
    "Answered: of a Modbus device the requests, of a connected Bluetooth device the reads and connections, of one that "
    "advertises the adverts that could be read."
)


def _device(each: dict[str, Any], status: dict[str, Any]) -> tuple[object, ...]:
    counts = status.get("modbus_devices", {}).get(each["device"], {})
    values = ", ".join(
        f"{key} {last['v']:g} {last['u']}"
        for key, last in each.get("values", {}).items()
        if last["v"] is not None
    )
    state = f"{each['state']}: {each['reason']}" if each.get("reason") else each["state"]
    level = each.get("rssi_dbm")
    return (
        each["device"],
        each["profile"],
        each["bus"],
        each["at"],
        state,
        _share(counts) if counts else _bluetooth_share(each, status),
        "-" if level is None else f"{level} dBm",
        values,
    )


def _bluetooth_share(each: dict[str, Any], status: dict[str, Any]) -> object:
    """Of a connected device what did not fail, of one that advertises what could be read."""
    counts = status.get("ble_devices", {}).get(each["device"])
    if counts is not None:
        good, bad = counts["reads"] + counts["connects"], counts["read_errors"] + counts["faults"]
    else:
        heard: dict[str, int] = each.get("counters", {})
        good = sum(heard.get(name, 0) for name in ("sets", "repeats", "passed_over", "late"))
        bad = sum(count for name, count in heard.items() if name.startswith("refused_"))
    return Share(good / (good + bad)) if each.get("source") == "ble" and good + bad else "-"


def _a_minute(count: float, status: dict[str, Any]) -> float:
    return 60 * count / max(1.0, float(status.get("running_s", 0.0)))


def _share(row: dict[str, Any]) -> object:
    asked = row.get("requests", 0)
    return Share((row.get("answered", 0) + row.get("refused", 0)) / asked) if asked else "-"


def _slots(row: dict[str, Any]) -> str:
    return f"{row['slots_used']:g}, {row['slots_waiting']:g} waiting"


def _level(row: dict[str, Any]) -> str:
    """How a node is heard, where its link tells that."""
    air = row.get("air")
    return "-" if air is None else f"{air['rssi_dbm']:.0f} dBm, margin {air['margin_db']:.0f} dB"


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
