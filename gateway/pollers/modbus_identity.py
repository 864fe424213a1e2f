"""Who a device says it is: Read Device Identification, function 43 with MEI type 14. Bytes in, words out.

Vendor, product code and revision are the basic objects, which every device has that has the function at all; more of
them come in parts, each saying where the next begins (application protocol specification V1.1b3, 6.21). What is
here is never trusted: lengths are looked at, and what a terminal would obey is written out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.log import printable
from gateway.pollers.modbus_types import ANSWERED, IDENTIFY, SPOILT, Outcome, Request
from gateway.profiles import Identification

MEI_TYPE = 14
BASIC, REGULAR = 1, 2
HEAD = 7  # function, MEI type, code, level, whether more follows, next object, how many objects
# A device tells 128 objects at most in its regular stream, a few at a time; one that never ends is left.
PARTS_MAX = 16
TRIES = 2
VENDOR, PRODUCT, REVISION, PRODUCT_NAME, MODEL = 0, 1, 2, 4, 5


class Part(NamedTuple):
    """One answer."""

    is_regular: bool  # whether the device has more than the basic objects
    next_object: int | None
    objects: dict[int, bytes]


class Identity(NamedTuple):
    """What a device says of itself; "" for what it does not say."""

    vendor: str = ""
    product: str = ""
    revision: str = ""
    model: str = ""

    def __str__(self) -> str:
        model = "" if self.model in (self.product, "") else f"({self.model})"
        return " ".join(word for word in (self.vendor, self.product, self.revision, model) if word)

    def contradicts(self, expected: Identification) -> bool:
        """Whether it says that it is something else than a profile is for."""
        pairs = ((self.vendor, expected.vendor), (self.product, expected.product))
        return any(said and not said.casefold().startswith(wanted.casefold()) for said, wanted in pairs)

    def confirms(self, expected: Identification) -> bool:
        """Whether it says all that a profile expects."""
        pairs = ((self.vendor, expected.vendor), (self.product, expected.product))
        return all(said or not wanted for said, wanted in pairs) and not self.contradicts(expected)


def size(pdu: bytes) -> int:
    """How long the answer is that `pdu` begins; 0 while that cannot be told, or when it is none."""
    if len(pdu) < HEAD or pdu[:2] != bytes([IDENTIFY, MEI_TYPE]):
        return 0
    end = HEAD
    for _ in range(pdu[6]):
        if len(pdu) < end + 2:
            return 0
        end += 2 + pdu[end + 1]
    return end


def part_of(pdu: bytes) -> Part:
    """Take an answer apart whose `size` is its length."""
    objects, at = {}, HEAD
    for _ in range(pdu[6]):
        objects[pdu[at]] = pdu[at + 2 : at + 2 + pdu[at + 1]]
        at += 2 + pdu[at + 1]
    return Part(pdu[3] & 0x7F >= REGULAR, pdu[5] if pdu[4] == 0xFF else None, objects)


async def read(ask: Callable[[Request], Awaitable[Outcome]], unit: int) -> Identity:
    """Ask unit `unit` who it is; whatever it does, this ends, with what is known by then."""
    objects: dict[int, bytes] = {}
    is_regular = await _stream(ask, unit, BASIC, 0, objects)
    if is_regular:
        await _stream(ask, unit, REGULAR, REVISION + 1, objects)
    texts = {number: _text(data) for number, data in objects.items()}
    vendor, product, revision = (texts.get(number, "") for number in (VENDOR, PRODUCT, REVISION))
    return Identity(vendor, product, revision, texts.get(MODEL) or texts.get(PRODUCT_NAME, ""))


async def _stream(
    ask: Callable[[Request], Awaitable[Outcome]], unit: int, code: int, first: int, objects: dict[int, bytes]
) -> bool:
    """Read a stream of objects to its end; whether the device has more than the basic ones."""
    is_regular, next_object = False, first
    for _ in range(PARTS_MAX):
        outcome = await ask(Request(unit, IDENTIFY, next_object, code))
        for _ in range(1, TRIES):
            if outcome.kind == SPOILT:
                outcome = await ask(Request(unit, IDENTIFY, next_object, code))
        if outcome.kind != ANSWERED:
            return is_regular
        part = part_of(bytes(outcome.values))
        objects |= part.objects
        is_regular = part.is_regular
        if part.next_object is None or part.next_object <= next_object:
            return is_regular
        next_object = part.next_object
    return is_regular


def _text(data: bytes) -> str:
    """Some fill up with zeros or blanks; the standard says ASCII, and Latin-1 takes every byte."""
    return printable(data.decode("latin-1").strip("\0 "))
