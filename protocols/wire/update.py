"""What is said of updates: kinds 6 and 23 (SPEC.md section 2), and the commands in them that are not of the transfer
itself (ota.py): who are you, and come to a pass (OTA.md section 6.2).

    41 | answers u40 | begins_in u24, in 0.1 s | lasts u16, in s | for a broadcast: Hz u32 | spreading factor u8 | key

And the word that ends a broadcast and names the next one to all who hear it (section 6.3):

    43 | begins_in u16, in 0.1 s, from its own end | lasts u16, in s

Apart from the other messages for the sake of nodes: messages.py loads this when it meets one, and a node forgets it.
"""

import sys
from collections import namedtuple

from protocols.wire import cbor
from protocols.wire.errors import DecodeError, EncodeError
from protocols.wire.limits import MAX_UPDATE_ANSWER, MAX_UPDATE_COMMAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, TypeAlias

    class _UpdateStatus(NamedTuple):
        release: int
        session: int
        answer: bytes

    class _Update(NamedTuple):
        session: int
        command: bytes

    class Pass(NamedTuple):
        """``answers``: PIV of the uplink from whose end ``begins_in`` (0.1 s) counts. ``freq_hz`` 0: for this node
        alone, on its own link; ``sf`` 0 and ``secret`` empty then.
        """

        answers: int
        begins_in: int
        lasts_s: int
        freq_hz: int
        sf: int
        secret: bytes

    Refusal: TypeAlias = "type[DecodeError] | type[EncodeError]"

else:
    _UpdateStatus = namedtuple("UpdateStatus", ("release", "session", "answer"))
    _Update = namedtuple("Update", ("session", "command"))
    Pass = namedtuple("Pass", ("answers", "begins_in", "lasts_s", "freq_hz", "sf", "secret"))

WHO, COME, NEXT = 0x00, 0x41, 0x43
# TS004: its package, fragmented transport, and the version of it.
I_AM = b"\x00\x03\x01"
# Answers to COME.
COMES, NO_RADIO, NOT_NOW, NO_SESSION, TOO_LONG = 0, 1, 2, 3, 4
# A node receives so long without being one, at most: then it looks at the world again.
LASTS_MAX_S = 300
# What begins later is no appointment, but a word when to ask again: clocks that sleep are up to 5 % off.
APPOINTMENT_S = 600
# How much of a time a sleeping clock may be off, one in so many, and the seconds for a start on top.
DRIFT_OF = 20
START_S = 4
_ALONE = 11
_SECRET = 16
_NEXT = 5
_UPDATE_STATUS = 6
_UPDATE = 23

if sys.implementation.name != "micropython":

    class UpdateStatus(_UpdateStatus):
        """release: the sequence of what runs, 0 when it is no release; answer: one of OTA.md section 6."""

        __slots__ = ()
        KIND = _UPDATE_STATUS

    class Update(_Update):
        """command: one of OTA.md section 6, about that session."""

        __slots__ = ()
        KIND = _UPDATE

else:
    UpdateStatus, Update = _UpdateStatus, _Update  # type: ignore[assignment, misc]


def encode(message: "Any") -> bytes:
    """The plain bytes of either; EncodeError when a value is out of its range, or it is neither.

    Known by its shape: a node lets go of this module while an answer waits for its moment on the air, and loads it
    anew to encode that; its classes are others then.
    """
    if isinstance(message, tuple) and len(message) == 3:
        _check_status(message[0], message[1], message[2], EncodeError)
        return cbor.dumps([_UPDATE_STATUS, message[0], message[1], message[2]])
    if isinstance(message, tuple) and len(message) == 2:
        _check_update(message[0], message[1], EncodeError)
        return cbor.dumps([_UPDATE, message[0], message[1]])
    raise EncodeError("%s is not a message" % type(message).__name__)


def decode(items: "list[Any]", is_down: bool) -> "UpdateStatus | Update":
    """The message whose kind, for that direction, is the first of the items; DecodeError for what none is."""
    if is_down and items[0] == _UPDATE and len(items) == 3:
        _check_update(items[1], items[2], DecodeError)
        return Update(items[1], items[2])
    if not is_down and items[0] == _UPDATE_STATUS and len(items) == 4:
        _check_status(items[1], items[2], items[3], DecodeError)
        return UpdateStatus(items[1], items[2], items[3])
    raise DecodeError("message kind %r with %d items: not known here" % (items[0], len(items)))


