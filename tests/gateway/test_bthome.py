"""BTHome v2 against the examples of its specification and adverts of real devices; whatever else comes is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st

import protocols
from gateway.pollers import bthome
from gateway.pollers.bthome import BthomeError, decode
from gateway.profile_library import Library

# bthome.io, "Encryption": key, address, and the advert of 25.06 Cel and 50.55 %.
VECTORS = Path(protocols.__file__).parent / "vectors" / "host" / "bthome.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
ADDRESS = "54:48:E6:8F:80:A5"
SEALED = bytes.fromhex("41a47266c95f730011223378237214")
PLAIN = bytes.fromhex("4002ca0903bf13")


def objects(text: str) -> tuple[tuple[int, int, float], ...]:
    return decode(bytes.fromhex("40" + text)).objects


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_cases(case: dict[str, Any]) -> None:
    data, address = bytes.fromhex(case["hex"]), case.get("address", "")
    key = bytes.fromhex(case["key"]) if "key" in case else None
    if "refused" in case:
        with pytest.raises(BthomeError) as info:
            decode(data, key=key, address=address)
        assert info.value.reason == case["refused"]
        return
    said = decode(data, key=key, address=address)
    assert [(number, index) for number, index, _ in said.objects] == [
        (one, at) for one, at, _ in case["objects"]
    ]
    assert [value for *_, value in said.objects] == pytest.approx([value for *_, value in case["objects"]])
    assert said[1:] == (
        case.get("packet_id"),
        case.get("counter"),
        case.get("is_triggered", False),
        case.get("is_cut", False),
    )
    assert bthome.own_address(data) == case.get("own_address", "")


def test_every_kind_of_object_has_a_golden_case() -> None:
    there = {int(case["hex"][2:4], 16) for case in CASES if len(case["hex"]) > 2}
    assert not set(bthome.KINDS) - there


def test_an_advert_of_a_thermometer_in_the_shops() -> None:
    said = decode(bytes.fromhex("40002e01641e012e34451601"))
    assert said.packet_id == 46
    part = Library().get("shelly_blu_ht").bthome
    assert part is not None
    assert bthome.values(part, said) == {
        "ambient_temperature": 27.8,
        "relative_humidity": 52.0,
        "battery": 100.0,
    }


def test_several_of_one_kind_are_told_apart_by_their_order() -> None:
    assert objects("02ca0902cb0903bf13") == ((2, 0, 25.06), (2, 1, 25.07), (3, 0, 50.55))


def test_text_and_raw_bytes_are_passed_over_and_an_unknown_id_ends_it() -> None:
    assert objects("530548656c6c6f02ca09") == ((2, 0, 25.06),)
    assert objects("3b42a1b2c302ca09") == ((2, 0, 25.06),)  # a command: three bits of its count are reserved
    assert decode(bytes.fromhex("40" + "3b0201")).is_cut
    said = decode(bytes.fromhex("40" + "02ca09" + "e0ffff" + "03bf13"))
    assert said.objects == ((2, 0, 25.06),)
    assert said.is_cut
    assert decode(bytes.fromhex("4003bf")).is_cut


@pytest.mark.parametrize(
    ("data", "key", "address", "reason"),
    [
        (b"", None, "", "short"),
        (bytes.fromhex("2002ca09"), None, "", "version"),
        (SEALED, None, ADDRESS, "key"),
        (PLAIN, KEY, ADDRESS, "plain"),
        (SEALED, bytes(16), ADDRESS, "auth"),
        (SEALED, KEY, "54:48:E6:8F:80:A6", "auth"),
        (SEALED, KEY, "", "key"),
        (SEALED[:6], KEY, ADDRESS, "short"),
        (SEALED[:-1] + b"\x00", KEY, ADDRESS, "auth"),
    ],
)
def test_what_is_refused_says_why(data: bytes, key: bytes | None, address: str, reason: str) -> None:
    with pytest.raises(BthomeError) as info:
        decode(data, key=key, address=address)
    assert info.value.reason == reason


def test_no_bit_of_a_sealed_advert_can_be_changed() -> None:
    for bit in range(8, 8 * len(SEALED)):
        altered = bytearray(SEALED)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BthomeError):
            decode(bytes(altered), key=KEY, address=ADDRESS)


@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_raise_anything_else(data: bytes, has_key: bool) -> None:
    for head in (b"", b"\x40", b"\x41", b"\x44"):
        try:
            decode(head + data, key=KEY if has_key else None, address=ADDRESS)
        except BthomeError:
            continue


def test_sealed_nonsense_of_our_own_is_survived() -> None:
    rng = random.Random(5)
    for _ in range(500):
        plain, counter = rng.randbytes(rng.randrange(24)), rng.randbytes(4)
        nonce = bytes.fromhex(ADDRESS.replace(":", "")) + b"\xd2\xfc\x41" + counter
        sealed = AESCCM(KEY, tag_length=4).encrypt(nonce, plain, None)
        said = decode(b"\x41" + sealed[:-4] + counter + sealed[-4:], key=KEY, address=ADDRESS)
        assert said.counter == int.from_bytes(counter, "little")
        assert len(said.objects) <= len(plain)
