"""SL 651 frames and bodies: known frames byte for byte both ways, and whatever else comes is refused with a reason."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.measurands import registry
from protocols.northbound import sl651, sl651_body
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651 import Frame, Sl651Error, Splitter, decode, encode
from protocols.northbound.sl651_body import Body, Element, Group, Series

VECTORS = json.loads((Path(sl651.__file__).parents[1] / "vectors" / "northbound" / "sl651.json").read_text())
CASES = VECTORS["exact"]
EXACT = [bytes.fromhex(case["frame"]) for case in CASES]
TIMED = decode(EXACT[2])
SENT, OBSERVED = "261128061700", "2611280615"


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_known_frames_are_read_and_written_byte_for_byte(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["frame"])
    frame = decode(data)
    assert encode(frame) == data
    body = sl651_body.decode(frame)
    assert encode(frame._replace(body=sl651_body.encode(body))) == data
    assert (body.serial, body.sent) == (case["serial"], case["sent"])
    elements = {
        f"{element.id:02X}": sl651_body.number(element.data, element.definition & 7)
        for group in body.groups
        for element in group.elements
    }
    assert elements == case.get("values", {})
    assert [group.observed for group in body.groups] == ([case["observed"]] if "observed" in case else [])


def test_heads_of_both_directions() -> None:
    assert TIMED[:4] == (5, "0011223344", "03E8", codes.TIMED)
    answer = sl651_body.confirmation(TIMED, codes.EOT, SENT)
    data = encode(answer)
    # The station before the centre, 8 before the length, and the serial number of what is confirmed.
    assert data.hex().upper().startswith("7E7E00112233440503E832800802003426112806170004")
    assert decode(data) == answer
    assert sl651_body.decode(answer) == Body(52, SENT)


def test_the_check_sum_is_that_of_modbus_with_the_high_byte_first() -> None:
    assert sl651.crc16(b"123456789") == 0x4B37
    assert EXACT[0][-2:] == sl651.crc16(EXACT[0][:-2]).to_bytes(2, "big")


# --- what is refused ----------------------------------------------------------------------------


def summed(data: bytes) -> bytes:
    return data + sl651.crc16(data).to_bytes(2, "big")


def changed(at: int, value: int) -> bytes:
    data = bytearray(EXACT[2][:-2])
    data[at] = value
    return summed(bytes(data))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "ends after 0 bytes, it has at least 17"),
        (b"\x7e", "ends after 1 bytes"),
        (b"\x01" + b"05001122334403E832", "ASCII form"),
        (b"##0087", "begins with 2323"),
        (EXACT[2][:-1], "ends after 59 bytes, it has at least 60"),
        (EXACT[2] + b"x", "1 bytes are left over"),
        (EXACT[2][:-2] + EXACT[2][:-3:-1], "low byte comes first, as on a Modbus line"),
        (EXACT[2][:-2] + sl651.crc16(EXACT[2][2:-2]).to_bytes(2, "big"), "check sum without 7E7E"),
        (EXACT[2][:-2] + sl651.crc16(EXACT[2][:-3]).to_bytes(2, "big"), "without the end byte"),
        (EXACT[2][:-2] + b"\0\0", "it would be A421: bytes were changed"),
        (changed(13, 0x01), "allowed are 02 (STX) and 16 (SYN)"),
        (changed(11, 0x40), "direction 4 before the length"),
        (changed(3, 0x0A), "'0A11223344' is no address of a station"),
        (changed(-1, codes.ENQ), "05 ends the body, allowed are 03 (ETX), 17 (ETB)"),
        (summed(bytes.fromhex("7E7E05001122334403E83200021600") + b"\x01\x03"), "packet count alone has 3"),
        (summed(bytes.fromhex("7E7E05001122334403E832000316002000") + b"\x03"), "packet 0 of 2"),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused_with_what_was_found(data: bytes, told: str) -> None:
    with pytest.raises(Sl651Error) as caught:
        decode(data)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"centre": 256}, "centre = 256"),
        ({"station": "12345678"}, "no address of a station"),
        ({"password": "12X4"}, "four hexadecimal"),
        ({"end": codes.ACK}, "end = 06"),
        ({"packets": 2, "packet": 3}, "packet = 3"),
        ({"packets": 2, "packet": 0}, "packet = 0"),
        ({"body": b"x" * 4096}, "allowed are 4095"),
    ],
)
def test_what_no_frame_can_carry_is_not_written(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Sl651Error, match=told) as caught:
        encode(TIMED._replace(**change))
    assert "12X4" not in str(caught.value), "a password is not told"


# --- streams ------------------------------------------------------------------------------------


@given(st.data())
def test_frames_are_found_however_the_stream_is_cut(data: st.DataObject) -> None:
    frames = data.draw(st.lists(st.sampled_from(EXACT), max_size=5))
    noise = st.binary(max_size=8).filter(lambda part: b"\x7e" not in part)
    stream = b"".join(data.draw(noise) + frame for frame in frames) + data.draw(noise)
    splitter, found, at = Splitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 100))
        found += splitter.feed(stream[at : at + size])
        at += size
    assert found == [decode(frame) for frame in frames]


def test_a_frame_in_pieces_that_was_spoiled_does_not_take_the_next_ones_along() -> None:
    spoiled = bytearray(EXACT[2])
    spoiled[20] ^= 1
    longer = bytearray(EXACT[3])
    longer[12] += 40  # its length reaches into the next ones
    found = Splitter().feed(bytes(spoiled) + EXACT[0] + bytes(longer) + EXACT[1] + EXACT[2])
    assert [one for one in found if isinstance(one, Frame)] == [decode(EXACT[0]), decode(EXACT[1]), TIMED]


def test_a_stream_without_end_is_not_kept() -> None:
    splitter = Splitter()
    for _ in range(200):
        splitter.feed(b"\x7e" * 500 + EXACT[2][:20] * 20)
        assert len(splitter._held) <= sl651.FRAME_MAX


def test_a_frame_of_several_packets_says_which_it_is() -> None:
    frame = TIMED._replace(packets=3, packet=2, body=b"\x12\x34")
    data = encode(frame)
    assert data[11:17].hex() == "000516" + "003002"
    assert decode(data) == frame
    with pytest.raises(Sl651Error, match="packet 2 of 3: it goes on"):
        sl651_body.decode(frame)


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "decimals", "written"),
    [
        (7.48, 4, 2, "12 0748"),
        (10.49, 7, 3, "23 00010490"),
        (0, 3, 0, "10 0000"),
        (-1.204, 7, 3, "2B FF00001204"),  # a negative number has a byte more
        (-205.5, 5, 1, "21 FF002055"),
        (-0.04, 3, 1, "11 0000"),
        (None, 5, 1, "19 FFFFFF"),
        (999.99, 5, 2, "1A 099999"),
    ],
)
def test_numbers_are_bcd(value: float | None, digits: int, decimals: int, written: str) -> None:
    definition, data = sl651_body.bcd(value, digits, decimals)
    assert f"{definition:02X} {data.hex().upper()}" == written
    wanted = value if value is None else round(value, decimals)
    assert sl651_body.number(data, decimals) == wanted


def test_a_water_pressure_of_ten_bar_does_not_fit_and_is_not_cut() -> None:
    pressure = registry().by_name["water_pressure"].sl651
    assert pressure is not None
    assert (pressure.id, pressure.definition) == (0x58, 0x1A)
    with pytest.raises(Sl651Error, match=r"1000 does not fit N\(5,2\)"):
        sl651_body.bcd(1000, pressure.digits, pressure.decimals)
    for value in (float("nan"), float("inf"), 1e300):
        with pytest.raises(Sl651Error, match="does not fit"):
            sl651_body.bcd(value, 5, 2)


def test_a_redox_potential_keeps_its_sign() -> None:
    """Black and odorous water has -200 mV: without its sign it would be clean."""
    redox = registry().by_name["orp"].sl651
    assert redox is not None
    definition, data = sl651_body.bcd(-200, redox.digits, redox.decimals)
    assert f"{redox.id:02X}{definition:02X}{data.hex()}".upper() == "4B21FF002000"
    assert sl651_body.number(data, definition & 7) == -200


def test_every_measurand_has_an_element_that_is_known_by_that_unit_and_no_other_has_it() -> None:
    seen: dict[int, str] = {}
    for measurand in registry().by_name.values():
        element = measurand.sl651
        if element is None:
            continue
        assert element.id in codes.ELEMENTS, measurand.name
        assert seen.setdefault(element.id, measurand.name) == measurand.name
        unit = codes.ELEMENTS[element.id].unit
        units = {"[pH]": "", "{NTU}": "度", "cm": "m", "ug/L": "mg/L"}
        assert units.get(measurand.unit, measurand.unit) == unit, measurand.name
        scale = {"cm": 1e-2, "ug/L": 1e-3}.get(measurand.unit, 1.0)
        assert element.factor == scale, measurand.name


def test_what_is_no_bcd_is_told() -> None:
    for text in ("0A", "FF0B", "7F"):
        with pytest.raises(Sl651Error, match="is no BCD"):
            sl651_body.number(bytes.fromhex(text), 1)


def test_a_door_is_open_at_0_and_other_alarms_are_on_at_1() -> None:
    assert sl651_body.status_element(codes.DOOR_CLOSED) == Element(0x45, 0x20, bytes.fromhex("00000080"))
    told = {english: state for _, english, state in sl651_body.status_told(bytes.fromhex("00000012"))}
    assert (told["battery"], told["water quality"], told["door"]) == ("low", "alarm", "open")
    assert (told["mains"], told["pump"]) == ("on", "running")


def test_twelve_values_of_an_hour() -> None:
    rain = sl651_body.hour_element(0xF4, [0, 0.5, None, 25.4] + [0.0] * 8)
    assert (rain.definition, rain.data.hex()) == (0x60, "0005fffe" + "00" * 8)
    assert sl651_body.hour_values(rain)[:4] == [0, 0.5, None, 25.4]
    level = sl651_body.hour_element(0xF5, [1.23, None] + [655.34] * 10)
    assert (level.definition, level.data[:4].hex()) == (0xC0, "007bffff")
    assert sl651_body.hour_values(level)[:3] == [1.23, None, 655.34]
    for element, value in ((0xF4, 25.5), (0xF5, -0.01), (0xF5, 655.35)):
        with pytest.raises(Sl651Error, match="does not fit"):
            sl651_body.hour_element(element, [value] * 12)
    for element, count in ((0xF4, 11), (0x39, 12)):
        with pytest.raises(Sl651Error, match="F4 to FC have 12"):
            sl651_body.hour_element(element, [0.0] * count)


# --- bodies -------------------------------------------------------------------------------------

Z = Element(0x39, 0x23, bytes.fromhex("00001204"))
VT = Element(0x38, 0x12, bytes.fromhex("1220"))
REPORT = Body(7, SENT, "0011223344", 0x51, (Group(OBSERVED, (Z, VT)),))


def up(function: int, body: Body) -> Frame:
    return Frame(5, "0011223344", "03E8", function, sl651_body.encode(body))


def down(function: int, body: Body) -> Frame:
    return up(function, body)._replace(up=False, end=codes.ENQ)


@pytest.mark.parametrize(
    ("function", "body"),
    [
        (codes.TIMED, REPORT),
        (codes.ADDED, REPORT._replace(groups=(Group(OBSERVED, (Z,)), Group("2611280616", (Z, VT))))),
        (codes.HOURLY, REPORT._replace(groups=(Group(OBSERVED, (Z, sl651_body.hour_element(0xF5, [1.0] * 12), VT)),))),
        (codes.UNIFORM, REPORT._replace(groups=(Group(OBSERVED, (Series(300, 0x39, 0x23, Z.data * 12),)),))),
        (codes.MANUAL, REPORT._replace(groups=(Group(OBSERVED, (Element(0xF2, 0xF2, b"PT 12.5"),)),))),
        (codes.QUERY_NOW, REPORT),
        (codes.QUERY_ELEMENTS, REPORT._replace(groups=(Group(OBSERVED, (Element(0xFF38, 0x12, b"\x12\x20"),)),))),
        (codes.LINK_KEEP, Body(7, SENT)),
        (codes.GET_STATUS, Body(7, SENT, "0011223344", None, (Group("", (sl651_body.status_element(0x80),)),))),
        (codes.GET_VERSION, Body(7, SENT, "0011223344", None, (), b"\x04V1.2")),
        (codes.GET_EVENTS, Body(7, SENT, "0011223344", None, (), bytes(64))),
        (codes.GET_CLOCK, Body(7, SENT, "0011223344")),
    ],
)  # fmt: skip
def test_bodies_of_a_station_are_read_as_they_were_written(function: int, body: Body) -> None:
    frame = up(function, body)
    assert sl651_body.decode(decode(encode(frame))) == body


def test_what_a_centre_asks() -> None:
    span = sl651_body.span("26112800", "26112806", 3600, 0x39, 0x23)
    frame = down(codes.QUERY_SPAN, Body(7, SENT, rest=span))
    assert frame.body.hex()[16:] == "26112800" + "26112806" + "0418000100" + "3923"
    assert sl651_body.asked_span(sl651_body.decode(frame)) == ("26112800", "26112806", 3600, 0x39, 0x23)
    definitions = {0x39: 0x23, 0x38: 0x12}
    for rest in (bytes.fromhex("39233812"), bytes.fromhex("3938")):
        asked = sl651_body.decode(down(codes.QUERY_ELEMENTS, Body(7, SENT, rest=rest)))
        assert sl651_body.asked_elements(asked, definitions) == [0x39, 0x38]
    assert sl651_body.decode(down(codes.QUERY_NOW, Body(7, SENT))) == Body(7, SENT)


def test_values_of_a_series_and_texts_and_counts() -> None:
    data = Z.data + bytes.fromhex("FF00000500") + b"\xff" * 4
    assert sl651_body.series_values(Series(300, 0x39, 0x23, data)) == [Z.data, data[4:9], b"\xff" * 4]
    assert sl651_body.version_of(Body(1, SENT, rest=b"\x04V1.2")) == "V1.2"
    assert sl651_body.counts_of(Body(1, SENT, rest=bytes.fromhex("00010203"))) == [1, 515]


@pytest.mark.parametrize(
    ("function", "body", "told"),
    [
        (codes.TIMED, "0034", "ends in the time of sending"),
        (codes.TIMED, "0034261328061700", "'261328061700' is not a time"),
        (codes.TIMED, "0034260229061700", "'260229061700' is not a time"),
        (codes.TIMED, "0034261128061700F1F0", "F1F1 and the address"),
        (codes.TIMED, "0034261128061700F1F1001122334400", "00 is no class of stations; there are 44, 47"),
        (codes.TIMED, "0034261128061700F1F1001122334448F1F1", "F0F0 and the time of observation"),
        (codes.TIMED, "0034261128061700F1F1001122334448F0F026112806153923", "4 bytes wanted, 0 left"),
        (codes.TIMED, "0034261128061700F1F1001122334448F0F0261128061539", "definition of element 39"),
        (codes.TIMED, "0034261128061700F1F1001122334448F0F02611280615FD00", "velocities in bulk"),
        (codes.UNIFORM, "0034261128061700F1F1001122334448F0F026112806150418002500", "is no step"),
        (
            codes.UNIFORM,
            "0034261128061700F1F1001122334448F0F02611280615041800000539031234",
            "would have no bytes",
        ),
        (codes.LINK_KEEP, "003426112806170000", "1 bytes are left over"),
    ],
)
def test_what_is_no_body_is_refused_with_what_was_found(function: int, body: str, told: str) -> None:
    with pytest.raises(Sl651Error) as caught:
        sl651_body.decode(TIMED._replace(function=function, body=bytes.fromhex(body)))
    assert told in str(caught.value)


def test_questions_that_can_not_be_answered_are_refused() -> None:
    for text, told in (
        ("261128002611280604180000003923", "is no step"),
        ("261128062611280004180001003923", "before it begins"),
        ("2611280026112806", "guide of the step"),
        ("26112800261128060418000100392300", "left over"),
        ("26112800261128060518000100392300", "04 18"),
    ):
        with pytest.raises(Sl651Error, match=told):
            sl651_body.decode(down(codes.QUERY_SPAN, Body(7, SENT, rest=bytes.fromhex(text))))
    for rest in (b"\x05V1.2", b"\x02\xff\xff"):
        with pytest.raises(Sl651Error, match="version"):
            sl651_body.version_of(Body(1, SENT, rest=rest))
    with pytest.raises(Sl651Error, match="counters"):
        sl651_body.counts_of(Body(1, SENT, rest=b"abc"))
    for step_s in (0, -60, 90, 100 * 86400):
        with pytest.raises(Sl651Error, match="is no step"):
            sl651_body.step(step_s)


# --- hostile ------------------------------------------------------------------------------------

CORPUS = [
    *EXACT,
    encode(up(codes.UNIFORM, REPORT._replace(groups=(Group(OBSERVED, (Series(300, 0x39, 0x23, Z.data * 12),)),)))),
    encode(up(codes.HOURLY, REPORT._replace(groups=(Group(OBSERVED, (sl651_body.hour_element(0xF4, [1.0] * 12),)),)))),
    encode(up(codes.GET_VERSION, Body(7, SENT, "0011223344", None, (), b"\x04V1.2"))),
    encode(up(codes.GET_STATUS, Body(7, SENT, "0011223344", None, (Group("", (sl651_body.status_element(0),)),)))),
    encode(down(codes.QUERY_SPAN, Body(7, SENT, rest=sl651_body.span("26112800", "26112806", 3600, 0x39, 0x23)))),
    encode(down(codes.QUERY_ELEMENTS, Body(7, SENT, rest=b"\x39\x23\x38\x12"))),
    encode(sl651_body.confirmation(TIMED, codes.EOT, SENT)),
]  # fmt: skip


def mutation(rng: random.Random) -> bytes:
    """A frame with some edits; mostly with a length and check sum that fit, else nothing else is ever looked at."""
    data = bytearray(rng.choice(CORPUS))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        edit = rng.randrange(4)
        if edit == 0:
            data[at] = rng.randrange(256)
        elif edit == 1:
            del data[at : at + rng.randrange(1, 9)]
        elif edit == 2:
            data[at:at] = rng.choice((b"\xff", b"\xf0\xf0", b"\x7e\x7e", b"\x04\x18", rng.randbytes(3)))
        else:
            data[at:] = rng.choice(CORPUS)[at:]
        if not data:
            break
    if rng.random() < 0.8 and len(data) > 17:
        data[11:13] = ((data[11] & 0xF0) << 8 | (len(data) - 17) & 0xFFF).to_bytes(2, "big")
        data[-2:] = sl651.crc16(bytes(data[:-2])).to_bytes(2, "big")
    return bytes(data)


def mutated(count: int, seed: int) -> tuple[int, int]:
    """(frames with bodies that were good for all that, refused) of so many; any other exception is a failure."""
    rng = random.Random(seed)
    good = refused = 0
    for _ in range(count):
        data = mutation(rng)
        Splitter().feed(data)
        try:
            frame = decode(data)
            assert encode(frame) == data
            body = sl651_body.decode(frame)
            assert sl651_body.encode(body) == frame.body
            ask_everything(frame, body)
            good += 1
        except Sl651Error:
            refused += 1
    return good, refused


def ask_everything(frame: Frame, body: Body) -> None:
    for group in body.groups:
        for element in group.elements:
            if isinstance(element, Series):
                sl651_body.series_values(element)
            elif sl651_body.of_hour(element.id):
                sl651_body.hour_values(element)
            elif element.id == codes.STATUS:
                list(sl651_body.status_told(element.data))
            elif sl651_body.is_number(element.id):
                sl651_body.text_of(element.data, element.definition & 7)
    if not frame.up:
        sl651_body.asked_elements(body, {0x39: 0x23})
    if frame.function == codes.GET_VERSION:
        sl651_body.version_of(body)


def test_mutated_frames_raise_nothing_else() -> None:
    good, refused = mutated(5000, 7)
    print(f"mutated=5000 seed=7 good={good} refused={refused}")
    assert good > 500
    assert refused > 1000


@pytest.mark.soak
def test_many_mutated_frames_raise_nothing_else() -> None:
    good, refused = mutated(150_000, 8)
    print(f"mutated=150000 seed=8 good={good} refused={refused}")
    assert refused > 50_000
