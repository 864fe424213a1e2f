"""Frames told to people: every field by name, every mistake that can be named, and nothing that raises."""

from __future__ import annotations

import json
import random

import pytest

from protocols.northbound import hj212, hj212_told, sl651, sl651_body, sl651_told
from protocols.northbound import sl651_codes as codes
from protocols.northbound.sl651_body import Body, Element, Group
from tests.northbound import test_hj212, test_sl651

DATA = test_sl651.EXACT[2]


@pytest.mark.parametrize("data", test_sl651.EXACT)
def test_known_frames_of_sl651_are_good(data: bytes) -> None:
    told = sl651_told.tell(data)
    assert (told.problems, told.notes) == ([], [])


@pytest.mark.parametrize("data", test_hj212.EXACT + test_hj212.FIELD)
def test_known_frames_of_hj212_are_good(data: bytes) -> None:
    assert hj212_told.tell(data).problems == []


def test_fields_have_their_names_in_both_languages_and_a_password_is_not_shown() -> None:
    lines = {line.field: line for line in sl651_told.tell(test_sl651.EXACT[4]).lines}
    assert (lines["39 Z"].value, lines["39 Z"].chinese) == ("0.550 m", "瞬时河道水位、潮位")
    assert lines["38 VT"].value == "12.68 V"
    assert (lines["class"].value, lines["class"].meaning) == ("48 H", "river")
    assert lines["observed"].value == "2020-07-24 17:23"
    assert "A000" not in str(lines)
    hj = {line.field: line for line in hj212_told.tell(test_hj212.FIELD[0]).lines}
    assert (hj["w01001-Rtd"].value, hj["w01001-Rtd"].meaning) == ("8.33", "pH, now")
    assert hj["w01001-Flag"].chinese == "正常"
    assert "123456" not in str(hj)


def relength(data: bytes, length: int) -> bytes:
    return test_sl651.summed(data[:11] + length.to_bytes(2, "big") + data[13:-2])


BODY = len(DATA) - sl651.FRAME_MIN


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (DATA[:-2] + DATA[:-3:-1], ["as on a Modbus line"]),
        (relength(DATA, BODY + 3), ["counts the end and the check sum"]),
        (relength(DATA, BODY + 1), ["counts the end byte"]),
        (relength(DATA, 0x43), ["decimal digits"]),
        (relength(DATA, BODY << 8), ["low byte comes first"]),
        (relength(DATA, BODY + 9), ["9 bytes are missing"]),
        (DATA[:30] + DATA[31:], ["the length says that the body has 43 bytes, it has 42", "check sum A421 found"]),
        (b"ab" + DATA, ["2 bytes stand before the 7E7E"]),
        (b"##0087QN", ["this is HJ 212"]),
        (b"\x01\x02", ["the ASCII form"]),
        (b"abc", ["begins with 6162"]),
        (DATA[:9], ["9 bytes are no frame"]),
        (test_sl651.changed(10, 0x2E), ["function 2E is not in the standard; next to it are 2F (link keep)"]),
        (test_sl651.changed(28, 0x99), ["the body is of the station 0011223399, the head of 0011223344"]),
        (test_sl651.changed(37, 0x7A), ["element 7A is not in the standard; next to it are 74"]),
        (test_sl651.changed(39, 0x0A), ["20 PJ: 0A0040 is no BCD"]),
    ],
)  # fmt: skip
def test_each_mistake_of_sl651_is_named(data: bytes, told: list[str]) -> None:
    problems = sl651_told.tell(data).problems
    for text in told:
        assert any(text in problem for problem in problems), problems


def test_a_wrong_length_and_a_lost_byte_are_told_apart() -> None:
    assert "no byte was lost" in sl651_told.tell(relength(DATA, BODY + 3)).notes[0]
    changed = DATA[:12] + bytes([BODY + 3]) + DATA[13:]
    assert "was changed on the way" in sl651_told.tell(changed).notes[0]


def hj(segment: str, *, length: int | None = None, crc: int | None = None) -> bytes:
    data = segment.encode()
    size = len(data) if length is None else length
    return b"##%04d" % size + data + b"%04X\r\n" % (hj212.crc16(data) if crc is None else crc)


