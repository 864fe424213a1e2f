"""A plain message (SPEC.md section 2) for people: its kind, every field by its name, sets with units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from protocols.inspection.when import placed
from protocols.inspection.words import hexed
from protocols.measurands import RegistryError, registry
from protocols.northbound.told import Line, Told
from protocols.wire import codes, messages, readings
from protocols.wire.errors import CborError, DecodeError, WireError

RESET_CAUSES = ("unknown", "power on", "hard reset", "watchdog", "deep sleep", "soft reset")
QUALITIES = ("gnss", "synchronised", "rtc holdover", "unsynchronised")
STATES = ("cleared", "raised", "note")
OUTCOMES = ("done", "refused", "failed", "expired", "unknown operation")
FLAGS = {1: "good", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}
OPERATIONS = {
    codes.IDENTIFY: "identify",
    codes.REBOOT: "reboot",
    codes.READ_NOW: "read now",
    codes.SET_INTERVAL: "set interval",
    codes.REPORT_SETTINGS: "report settings",
    codes.MAINTENANCE: "maintenance",
    codes.LEARN: "learn",
    codes.TEST_ALARM: "test alarm",
    codes.CALIBRATE: "calibrate",
    codes.CONSOLE: "console",
    codes.SET_RADIO: "set radio",
}
_TIMED = (messages.Event, messages.Result, messages.Status)


def tell(plain: bytes) -> Told:
    """All that is to be said of one message, whichever side it comes from."""
    told = Told("message", [], [], [])
    message = _decoded(plain, told)
    if message is not None:
        told.lines.append(Line("kind", _kind(message)))
        told.lines.extend(_fields(message))
        if isinstance(message, messages.Readings):
            _tell_sets(message, told)
    return told


def _decoded(plain: bytes, told: Told) -> Any:
    is_down = len(plain) > 1 and plain[1] & 0xE0 == 0 and plain[1] >= messages.Ack.KIND
    decode = messages.decode_down if is_down else messages.decode_up
    try:
        return decode(plain)
    except CborError as error:
        told.problems.append(f"not the CBOR of a message: {error}")
    except DecodeError as error:
        told.problems.append(str(error))
    except (
        WireError,
        ArithmeticError,
        TypeError,
        ValueError,
    ) as error:  # a decoder's own mistake is told, too
        told.problems.append(f"can not be decoded: {type(error).__name__}: {error}")
    told.lines.append(Line("bytes", hexed(plain)))
    return None


def _kind(message: Any) -> str:
    way = "node to gateway" if message.KIND < messages.Ack.KIND else "gateway to node"
    return f"{message.KIND} {type(message).__name__.lower()}, {way}"


def _fields(message: Any) -> Iterator[Line]:
    for name, value in zip(message._fields, message, strict=True):
        if name == "epoch" and not isinstance(message, messages.Hello):
            if value is not None:
                yield Line("epoch", f"{value:012x}", "another one than that of the channel")
        elif isinstance(value, dict):
            yield from _map(message, value)
        elif name != "body":
            yield Line(name, _text(value), _meaning(message, name, value))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bytes):
        return hexed(value)
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def _meaning(message: Any, name: str, value: Any) -> str:
    if name == "epoch" and value is not None:
        return f"{value:012x}"
    if name in ("time", "seconds"):
        if isinstance(message, messages.Readings):
            return ""  # the quality is in the body
        return placed(value, message.tq if isinstance(message, _TIMED) else messages.SYNCHRONISED)
    table: Any = _TABLES.get((type(message).__name__, name))
    if callable(table):
        return str(table(message))
    if table is None:
        return ""
    known = table.get(value) if isinstance(table, dict) else table[value] if value < len(table) else None
    return known or "not in this version's SPEC"


def _held(message: Any) -> str:
    return f"the node holds {message.seq - message.held} and later of this epoch"


def _runs(message: messages.Ack) -> str:
    runs = ", ".join(f"{first} to {first + count - 1}" for first, count in message.runs)
    return f"and {runs}" if runs else ""


def _op_args(message: messages.Command) -> str:
    problem = codes.command_problem(message.op, message.args)
    return f"not allowed: {problem}" if problem else ""


_TABLES: dict[tuple[str, str], Any] = {
    ("Hello", "reset_cause"): RESET_CAUSES,
    ("Hello", "dn_piv"): lambda message: "the highest downlink PIV accepted, or a bound above it",
    ("Readings", "held"): _held,
    ("Event", "held"): _held,
    ("Result", "held"): _held,
    ("Event", "tq"): QUALITIES,
    ("Result", "tq"): QUALITIES,
    ("Status", "tq"): QUALITIES,
    ("Event", "code"): codes.EVENT_NAMES,
    ("Event", "state"): STATES,
    ("Result", "outcome"): OUTCOMES,
    ("Ack", "cum"): lambda message: (
        "all up to here are committed" if message.cum else "nothing is committed yet"
    ),
    ("Ack", "runs"): _runs,
    ("Command", "op"): OPERATIONS,
    ("Command", "args"): _op_args,
    ("Command", "answers"): lambda message: "the PIV of the uplink that it answers",
    ("Readings", "schema"): lambda message: registry().schema_names.get(message.schema, ""),
}


def _map(message: Any, values: dict[Any, Any]) -> Iterator[Line]:
    """Health counters or a settings document."""
    names = codes.HEALTH_NAMES if isinstance(message, messages.Status) else codes.SETTING_NAMES
    for key, value in sorted(values.items()):
        if isinstance(message, messages.Status) and key == codes.TRACEBACK:
            yield Line("traceback", str(value))
            continue
        name = names[key] if 0 <= key < len(names) else f"key {key}"
        meaning = ""
        if name == "reset_cause" and 0 <= value < len(RESET_CAUSES):
            meaning = RESET_CAUSES[value]
        elif name.startswith("key "):
            meaning = "not in this version's SPEC"
        yield Line(name, str(value), meaning)
    if not isinstance(message, messages.Status):
        problem = codes.settings_problem(values)
        if problem:
            yield Line("document", "not allowed", problem)


def _tell_sets(message: messages.Readings, told: Told) -> None:
    """Every set of the body, its readings with units and flags."""
    try:
        series = registry().of_schema(message.schema)
        sets = readings.decode(readings.schema(message.schema), message.time, message.body)
    except RegistryError as error:
        told.problems.append(f"{error}. A node with a newer registry made it")
        return
    except (WireError, ArithmeticError, KeyError, ValueError) as error:
        told.problems.append(f"the body is damaged, or of another schema: {error}")
        told.lines.append(Line("body", hexed(message.body)))
        return
    told.lines.append(Line("tq", str(sets.tq), QUALITIES[sets.tq]))
    for index, (time, row) in enumerate(zip(sets.times, sets.rows, strict=True)):
        flags = None if sets.flags is None else sets.flags[index]
        told.lines.append(Line(f"set {message.seq + index}", placed(time, sets.tq)))
        for at, (measurand, value) in enumerate(zip(series, row, strict=True)):
            flag = 1 if flags is None else flags[at]
            shown = "none" if value is None else f"{measurand.text(value)} {measurand.unit}"
            told.lines.append(Line(f"  {measurand.name}", shown, "" if flag == 1 else FLAGS[flag]))
