"""What is in the frames of SL 651: reports of a station, questions of a centre, and the elements in both. Pure: bytes.

    report    serial(2) sent(6) F1F1 station(5) class  F0F0 observed(5) element…  F0F0 observed(5) element…
    element   id  definition  BCD          the definition has five bits of length and three of decimals
    series    04 18 step(3)  id definition BCD BCD BCD…     values at even steps; to the end of the body

A negative number has FF before its digits, and a byte more in its definition; a value that is missing is all FF.
What was read is written again byte for byte: elements keep their bytes, and what they say is asked of them.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from protocols.northbound.sl651 import Frame, Sl651Error, check_station
from protocols.northbound.sl651_codes import (
    ADDED,
    BY_HAND,
    CLASSES,
    EXTENDED,
    FLOW_BULK,
    GET_CLOCK,
    GET_EVENTS,
    GET_STATUS,
    GET_VERSION,
    HOURLY,
    LEVELS_OF_HOUR,
    LINK_KEEP,
    MANUAL,
    OBSERVED,
    PICTURE,
    PICTURE_DATA,
    QUERY_ELEMENTS,
    QUERY_MANUAL,
    QUERY_NOW,
    QUERY_SPAN,
    RAIN_OF_HOUR,
    SET_CLOCK,
    STATION,
    STATUS,
    STATUS_BITS,
    STEP,
    TEST,
    TIMED,
    UNIFORM,
)

REPORTS = (TEST, UNIFORM, TIMED, ADDED, HOURLY, MANUAL, PICTURE)
QUERIES = (QUERY_NOW, QUERY_SPAN, QUERY_MANUAL, QUERY_ELEMENTS)
SERIAL_MAX = 0xFFFF
# Values of the hour in F4 (a byte each, 0.1 mm) and F5 to FC (two bytes each, cm).
OF_HOUR = 12
_STEP_DEFINITION = 0x18


class Element(NamedTuple):
    """One element with its bytes. The id of an extended one (FF and another byte) is FFxx."""

    id: int
    definition: int
    data: bytes


class Series(NamedTuple):
    """Values of one element at even steps from the time of their group on."""

    step_s: int
    id: int
    definition: int
    data: bytes


class Group(NamedTuple):
    """Elements of one time: YYMMDDhhmm, civil time. Empty in a body that has no time before its elements."""

    observed: str
    elements: tuple[Element | Series, ...]


class Body(NamedTuple):
    """A body. `sent` is YYMMDDhhmmss; `station` and `kind` (a class) are None where the function has none.

    `rest` is what has a form of its own: the text of a version, the counts of events, the span of a question.
    """

    serial: int
    sent: str
    station: str | None = None
    kind: int | None = None
    groups: tuple[Group, ...] = ()
    rest: bytes = b""


# --- numbers ------------------------------------------------------------------------------------


def bcd(value: float | None, digits: int, decimals: int) -> tuple[int, bytes]:
    """Definition and bytes of a number of so many digits in all; None is a value that is missing.

    Raises Sl651Error when it does not fit: a water pressure has N(5,2), and ends at 999.99 kPa.
    """
    size = (digits + 1) // 2
    if value is None:
        return size << 3 | decimals, b"\xff" * size
    text = f"{abs(value):.{decimals}f}".replace(".", "")
    if not text.isdigit() or len(text.lstrip("0")) > digits:
        form = f"N({digits},{decimals})" if decimals else f"N({digits})"
        raise Sl651Error(f"{value:g} does not fit {form}")
    data = bytes.fromhex(text.zfill(size * 2)[-size * 2 :])
    if value < 0 and data.strip(b"\0"):  # no minus zero
        data = b"\xff" + data
    return len(data) << 3 | decimals, data


def number(data: bytes, decimals: int) -> float | None:
    """The number of an element's bytes; None when it is missing. Raises Sl651Error when it is not BCD."""
    if data == b"\xff" * len(data):
        return None
    negative = data[:1] == b"\xff"
    digits = data[negative:].hex()
    if not digits.isdecimal():
        raise Sl651Error(f"{data.hex().upper()} is no BCD")
    value = float(int(digits) / 10**decimals)
    return -value if negative else value


def text_of(data: bytes, decimals: int) -> str:
    """The number with all its decimals, or "missing". Raises Sl651Error."""
    value = number(data, decimals)
    return "missing" if value is None else f"{value:.{decimals}f}"