SEGMENT = (
    "QN=20160801085857223;ST=21;CN=2011;PW=123456;MN=010000A8900016F000169DC0;Flag=5;"
    "CP=&&DataTime=20160801085857;w01001-Rtd=7.1,w01001-Flag=N&&"
)
SIZE = len(SEGMENT)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (hj(SEGMENT, crc=sl651.crc16(SEGMENT.encode())), "right as a Modbus CRC"),
        (hj(SEGMENT, crc=hj212.crc16(b"##%04d" % SIZE + SEGMENT.encode())), "it covers ## and the length"),
        (hj(SEGMENT, crc=hj212.crc16(b"%04d" % SIZE + SEGMENT.encode())), "it covers the length"),
        (hj(SEGMENT, crc=1), "bytes were changed"),
        (hj(SEGMENT, length=SIZE + 4), "counts the check sum too"),
        (hj(SEGMENT, length=SIZE + 12), "counts the whole frame too"),
        (hj(SEGMENT, length=SIZE + 7), f"the length says {SIZE + 7:04d}, the data segment has {SIZE:04d} bytes"),
        (hj(SEGMENT.replace("&&DataTime", "&&站点=水质;DataTime"), length=SIZE + 6), "it counts characters"),
        (hj(SEGMENT.replace("2011", "2010")), "CN = 2010 is not in the standard; next to it are 2011 (real-time data)"),
        (hj(SEGMENT.replace("ST=21", "ST=29")), "ST = 29 is not in the standard"),
        (hj(SEGMENT.replace("Flag=5", "Flag=13")), "its version 3 is none"),
        (hj(SEGMENT.replace("223;", ";")), "QN has 14 digits"),
        (hj(SEGMENT.replace("DataTime=20160801", "DataTime=20161301")), "DataTime: '20161301085857' is not a time"),
        (hj(SEGMENT.replace("DataTime", "Datatime")), "it is DataTime"),
        (hj(SEGMENT.replace("7.1", "7,1")), "data area: "),
        (hj(SEGMENT.replace("7.1", "7.1.")), "w01001-Rtd = '7.1.' is not a number"),
        (hj(SEGMENT.replace("w01001-Flag", "w01001-Rtd")), "stands twice"),
        (hj(SEGMENT.replace("DataTime=20160801085857;w01001-Rtd=7.1,w01001-Flag=N", "QnRtn=11")), "is none of 1, 2, 3"),
        (b"7E7E0100", "this is SL 651"),
        (b"##12", "four digits of length"),
        (b"", "begins with b''"),
    ],
)  # fmt: skip
def test_each_mistake_of_hj212_is_named(data: bytes, told: str) -> None:
    problems = hj212_told.tell(data).problems
    assert any(told in problem for problem in problems), problems


def test_what_is_near_is_said() -> None:
    notes = hj212_told.tell(hj(SEGMENT.replace("-Rtd", "-Rdt"))).notes
    assert any("did you mean -Rtd?" in note for note in notes), notes
    notes = hj212_told.tell(hj(SEGMENT.replace("w01001", "w01011"))).notes
    assert any("near it is w" in note for note in notes), notes
    notes = hj212_told.tell(hj(SEGMENT.replace("w01001", "01001"))).notes
    assert any("the w of water is missing" in note for note in notes), notes


def test_what_a_centre_asks_and_what_a_station_answers_is_told() -> None:
    body = Body(7, test_sl651.SENT, rest=sl651_body.span("26112800", "26112806", 3600, 0x39, 0x23))
    lines = {
        line.field: line.value for line in sl651_told.tell(sl651.encode(test_sl651.down(0x38, body))).lines
    }
    assert (lines["from"], lines["to"], lines["step"]) == ("2026-11-28 00:00", "2026-11-28 06:00", "60 min")
    assert lines["element"] == "39 Z"
    status = Body(7, test_sl651.SENT, "0011223344", None, (Group("", (sl651_body.status_element(0x10),)),))
    told = sl651_told.tell(sl651.encode(test_sl651.up(codes.GET_STATUS, status)))
    lines = {line.field.strip(): line.value for line in told.lines}
    assert (lines["water quality"], lines["door"]) == ("alarm", "open")


def test_another_definition_than_usual_is_a_note() -> None:
    wide = Element(0x58, 0x22, bytes.fromhex("00100000"))
    body = test_sl651.REPORT._replace(groups=(Group(test_sl651.OBSERVED, (wide,)),))
    told = sl651_told.tell(sl651.encode(test_sl651.up(codes.TIMED, body)))
    assert told.problems == []
    assert "definition 22, usual is 1A: N(5,2)" in told.notes[0]


def test_nothing_raises_whatever_comes() -> None:
    rng = random.Random(5)
    for _ in range(3000):
        told = sl651_told.tell(test_sl651.mutation(rng))
        json.dumps(told.as_json())
        data = bytearray(rng.choice(test_hj212.EXACT + test_hj212.FIELD))
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        json.dumps(hj212_told.tell(bytes(data)).as_json())
