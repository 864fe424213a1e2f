"""Writes protocols/vectors/*.json: run after adding a case, and read the difference before it is committed.

    python -m tests.wire.make_vectors

What is golden here is the committed file. The bytes of RFC 8613 and RFC 8949 stand in rfc8613.py and rfc8949.py,
and test_envelope.py rebuilds the frames with other code (cryptography, cbor2) from the same inputs.
"""

from __future__ import annotations

import json
from binascii import crc32
from pathlib import Path
from typing import Any

from protocols.wire import cbor, envelope, framing, identity, join, messages
from protocols.wire.messages import Ack, Update
from tests.wire import airtime_cases, rfc8613, rfc8949
from tests.wire.fragment_cases import fragment_cases
from tests.wire.message_cases import BROADCAST, DOWN, MAX_U40, NO_MESSAGE, UP
from tests.wire.update_cases import update_cases

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors"

SECRET = bytes(range(1, 17))
SALT = bytes.fromhex("9e7ca92223786340")
ID_CONTEXT = bytes.fromhex("5a17e9000102030405060708090a0b0c")
KNOCK = bytes.fromhex("2021222324252627")
NODE = 0x0012

# Not the CBOR of SPEC.md section 2, beyond what RFC 8949 appendix A has.
NO_CBOR: list[tuple[str, str]] = [
    ("nothing", ""),
    ("23 in two bytes", "1817"),
    ("255 in three bytes", "1900ff"),
    ("65535 in five bytes", "1a0000ffff"),
    ("2**32 - 1 in nine bytes", "1b00000000ffffffff"),
    ("-1 in two bytes", "3800"),
    ("length of bytes not shortest", "580100"),
    ("length of an array not shortest", "9801f6"),
    ("argument cut", "1a0000ff"),
    ("bytes cut", "43ffff"),
    ("text cut", "6261"),
    ("array cut", "820f"),
    ("map without its last value", "a10f"),
    ("trailing byte", "0000"),
    ("bytes of 2**63", "5b8000000000000000"),
    ("text of 2**63", "7b8000000000000000"),
    ("array of 2**63", "9b8000000000000000"),
    ("map of 2**63", "bb8000000000000000"),
    ("array of 2**64 - 1, inside", "819bffffffffffffffff"),
    ("bytes of 2**31 - 1", "5a7fffffff"),
    ("array of 65", "9841" + "00" * 65),
    ("nested five deep", "8181818181f6"),
    ("nested 512 deep", "81" * 511 + "80"),
    ("more bytes than a frame", "590200" + "00" * 512),
    ("repeated key", "a201000100"),
    ("keys out of order", "a202000100"),
    ("text before bytes", "a261610040" + "00"),
    ("bool as a key", "a1f400"),
    ("null as a key", "a1f600"),
    ("array as a key", "a18000"),
    ("reserved argument form", "1c"),
    ("lone break", "ff"),
    ("string reference", "8241618201d81900"),
    ("shared value", "d81c80"),
    ("string namespace", "d9010082616100"),
    ("bignum that fits an integer", "c24101"),
    ("self-described", "d9d9f700"),
    ("UTF-8: overlong slash", "62c0af"),
    ("UTF-8: overlong of three bytes", "63e080af"),
    ("UTF-8: overlong of four bytes", "64f08080af"),
    ("UTF-8: surrogate", "63eda080"),
    ("UTF-8: above 0x10ffff", "64f4908080"),
    ("UTF-8: five-byte form", "65f888808080"),
    ("UTF-8: lone continuation", "6180"),
    ("UTF-8: cut in a character", "62e6b0"),
    ("UTF-8: character not continued", "63e6b041"),
    ("UTF-8: ff", "61ff"),
]


