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
    MAX_PLAIN,
    MAX_SEQ,
    MAX_TRACEBACK,
    NONCE_SIZE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
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
    from protocols.wire.update import Update as Update
    from protocols.wire.update import UpdateStatus as UpdateStatus

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
    Up: TypeAlias = "Hello | Readings | Event | Result | Status | SettingsReport | UpdateStatus"
    Down: TypeAlias = "Ack | Time | Command | Settings | Challenge | Ping | Update"
    Refusal: TypeAlias = "type[DecodeError] | type[EncodeError]"


def encode(message: "Up | Down") -> bytes:
    """The plain bytes of a message; EncodeError when a value is out of its range."""
    kind = _KINDS.get(type(message))
    if kind is None:
        from protocols.wire import update  # on a node's heap only while there is one

        return update.encode(message)
    _check(kind, message, EncodeError)
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


def _decode(items: "Any", plain: bytes, table: "dict[int, Callable[..., Any]]") -> "Any":
    if len(plain) > MAX_PLAIN:
        raise DecodeError("%d bytes of message: at most %d are allowed" % (len(plain), MAX_PLAIN))
    if not isinstance(items, list) or not items:
        raise DecodeError("a message is an array that begins with its kind")
    kind = items[0]
    if kind in (6, 23):
        from protocols.wire import update

        return update.decode(items, table is _DOWN)
    if type(kind) is not int or kind not in table:
        raise DecodeError("message kind %r: known here are %s" % (kind, sorted(table)))
    make = table[kind]
    count = len(_ITEMS[kind])
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
    _check(kind, message, DecodeError)
    return message


def unsynced_time(boots: int, uptime_s: int) -> int:
    """The time of a record made while the clock was never set: seconds since boot, and which boot (tq 3)."""
    return (boots & _U8) << 32 | uptime_s


def split_unsynced(time: int) -> "tuple[int, int]":
    """(boots modulo 256, seconds since that boot) of a time with tq 3."""
    return time >> 32, time & _U32


# ---- what each item may be, in both directions ----

# An item is an unsigned integer of that many bits, or up to what is added to _UP_TO, or one of these. (Bits, because a
# bound of 32 bits is a heap object on a node.)
_UP_TO = 100
_EPOCH = -1  # 48 bits, or None: the epoch of the channel
_NAME = -2
_BODY = -3
_DETAIL = -4  # None, an integer, or a few of them
_DETAIL_OR_TEXT = -5
_HEALTH = -6
_DOCUMENT = -7
_RUNS = -8
_NONCE = -9

_ITEMS: "dict[int, tuple[int, ...]]" = {
    _HELLO: (40, _EPOCH, 32, 32, _NAME, _NAME, _NAME, 32, 8),
    _READINGS: (16, 32, 32, 40, _BODY, _EPOCH),
    _EVENT: (32, 32, 40, 2, 16, _UP_TO + NOTE, _DETAIL, _EPOCH),
    _RESULT: (32, 32, 40, 2, 32, _UP_TO + UNKNOWN_OPERATION, _DETAIL_OR_TEXT, _EPOCH),
    _STATUS: (40, 40, 2, _HEALTH),
    _SETTINGS_REPORT: (32, _DOCUMENT),
    _ACK: (32, _RUNS, _EPOCH),
    _TIME: (40, 40, _UP_TO + 999),
    _COMMAND: (40, 32, 16, 8, _DETAIL),
    _SETTINGS: (40, 32, _DOCUMENT),
    _CHALLENGE: (_NONCE,),
    _PING: (32,),
}
# Kinds whose last item is an epoch that may be missing.
_WITH_EPOCH = (_READINGS, _EVENT, _RESULT, _ACK)
_UP: "dict[int, Callable[..., Any]]" = {
    _HELLO: Hello,
    _READINGS: Readings,
    _EVENT: Event,
    _RESULT: Result,
    _STATUS: Status,
    _SETTINGS_REPORT: SettingsReport,
}
_DOWN: "dict[int, Callable[..., Any]]" = {
    _ACK: Ack,
    _TIME: Time,
    _COMMAND: Command,
    _SETTINGS: Settings,
    _CHALLENGE: Challenge,
    _PING: Ping,
}