def is_number(element: int) -> bool:
    """Whether an element is a BCD number."""
    return element not in (BY_HAND, PICTURE_DATA, STEP, STATUS, FLOW_BULK) and not of_hour(element)


def of_hour(element: int) -> int:
    """How many bytes each of the twelve values of the hour has; 0 when the element is no such list."""
    if element == RAIN_OF_HOUR:
        return 1
    return 2 if element in LEVELS_OF_HOUR else 0


def hour_values(element: Element) -> list[float | None]:
    """The twelve values of F4 (mm) or F5 to FC (m); None where one is missing."""
    size = of_hour(element.id)
    if not size or len(element.data) != OF_HOUR * size:
        raise Sl651Error(f"{element.id:02X}: {len(element.data)} bytes, twelve values have {OF_HOUR * size}")
    missing, scale = (0xFF, 10) if size == 1 else (0xFFFF, 100)
    parts = (int.from_bytes(element.data[at : at + size], "big") for at in range(0, len(element.data), size))
    return [None if value == missing else value / scale for value in parts]


def hour_element(element: int, values: Sequence[float | None]) -> Element:
    """F4 of twelve amounts in mm, or F5 to FC of twelve levels in m. Raises Sl651Error for what does not fit."""
    size = of_hour(element)
    missing, scale = (0xFF, 10) if size == 1 else (0xFFFF, 100)
    data = b""
    for value in values:
        scaled = missing if value is None else round(value * scale)
        if value is not None and not 0 <= scaled < missing:
            raise Sl651Error(f"{value:g} does not fit {element:02X}: 0 to {(missing - 1) / scale:g}")
        data += scaled.to_bytes(size, "big")
    if not size or len(values) != OF_HOUR:
        raise Sl651Error(f"{element:02X} with {len(values)} values; F4 to FC have {OF_HOUR}")
    return Element(element, (len(data) << 3) & 0xFF, data)


def _series_size(series: Series) -> int:
    size = series.definition >> 3
    if not size:
        raise Sl651Error(f"definition {series.definition:02X} of a series: its values would have no bytes")
    return size


def series_values(series: Series) -> list[bytes]:
    """The bytes of each value; a negative one has one more. Raises Sl651Error."""
    size, data, at = _series_size(series), series.data, 0
    values = []
    while at < len(data):
        part = data[at : at + size]
        if part[:1] == b"\xff" and part != b"\xff" * size:
            part = data[at : at + size + 1]
        values.append(part)
        at += len(part)
    return values


def status_told(data: bytes) -> Iterator[tuple[str, str, str]]:
    """Chinese name, name and state of each bit of ZT."""
    bits = int.from_bytes(data, "big")
    for index, bit in enumerate(STATUS_BITS):
        yield bit.chinese, bit.english, bit.one if bits >> index & 1 else bit.zero


def status_element(bits: int) -> Element:
    return Element(STATUS, 4 << 3, bits.to_bytes(4, "big"))


# --- times --------------------------------------------------------------------------------------

_TIME = re.compile(
    r"([0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])(?:([0-5][0-9])([0-5][0-9])?)?"
)


def check_time(text: str, digits: int) -> str:
    """YYMMDDhh (8 digits), YYMMDDhhmm (10) or YYMMDDhhmmss (12). Raises Sl651Error unless it is one."""
    match = _TIME.fullmatch(text)
    if (
        match is None
        or len(text) != digits
        or int(match[3]) > monthrange(2000 + int(match[1]), int(match[2]))[1]
    ):
        raise Sl651Error(f"{text!r:.30} is not a time: {'YYMMDDhhmmss'[:digits]}")
    return text


def step(step_s: int) -> bytes:
    """A step as days, hours and minutes in BCD. Raises Sl651Error when there is none such."""
    days, rest = divmod(step_s, 86400)
    hours, minutes = rest // 3600, rest % 3600 / 60
    if not 0 <= days < 100 or minutes % 1 or step_s <= 0:
        raise Sl651Error(f"{step_s} s is no step: whole minutes, up to 99 days")
    return bytes.fromhex(f"{days:02}{hours:02}{int(minutes):02}")


