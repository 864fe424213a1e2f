"""The two messages of a transfer, kinds 6 and 23 (SPEC.md section 2): messages.py loads this when it meets one.

Apart from the others for the sake of nodes, on whose heap they are only while somebody brings an update.
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

    Refusal: TypeAlias = "type[DecodeError] | type[EncodeError]"

else:
    _UpdateStatus = namedtuple("UpdateStatus", ("release", "session", "answer"))
    _Update = namedtuple("Update", ("session", "command"))

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
    """The plain bytes of either; EncodeError when a value is out of its range, or it is neither."""
    if isinstance(message, UpdateStatus):
        _check_status(message.release, message.session, message.answer, EncodeError)
        return cbor.dumps([_UPDATE_STATUS, message.release, message.session, message.answer])
    if isinstance(message, Update):
        _check_update(message.session, message.command, EncodeError)
        return cbor.dumps([_UPDATE, message.session, message.command])
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
