"""What is told of messages, frames, packets and datagrams: all fields, and every mistake that can be named."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from protocols.inspection import air, frames, guess, messages, words
from protocols.inspection.errors import InspectError
from protocols.inspection.frames import KeyRing, Secrets
from protocols.inspection.when import civil
from protocols.northbound.told import Told
from protocols.wire import envelope, fragments, framing, readings
from protocols.wire import messages as wire

VECTORS = Path(__file__).resolve().parents[2] / "protocols/vectors"
SECRET, SALT = bytes.fromhex("0102030405060708090a0b0c0d0e0f10"), bytes.fromhex("9e7ca92223786340")
CONTEXT = bytes.fromhex("5a17e9000102030405060708090a0b0c")
NODE = 0x12
CLOSED = KeyRing({})


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return found


def ring(**contexts: Any) -> KeyRing:
    return KeyRing({NODE: Secrets(SECRET, SALT)}, {NODE: [CONTEXT]}, **contexts)


def value(told: Told, field: str) -> str:
    return next(line.value for line in told.lines if line.field == field)


def sealed(message: Any, piv: int = 300, kid: bytes = b"\x00\x12") -> bytes:
    key = envelope.sender_key(SECRET, SALT, CONTEXT, kid)
    return envelope.seal(key, piv, wire.encode(message))


EVENT = wire.Event(7, 3, 1_790_000_000, wire.SYNCHRONISED, 6, wire.RAISED, 12, None)


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("messages"), ids=lambda case: str(case["name"]))
def test_every_message_of_the_vectors_is_told_and_every_refused_one_says_why(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    told = messages.tell(data)
    if "reason" in case:
        is_down = data[1:2] >= b"\x10"  # whether a message went the wrong way, its bytes do not say
        assert told.problems or is_down != (case["direction"] == "down")
        return
    assert value(told, "kind").split()[1].rstrip(",") == case["kind"].lower()
    if case["kind"] != "Readings":  # some bodies of these vectors are of no schema
        assert told.problems == []
        named = {line.field for line in told.lines}
        expected = {
            name
            for name in getattr(wire, case["kind"])._fields
            if name not in ("health", "document", "epoch")
        }
        assert expected <= named


def test_a_batch_is_told_set_by_set_with_units_and_flags() -> None:
    rows = ((748, 837, 980, 1258, 1423, -210, 1042, 1234), (None, 838, 981, 1259, 1424, -211, 1043, 1235))
    flags = ((1,) * 8, (9, 1, 3, 1, 1, 1, 1, 1))
    body = readings.encode(readings.schema(1), wire.SYNCHRONISED, (1_790_000_000, 1_790_000_900), rows, flags)
    told = messages.tell(wire.encode(wire.Readings(1, 41, 0, 1_790_000_000, body, None)))
    lines = {(line.field, line.value, line.meaning) for line in told.lines}
    assert ("set 41", "2026-09-21 14:13:20Z", "") in lines
    assert ("set 42", "2026-09-21 14:28:20Z", "") in lines
    assert ("  water_temperature", "7.48 Cel", "") in lines
    assert ("  water_temperature", "none", "missing") in lines
    assert ("  dissolved_oxygen", "9.81 mg/L", "suspect") in lines
    assert told.problems == []


def test_dates_are_those_of_the_calendar() -> None:
    import datetime

    for day in range(-800, 60_000, 17):
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
        assert civil(day) == (date.year, date.month, date.day)


# --- frames -------------------------------------------------------------------------------------


def test_a_frame_is_told_closed_without_keys_and_open_with_them() -> None:
    (told,) = frames.tell(sealed(EVENT), CLOSED)
    assert (value(told, "PIV"), value(told, "node")) == ("300", "0012")
    assert "no key of node 0012" in told.notes[0]
    assert told.problems == []
    (told,) = frames.tell(sealed(EVENT), ring())
    assert value(told, "code") == "6"
    assert told.problems == told.notes == []


def test_a_downlink_and_its_sender_are_known_by_the_key() -> None:
    command = wire.Command(300, 17, 60, 1, 30)
    (told,) = frames.tell(sealed(command, 9, b"\x00\x12\x02"), ring())
    assert next(line.meaning for line in told.lines if line.field == "sender") == "a bench tool, to the node"
    assert value(told, "kind") == "18 command, gateway to node"


def test_a_join_among_the_frames_gives_the_context_for_those_behind_it() -> None:
    (case,) = [case for case in cases("join") if case["name"] == "a whole join"]
    keys = KeyRing({NODE: Secrets(SECRET, SALT)})
    ack = bytes.fromhex(case["ack_frame"])
    assert "context of its epoch is not" in frames.tell(ack, keys)[0].notes[0]
    kinds = []
    for name in ("first_hello", "challenge", "second_hello", "ack_frame"):
        (told,) = frames.tell(bytes.fromhex(case[name]), keys)
        assert told.problems == []
        kinds.append(value(told, "kind").split()[1].rstrip(","))
    assert kinds == ["hello", "challenge", "hello", "ack"]


@pytest.mark.parametrize(
    "case", [c for c in cases("envelope") if c["check"] == "refuse"], ids=lambda c: str(c["name"])
)
def test_every_refused_frame_of_the_vectors_says_why(case: dict[str, Any]) -> None:
    told = frames.tell_frame(bytes.fromhex(case["frame"]), ring())
    if case["reason"] != "auth":
        assert any(problem.startswith(case["reason"]) for problem in told.problems)
    else:  # what was flipped may be the address: then it is another node's, whose key is not there
        assert told.problems or "no key of node" in told.notes[0]
    assert "code" not in {line.field for line in told.lines}


def test_a_line_with_frames_console_text_and_noise_is_told_piece_by_piece() -> None:
    good = framing.encode(sealed(EVENT))
    spoilt = bytearray(framing.encode(sealed(EVENT, 301)))
    spoilt[9] ^= 0x40
    line = b"boot 1\r\nready\n" + good + bytes(spoilt) + b"\xff\xfe\x80\x00" + framing.encode(b"x", 5)
    told = frames.tell(b"\x00" + line, ring())
    assert [one.value for one in told[0].lines] == ["boot 1", "ready"]
    assert value(told[1], "code") == "6"
    assert told[2].problems[0].startswith("crc: ")
    assert "expected" in told[2].problems[0]
    assert "noise" in told[3].problems[0]
    assert "channel 5 is reserved" in told[4].problems[0]


def test_a_crc_in_the_wrong_order_is_named() -> None:
    raw = bytes([1]) + sealed(EVENT)
    right = framing.encode(sealed(EVENT))
    unstuffed = frames.unstuffed(right.strip(b"\x00"))
    assert unstuffed is not None
    assert unstuffed[:-4] == raw
    body = raw + unstuffed[-4:][::-1]
    stuffed = bytearray()
    for run in body.split(b"\x00"):
        stuffed += bytes([len(run) + 1]) + run
    (told,) = frames.tell(b"\x00" + bytes(stuffed) + b"\x00", ring())
    assert "low one comes first" in told.problems[1]


def test_what_a_bridge_says_is_told_with_the_packet_in_it() -> None:
    heard = (
        b"\x01"
        + (5).to_bytes(4, "big")
        + (470_300_000).to_bytes(4, "big")
        + b"\x09\xff\x9c\xff\xdd"
        + sealed(EVENT)
    )
    head, packet = frames.tell(framing.encode(heard, frames.BRIDGE), ring())
    assert (value(head, "frequency"), value(head, "RSSI"), value(head, "SNR")) == (
        "470.300 MHz",
        "-100 dBm",
        "-3.5 dB",
    )
    assert value(packet, "code") == "6"
    (told,) = frames.tell(framing.encode(b"\x02\x00\x07\x03busy", frames.BRIDGE), ring())
    assert next(line.meaning for line in told.lines if line.field == "code") == "refused by the plan"
    for bad, why in (
        (b"\x01\x00", "too few"),
        (b"\x44", "first byte 44"),
        (b"", "too few"),
        (b"\x03" + bytes(8), "format 0"),
    ):
        (told,) = frames.tell(framing.encode(bad, frames.BRIDGE), ring())
        assert why in told.problems[0]


# --- the air ------------------------------------------------------------------------------------


def test_fragments_are_put_together_and_the_answer_bit_is_told() -> None:
    frame = sealed(EVENT)
    wanting = bytes([frame[0] | fragments.WANTS_ANSWER]) + frame[1:]
    (told,) = air.tell_packets([wanting], ring())
    assert "wants an answer" in told.lines[0].meaning
    assert value(told, "code") == "6"
    packets = fragments.split(frame, NODE, 5, 20)
    told_all = air.tell_packets(packets[::-1], ring())
    assert len(packets) > 1
    assert all("not whole yet" in told.notes[0] for told in told_all[:-1])
    assert value(told_all[-1], "code") == "6"
    (told,) = air.tell_packets([b"\x40" + bytes(30)], ring())
    assert told.problems[0].startswith("version: the first byte 40")


def datagram(rxpk: dict[str, Any], kind: int = 0) -> bytes:
    return bytes((2, 0xAB, 0xCD, kind)) + bytes(8) + json.dumps({"rxpk": [rxpk]}).encode()


def test_a_datagram_and_its_packets_are_told_with_every_mistake() -> None:
    frame = sealed(EVENT)
    rxpk = {
        "tmst": 5, "freq": 470.3, "stat": 1, "modu": "LORA", "datr": "SF9BW125", "rssi": -100, "lsnr": -3.5,
        "size": len(frame), "data": base64.b64encode(frame).decode().rstrip("="),
    }  # fmt: skip
    head, packet = air.tell_datagram(datagram(rxpk), ring())
    assert value(head, "kind") == "0"
    assert head.problems == packet.problems == []
    assert value(packet, "code") == "6"
    bad = {**rxpk, "stat": -1, "size": 9, "datr": "SF13BW500"}
    del bad["tmst"]
    _, packet = air.tell_datagram(datagram(bad), ring())
    assert len(packet.problems) == 4
    (head,) = air.tell_datagram(b"\x03\x00\x00\x00" + bytes(8), ring())
    assert "version 3" in head.problems[0]
    sent = {"txpk": {"data": base64.b64encode(frame).decode(), "ipol": False, "datr": "SF9BW125"}}
    told = air.tell_datagram(bytes((2, 0, 0, 3)) + json.dumps(sent).encode(), ring())
    assert any("inverted IQ" in problem for problem in told[1].problems)


# --- what it may be -----------------------------------------------------------------------------


def test_what_bytes_may_be_is_said_with_reasons() -> None:
    def first(data: bytes) -> str:
        return guess.guesses(data)[0].command

    assert first(sealed(EVENT)) == "frame"
    assert first(framing.encode(sealed(EVENT))) == "frame"
    assert first(framing.encode(sealed(EVENT)).strip(b"\x00")) == "frame"
    assert first(wire.encode(EVENT)) == "message"
    assert first(fragments.split(sealed(EVENT), NODE, 5, 20)[0]) == "lora"
    assert first(datagram({})) == "semtech"
    assert first(b"##0087QN=20160801085857223;") == "hj212"
    assert first(bytes.fromhex("7e7e01")) == "sl651"
    assert first(b"\xaa\x50" + bytes(30)) == "image"
    assert guess.guesses(b"\xde\xad\xbe\xef") == []


@pytest.mark.parametrize(
    "text", ["0a 01 2c", "0x0A,0x01,0x2C", "0a:01:2c", "\\x0a\\x01\\x2c", "CgEs", "0A012C\n"]
)
def test_digits_are_taken_however_tools_print_them(text: str) -> None:
    assert words.pieces(text.encode()) == [b"\x0a\x01\x2c"]


def test_several_lines_are_several_pieces_or_one() -> None:
    assert words.pieces(b"# a log\n0a01\n\n2c\n") == [b"\x0a\x01", b"\x2c"]
    assert words.pieces(b"0a01\n2c\n", is_one=True) == [b"\x0a\x01\x2c"]
    assert words.pieces(b"\x0a\xff\x00") == [b"\x0a\xff\x00"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"0a012", "5 hexadecimal digits: a byte has two"),
        (b"0a01zz!", "neither hexadecimal digits nor base64"),
        (b"", "nothing is there"),
        (b"# only a comment\n", "blank lines and comments"),
    ],
)
def test_what_is_no_bytes_says_why(text: bytes, why: str) -> None:
    with pytest.raises(InspectError, match=why):
        words.pieces(text)