def _step_s(data: bytes) -> int:
    text = data.hex()
    if len(text) != 6 or not text.isdecimal() or int(text[2:4]) > 23 or int(text[4:]) > 59 or not int(text):
        raise Sl651Error(f"{text.upper()!r} is no step: days, hours and minutes in BCD")
    return int(text[:2]) * 86400 + int(text[2:4]) * 3600 + int(text[4:]) * 60


# --- writing ------------------------------------------------------------------------------------


def encode(body: Body) -> bytes:
    """A body as bytes. Raises Sl651Error for what none can carry."""
    if not 0 <= body.serial <= SERIAL_MAX:
        raise Sl651Error(f"serial number {body.serial}, allowed are 0 to {SERIAL_MAX}")
    data = body.serial.to_bytes(2, "big") + bytes.fromhex(check_time(body.sent, 12))
    if body.station is not None:
        data += bytes([STATION, STATION]) + bytes.fromhex(check_station(body.station))
    if body.kind is not None:
        data += bytes([body.kind])
    for group in body.groups:
        if group.observed:
            data += bytes([OBSERVED, OBSERVED]) + bytes.fromhex(check_time(group.observed, 10))
        data += b"".join(_element(element) for element in group.elements)
    return data + body.rest


def _guide(element: int, definition: int) -> bytes:
    return element.to_bytes(2 if element > 0xFF else 1, "big") + bytes([definition])


def _element(element: Element | Series) -> bytes:
    guide = _guide(element.id, element.definition)
    if isinstance(element, Series):
        return bytes([STEP, _STEP_DEFINITION]) + step(element.step_s) + guide + element.data
    return guide + element.data


def guides(elements: Iterable[tuple[int, int]]) -> bytes:
    """The `rest` of a question for named elements: id and definition of each."""
    return b"".join(_guide(*element) for element in elements)


def span(start: str, end: str, step_s: int, element: int, definition: int) -> bytes:
    """The `rest` of a question for a span (38H): from hour to hour (YYMMDDhh)."""
    times = bytes.fromhex(check_time(start, 8) + check_time(end, 8))
    return times + bytes([STEP, _STEP_DEFINITION]) + step(step_s) + _guide(element, definition)


# --- reading ------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int, what: str) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise Sl651Error(f"the body ends in the {what}: {size} bytes wanted, {len(data)} left")
        self._at += size
        return data

    def rest(self) -> bytes:
        return self.take(self.left, "rest")

    def begins(self, guide: int) -> bool:
        return self._data[self._at : self._at + 2] == bytes([guide, guide])


def decode(frame: Frame) -> Body:
    """The body of a frame. Raises Sl651Error; of several packets only the first has a beginning."""
    if frame.packet > 1:
        raise Sl651Error(f"packet {frame.packet} of {frame.packets}: it goes on where the one before ended")
    reader = _Reader(frame.body)
    serial = int.from_bytes(reader.take(2, "serial number"), "big")
    sent = check_time(reader.take(6, "time of sending").hex(), 12)
    if not frame.up:
        return _decode_down(frame, Body(serial, sent), reader)
    if frame.function == LINK_KEEP:
        return _ended(Body(serial, sent), reader)
    body = Body(serial, sent, _station(reader))
    if frame.function in REPORTS or frame.function in QUERIES:
        return _report(body, reader)
    if frame.function in (GET_VERSION, GET_EVENTS) or frame.function > GET_CLOCK:
        return body._replace(rest=reader.rest())
    if frame.function in (SET_CLOCK, GET_CLOCK):
        return _ended(body, reader)
    return body._replace(groups=tuple(_groups(reader)))  # settings have the form of elements


def _ended(body: Body, reader: _Reader) -> Body:
    if reader.left:
        raise Sl651Error(f"{reader.left} bytes are left over at the end of the body")
    return body


def _station(reader: _Reader) -> str:
    if reader.take(2, "guide of the station") != bytes([STATION, STATION]):
        raise Sl651Error("F1F1 and the address of the station come after the time of sending")
    return check_station(reader.take(5, "address of the station").hex().upper())


def _report(body: Body, reader: _Reader) -> Body:
    kind = reader.take(1, "class of the station")[0]
    if kind not in CLASSES:
        raise Sl651Error(f"{kind:02X} is no class of stations; there are {_listed(CLASSES)}")
    if not reader.begins(OBSERVED):
        raise Sl651Error("F0F0 and the time of observation come after the class of the station")
    return body._replace(kind=kind, groups=tuple(_groups(reader)))