def _check(kind: int, message: "Any", error: "Refusal") -> None:
    items = _ITEMS[kind]
    for at in range(len(items)):
        value = message[at]
        allowed = items[at]
        if allowed > 0:
            if not _is_uint(value, allowed):
                raise error("%s %r: allowed are 0 to %d" % (_name(message, at), value, _highest(allowed)))
        elif allowed == _NAME:
            if not _is_text(value, MAX_NAME):
                raise error("%s: must be text of at most %d bytes" % (_name(message, at), MAX_NAME))
        elif allowed == _EPOCH:
            if value is not None and not _is_uint(value, 48):
                raise error("epoch %r: allowed are 0 to 2**48 - 1" % (value,))
        elif allowed == _RUNS:
            _check_runs(value, message.cum, error)
        else:
            _check_content(allowed, value, error)
    if kind == _HELLO:
        if not 1 <= message.oldest <= message.next_seq:
            raise error(
                "oldest %d, next_seq %d: 1 <= oldest <= next_seq" % (message.oldest, message.next_seq)
            )
    elif kind in (_READINGS, _EVENT, _RESULT):
        if message.held >= message.seq:  # seq counts from 1, so the oldest is at least 1
            raise error("held %d with seq %d: oldest would be below 1" % (message.held, message.seq))


def _name(message: "Any", at: int) -> str:
    names: "Sequence[str] | None" = getattr(message, "_fields", None)
    return "item %d" % at if names is None else names[at]  # MicroPython has no _fields


def _highest(allowed: int) -> int:
    return (1 << allowed) - 1 if allowed < _UP_TO else allowed - _UP_TO


def _is_uint(value: object, allowed: int) -> bool:
    if type(value) is not int or value < 0:
        return False
    return not value >> allowed if allowed < _UP_TO else value <= allowed - _UP_TO


def _is_number(value: object) -> bool:
    return type(value) is int and -1 <= value >> 32 <= 0


def _is_text(value: object, maximum: int) -> bool:
    if not isinstance(value, str) or len(value) > maximum:
        return False
    # A character takes at most 4 bytes, and most take 1: only in between must the bytes be counted.
    return len(value) * 4 <= maximum or len(value.encode("utf-8")) <= maximum


def _check_content(allowed: int, value: "Any", error: "Refusal") -> None:
    """Items that hold more than one number."""
    if allowed in (_HEALTH, _DOCUMENT):
        _check_map(allowed, value, error)
    elif allowed in (_BODY, _NONCE):
        low, high = (1, MAX_BODY) if allowed == _BODY else (NONCE_SIZE, NONCE_SIZE)
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise error("must be a byte string of %d to %d bytes, not %r" % (low, high, value))
    elif isinstance(value, (list, tuple)):
        if len(value) > MAX_DETAIL_ITEMS:
            raise error("detail of %d items: at most %d are allowed" % (len(value), MAX_DETAIL_ITEMS))
        for item in value:
            if not _is_number(item):
                raise error("detail %r: allowed are -2**32 to 2**32 - 1" % (item,))
    elif allowed == _DETAIL_OR_TEXT and isinstance(value, str):
        if not _is_text(value, MAX_DETAIL_TEXT):
            raise error("detail: longer than %d bytes" % MAX_DETAIL_TEXT)
    elif value is not None and not _is_number(value):
        raise error("detail %r: allowed are -2**32 to 2**32 - 1" % (value,))


def _check_map(allowed: int, value: "Any", error: "Refusal") -> None:
    """Health counters with a traceback among them, or a settings document."""
    if not isinstance(value, dict):
        raise error("health and settings are maps, not %r" % (value,))
    key_max = TRACEBACK if allowed == _HEALTH else _U8
    for key, content in value.items():
        if type(key) is not int or not 0 <= key <= key_max:
            raise error("key %r: allowed are 0 to %d" % (key, key_max))
        if allowed == _HEALTH and key == TRACEBACK:
            if not _is_text(content, MAX_TRACEBACK):
                raise error("traceback: must be text of at most %d bytes" % MAX_TRACEBACK)
        elif not _is_number(content):
            raise error("value %r of key %d: allowed are -2**32 to 2**32 - 1" % (content, key))


def _check_runs(runs: "Any", cum: int, error: "Refusal") -> None:
    if not isinstance(runs, (tuple, list)) or len(runs) > MAX_ACK_RUNS:
        raise error("runs: must be at most %d pairs" % MAX_ACK_RUNS)
    above = MAX_SEQ + 1
    for run in runs:
        if not isinstance(run, tuple) or len(run) != 2:
            raise error("run %r: must be a pair of first seq and count" % (run,))
        start, length = run
        if type(start) is not int or type(length) is not int:
            raise error("run %r: both are integers" % (run,))
        if length < 1 or start <= cum or start + length > above:
            raise error(
                "run of %d from %d: runs lie above cum, newest first, and do not overlap" % (length, start)
            )
        above = start


def _runs_of(flat: object) -> "Runs":
    if not isinstance(flat, list) or len(flat) % 2 or len(flat) > 2 * MAX_ACK_RUNS:
        raise DecodeError("runs: must be at most %d pairs" % MAX_ACK_RUNS)
    return tuple([(flat[index], flat[index + 1]) for index in range(0, len(flat), 2)])
