"""What must hold between [lora], [[semtech]], [[bridge]] and [[serial]]; on the raw tables, as in config.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway import limits
from gateway.config_errors import Problem, join, rows_of
from protocols.wire.airtime import AirRefused
from protocols.wire.law import Law
from protocols.wire.plans_table import PLANS

# What the link over all radios is called: no serial port may be.
NAME = "lora"
PLAN_IDS: dict[str, int] = {plan[0]: plan_id for plan_id, plan in PLANS.items()}
Rows = list[dict[str, Any]]


def check(raw: dict[str, Any]) -> Iterator[Problem]:
    """Problems between keys. Values of a wrong type are skipped: pydantic has named them."""
    lora = raw.get("lora")
    semtech, bridges, serial = rows_of(raw, "semtech"), rows_of(raw, "bridge"), rows_of(raw, "serial")
    if lora is None:
        for kind, rows in (("semtech", semtech), ("bridge", bridges)):
            if rows:
                message = "needs a [lora] table: plan and channels of the nodes that it hears."
                yield Problem((kind, 0), message)
    elif isinstance(lora, dict):
        if not semtech and not bridges:
            message = "hears nothing: add a [[semtech]] or a [[bridge]], or remove this table."
            yield Problem(("lora",), message)
        yield from _check_air(lora, bridges)
        yield from _check_name(serial)
    yield from _check_names(semtech, bridges)
    yield from _check_paths(serial, bridges)
    yield from _check_euis(semtech)


def _integer(table: dict[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    return value if type(value) is int else default


def _check_air(lora: dict[str, Any], bridges: Rows) -> Iterator[Problem]:
    channels, sf = _integer(lora, "channels", 1), lora.get("sf")
    if bridges and "sf" not in lora:
        yield Problem(
            ("lora", "sf"),
            "missing. A [[bridge]] has one radio and hears one spreading factor: set the one that its nodes were "
            "minted with, such as sf = 9.",
        )
    if bridges and channels != 1:
        yield Problem(
            ("lora", "channels"),
            f"= {channels} is not allowed beside a [[bridge]], which hears one channel: nodes on the others would "
            "not reach it. Allowed is 1.",
        )
    plan = lora.get("plan")
    if not isinstance(plan, str) or plan not in PLAN_IDS or "channel" not in lora:
        return
    law = Law(PLAN_IDS[plan])
    first = _integer(lora, "channel", 0)
    try:
        for channel in (first, first + channels - 1):
            law.freq_hz(channel)
    except AirRefused:
        key = "channel" if first >= law.channels else "channels"
        yield Problem(
            ("lora", key),
            f"= {lora.get(key)} is not allowed: {plan} has the channels 0 to {law.channels - 1}, and these would "
            f"be {first} to {first + channels - 1}.",
        )
    if type(sf) is int and law.sf_max < sf <= 12:
        yield Problem(
            ("lora", "sf"), f"= {sf} is not allowed: {plan} has room for a frame up to SF{law.sf_max}."
        )


def _check_name(serial: Rows) -> Iterator[Problem]:
    for index, row in enumerate(serial):
        if row.get("name") == NAME:
            yield Problem(
                ("serial", index, "name"),
                f'"{NAME}" is the name of the link over all radios: choose another.',
            )


def _check_names(semtech: Rows, bridges: Rows) -> Iterator[Problem]:
    """Of radios, whichever kind they are: scheduling and statistics go by them."""
    first: dict[str, str] = {}
    for kind, rows in (("semtech", semtech), ("bridge", bridges)):
        for index, row in enumerate(rows):
            name, place = row.get("name"), join((kind, index, "name"))
            if isinstance(name, str) and first.setdefault(name, place) != place:
                message = f'"{name}" is already used by {first[name]}: each radio needs its own.'
                yield Problem((kind, index, "name"), message)
    binds: dict[str, int] = {}
    for index, row in enumerate(semtech):
        bind = row.get("bind", "127.0.0.1:1700")
        if isinstance(bind, str) and binds.setdefault(bind, index) != index:
            message = (
                f'"{bind}" is already used by semtech[{binds[bind]}]: name its forwarders there, '
                "or take another port."
            )
            yield Problem(("semtech", index, "bind"), message)


def _check_paths(serial: Rows, bridges: Rows) -> Iterator[Problem]:
    first = {row.get("path"): ("serial", index) for index, row in enumerate(serial)}
    for index, row in enumerate(bridges):
        path, place = row.get("path"), ("bridge", index)
        if isinstance(path, str) and first.setdefault(path, place) != place:
            other = join((*first[path], "path"))
            yield Problem(
                ("bridge", index, "path"), f'"{path}" is already used by {other}: one port, one device.'
            )


def _check_euis(semtech: Rows) -> Iterator[Problem]:
    first: dict[str, str] = {}
    count = 0
    for index, row in enumerate(semtech):
        listed = row.get("gateways")
        if listed == []:
            message = f"is empty: name the EUIs of 1 to {limits.RADIOS_MAX} forwarders."
            yield Problem(("semtech", index, "gateways"), message)
        for number, eui in enumerate(listed if isinstance(listed, list) else ()):
            place = join(("semtech", index, "gateways", number))
            count += 1
            if isinstance(eui, str) and first.setdefault(eui.lower(), place) != place:
                message = f"is the same as {first[eui.lower()]}: each forwarder has an EUI of its own."
                yield Problem(("semtech", index, "gateways", number), message)
    if count > limits.RADIOS_MAX:
        message = f"{count} forwarders in all; at most {limits.RADIOS_MAX} are allowed."
        yield Problem(("semtech", len(semtech) - 1, "gateways"), message)