def as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {"map": [[as_json(key), as_json(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def message_case(message: Any) -> dict[str, Any]:
    return {"kind": type(message).__name__, "fields": as_json(tuple(message))}


def cbor_cases() -> list[dict[str, Any]]:
    own = [
        {24: 1, "": 2},
        {-1: 0, 1: 1, b"": 2, "a": 3},
        [[[[]]]],
        "\U0010ffff\ud7ff\ue000",
        [None] * 64,
        bytes(509),
    ]
    return [
        *(
            {"name": f"RFC 8949 {data}", "hex": data, "value": as_json(value)}
            for data, value in rfc8949.ALLOWED
        ),
        *({"name": f"RFC 8949 {why}", "hex": data} for data, why in rfc8949.REFUSED),
        *(
            {"name": f"own {number}", "hex": cbor.dumps(value).hex(), "value": as_json(value)}
            for number, value in enumerate(own)
        ),
        *({"name": name, "hex": data} for name, data in NO_CBOR),
    ]


def message_cases() -> list[dict[str, Any]]:
    cases = [
        {"name": name, "direction": direction, "hex": messages.encode(message).hex()} | message_case(message)
        for direction, table in (("up", UP), ("down", DOWN))
        for name, message in table
    ]
    for name, direction, items in NO_MESSAGE:
        plain = cbor.dumps(items).hex()
        cases.append({"name": name, "direction": direction, "hex": plain, "reason": "message"})
    cases.append({"name": "no CBOR", "direction": "up", "hex": "86010102", "reason": "cbor"})
    cases.append({"name": "trailing byte", "direction": "down", "hex": "82150000", "reason": "cbor"})
    return cases


def keys(id_context: bytes | None, kid: bytes, secret: bytes = SECRET, salt: bytes = SALT) -> dict[str, Any]:
    context = None if id_context is None else id_context.hex()
    return {"secret": secret.hex(), "salt": salt.hex(), "id_context": context, "kid": kid.hex()}


def seal_case(
    name: str, inputs: dict[str, Any], piv: int, plain: bytes, kid_context: bytes = b""
) -> dict[str, Any]:
    id_context = None if inputs["id_context"] is None else bytes.fromhex(inputs["id_context"])
    key = envelope.sender_key(
        bytes.fromhex(inputs["secret"]),
        bytes.fromhex(inputs["salt"]),
        id_context,
        bytes.fromhex(inputs["kid"]),
    )
    return {
        "name": name,
        "check": "seal",
        **inputs,
        "piv": piv,
        "plain": plain.hex(),
        "kid_context": kid_context.hex(),
        "nonce": envelope.nonce_of(key, piv).hex(),
        "aad": envelope.aad_of(key, envelope.piv_bytes_of(piv)).hex(),
        "frame": envelope.seal(key, piv, plain, kid_context).hex(),
    }


def group_keys() -> dict[str, Any]:
    """Those of a broadcast (OTA.md section 6.3): a key of its own, no salt, no context."""
    return {"secret": BROADCAST.secret.hex(), "salt": "", "id_context": None, "kid": "ffff1267"}


def envelope_cases() -> list[dict[str, Any]]:
    node, gateway = envelope.node_kid(NODE), envelope.gateway_kid(NODE)
    up, down = keys(ID_CONTEXT, node), keys(ID_CONTEXT, gateway)
    plain = messages.encode(UP[3][1])
    sealed = [
        seal_case("up, PIV 0", up, 0, plain),
        seal_case("up, PIV of two bytes", up, 300, plain),
        *(
            seal_case(f"up, PIV {piv:x}", up, piv, b"\x00")
            for piv in (255, 256, 65535, 1 << 24, 1 << 32, MAX_U40)
        ),
        *(
            seal_case(f"up, {size} bytes", up, 7, bytes(index % 256 for index in range(size)))
            for size in (15, 16, 17, 478)
        ),
        seal_case("up, first hello of a join", keys(bytes(8), node), 0, messages.encode(UP[0][1]), bytes(8)),
        seal_case("up, second hello", keys(ID_CONTEXT, node), 0, messages.encode(UP[0][1]), ID_CONTEXT),
        seal_case("down, ack", down, 9, messages.encode(DOWN[1][1])),
        seal_case(
            "down, bench tool",
            keys(ID_CONTEXT, envelope.gateway_kid(NODE, 2)),
            9,
            messages.encode(DOWN[5][1]),
        ),
        seal_case(
            "down, a bench knocks",
            keys(KNOCK, envelope.gateway_kid(NODE, envelope.BENCH)),
            0,
            messages.encode(messages.Ping(1)),
            KNOCK,
        ),
        seal_case(
            "to everybody", group_keys(), 300, messages.encode(Update(4711, b"\x08\x01\x00" + bytes(72)))
        ),
        seal_case("up, hello that answers a knock", up, 301, messages.encode(UP[1][1]), ID_CONTEXT),
    ]
    good = bytes.fromhex(sealed[1]["frame"])
    flips = [
        {
            "name": f"bit {bit} of byte {index} flipped",
            "check": "refuse",
            "reason": "auth",
            "frame": (good[:index] + bytes((good[index] ^ 1 << bit,)) + good[index + 1 :]).hex(),
            **up,
        }
        for index, bit in [
            (1, 1),
            (2, 0),
            (3, 0),
            (4, 7),
            (5, 0),
            (20, 3),
            (len(good) - 9, 2),
            (len(good) - 1, 7),
        ]
    ]
    flips += [
        {"name": name, "check": "refuse", "reason": "auth", "frame": frame.hex(), **under}
        for name, frame, under in [
            ("last byte missing", good[:-1], up),
            ("a byte more", good + b"\x00", up),
            ("another node's key", good, keys(ID_CONTEXT, envelope.node_kid(NODE + 1))),
            ("another epoch", good, keys(bytes(16), node)),
            ("another secret", good, keys(ID_CONTEXT, node, secret=bytes(16))),
        ]
    ]
    on_their_face = [
        ("nothing", "malformed", b"", 2),
        ("flag alone", "malformed", b"\x0a", 2),
        ("one byte too few for a tag", "malformed", good[: 3 + 2 + 8], 2),
        ("no kid", "malformed", b"\x02" + good[1:], 2),
        ("no PIV", "malformed", b"\x08" + good[1:], 2),
        ("PIV of six bytes", "malformed", b"\x0e" + good[1:], 2),
        ("PIV of seven bytes", "malformed", b"\x0f" + good[1:], 2),
        ("PIV with a leading zero", "malformed", b"\x0a\x00" + good[2:], 2),
        ("PIV of three bytes with a leading zero", "malformed", b"\x0b\x00" + good[2:], 2),
        ("kid context of 4 bytes", "malformed", b"\x1a\x01\x2c\x04" + bytes(60), 2),
        ("kid context of 255 bytes", "malformed", b"\x1a\x01\x2c\xff" + bytes(300), 2),
        ("kid context beyond the end", "malformed", b"\x19\x00\x10" + bytes(9), 2),
        ("flag and PIV, kid context announced", "malformed", b"\x19\x00", 2),
        ("top bit", "version", b"\x8a" + good[1:], 2),
        ("second bit", "version", b"\x4a" + good[1:], 2),
        ("third bit", "version", b"\x2a" + good[1:], 2),
        ("513 bytes", "oversize", good + bytes(513 - len(good)), 2),
    ]
    refused = [
        {"name": name, "check": "refuse", "reason": reason, "frame": frame.hex(), "kid_bytes": kid_bytes}
        for name, reason, frame, kid_bytes in on_their_face
    ]
    return rfc8613.cases() + sealed + flips + refused + window_cases()


def window_cases() -> list[dict[str, Any]]:
    walks: list[tuple[str, int, int, list[tuple[int, bool]], int, int]] = [
        ("first of all is PIV 0", -1, 0, [(0, True), (0, False), (1, True), (0, False)], 1, 1),
        ("out of order", -1, 0, [(5, True), (3, True), (4, True), (3, False), (5, False)], 5, 0b11),
        ("the window's far end", -1, 0, [(63, True), (0, True), (0, False), (64, True), (0, False)], 64, 1),
        ("below the window", -1, 0, [(64, True), (0, False), (1, True), (1, False)], 64, 1 << 62),
        ("all 64 seen", 63, (1 << 63) - 1, [(n, False) for n in range(64)] + [(64, True)], 64, (1 << 63) - 1),
        ("a leap of 63", 0, 0, [(63, True), (0, False)], 63, 1 << 62),
        ("a leap of 64 forgets", 0, 0, [(64, True), (0, False)], 64, 0),
        ("a leap to the last PIV", 10, 5, [(MAX_U40, True), (MAX_U40, False), (10, False)], MAX_U40, 0),
    ]
    return [
        {
            "name": "window: " + name,
            "check": "window",
            "highest": highest,
            "bitmap": bitmap,
            "pivs": [list(step) for step in steps],
            "highest_after": highest_after,
            "bitmap_after": bitmap_after,
        }
        for name, highest, bitmap, steps, highest_after, bitmap_after in walks
    ]


def framing_cases() -> list[dict[str, Any]]:
    mixed = bytes((index * 7 + 3) % 256 for index in range(512))
    payloads = [
        b"",
        b"\x00",
        b"\x00\x00\x00",
        b"abc",
        b"\x01" * 248,
        b"\xff" * 249,
        b"\x11" * 250,
        mixed,
        bytes(512),
    ]
    cases: list[dict[str, Any]] = [
        {
            "name": f"{len(payload)} bytes, channel {channel}",
            "payload": payload.hex(),
            "channel": channel,
            "line": framing.encode(payload, channel).hex(),
        }
        for payload in payloads
        for channel in (1, 8)
    ]
    abc, d = framing.encode(b"abc"), framing.encode(b"d")
    abc_cut = abc[:4] + abc[5:]
    abc_flipped = abc[:4] + b"\x55" + abc[5:]

    def decode(
        name: str, pieces: list[bytes], payloads: list[bytes], log: list[str], **counters: int
    ) -> None:
        cases.append(
            {
                "name": name,
                "pieces": [piece.hex() for piece in pieces],
                "frames": [[1, payload.hex()] for payload in payloads],
                "log": log,
                "counters": counters,
            }
        )

    decode("two in one read", [abc + d], [b"abc", b"d"], [], frames=2, noise_bytes=0)
    decode("one delimiter between two", [abc[:-1] + d], [b"abc", b"d"], [], frames=2, noise_bytes=0)
    decode("cut anywhere", [abc[:1], abc[1:5], abc[5:] + d[:2], d[2:]], [b"abc", b"d"], [], frames=2)
    decode("byte lost", [abc_cut, d], [b"d"], [], frames=1, crc_errors=1)
    decode("byte changed", [abc_flipped, d], [b"d"], [], frames=1, crc_errors=1)
    decode("COBS code beyond the end", [b"\x00\x05\x01\x02\x00", d], [b"d"], [], crc_errors=1)
    decode("too short for a CRC", [b"\x00\x04\x01\x02\x03\x00"], [], [], crc_errors=1)
    decode("boot messages", [b"boot\r\nready\r\n", d], [b"d"], ["boot", "ready"], noise_bytes=0)
    decode("text cut by a frame", [b"half", d, b" more\n"], [b"d"], ["half", " more"])
    decode("text with no frame after it", ["水位 ok\nnot ended".encode()], [], ["水位 ok"])
    decode("noise that is no text", [b"\xfe\xff\xfd", d], [b"d"], [], noise_bytes=3)
    decode("text that is not UTF-8", [b"ab\xff\n", d], [b"d"], [], noise_bytes=3)
    decode("a line that is too long is broken", [b"x" * 300 + b"\n"], [], ["x" * 256, "x" * 44])
    decode(
        "a frame without end", [b"\x00\xff\x01" + b"\x77" * 3000, d], [b"d"], [], oversize=1, noise_bytes=3002
    )
    decode(
        "521 bytes between delimiters", [b"\x00\xff\x01" + b"\x77" * 519 + b"\x00", d], [b"d"], [], oversize=1
    )
    decode("delimiters alone", [bytes(1000)], [], [], frames=0, noise_bytes=0, crc_errors=0)
    decode("channel 9", [b"\x00\x02\x09\x00"], [], [], frames=0)
    return cases


def join_cases() -> list[dict[str, Any]]:
    hello = UP[0][1]
    r1, r2, r3 = bytes(range(0x10, 0x18)), bytes(range(0x20, 0x28)), bytes(range(0x30, 0x38))
    node, gateway = join.NodeJoin(SECRET, SALT, NODE), join.GatewayJoin(SECRET, SALT, NODE)
    first = node.start(r1, hello)
    header = envelope.parse(first, envelope.KID_UP)
    challenge = gateway.challenge(header, r2, 0)
    second = node.receive(envelope.parse(challenge, envelope.KID_DOWN), challenge, r3, hello)
    assert second is not None
    _, id_context = gateway.agree(envelope.parse(second, envelope.KID_UP), second, 1)
    ack = Ack(0, (), None)
    key = envelope.sender_key(SECRET, SALT, id_context, envelope.gateway_kid(NODE))
    return [
        {
            "name": "a whole join",
            "secret": SECRET.hex(),
            "salt": SALT.hex(),
            "address": NODE,
            "r1": r1.hex(),
            "r2": r2.hex(),
            "r3": r3.hex(),
            "hello": message_case(hello),
            "first_hello": first.hex(),
            "challenge": challenge.hex(),
            "second_hello": second.hex(),
            "id_context": id_context.hex(),
            "epoch": join.epoch_number(id_context),
            "ack": message_case(ack),
            "ack_frame": envelope.seal(key, 0, messages.encode(ack)).hex(),
        }
    ]


def identity_cases() -> list[dict[str, Any]]:
    whole = [
        ("without an area", identity.Identity(NODE, SECRET, SALT, "river_station", "virtual", None, None)),
        (
            "with an area",
            identity.Identity(0xFFFE, SECRET, SALT, "river_station", "esp32s3_sx1262", "鹿城东", None),
        ),
        (
            "on the air",
            identity.Identity(NODE, SECRET, SALT, "cover", "virtual", None, (0, 80, 8, 0)),
        ),
    ]
    pairs = {0: 1, 1: NODE, 2: SECRET, 3: SALT, 4: "river_station", 5: "virtual"}
    wrong: list[tuple[str, dict[int, Any]]] = [
        ("another format", pairs | {0: 2}),
        ("format true", pairs | {0: True}),
        ("address 0", pairs | {1: 0}),
        ("address ffff", pairs | {1: 0xFFFF}),
        ("short secret", pairs | {2: SECRET[1:]}),
        ("long salt", pairs | {3: SALT + b"\x00"}),
        ("no node type", pairs | {4: ""}),
        ("area null", pairs | {6: None}),
        ("unknown key", pairs | {8: 0}),
        ("radio a number", pairs | {7: 0}),
        ("radio of three", pairs | {7: [0, 80, 8]}),
        ("radio without channels", pairs | {7: [0, 80, 0, 0]}),
        ("radio with a spreading factor of 6", pairs | {7: [0, 80, 1, 6]}),
        ("radio null", pairs | {7: None}),
        ("board missing", {key: value for key, value in pairs.items() if key != 5}),
    ]
    good = identity.encode(whole[0][1])
    cases: list[dict[str, Any]] = [
        {"name": name, "hex": identity.encode(one).hex(), "fields": as_json(tuple(one))}
        for name, one in whole
    ]
    for name, content in wrong:
        body = cbor.dumps(content)
        cases.append(
            {"name": name, "hex": (body + crc32(body).to_bytes(4, "little")).hex(), "reason": "message"}
        )
    for name, data in [("empty", b""), ("cut", good[:-1]), ("bit flipped", good[:9] + b"\x77" + good[10:])]:
        cases.append({"name": name, "hex": data.hex(), "reason": "message"})
    return cases


FILES = {
    "cbor": (
        cbor_cases,
        "Accepted data has a value; the rest must be refused. RFC 8949 appendix A and our own.",
    ),
    "messages": (message_cases, "Every kind of SPEC.md section 2; data with a reason must be refused."),
    "envelope": (
        envelope_cases,
        "SPEC.md section 3: RFC 8613 appendix C, frames of both directions, refusals, windows.",
    ),
    "framing": (
        framing_cases,
        "SPEC.md section 4: lines as encoded, and what a decoder makes of what comes in.",
    ),
    "fragments": (
        fragment_cases,
        "SPEC.md section 7.2: frames as split (packets null: refused), and what a collector makes of packets.",
    ),
    "join": (join_cases, "SPEC.md section 3.2: both sides, byte by byte."),
    "identity": (identity_cases, "SPEC.md section 6."),
    "updates": (
        update_cases,
        "OTA.md: envelopes a node takes or refuses, payloads applied to a base, what a bundle says of itself.",
    ),
    "airtime": (
        airtime_cases.airtime_cases,
        "SPEC.md section 7: rows of [cr, preamble, implicit, CRC, LDRO, bytes, microseconds]; and what a plan refuses.",
    ),
}


def main() -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, (make, about) in FILES.items():
        cases = make()
        lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
        text = f'{{\n "about": {json.dumps(about)},\n "cases": [\n{lines}\n ]\n}}\n'
        (VECTORS / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}.json: {len(cases)} cases")


if __name__ == "__main__":
    main()
