"""A message in one line, for whoever watches a line live."""

from __future__ import annotations

from typing import Any

from protocols.inspection.messages import FLAGS, OPERATIONS, OUTCOMES, STATES
from protocols.measurands import RegistryError, registry
from protocols.wire import codes, messages, readings
from protocols.wire.errors import WireError

# Of a set: what fits a line beside the rest.
_SHOWN = 4


def brief(message: Any) -> str:
    """What matters of it."""
    name = type(message).__name__.lower()
    if isinstance(message, messages.Readings):
        return _readings(message)
    if isinstance(message, messages.Event):
        event = codes.EVENT_NAMES.get(message.code, f"code {message.code}")
        return f"event {message.seq}: {event} {STATES[message.state]}{_detail(message.detail)}"
    if isinstance(message, messages.Result):
        return f"result of command {message.command_id}: {OUTCOMES[message.outcome]}{_detail(message.detail)}"
    if isinstance(message, messages.Hello):
        return f"hello: {message.node_type} on {message.board}, firmware {message.firmware}, boot {message.boots}"
    if isinstance(message, messages.Status):
        return f"status: up {message.health.get(1, 0)} s, {message.health.get(5, 0)} records wait"
    if isinstance(message, messages.SettingsReport):
        values = " ".join(f"{setting_name(key)}={value}" for key, value in sorted(message.document.items()))
        return f"settings, version {message.version}: {values}"
    if isinstance(message, messages.Ack):
        runs = f" and {len(message.runs)} runs above" if message.runs else ""
        return f"ack up to {message.cum}{runs}"
    if isinstance(message, messages.Command):
        return (
            f"command {message.command_id}: {OPERATIONS.get(message.op, message.op)}{_detail(message.args)}"
        )
    if isinstance(message, messages.UpdateStatus):
        return f"update {message.session}, running release {message.release}: {message.answer.hex()}"
    if isinstance(message, messages.Update):
        return f"update {message.session}: {message.command[:12].hex()}, {len(message.command)} bytes"
    return name


def setting_name(key: int) -> str:
    return codes.SETTING_NAMES[key] if 0 <= key < len(codes.SETTING_NAMES) else f"key {key}"


def _detail(detail: Any) -> str:
    return "" if detail is None else f" ({detail})"


def _readings(message: messages.Readings) -> str:
    try:
        found = sets_of(message)
    except (RegistryError, WireError, LookupError):
        return f"readings {message.seq}: of schema {message.schema}, not decoded"
    last = found[-1]
    shown = ", ".join(f"{name} {text}" for name, text, _ in last[:_SHOWN])
    more = ", …" if len(last) > _SHOWN else ""
    count = f"{len(found)} sets, the latest " if len(found) > 1 else ""
    return f"readings {message.seq}: {count}{shown}{more}"


def sets_of(message: messages.Readings) -> list[list[tuple[str, str, str]]]:
    """Of each set: (measurand, value with unit, what its flag says or "")."""
    series = registry().of_schema(message.schema)
    sets = readings.decode(readings.schema(message.schema), message.time, message.body)
    found = []
    for index, row in enumerate(sets.rows):
        flags = [1] * len(row) if sets.flags is None else sets.flags[index]
        found.append(
            [
                (
                    one.name,
                    "none" if value is None else f"{one.text(value)} {one.unit}",
                    "" if flag == 1 else FLAGS[flag],
                )
                for one, value, flag in zip(series, row, flags, strict=True)
            ]
        )
    return found