def _listed(known: Iterable[int]) -> str:
    return ", ".join(f"{value:02X}" for value in sorted(known))


def _groups(reader: _Reader) -> Iterator[Group]:
    while reader.left:
        observed = ""
        if reader.begins(OBSERVED):
            reader.take(2, "guide")
            observed = check_time(reader.take(5, "time of observation").hex(), 10)
        elements: list[Element | Series] = []
        while reader.left and not reader.begins(OBSERVED):
            elements.append(_next(reader))
        yield Group(observed, tuple(elements))


def _next(reader: _Reader) -> Element | Series:
    element, definition = _next_guide(reader)
    if element in (BY_HAND, PICTURE_DATA):
        return Element(element, definition, reader.rest())
    if element == FLOW_BULK:
        raise Sl651Error("FD: velocities in bulk are not read here")
    size = definition >> 3
    if of_hour(element):
        size = OF_HOUR * of_hour(element)
    data = reader.take(size, f"element {element:02X}")
    if element == STEP and definition == _STEP_DEFINITION:
        step_s = _step_s(data)
        series = Series(step_s, *_next_guide(reader), reader.rest())
        _series_size(series)
        return series
    return Element(element, definition, data)


def _next_guide(reader: _Reader) -> tuple[int, int]:
    element = reader.take(1, "id of an element")[0]
    if element == EXTENDED:
        element = EXTENDED << 8 | reader.take(1, "id of an extended element")[0]
    return element, reader.take(1, f"definition of element {element:02X}")[0]


def _decode_down(frame: Frame, body: Body, reader: _Reader) -> Body:
    """Answers and plain questions have nothing more; what others have depends on the function."""
    if frame.function == QUERY_SPAN and reader.left:
        body = body._replace(rest=reader.rest())
        asked_span(body)
        return body
    if frame.function in (
        *REPORTS,
        LINK_KEEP,
        QUERY_NOW,
        QUERY_MANUAL,
        GET_VERSION,
        GET_STATUS,
        GET_EVENTS,
        GET_CLOCK,
    ):
        return _ended(body, reader)
    return body._replace(rest=reader.rest())


class Span(NamedTuple):
    """What is asked for with 38H."""

    start: str
    end: str
    step_s: int
    element: int
    definition: int


def asked_span(body: Body) -> Span:
    """The question of 38H. Raises Sl651Error."""
    reader = _Reader(body.rest)
    start = check_time(reader.take(4, "begin of the span").hex(), 8)
    end = check_time(reader.take(4, "end of the span").hex(), 8)
    if reader.take(2, "guide of the step") != bytes([STEP, _STEP_DEFINITION]):
        raise Sl651Error("04 18 and the step come after the span")
    asked = Span(start, end, _step_s(reader.take(3, "step")), *_next_guide(reader))
    _ended(body, reader)
    if end < start:
        raise Sl651Error(f"the span ends ({end}) before it begins ({start})")
    return asked


def asked_elements(body: Body, definitions: dict[int, int]) -> list[int]:
    """The ids that 3AH asks for. Some centres send the definition after each id, some do not."""
    data = body.rest
    pairs = [(data[at], data[at + 1]) for at in range(0, len(data) - 1, 2)]
    if len(data) % 2 == 0 and all(definitions.get(element) == definition for element, definition in pairs):
        return [element for element, _ in pairs]
    return list(data)


def version_of(body: Body) -> str:
    """The text of 45H. Raises Sl651Error."""
    size = body.rest[0] if body.rest else 0
    if len(body.rest) != size + 1 or not body.rest[1:].isascii():
        raise Sl651Error(
            f"the version has {len(body.rest)} bytes, its first one says {size} and ASCII text follows"
        )
    return body.rest[1:].decode("ascii")


def counts_of(body: Body) -> list[int]:
    """The counters of 50H, two bytes each. Raises Sl651Error."""
    if len(body.rest) % 2:
        raise Sl651Error(f"{len(body.rest)} bytes of counters: each has two")
    return [int.from_bytes(body.rest[at : at + 2], "big") for at in range(0, len(body.rest), 2)]


def confirmation(frame: Frame, end: int, sent: str) -> Frame:
    """What a centre answers: the function and the serial number of what it got."""
    body = frame.body[:2] + bytes.fromhex(check_time(sent, 12))
    return frame._replace(up=False, body=body, end=end, packets=0, packet=0)
