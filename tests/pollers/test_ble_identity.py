"""Devices that change their address are known by their key or by what they say, and nobody else is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.pollers import bthome
from gateway.pollers.ble_advert import Advert
from gateway.pollers.ble_identity import Identities
from gateway.profile_library import Library
from hil_tests.world import ble_street as street

if TYPE_CHECKING:
    from collections.abc import Mapping

# Core Specification 5.4, vol. 3, part H, D.7: key, random half and hash.
IRK = bytes.fromhex("ec0234a357c8ad05341010a60a397d9b")
ADDRESS = "70:81:94:0D:FB:AA"
OTHER = "A4:C1:38:01:02:03"
TAG = "CB:B8:33:4C:88:4F"


def advert(
    address: str, service: Mapping[str, bytes] | None = None, maker: Mapping[int, bytes] | None = None
) -> Advert:
    return Advert(address, "", -60, dict(service or {}), dict(maker or {}), (), 0.0)


@pytest.mark.parametrize("irk", [IRK, IRK[::-1]], ids=["as printed", "as on the air"])
def test_the_example_of_the_specification(irk: bytes) -> None:
    known = Identities({}, {"irk:tag": irk, "irk:other": bytes(16)})
    assert known.of(advert(ADDRESS)) == "irk:tag"
    assert known.resolved(ADDRESS) == "irk:tag"
    for stranger in ("70:81:94:0D:FB:AB", "71:81:94:0D:FB:AA", OTHER):
        assert known.of(advert(stranger)) == stranger
    assert Identities({}, {}).of(advert(ADDRESS)) == ADDRESS


def test_addresses_of_many_keys_are_told_apart_from_each_other_and_from_strangers() -> None:
    rng = random.Random(11)
    irks = {f"irk:{number}": rng.randbytes(16) for number in range(8)}
    known = Identities({}, irks)
    for who, irk in irks.items():
        for _ in range(20):
            address = street.private_address(rng, irk).to_string(with_type_qualifier=False)
            assert known.of(advert(address)) == who
    for _ in range(500):  # one of 2^24 would be taken for a known one, and the seed has none
        stranger = street.private_address(rng, rng.randbytes(16)).to_string(with_type_qualifier=False)
        assert known.of(advert(stranger)) == stranger


def test_what_was_tried_is_bounded_whoever_advertises() -> None:
    rng = random.Random(3)
    known = Identities({}, {"irk:tag": IRK})
    for _ in range(limits.BLE_ADDRESSES_MAX + 100):
        known.of(advert(street.private_address(rng, rng.randbytes(16)).to_string(with_type_qualifier=False)))
    assert len(known) == limits.BLE_ADDRESSES_MAX
    assert known.of(advert(ADDRESS)) == "irk:tag"


def test_a_tag_that_says_its_own_address_is_known_by_it_whatever_it_sends_from() -> None:
    known = Identities({TAG: Library().get("ruuvitag")}, {})
    said = bytes.fromhex("0512fc5394c37c0004fffc040cac364200cdcbb8334c884f")  # the maker's first test vector
    assert known.of(advert(TAG, maker={0x0499: said})) == TAG
    assert known.of(advert("5A:00:00:00:00:01", maker={0x0499: said})) == TAG
    assert known.of(advert(OTHER, maker={0x0499: said[:-1] + b"\0"})) == OTHER
    assert known.of(advert(OTHER, maker={0x0499: said[:-1]})) == OTHER


def test_a_bthome_advert_that_carries_an_address_is_of_that_one() -> None:
    known = Identities({"54:48:E6:8F:80:A5": Library().get("bthome_thermometer")}, {})
    said = bytes.fromhex("42a5808fe6485402ca09")
    assert known.of(advert(OTHER, {bthome.UUID: said})) == "54:48:E6:8F:80:A5"
    assert known.of(advert(OTHER, {bthome.UUID: b"\x40" + said[1:]})) == OTHER
    assert known.of(advert(OTHER, {bthome.UUID: said[:4]})) == OTHER
    assert bthome.decode(said).objects == ((0x02, 0, 25.06),)
