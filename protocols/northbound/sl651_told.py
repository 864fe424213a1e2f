"""A frame of SL 651 for people: every field, and every mistake that can be named, not just the first. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from protocols.measurands import registry
from protocols.northbound import sl651, sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import BODY_MAX, FRAME_MIN, MAGIC, Frame, Sl651Error, crc16
from protocols.northbound.sl651_body import Body, Element, Group, Series
from protocols.northbound.told import Line, Told, nearest

_LENGTH = slice(11, 13)


def tell(data: bytes) -> Told:
    """All that is to be said of one frame."""
    told = Told("SL 651-2014", [], [], [])
    good = _envelope(data, told)
    if good is None:
        return told
    try:
        frame = sl651.decode(good)
    except Sl651Error as error:
        told.problems.append(str(error))
        return told
    told.lines.extend(_head(frame))
    if frame.function not in codes.FUNCTIONS:
        near = nearest(frame.function, codes.FUNCTIONS)
        told.problems.append(f"function {frame.function:02X} is not in the standard; next to it are {near}")
    _tell_body(frame, told)
    return told


# --- the envelope -------------------------------------------------------------------------------


def _envelope(data: bytes, told: Told) -> bytes | None:
    """The frame with a length and check sum that fit, so that the rest can be looked at; None when that is hopeless."""
    if data.startswith(b"##"):
        told.problems.append("begins with ##: this is HJ 212; try tidegate inspect hj212")
        return None
    if not data.startswith(MAGIC):
        at = data.find(MAGIC)
        if at < 0:
            told.problems.append(_no_magic(data))
            return None
        told.problems.append(f"{at} bytes stand before the 7E7E with which a frame begins: {_hex(data[:at])}")
        data = data[at:]
    if len(data) < FRAME_MIN:
        told.problems.append(f"{len(data)} bytes are no frame: the shortest one has {FRAME_MIN}")
        return None
    fixed = _check_length(data, told)
    _check_crc(data, fixed, told)
    return fixed + crc16(fixed).to_bytes(2, "big")


def _no_magic(data: bytes) -> str:
    try:
        sl651.frame_length(data[:2])
    except Sl651Error as error:
        return str(error)
    return f"there is no frame in these {len(data)} bytes: one begins with 7E7E"


def _check_length(data: bytes, told: Told) -> bytes:
    """The frame up to its check sum, with the length that it has."""
    said, found = int.from_bytes(data[_LENGTH], "big") & BODY_MAX, len(data) - FRAME_MIN
    if said == found:
        return data[:-2]
    direction = data[11] >> 4
    swapped = int.from_bytes(data[_LENGTH], "little")
    hint = _length_hint(said, found) if int.from_bytes(data[-2:], "big") == crc16(data[:-2]) else ""
    if swapped & BODY_MAX == found and swapped >> 12 in (0, 8):
        direction, hint = swapped >> 12, ": its low byte comes first, and has to come last"
    if not hint:
        many = f"{said - found} bytes are missing" if said > found else f"{found - said} bytes are left over"
        hint = f"; {many}, or it is wrong"
    told.problems.append(f"the length says that the body has {said} bytes, it has {found}{hint}")
    both = direction << 12 | min(found, BODY_MAX)
    return data[:11] + both.to_bytes(2, "big") + data[13:-2]


def _length_hint(said: int, found: int) -> str:
    """The usual mistakes of a sender, whose bytes have all arrived."""
    for counted, extra in (
        ("the end byte", 1),
        ("the end and the check sum", 3),
        ("the whole frame", FRAME_MIN),
    ):
        if said == found + extra:
            return f": it counts {counted}, and has to count the body alone"
    if f"{said:x}" == str(found):
        return ": it is written in decimal digits, and has to be binary"
    return ""


def _check_crc(data: bytes, fixed: bytes, told: Told) -> None:
    found, wanted = int.from_bytes(data[-2:], "big"), crc16(data[:-2])
    if found == wanted:
        if fixed != data[:-2]:
            told.notes.append(
                "the check sum is right for the bytes as they are: the sender counts wrong, no byte was lost"
            )
        return
    if found == crc16(fixed):
        told.notes.append(
            "the check sum would be right with the right length: the length was changed on the way"
        )
        return
    told.problems.append(f"check sum {found:04X} found, {wanted:04X} expected{sl651.crc_hint(data, found)}")


# --- the head -----------------------------------------------------------------------------------


def _head(frame: Frame) -> Iterator[Line]:
    yield Line(
        "direction", "up" if frame.up else "down", "from the station" if frame.up else "from the centre"
    )
    yield Line("centre", str(frame.centre), "address of the centre", "中心站地址")
    yield Line("station", frame.station, _whose(frame.station), "遥测站地址")
    yield Line("password", "****", "not shown", "密码")
    chinese, english = codes.FUNCTIONS.get(frame.function, ("", "unknown function"))
    yield Line("function", f"{frame.function:02X}", english, chinese)
    yield Line("length", str(len(frame.body) + 3 * bool(frame.packets)), "bytes of the body", "报文长度")
    if frame.packets:
        yield Line("packet", f"{frame.packet} of {frame.packets}", "SYN: one of several", "包总数及序列号")
    name, _, meaning = (codes.ENDS_UP if frame.up else codes.ENDS_DOWN)[frame.end].partition(": ")
    yield Line("end", f"{frame.end:02X} {name}", meaning, "报文结束符")


def _whose(station: str) -> str:
    return "of the national network" if station.startswith("00") else f"of the district {station[:6]}"


# --- the body -----------------------------------------------------------------------------------


def _tell_body(frame: Frame, told: Told) -> None:
    if frame.packet > 1:
        told.notes.append(f"packet {frame.packet} of {frame.packets} goes on where the one before it ended")
        told.lines.append(Line("body", _hex(frame.body)))
        return
    try:
        body = sl651_body.decode(frame)
    except Sl651Error as error:
        told.problems.append(f"body: {error}")
        told.lines.append(Line("body", _hex(frame.body), "as it is"))
        return
    told.lines.append(Line("serial", str(body.serial), "serial number", "流水号"))
    told.lines.append(Line("sent", _time(body.sent), "time of sending", "发报时间"))
    if not body.serial:
        told.notes.append("serial number 0: the standard counts from 1 to 65535")
    if body.station is not None and body.station != frame.station:
        told.problems.append(f"the body is of the station {body.station}, the head of {frame.station}")
    if body.kind is not None:
        chinese, english = codes.CLASSES[body.kind]
        told.lines.append(Line("class", f"{body.kind:02X} {chr(body.kind)}", english, chinese))
    for group in body.groups:
        _tell_group(frame, body, group, told)
    _tell_rest(frame, body, told)


def _tell_group(frame: Frame, body: Body, group: Group, told: Told) -> None:
    if group.observed:
        told.lines.append(Line("observed", _time(group.observed), "time of observation", "观测时间"))
        if group.observed > body.sent[:10]:
            told.notes.append(f"observed {_time(group.observed)}, after it was sent: is the clock right?")
    for element in group.elements:
        try:
            _tell_element(frame, element, told)
        except Sl651Error as error:
            told.problems.append(f"{_name(frame, element.id)[0]}: {error}")


def _name(frame: Frame, element: int) -> tuple[str, str, str, str]:
    """Field, meaning, Chinese name and unit."""
    if frame.function in (
        codes.SET_BASIC,
        codes.GET_BASIC,
        codes.SET_RUNNING,
        codes.GET_RUNNING,
        codes.SET_PASSWORD,
    ):
        chinese, english = codes.SETTINGS.get(element, ("", "setting"))
        return f"{element:02X}", english, chinese, ""
    known = codes.ELEMENTS.get(element)
    if known is None:
        return f"{element:02X}", "an extended element" if element > 0xFF else "unknown element", "", ""
    return f"{element:02X} {known.letters}", known.english, known.chinese, known.unit


def _tell_element(frame: Frame, element: Element | Series, told: Told) -> None:
    field, english, chinese, unit = _name(frame, element.id)
    if english == "unknown element":
        names = {number: (known.chinese, known.english) for number, known in codes.ELEMENTS.items()}
        told.problems.append(
            f"element {element.id:02X} is not in the standard; next to it are {nearest(element.id, names)}"
        )
    if isinstance(element, Series):
        decimals = element.definition & 7
        values = " ".join(sl651_body.text_of(value, decimals) for value in sl651_body.series_values(element))
        told.lines.append(
            Line(f"{field} each {element.step_s // 60} min", f"{values} {unit}".strip(), english, chinese)
        )
        return
    told.lines.append(Line(field, _value(frame, element, unit), english, chinese))
    if element.id == codes.STATUS:
        told.lines.extend(
            Line(f"  {name}", state, "", bit) for bit, name, state in sl651_body.status_told(element.data)
        )
    _tell_definition(field, element, told)


def _value(frame: Frame, element: Element, unit: str) -> str:
    if frame.function in (codes.SET_PASSWORD,) or (frame.function in _SETTINGS and element.id == 0x03):
        return "****"
    if sl651_body.of_hour(element.id):
        values = sl651_body.hour_values(element)
        return " ".join("missing" if value is None else f"{value:g}" for value in values) + f" {unit}"
    if element.id > 0xFF or frame.function in _SETTINGS or not sl651_body.is_number(element.id):
        return _hex(element.data)
    return f"{sl651_body.text_of(element.data, element.definition & 7)} {unit}".strip()


_SETTINGS = range(codes.SET_BASIC, codes.GET_RUNNING + 1)


def _tell_definition(field: str, element: Element, told: Told) -> None:
    """Another width than usual is allowed, and is what receivers stumble over."""
    for measurand in registry().by_name.values():
        usual = measurand.sl651
        if usual is None or usual.id != element.id:
            continue
        negative = element.data[:1] == b"\xff" and element.data.strip(b"\xff") != b""
        said = element.definition - (8 if negative else 0)
        if said != usual.definition:
            told.notes.append(
                f"{field}: definition {element.definition:02X}, usual is {usual.definition:02X}: "
                f"N({usual.digits},{usual.decimals}); it is allowed, but some centres read by the table"
            )


def _tell_rest(frame: Frame, body: Body, told: Told) -> None:
    """What has a form of its own."""
    try:
        told.lines.extend(_rest(frame, body))
    except Sl651Error as error:
        told.problems.append(f"body: {error}")


def _rest(frame: Frame, body: Body) -> Iterator[Line]:
    if not frame.up and frame.function == codes.QUERY_SPAN and body.rest:
        span = sl651_body.asked_span(body)
        yield Line("from", _time(span.start), "begin of the span", "起始时间")
        yield Line("to", _time(span.end), "end of the span", "结束时间")
        yield Line("step", f"{span.step_s // 60} min", "step of time", "时间步长")
        yield Line("element", *_name(frame, span.element)[:3])
    elif not frame.up and frame.function == codes.QUERY_ELEMENTS:
        usual = {one.id: one.definition for one in _usual_elements()}
        for element in sl651_body.asked_elements(body, usual):
            yield Line("element", *_name(frame, element)[:3])
    elif frame.up and frame.function == codes.GET_VERSION:
        yield Line("version", sl651_body.version_of(body), "software", "软件版本")
    elif frame.up and frame.function == codes.GET_EVENTS:
        counts = " ".join(map(str, sl651_body.counts_of(body)))
        yield Line("events", counts, "counted by the station", "事件记录")
    elif frame.function == codes.SET_PASSWORD and body.rest:
        yield Line("body", "****", "passwords, not shown")
    elif body.rest:
        yield Line("body", _hex(body.rest), "not read further")


def _usual_elements() -> Iterator[Element]:
    for measurand in registry().by_name.values():
        if measurand.sl651 is not None:
            yield Element(measurand.sl651.id, measurand.sl651.definition, b"")


def _time(text: str) -> str:
    """YYMMDDhhmmss and its shorter kin, as a person writes it."""
    parts = [text[at : at + 2] for at in range(0, len(text), 2)]
    clock = ":".join(parts[3:]) if len(parts) > 4 else f"{parts[3]}:00"
    return f"20{'-'.join(parts[:3])} {clock}"


def _hex(data: bytes) -> str:
    return data.hex(" ").upper()
