"""What a node and its gateway say to each other: SPEC.md section 2, one named tuple per kind.

`encode` and the two `decode` functions check every item against the same ranges, so nothing can be sent that
would be refused. Up and down are separate functions because a frame's direction is known before its content:
a kind from the wrong side is an unknown kind.
"""

import sys
from collections import namedtuple

from protocols.wire import cbor
from protocols.wire.codes import TRACEBACK
from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import (
    MAX_ACK_RUNS,
    MAX_BODY,
    MAX_DETAIL_ITEMS,
    MAX_DETAIL_TEXT,
    MAX_NAME,
    MAX_PIV,
    MAX_PLAIN,
    MAX_SEQ,
    MAX_TRACEBACK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NamedTuple, TypeAlias

    Detail: TypeAlias = "int | list[int] | str | None"
    Args: TypeAlias = "int | list[int] | None"
    Runs: TypeAlias = "tuple[tuple[int, int], ...]"

    class _Hello(NamedTuple):
        dn_piv: int
        epoch: "int | None"
        oldest: int
        next_seq: int
        node_type: str
        board: str
        firmware: str
        boots: int
        reset_cause: int

    class _Readings(NamedTuple):
        schema: int
        seq: int
        held: int
        time: int
        body: bytes
        epoch: "int | None"

    class _Event(NamedTuple):
        seq: int
        held: int
        time: int
        tq: int
        code: int
        state: int
        detail: "Detail"
        epoch: "int | None"

    class _Result(NamedTuple):
        seq: int
        held: int
        time: int
        tq: int
        command_id: int
        outcome: int
        detail: "Detail"
        epoch: "int | None"

    class _Status(NamedTuple):
        dn_piv: int
        time: int
        tq: int
        health: "dict[int, int | str]"

    class _SettingsReport(NamedTuple):
        version: int
        document: "dict[int, int]"

    class _Ack(NamedTuple):
        cum: int
        runs: "Runs"
        epoch: "int | None"

    class _Time(NamedTuple):
        answers: int
        seconds: int
        millis: int

    class _Command(NamedTuple):
        answers: int
        command_id: int
        ttl_s: int
        op: int
        args: "Args"

    class _Settings(NamedTuple):
        answers: int
        version: int
        document: "dict[int, int]"

    class _Challenge(NamedTuple):
        r2: bytes

    class _Ping(NamedTuple):
        nonce: int

else:
    _Hello = namedtuple(
        "Hello",
        ("dn_piv", "epoch", "oldest", "next_seq", "node_type", "board", "firmware", "boots", "reset_cause"),
    )
    _Readings = namedtuple("Readings", ("schema", "seq", "held", "time", "body", "epoch"))
    _Event = namedtuple("Event", ("seq", "held", "time", "tq", "code", "state", "detail", "epoch"))
    _Result = namedtuple("Result", ("seq", "held", "time", "tq", "command_id", "outcome", "detail", "epoch"))
    _Status = namedtuple("Status", ("dn_piv", "time", "tq", "health"))
    _SettingsReport = namedtuple("SettingsReport", ("version", "document"))
    _Ack = namedtuple("Ack", ("cum", "runs", "epoch"))
    _Time = namedtuple("Time", ("answers", "seconds", "millis"))
    _Command = namedtuple("Command", ("answers", "command_id", "ttl_s", "op", "args"))
    _Settings = namedtuple("Settings", ("answers", "version", "document"))
    _Challenge = namedtuple("Challenge", ("r2",))
    _Ping = namedtuple("Ping", ("nonce",))

_U8 = 0xFF
_U16 = 0xFFFF
_U32 = 0xFFFFFFFF
_U40 = 0xFFFFFFFFFF
_U48 = 0xFFFFFFFFFFFF

# tq, SPEC.md section 2.
GNSS = 0
SYNCHRONISED = 1
RTC_HOLDOVER = 2
UNSYNCHRONISED = 3

# state of an event.
CLEARED = 0
RAISED = 1
NOTE = 2

# outcome of a command.
DONE = 0
REFUSED = 1
FAILED = 2
EXPIRED = 3
UNKNOWN_OPERATION = 4

# Kinds, SPEC.md sections 2.1 and 2.2.
_HELLO = 0
_READINGS = 1
_EVENT = 2
_RESULT = 3
_STATUS = 4
_SETTINGS_REPORT = 5
_ACK = 16
_TIME = 17
_COMMAND = 18
_SETTINGS = 19
_CHALLENGE = 20
_PING = 21

if sys.implementation.name != "micropython":

    class Hello(_Hello):
        """Boot report; epoch is None for a node that has none."""

        __slots__ = ()
        KIND = _HELLO

    class Readings(_Readings):
        """One set or a batch: readings.decode knows the body. epoch is None when it is the channel's."""

        __slots__ = ()
        KIND = _READINGS

    class Event(_Event):
        """detail is an integer, None, or a list of at most MAX_DETAIL_ITEMS integers."""

        __slots__ = ()
        KIND = _EVENT

    class Result(_Result):
        """detail as for an event, or a text."""

        __slots__ = ()
        KIND = _RESULT

    class Status(_Status):
        __slots__ = ()
        KIND = _STATUS

    class SettingsReport(_SettingsReport):
        __slots__ = ()
        KIND = _SETTINGS_REPORT

    class Ack(_Ack):
        """runs: (first seq, count) pairs above cum, newest first."""

        __slots__ = ()
        KIND = _ACK

    class Time(_Time):
        __slots__ = ()
        KIND = _TIME

    class Command(_Command):
        __slots__ = ()
        KIND = _COMMAND

    class Settings(_Settings):
        __slots__ = ()
        KIND = _SETTINGS

    class Challenge(_Challenge):
        __slots__ = ()
        KIND = _CHALLENGE

    class Ping(_Ping):
        __slots__ = ()
        KIND = _PING

else:
    # A subclass costs a node 350 bytes of heap each: there a message is the named tuple itself, without KIND.
    Hello, Readings, Event, Result = _Hello, _Readings, _Event, _Result  # type: ignore[assignment, misc]
    Status, SettingsReport, Ack, Time = _Status, _SettingsReport, _Ack, _Time  # type: ignore[assignment, misc]
    Command, Settings, Challenge, Ping = _Command, _Settings, _Challenge, _Ping  # type: ignore[assignment, misc]

# fmt: off
_KINDS: "dict[type, int]" = {
    Hello: _HELLO, Readings: _READINGS, Event: _EVENT, Result: _RESULT, Status: _STATUS,
    SettingsReport: _SETTINGS_REPORT, Ack: _ACK, Time: _TIME, Command: _COMMAND, Settings: _SETTINGS,
    Challenge: _CHALLENGE, Ping: _PING,
}
# fmt: on


if TYPE_CHECKING:
    Up: TypeAlias = "Hello | Readings | Event | Result | Status | SettingsReport"
    Down: TypeAlias = "Ack | Time | Command | Settings | Challenge | Ping"
    Refusal: TypeAlias = "type[DecodeError] | type[EncodeError]"


def encode(message: "Up | Down") -> bytes:
    """The plain bytes of a message; EncodeError when a value is out of its range."""
    kind = _KINDS.get(type(message))
    if kind is None:
        raise EncodeError("%s is not a message" % type(message).__name__)
    _CHECKS[kind](message, EncodeError)
    items: "list[Any]" = [kind]
    items.extend(message)
    if kind == _ACK:
        flat: "list[int]" = []
        for run in message.runs:  # type: ignore[union-attr]
            flat.extend(run)
        items[2] = flat
    if kind in _WITH_EPOCH and items[-1] is None:
        items.pop()
    plain = cbor.dumps(items)
    if len(plain) > MAX_PLAIN:
        raise EncodeError("%d bytes of message: a frame holds at most %d" % (len(plain), MAX_PLAIN))
    return plain


def decode_up(plain: bytes) -> "Up":
    """The message of a node; DecodeError for whatever SPEC.md section 2.1 does not allow."""
    items = cbor.loads(plain)
    # Nearly all that a gateway hears: checked in one go, and item by item only to say what is wrong.
    if plain[0] == 0x86 and plain[1] == _READINGS:
        _, schema, seq, held, time, body = items
        if (
            type(schema) is type(seq) is type(held) is type(time) is int
            and 0 <= schema <= _U16
            and 0 <= held < seq <= MAX_SEQ
            and 0 <= time <= _U40
            and type(body) is bytes
            and 0 < len(body) <= MAX_BODY
        ):
            return Readings(schema, seq, held, time, body, None)
    return _decode(items, plain, _UP)


def decode_down(plain: bytes) -> "Down":
    """The message of a gateway; DecodeError for whatever SPEC.md section 2.2 does not allow."""
    return _decode(cbor.loads(plain), plain, _DOWN)


def _decode(items: "Any", plain: bytes, table: "dict[int, tuple[Callable[..., Any], int]]") -> "Any":
    if len(plain) > MAX_PLAIN:
        raise DecodeError("%d bytes of message: at most %d are allowed" % (len(plain), MAX_PLAIN))
    if not isinstance(items, list) or not items:
        raise DecodeError("a message is an array that begins with its kind")
    kind = items[0]
    if type(kind) is not int or kind not in table:
        raise DecodeError("message kind %r: known here are %s" % (kind, sorted(table)))
    make, count = table[kind]
    fields = items[1:]
    if kind in _WITH_EPOCH:
        if len(fields) == count - 1:
            fields.append(None)
        elif len(fields) == count and fields[-1] is None:
            raise DecodeError("%s: an epoch that is the channel's is left out" % make.__name__)
    if len(fields) != count:
        raise DecodeError("%s: %d items after the kind, not %d" % (make.__name__, len(fields), count))
    if kind == _ACK:
        fields[1] = _runs_of(fields[1])
    message = make(*fields)
    _CHECKS[kind](message, DecodeError)
    return message


def unsynced_time(boots: int, uptime_s: int) -> int:
    """The time of a record made while the clock was never set: seconds since boot, and which boot (tq 3)."""
    return (boots & _U8) << 32 | uptime_s


def split_unsynced(time: int) -> "tuple[int, int]":
    """(boots modulo 256, seconds since that boot) of a time with tq 3."""
    return time >> 32, time & _U32


# ---- one check per kind, used in both directions ----


def _check_uint(value: object, maximum: int, name: str, error: "Refusal") -> None:
    if type(value) is not int or not 0 <= value <= maximum:
        raise error("%s %r: allowed are 0 to %d" % (name, value, maximum))


def _check_number(value: object, name: str, error: "Refusal") -> None:
    if type(value) is not int or not -1 - _U32 <= value <= _U32:
        raise error("%s %r: allowed are -2**32 to 2**32 - 1" % (name, value))


def _check_text(value: object, maximum: int, name: str, error: "Refusal") -> None:
    if not isinstance(value, str):
        raise error("%s: must be text" % name)
    # A character takes at most 4 bytes, and most take 1: only in between must the bytes be counted.
    if len(value) > maximum or (len(value) * 4 > maximum and len(value.encode("utf-8")) > maximum):
        raise error("%s: longer than %d bytes" % (name, maximum))


def _check_bytes(value: object, minimum: int, maximum: int, name: str, error: "Refusal") -> None:
    if not isinstance(value, bytes) or not minimum <= len(value) <= maximum:
        raise error("%s: must be a byte string of %d to %d bytes" % (name, minimum, maximum))


def _check_epoch(value: object, error: "Refusal") -> None:
    if value is not None:
        _check_uint(value, _U48, "epoch", error)


def _check_record(seq: int, held: int, time: int, error: "Refusal") -> None:
    _check_uint(seq, MAX_SEQ, "seq", error)
    _check_uint(held, MAX_SEQ, "held", error)
    if held >= seq:  # seq counts from 1, so the oldest is at least 1
        raise error("held %d with seq %d: oldest would be below 1" % (held, seq))
    _check_uint(time, _U40, "time", error)


def _check_detail(detail: object, error: "Refusal") -> None:
    if isinstance(detail, (list, tuple)):
        if len(detail) > MAX_DETAIL_ITEMS:
            raise error("detail of %d items: at most %d are allowed" % (len(detail), MAX_DETAIL_ITEMS))
        for item in detail:
            _check_number(item, "detail", error)
    elif detail is not None:
        _check_number(detail, "detail", error)


def _check_hello(message: "Hello", error: "Refusal") -> None:
    _check_uint(message.dn_piv, MAX_PIV, "dn_piv", error)
    _check_epoch(message.epoch, error)
    _check_uint(message.oldest, MAX_SEQ, "oldest", error)
    _check_uint(message.next_seq, MAX_SEQ, "next_seq", error)
    if not 1 <= message.oldest <= message.next_seq:
        raise error("oldest %d, next_seq %d: 1 <= oldest <= next_seq" % (message.oldest, message.next_seq))
    _check_text(message.node_type, MAX_NAME, "node_type", error)
    _check_text(message.board, MAX_NAME, "board", error)
    _check_text(message.firmware, MAX_NAME, "firmware", error)
    _check_uint(message.boots, _U32, "boots", error)
    _check_uint(message.reset_cause, _U8, "reset_cause", error)


def _check_readings(message: "Readings", error: "Refusal") -> None:
    _check_uint(message.schema, _U16, "schema", error)
    _check_record(message.seq, message.held, message.time, error)
    _check_bytes(message.body, 1, MAX_BODY, "body", error)
    _check_epoch(message.epoch, error)


def _check_event(message: "Event", error: "Refusal") -> None:
    _check_record(message.seq, message.held, message.time, error)
    _check_uint(message.tq, UNSYNCHRONISED, "tq", error)
    _check_uint(message.code, _U16, "code", error)
    _check_uint(message.state, NOTE, "state", error)
    _check_detail(message.detail, error)
    _check_epoch(message.epoch, error)


def _check_result(message: "Result", error: "Refusal") -> None:
    _check_record(message.seq, message.held, message.time, error)
    _check_uint(message.tq, UNSYNCHRONISED, "tq", error)
    _check_uint(message.command_id, _U32, "command_id", error)
    _check_uint(message.outcome, UNKNOWN_OPERATION, "outcome", error)
    if isinstance(message.detail, str):
        _check_text(message.detail, MAX_DETAIL_TEXT, "detail", error)
    else:
        _check_detail(message.detail, error)
    _check_epoch(message.epoch, error)


def _check_status(message: "Status", error: "Refusal") -> None:
    _check_uint(message.dn_piv, MAX_PIV, "dn_piv", error)
    _check_uint(message.time, _U40, "time", error)
    _check_uint(message.tq, UNSYNCHRONISED, "tq", error)
    if not isinstance(message.health, dict):
        raise error("health: must be a map")
    for key, value in message.health.items():
        _check_uint(key, TRACEBACK, "health key", error)
        if key == TRACEBACK:
            _check_text(value, MAX_TRACEBACK, "traceback", error)
        else:
            _check_number(value, "health", error)


def _check_document(version: object, document: object, error: "Refusal") -> None:
    _check_uint(version, _U32, "version", error)
    if not isinstance(document, dict):
        raise error("document: must be a map")
    for key, value in document.items():
        _check_uint(key, _U8, "settings key", error)
        _check_number(value, "setting", error)


def _check_settings_report(message: "SettingsReport", error: "Refusal") -> None:
    _check_document(message.version, message.document, error)


def _check_settings(message: "Settings", error: "Refusal") -> None:
    _check_uint(message.answers, MAX_PIV, "answers", error)
    _check_document(message.version, message.document, error)


def _check_ack(message: "Ack", error: "Refusal") -> None:
    _check_uint(message.cum, MAX_SEQ, "cum", error)
    runs: object = message.runs
    if not isinstance(runs, (tuple, list)) or len(runs) > MAX_ACK_RUNS:
        raise error("runs: must be at most %d pairs" % MAX_ACK_RUNS)
    above = MAX_SEQ + 1
    for run in runs:
        if not isinstance(run, tuple) or len(run) != 2:
            raise error("run %r: must be a pair of first seq and count" % (run,))
        start, length = run
        _check_uint(start, MAX_SEQ, "start of a run", error)
        _check_uint(length, MAX_SEQ, "length of a run", error)
        if not length or start <= message.cum or start + length > above:
            raise error(
                "run of %d from %d: runs lie above cum, newest first, and do not overlap" % (length, start)
            )
        above = start
    _check_epoch(message.epoch, error)


def _runs_of(flat: object) -> "Runs":
    if not isinstance(flat, list) or len(flat) % 2 or len(flat) > 2 * MAX_ACK_RUNS:
        raise DecodeError("runs: must be at most %d pairs" % MAX_ACK_RUNS)
    return tuple([(flat[index], flat[index + 1]) for index in range(0, len(flat), 2)])


def _check_time(message: "Time", error: "Refusal") -> None:
    _check_uint(message.answers, MAX_PIV, "answers", error)
    _check_uint(message.seconds, _U40, "seconds", error)
    _check_uint(message.millis, 999, "millis", error)


def _check_command(message: "Command", error: "Refusal") -> None:
    _check_uint(message.answers, MAX_PIV, "answers", error)
    _check_uint(message.command_id, _U32, "command_id", error)
    _check_uint(message.ttl_s, _U16, "ttl_s", error)
    _check_uint(message.op, _U8, "op", error)
    _check_detail(message.args, error)


def _check_challenge(message: "Challenge", error: "Refusal") -> None:
    _check_bytes(message.r2, 8, 8, "r2", error)


def _check_ping(message: "Ping", error: "Refusal") -> None:
    _check_uint(message.nonce, _U32, "nonce", error)


_CHECKS: "dict[int, Callable[..., None]]" = {
    _HELLO: _check_hello,
    _READINGS: _check_readings,
    _EVENT: _check_event,
    _RESULT: _check_result,
    _STATUS: _check_status,
    _SETTINGS_REPORT: _check_settings_report,
    _ACK: _check_ack,
    _TIME: _check_time,
    _COMMAND: _check_command,
    _SETTINGS: _check_settings,
    _CHALLENGE: _check_challenge,
    _PING: _check_ping,
}
# Kinds whose last item is an epoch that may be missing.
_WITH_EPOCH = (_READINGS, _EVENT, _RESULT, _ACK)
# kind: (what to make, items after the kind with the epoch).
_UP: "dict[int, tuple[Callable[..., Any], int]]" = {
    _HELLO: (Hello, 9),
    _READINGS: (Readings, 6),
    _EVENT: (Event, 8),
    _RESULT: (Result, 8),
    _STATUS: (Status, 4),
    _SETTINGS_REPORT: (SettingsReport, 2),
}
_DOWN: "dict[int, tuple[Callable[..., Any], int]]" = {
    _ACK: (Ack, 3),
    _TIME: (Time, 3),
    _COMMAND: (Command, 5),
    _SETTINGS: (Settings, 3),
    _CHALLENGE: (Challenge, 1),
    _PING: (Ping, 1),
}
