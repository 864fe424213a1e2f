"""The station record of a unit: who it is, and every limit it was held to with what was found. Never a key.

JSON for programs; record_page.py makes the page for the cabinet of it. It is made anew from the book each time, so it
says what the book says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flash_tools import calibrations, label
from flash_tools.accept import FAILED, OK, OPEN, SKIPPED
from flash_tools.errors import ProvisionError
from flash_tools.images import board_constants
from flash_tools.provisioning import FLASHED, LABELLED, MINTED, RETIRED, SCRAPPED, VERIFIED, Unit
from protocols.wire.codes import SETTING_NAMES, SETTING_RANGES
from protocols.wire.plans_table import PLANS

FORMAT = 1
# Acceptance records are a few kB; what is larger is another file.
_ACCEPTANCE_BYTES_MAX = 1024 * 1024


class Step(NamedTuple):
    step: str
    state: str
    value: str
    limit: str


def of(unit: Unit, acceptance: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The record. ``acceptance``: the newest record of `tidegate node accept`, where there is one."""
    wanted = unit.wanted
    steps = [*_steps(unit), *_lid(acceptance)]
    return {
        "format": FORMAT,
        "node": unit.name,
        "mac": unit.mac,
        "state": unit.state,
        "passed": unit.state == LABELLED and all(step.state != FAILED for step in steps),
        "station": unit.station,
        "who": _fact(unit, MINTED, "who"),
        "node_type": wanted.node_type,
        "board": wanted.board,
        "area": wanted.area,
        "site": wanted.site,
        "position": None if wanted.latitude is None else [wanted.latitude, wanted.longitude],
        "firmware": _fact(unit, FLASHED, "version"),
        "label": label.qr_text(unit),
        "history": [list(one) for one in unit.history],
        "steps": [step._asdict() for step in steps],
        "acceptance": acceptance,
    }


def find_acceptance(folder: Path, unit: Unit) -> dict[str, Any] | None:
    """The newest acceptance of this node below ``folder``, as `tidegate node accept` keeps them; None without one."""
    files = sorted(folder.glob(f"{unit.name}-*.json"))
    if not files:
        return None
    try:
        if files[-1].stat().st_size > _ACCEPTANCE_BYTES_MAX:
            raise ValueError("too large")
        found = json.loads(files[-1].read_text(encoding="utf-8"))
        if found["node"] != unit.name or not isinstance(found["steps"], list):
            raise ValueError("of another node")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProvisionError(
            f"{files[-1]}: is no acceptance of node {unit.name} ({error}). Move it away, or accept the node again: "
            f"tidegate node accept {unit.name}"
        ) from error
    return dict(found)


def _fact(unit: Unit, step: str, name: str) -> Any:
    return unit.facts.get(step, {}).get(name)


def _steps(unit: Unit) -> Iterator[Step]:
    wanted = unit.wanted
    yield Step(
        "key", OK, f"minted {unit.history[0][0]} for this board, kept sealed", "once per board, never again"
    )
    yield Step(
        "address", OK, unit.name, f"of station {unit.station}: {_fact(unit, MINTED, 'range') or 'any'}"
    )
    yield from _board(unit)
    yield Step("area", OK, wanted.area, "6, 9 or 12 digits, or a name")
    if wanted.latitude is None:
        yield Step("position", OPEN, "not given", "WGS-84")
    else:
        yield Step("position", OK, f"{wanted.latitude:.6f}, {wanted.longitude:.6f}", "WGS-84, ±90, ±180")
    for name, value in wanted.settings.items():
        low, high = SETTING_RANGES[SETTING_NAMES.index(name)]
        yield Step(f"setting {name}", OK, str(value), f"{low} to {high}")
    for one in calibrations.parse(wanted.calibrations, wanted.node_type):
        found = calibrations.verdict(one, wanted.node_type)
        measured = f"no. {one.number}: slope {found.slope:.4f}, offset {found.offset:g}"
        limits = f"slope {found.slope_low:g} to {found.slope_high:g}, offset ≤ ±{found.offset_max:g}"
        yield Step(f"calibration {one.name}", OK, measured, limits)
    if wanted.radio is not None:
        plan, channel, channels, sf = wanted.radio
        spread = f"SF{sf}" if sf else "SF by the gateway"
        yield Step(
            "radio", OK, f"channels {channel} to {channel + channels - 1}, {spread}", f"plan {PLANS[plan][0]}"
        )
    yield from _outcome(unit)


def _board(unit: Unit) -> Iterator[Step]:
    """What was found on the board, and written to it."""
    board = board_constants(unit.wanted.board)
    limit = f"{board.CHIP}, ≥ {board.FLASH_SIZE // 1024} KiB of flash"
    facts = unit.facts.get(FLASHED)
    if facts is None:
        yield Step("chip", OPEN, "not flashed yet", limit)
        return
    size = f"{facts['flash_size'] // 1024} KiB of flash"
    yield Step("chip", OK, f"{facts['chip']} {facts['revision']}, {size}", limit)
    protection = [name for name in ("secure_boot", "flash_encryption") if facts[name]]
    yield Step("protection", OK, ", ".join(protection) or "secure boot and flash encryption off", "as found")
    least = ".".join(map(str, board.MICROPYTHON_MIN))
    yield Step("micropython", OK, str(facts["micropython"] or "left as it was"), f"≥ {least}")
    sent = f"{facts['blocks_sent']} of {facts['blocks_total']} blocks sent, {facts['data_bytes']} bytes"
    yield Step("flash", OK, sent, "every block read back equal (MD5)")
    yield Step("app image", OK, f"SHA-256 {facts['app_digest']}", f"firmware {facts['version']}")


def _outcome(unit: Unit) -> Iterator[Step]:
    booted = unit.facts.get(VERIFIED)
    if booted is None:
        yield Step("boot", OPEN, "not heard yet", "a sealed hello of this node")
    else:
        value = f"{booted['heard']}, firmware {booted['version']}"
        yield Step("boot", OK, value, f"{booted['limit']}, firmware {_fact(unit, FLASHED, 'version')}")
    if LABELLED in unit.facts:
        yield Step("label", OK, label.qr_text(unit), "readable by camera; no key")
    else:
        yield Step("label", OPEN, "not made yet", "node, MAC, model, area")
    gateway = _fact(unit, "registered", "gateway")
    if gateway:
        yield Step("registry", OK, f"known to gateway {gateway}", "the same key there")
    else:
        yield Step("registry", OPEN, "no gateway knows it yet", "the same key there")
    if unit.is_alive and unit.problem:
        yield Step("last run", FAILED, unit.problem, "no failure that nothing good came after")
    if unit.state in (SCRAPPED, RETIRED):
        why = _fact(unit, unit.state, "why") or "no reason given"
        yield Step(
            unit.state, FAILED if unit.state == SCRAPPED else SKIPPED, why, "key and address never used again"
        )


def _lid(acceptance: Mapping[str, Any] | None) -> Iterator[Step]:
    if acceptance is None:
        yield Step("acceptance", OPEN, "not yet: tidegate node accept at the lid", "every step holds")
        return
    when = f"{acceptance['began']} by {acceptance['who']}"
    yield Step("acceptance", OK if acceptance["accepted"] else FAILED, when, "every step holds")
    for one in acceptance["steps"]:
        yield Step(f"lid {one['step']}", str(one["state"]), str(one["value"]), str(one["limit"]))
