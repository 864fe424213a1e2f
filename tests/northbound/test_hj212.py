"""HJ 212 frames: the standard's examples byte for byte both ways, and whatever else comes is refused with a reason."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.northbound import hj212
from protocols.northbound.hj212 import Frame, Hj212Error, Joiner, Splitter, decode, encode

VECTORS = json.loads(
    (Path(hj212.__file__).parent.parent / "vectors" / "northbound" / "hj212.json").read_text()
)
EXACT = [case["frame"].encode() + b"\r\n" for case in VECTORS["exact"]]
FIELD = [case["frame"].encode() + b"\r\n" for case in VECTORS["field"]]
MN = "010000A8900016F000169DC0"
FRAME = Frame("20261128061700123", "21", hj212.HOUR, "123456", MN, hj212.VERSION_2017, True)


@pytest.mark.parametrize("data", EXACT)
def test_examples_of_the_standard_are_read_and_written_byte_for_byte(data: bytes) -> None:
    frame = decode(data)
    assert encode(frame) == data
    assert encode(frame._replace(area=hj212.area_of(hj212.groups_of(frame.area)))) == data


@pytest.mark.parametrize("data", FIELD)
def test_a_frame_of_the_field_is_read_and_differs_in_its_capitals_only(data: bytes) -> None:
    frame = decode(data)
    assert encode(frame).upper() == data.upper()
    items = hj212.items_of(frame.area)
    assert (items["w01001-Rtd"], items["w21001-Rtd"]) == ("8.33", "3.563168")
    assert (frame.version, frame.wants_ack) == (hj212.VERSION_2025, False)


def test_the_check_sum_is_not_that_of_modbus() -> None:
    segment = EXACT[0][6:-6]
    assert hj212.crc16(segment) == 0x1C80
    assert hj212.crc16(b"") == 0xFFFF


def test_the_flag_byte() -> None:
    said = [
        FRAME._replace(version=version, pnum=count, pno=count, wants_ack=wants).flag
        for version in (1, 2)
        for count in (0, 1)
        for wants in (False, True)
    ]
    assert said == [4, 5, 6, 7, 8, 9, 10, 11]


# --- leniently read -----------------------------------------------------------------------------


def reframed(segment: str) -> bytes:
    data = segment.encode()
    return b"##%04d" % len(data) + data + b"%04x" % hj212.crc16(data)


def test_what_the_standard_itself_gets_wrong_is_read() -> None:
    """Spaces around the data area and between items, no CR LF, small letters; items of any order."""
    frame = decode(
        reframed(
            f"MN={MN};ST=21;CN=2011;PW=1;Flag=4;QN=20160801085857223;"
            "CP= && DataTime=20160801085857; w01001-Rtd=7.1, w01001-Flag=N ;&& "
        )
    )
    assert hj212.groups_of(frame.area) == [
        (("DataTime", "20160801085857"),),
        (("w01001-Rtd", "7.1"), ("w01001-Flag", "N")),
    ]
    old = decode(reframed(f"ST=21;CN=2011;PW=1;MN={MN};CP=&&a=b&&"))
    assert (old.qn, old.version, old.wants_ack) == ("", hj212.VERSION_2005, False)
    assert decode(reframed(f"ST=21;CN=3020;PW=1;MN={MN};CP=&&Info=水质&&")).area == "Info=水质"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "begins with ##"),
        (b"#0087", "begins with ##"),
        (b"##", "four digits"),
        (b"##00a7QN", "four digits"),
        (b"##9999QN=", "allowed are 1024"),
        (b"##0087QN=2016", "ends after"),
        (EXACT[1][:-6] + b"3241\r\n", "it would be 3240"),
        (EXACT[1].replace(b"MN=01", b"MN=02"), "check sum"),
        (EXACT[1].replace(b"##0087", b"##0086"), "is the length 86 right"),
        (EXACT[1] + b"x", "after the check sum comes CR LF"),
        (reframed("ST=21;CN=2011;MN=1"), "no data area"),
        (reframed("ST=21;CN=2011;MN=1;CP=&&"), "no data area"),
        (reframed("ST=21;CN=2011;CP=&&&&"), "MN is missing"),
        (reframed("CN=2011;MN=1;CP=&&&&"), "ST is missing"),
        (reframed("ST=21;ST=22;CN=2011;MN=1;CP=&&&&"), "ST stands twice"),
        (reframed("ST=21;CN=2011;MN=1;Flag=x;CP=&&&&"), "Flag = 'x' is not a number"),
        (reframed("ST=21;CN=2011;MN=1;PNUM=-1;CP=&&&&"), "PNUM = '-1'"),
        (reframed("ST=21;CN;MN=1;CP=&&&&"), "'CN' is not key=value"),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused_with_what_was_found(data: bytes, told: str) -> None:
    with pytest.raises(Hj212Error, match=told.replace("(", "\\(")):
        decode(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"qn": "2026"}, "QN"),
        ({"st": "1"}, "ST"),
        ({"cn": "20611"}, "CN"),
        ({"pw": "a;b"}, "PW"),
        ({"pw": ""}, "PW"),
        ({"mn": "x" * 25}, "MN"),
        ({"pno": 2, "pnum": 1}, "packet 2 of 1"),
        ({"pno": 0, "pnum": 3}, "packet 0 of 3"),
        ({"area": "a" * 951}, "allowed are 950"),
    ],
)
def test_what_no_frame_can_carry_is_not_written(change: dict[str, object], told: str) -> None:
    with pytest.raises(Hj212Error, match=told) as caught:
        encode(FRAME._replace(**change))  # type: ignore[arg-type]
    assert "a;b" not in str(caught.value), "a password is not told"


def test_separators_can_not_hide_in_values() -> None:
    for text in ("a;b", "a,b", "a=b", "a&&b", "a\r\nb"):
        with pytest.raises(Hj212Error):
            hj212.area_of([(("Info", text),)])
    with pytest.raises(Hj212Error, match="stands twice"):
        hj212.items_of("a=1;a=2")


# --- streams ------------------------------------------------------------------------------------


@given(st.data())
def test_frames_are_found_however_the_stream_is_cut(data: st.DataObject) -> None:
    frames = data.draw(st.lists(st.sampled_from(EXACT), max_size=5))
    noise = data.draw(
        st.lists(
            st.binary(max_size=8).filter(lambda part: b"#" not in part),
            min_size=len(frames) + 1,
            max_size=len(frames) + 1,
        )
    )
    stream = b"".join(part + frame for part, frame in zip(noise, [*frames, b""], strict=True))
    splitter, found, at = Splitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 200))
        found += splitter.feed(stream[at : at + size])
        at += size
    assert found == [decode(frame) for frame in frames]


def test_a_frame_with_a_wrong_length_does_not_take_the_next_ones_along() -> None:
    broken = EXACT[1].replace(b"##0087", b"##0200")
    found = Splitter().feed(broken + EXACT[2] + EXACT[3] + EXACT[4])
    assert [type(one) for one in found] == [Hj212Error, Frame, Frame, Frame]
    assert found[1] == decode(EXACT[2])


def test_a_stream_without_end_is_not_kept() -> None:
    splitter = Splitter()
    for part in (b"#" * 99_999, b"##0001" * 5000, b"##9999" * 5000, b"##1000" + b"##" * 400, bytes(99_999)):
        splitter.feed(part)
        assert len(splitter._held) <= hj212.FRAME_MAX


# --- several packets ----------------------------------------------------------------------------


def test_long_data_goes_in_numbered_packets_that_are_put_together_again() -> None:
    groups = [(("DataTime", "20261128060000"),)]
    groups += [((f"w{index:05d}-Avg", "1.0"), (f"w{index:05d}-Flag", "N")) for index in range(100)]  # type: ignore[misc]
    packets = hj212.split(FRAME, groups)
    assert [(one.pno, one.pnum) for one in packets] == [(n + 1, len(packets)) for n in range(len(packets))]
    assert len(packets) == 4
    joiner, whole = Joiner(), None
    for index in random.Random(5).sample(range(len(packets)), len(packets)):
        whole = joiner.take(decode(encode(packets[index])))
    assert whole is not None
    assert hj212.groups_of(whole.area) == groups
    assert whole.flag == FRAME.flag
    short = hj212.split(FRAME, groups[:3])
    assert [(one.pno, one.pnum) for one in short] == [(0, 0)]


@given(
    st.lists(
        st.tuples(st.sampled_from(("w01001", "w21003", "a")), st.text("0123456789.-", max_size=40)),
        min_size=1,
    ),
    st.booleans(),
    st.integers(80, 300),
)
def test_a_data_area_is_split_as_its_groups_are(
    values: list[tuple[str, str]], resent: bool, area_max: int
) -> None:
    groups: list[hj212.Group] = [(("DataTime", "20260922010000"),)]
    groups += [((f"{code}{number}-Rtd", value),) for number, (code, value) in enumerate(values)]
    area = hj212.area_of(groups)
    marked = [groups[0], (("RF", "1"),), *groups[1:]] if resent else groups
    found = hj212.split_area(FRAME, area, resent=resent, area_max=area_max)
    assert found == hj212.split(FRAME, marked, area_max)


def test_each_packet_of_a_late_message_says_that_it_is_late() -> None:
    groups: list[hj212.Group] = [(("DataTime", "20261128060000"),), (("RF", "1"),)]
    groups += [((f"w{index:05d}-Avg", "1.0"), (f"w{index:05d}-Flag", "N")) for index in range(100)]
    packets = hj212.split(FRAME, groups)
    assert len(packets) > 3
    assert all(packet.area.startswith("DataTime=20261128060000;RF=1;w") for packet in packets)
    assert all(len(packet.area) <= hj212.AREA_MAX for packet in packets)
    joiner = Joiner()
    whole = [joiner.take(packet) for packet in packets][-1]
    assert whole is not None
    assert hj212.groups_of(whole.area) == groups
    assert hj212.items_of(whole.area)["RF"] == "1"


def test_a_group_that_fits_no_packet_is_told() -> None:
    with pytest.raises(Hj212Error, match="does not fit into 918"):
        hj212.split(FRAME, [(("DataTime", "20261128060000"),), (("Info", "x" * 940),)])


def test_messages_that_never_end_are_forgotten() -> None:
    joiner = Joiner(2)
    for index in range(50):
        assert joiner.take(FRAME._replace(area=f"DataTime={index};a=1", pnum=3, pno=1)) is None
    assert len(joiner._open) == 2
    with pytest.raises(Hj212Error, match="packet 4 of 3"):
        joiner.take(FRAME._replace(pnum=3, pno=4))


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (7.481, "N2.2", "7.48"),
        (0.05, "N3.1", "0.1"),
        (-0.04, "N3.1", "0.0"),
        (999.94, "N3.1", "999.9"),
        (12, "N4", "12"),
    ],
)
def test_numbers_have_the_form_of_table_b1(value: float, form: str, text: str) -> None:
    assert hj212.number(value, form) == text


def test_a_number_that_does_not_fit_is_told_and_not_cut() -> None:
    for value in (999.96, -1000.0, float("nan"), float("inf")):
        with pytest.raises(Hj212Error, match=r"does not fit N3\.1"):
            hj212.number(value, "N3.1")
    with pytest.raises(Hj212Error, match="not a number format"):
        hj212.number(1, "3.1")


def test_times() -> None:
    for text in ("20261128061700", "20261128061700123", "20240229235959"):
        assert hj212.check_time(text) == text
    for text in (
        "",
        "2026112806170",
        "20261328061700",
        "20230229000000",
        "20261128246000",
        "２0261128061700",
    ):
        with pytest.raises(Hj212Error, match="is not a time"):
            hj212.check_time(text)


def test_answers_repeat_the_qn() -> None:
    request = decode(EXACT[4])
    assert encode(hj212.data_ack(request)) == EXACT[1]
    assert encode(hj212.request_ack(request, 1)) == EXACT[2]
    assert encode(hj212.executed(request, 1)) == EXACT[3]


def test_a_password_is_not_shown() -> None:
    assert "123456" not in str(list(hj212.named(decode(EXACT[1]))))


# --- hostile ------------------------------------------------------------------------------------


def mutated(count: int, seed: int) -> tuple[int, int]:
    """(frames that were good for all that, refused) of so many mutations; any other exception is a failure."""
    rng = random.Random(seed)
    good = refused = 0
    corpus = EXACT + FIELD
    for _ in range(count):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            edit = rng.randrange(4)
            if edit == 0:
                data[at] = rng.randrange(256)
            elif edit == 1:
                del data[at : at + rng.randrange(1, 9)]
            elif edit == 2:
                data[at:at] = rng.choice((b"&&", b";", b"##", b"=", rng.randbytes(3)))
            else:
                data[at:] = rng.choice(corpus)[at:]
            if not data:
                break
        if rng.random() < 0.5 and len(data) > 12:  # and with the length and check sum made good
            segment = bytes(data[6:-6])[:1024]
            data = bytearray(b"##%04d" % len(segment) + segment + b"%04X\r\n" % hj212.crc16(segment))
        try:
            frame = decode(bytes(data))
            hj212.items_of(frame.area)
            list(hj212.named(frame))
            encode(frame)
            good += 1
        except Hj212Error:
            refused += 1
    return good, refused


def test_mutated_frames_raise_nothing_else() -> None:
    good, refused = mutated(5000, 7)
    print(f"mutated=5000 seed=7 good={good} refused={refused}")
    assert good > 100
    assert refused > 1000


@pytest.mark.soak
def test_many_mutated_frames_raise_nothing_else() -> None:
    good, refused = mutated(150_000, 8)
    print(f"mutated=150000 seed=8 good={good} refused={refused}")
    assert refused > 50_000