def _check_status(release: "Any", session: "Any", answer: "Any", error: "Refusal") -> None:
    _check(release, 32, session, error)
    if not isinstance(answer, bytes) or not 0 < len(answer) <= MAX_UPDATE_ANSWER:
        raise error("an answer is a byte string of 1 to %d bytes" % MAX_UPDATE_ANSWER)


def _check_update(session: "Any", command: "Any", error: "Refusal") -> None:
    _check(0, 32, session, error)
    if not isinstance(command, bytes) or not 0 < len(command) <= MAX_UPDATE_COMMAND:
        raise error("a command is a byte string of 1 to %d bytes" % MAX_UPDATE_COMMAND)


def _check(number: "Any", bits: int, session: "Any", error: "Refusal") -> None:
    for value, most in ((number, bits), (session, 16)):
        if type(value) is not int or value < 0 or value >> most:
            raise error("%r: allowed are 0 to 2**%d - 1" % (value, most))


def encode_pass(one: "Pass") -> bytes:
    """The command; EncodeError when a number does not fit."""
    if not (0 <= one.answers < 1 << 40 and 0 <= one.begins_in < 1 << 24 and 0 < one.lasts_s < 1 << 16):
        raise EncodeError("a pass in %d tenths for %d s: out of range" % (one.begins_in, one.lasts_s))
    head = bytes((COME,)) + one.answers.to_bytes(5, "little") + one.begins_in.to_bytes(3, "little")
    head += one.lasts_s.to_bytes(2, "little")
    if not one.freq_hz:
        return head
    if len(one.secret) != _SECRET or not 5 <= one.sf <= 12:
        raise EncodeError("a broadcast at SF%d under %d bytes of key" % (one.sf, len(one.secret)))
    return head + one.freq_hz.to_bytes(4, "little") + bytes((one.sf,)) + one.secret


def decode_pass(command: bytes) -> "Pass":
    """DecodeError for what is none."""
    if len(command) not in (_ALONE, _ALONE + 5 + _SECRET) or command[0] != COME:
        raise DecodeError("a pass of %d bytes: it has 11 or 32, and begins with 41" % len(command))
    freq_hz, sf, secret = int.from_bytes(command[11:15], "little"), 0, b""
    if len(command) > _ALONE:
        sf, secret = command[15], command[16:]
        if not freq_hz or not 5 <= sf <= 12:
            raise DecodeError("a broadcast at SF%d on %d Hz" % (sf, freq_hz))
    lasts_s = int.from_bytes(command[9:11], "little")
    if not lasts_s:
        raise DecodeError("a pass that lasts no time")
    begins_in = int.from_bytes(command[6:9], "little")
    return Pass(int.from_bytes(command[1:6], "little"), begins_in, lasts_s, freq_hz, sf, secret)


def encode_next(begins_in: int, lasts_s: int) -> bytes:
    """The command; EncodeError for what is no appointment."""
    if not (0 < begins_in <= 10 * APPOINTMENT_S and 0 < lasts_s <= LASTS_MAX_S):
        raise EncodeError("the next pass in %d tenths for %d s: out of range" % (begins_in, lasts_s))
    return bytes((NEXT,)) + begins_in.to_bytes(2, "little") + lasts_s.to_bytes(2, "little")


def decode_next(command: bytes) -> "tuple[int, int]":
    """(begins_in, lasts_s); DecodeError for what is none."""
    begins_in, lasts_s = int.from_bytes(command[1:3], "little"), int.from_bytes(command[3:5], "little")
    if len(command) != _NEXT or command[0] != NEXT:
        raise DecodeError("the next pass in %d bytes: it has 5, and begins with 43" % len(command))
    if not (0 < begins_in <= 10 * APPOINTMENT_S and 0 < lasts_s <= LASTS_MAX_S):
        raise DecodeError("the next pass in %d tenths for %d s" % (begins_in, lasts_s))
    return begins_in, lasts_s
