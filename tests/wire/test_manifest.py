"""What a node takes as an update, and what it refuses, with the reason that it reports."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocols import suit
from protocols.wire import es256, manifest
from protocols.wire.manifest import Refused, match
from tests.wire import interpreters
from tests.wire.release_cases import CLASS, DEVICE, KEY, SIGNER, VENDOR, contents, envelope, sign
from tests.wire.test_cddl import CddlValidationError, DataTranslator
from tests.wire.update_cases import update_cases

GOOD = envelope(contents())


def refused(data: bytes, **changes: Any) -> str:
    device = manifest.Device(**{**DEVICE._asdict(), **changes})
    with pytest.raises(Refused) as caught:
        match(data, device, [KEY])
    assert caught.value.reason in manifest.REASONS
    return caught.value.reason


def test_what_we_make_is_taken() -> None:
    found = match(GOOD, DEVICE, [KEY])
    assert found == manifest.Manifest(7, 65_000, bytes(range(32)), 900, bytes(range(32, 64)), KEY.kid)


def test_the_envelope_is_suit_to_others() -> None:
    """Taken apart by cbor2 and verified by cryptography, by the numbers of the draft."""
    whole = cbor2.loads(GOOD)
    assert whole.tag == 107
    assert sorted(whole.value) == [2, 3]
    digest, block = cbor2.loads(whole.value[2])
    sign1 = cbor2.loads(block)
    assert sign1.tag == 18
    protected, unprotected, payload, signature = sign1.value
    assert (cbor2.loads(protected), unprotected, payload) == ({1: -7}, {4: KEY.kid}, None)
    to_be_signed = cbor2.dumps(["Signature1", protected, b"", digest])
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    SIGNER.public_key().verify(der, to_be_signed, ec.ECDSA(hashes.SHA256()))
    hasher = hashes.Hash(hashes.SHA256())
    hasher.update(cbor2.dumps(whole.value[3]))  # with its length: the draft's section 6.1
    assert cbor2.loads(digest) == [-16, hasher.finalize()]
    said = cbor2.loads(whole.value[3])
    assert {key: said[key] for key in (1, 2)} == {1: 1, 2: 7}
    common = cbor2.loads(said[3])
    assert common[2] == [[b"a"], [b"p"]]
    commands = cbor2.loads(common[4])
    parameters = commands[3]
    assert uuid.UUID(bytes=parameters[1]) == VENDOR
    assert uuid.UUID(bytes=parameters[2]) == CLASS
    assert cbor2.loads(parameters[3]) == [-16, bytes(range(32))]
    assert parameters[14] == 65_000


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (envelope(contents(sequence=6)), "downgrade"),
        (envelope(contents(sequence=1)), "downgrade"),
        (envelope(contents(vendor=uuid.UUID(int=1))), "vendor"),
        (envelope(contents(class_id=uuid.UUID(int=1))), "class"),
        (envelope(contents(size=100_001)), "oversize"),
        (envelope(contents(payload_size=30_001)), "oversize"),
        (envelope(contents(size=0)), "oversize"),
        (GOOD + b"\x00", "cbor"),
        (GOOD[:-1], "cbor"),
        (b"", "cbor"),
        (bytes(2049), "oversize"),
    ],
)
def test_each_deviation_has_its_reason(wrong: bytes, reason: str) -> None:
    assert refused(wrong) == reason


@pytest.mark.parametrize(
    "bits", [(0,), pytest.param(range(8), marks=pytest.mark.soak)], ids=["one of each byte", "all"]
)
def test_a_flipped_bit_is_refused_wherever_it_is(bits: Sequence[int]) -> None:
    found: Counter[str] = Counter()
    for at in range(len(GOOD)):
        for bit in bits:
            spoilt = bytearray(GOOD)
            spoilt[at] ^= 1 << (bit + at) % 8
            found[refused(bytes(spoilt))] += 1
    print(
        f"\nflipped_bits={found.total()} "
        + " ".join(f"{reason}={count}" for reason, count in sorted(found.items()))
    )
    assert {"signature", "digest", "unknown-key", "vendor", "class", "command"} <= found.keys()


def signed(manifest_bytes: bytes) -> bytes:
    """Whatever it is, by the key that is trusted."""
    return suit.envelope(manifest_bytes, KEY.algorithm, KEY.kid, sign)


@pytest.mark.parametrize(
    ("changes", "shortest", "longer"),
    [
        ({"sequence": 30}, b"\x02\x18\x1e", b"\x02\x18\x08"),
        ({"size": 70_000}, b"\x0e\x1a\x00\x01\x11\x70", b"\x0e\x1a\x00\x00\xfd\xe8"),
        ({"payload_size": 900}, b"\x0e\x19\x03\x84", b"\x0e\x19\x00\x84"),
        ({"payload_size": 900}, b"\x0e\x19\x03\x84", b"\x0e\x19\x00\x03"),
    ],
)
def test_a_number_in_a_longer_form_is_refused_though_it_is_signed(
    changes: dict[str, Any], shortest: bytes, longer: bytes
) -> None:
    good = suit.manifest(contents(**changes))
    assert good.count(shortest) == 1
    match(signed(good), DEVICE, [KEY])
    assert refused(signed(good.replace(shortest, longer))) == "cbor"


def wrapped(data: bytes, inner: bytes, by: int) -> bytes:
    """The byte string that holds `inner` says that it is so much longer than it is."""
    at = data.index(inner) - 1
    assert data[at] == len(inner) & 0xFF
    return data[:at] + bytes((data[at] + by,)) + data[at + 1 :]


@pytest.mark.parametrize("by", [1, -1, 2, 7])
def test_a_byte_string_that_ends_elsewhere_is_refused_though_it_is_signed(by: int) -> None:
    good = suit.manifest(contents())
    said = cbor2.loads(good)
    for inner in (said[3], cbor2.loads(said[3])[4], said[20]):
        refused(signed(wrapped(good, inner, by)))
    whole = cbor2.loads(GOOD).value
    for inner in (whole[2], cbor2.loads(whole[2])[1], whole[3]):  # these, nobody signs
        refused(wrapped(GOOD, inner, by))


def test_every_truncation_is_refused() -> None:
    for end in range(len(GOOD)):
        refused(GOOD[:end])


def test_a_key_that_is_revoked_unknown_or_of_another_kind_signs_nothing() -> None:
    for keys, reason in (
        ([], "unknown-key"),
        ([manifest.Key(KEY.kid, KEY.algorithm, KEY.key, True)], "revoked-key"),
        ([manifest.Key(KEY.kid, manifest.HSS_LMS, KEY.key, False)], "algorithm"),
    ):
        with pytest.raises(Refused) as caught:
            match(GOOD, DEVICE, keys)
        assert caught.value.reason == reason


def test_a_manifest_by_another_template_is_refused() -> None:
    """Signed by a trusted key, and valid SUIT: still not ours."""
    said = cbor2.loads(suit.manifest(contents()))
    for key, value, reason in ((7, cbor2.dumps([3, 15]), "command"), (1, 2, "cbor"), (2, "7", "parameter")):
        other = cbor2.dumps({**said, key: value}, canonical=True)
        assert refused(suit.envelope(other, suit.ES256, KEY.kid, sign)) == reason


def test_the_schema_has_what_we_send_and_no_other_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """ota.cddl, by zcbor, which knows nothing of our code."""

    def thawed(value: Any) -> Any:
        """zcbor wants dict and list; within a tag cbor2 has unchangeable ones."""
        if isinstance(value, cbor2.CBORTag):
            return cbor2.CBORTag(value.tag, thawed(value.value))
        if isinstance(value, Mapping):
            return {key: thawed(item) for key, item in value.items()}
        return [thawed(item) for item in value] if isinstance(value, (list, tuple)) else value

    monkeypatch.setattr(
        sys.modules[DataTranslator.__module__], "loads", lambda data: thawed(cbor2.loads(data))
    )
    cddl = (interpreters.ROOT / "protocols" / "ota.cddl").read_text(encoding="utf-8")
    types = DataTranslator.from_cddl(cddl_string=cddl, default_max_qty=64).my_types

    def valid(rule: str, data: bytes) -> bool:
        try:
            types[rule].validate_str(data)
        except (CddlValidationError, cbor2.CBORDecodeError):
            return False
        return True

    # What is refused for what it says is a good envelope; what is refused for its form is none.
    beyond_form = (
        "downgrade",
        "vendor",
        "class",
        "oversize",
        "unknown-key",
        "revoked-key",
        "signature",
        "digest",
    )
    checked = 0
    for case in update_cases():
        reason = case.get("reason")
        if case["check"] == "manifest" and case["name"] != "something behind it":  # the first item is good
            assert valid("envelope", bytes.fromhex(case["envelope"])) == (reason in (None, *beyond_form)), (
                case["name"]
            )
            checked += 1
        elif case["check"] == "release":
            assert valid("release", bytes.fromhex(case["hex"])) == (reason is None), case["name"]
            checked += 1
    assert checked > 20


def test_digest_signature_and_vendor_are_made_as_in_the_drafts_first_example() -> None:
    """draft-ietf-suit-manifest, appendix B.1: its manifest, its key, its signature."""
    key = bytes.fromhex(
        "8496811aae0baaabd26157189eecda26beaa8bf11b6f3fe6e2b5659c85dbc0ad"
        "3b1f2a4b6c098131c0a36dacd1d78bd381dcdfb09c052db33991db7338b4a896"
    )
    vendor = suit.vendor_id("arm.com")
    assert str(vendor) == "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe"
    image = bytes.fromhex("00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210")
    class_id = bytes.fromhex("1492af1425695e48bf429b2d51f2ab45")
    parameters = {1: vendor.bytes, 2: class_id, 3: cbor2.dumps([-16, image]), 14: 34768}
    said = cbor2.dumps(
        {
            1: 1,
            2: 0,
            3: cbor2.dumps({2: [[b"\0"]], 4: cbor2.dumps([20, parameters, 1, 15, 2, 15])}),
            7: cbor2.dumps([3, 15]),
            9: cbor2.dumps([23, 2]),
        }
    )
    signature = bytes.fromhex(
        "01d9cbf51b1ccadf839ec867da85735118ba4c1b513f5df60583e8dd7f8ce427"
        "4cd2e2a0f70f8832bfea63983172e77a951e9a36e74cada19321b903a097e4e7"
    )
    made: list[bytes] = []

    def sign(message: bytes) -> bytes:
        made.append(message)
        return signature

    data = suit.envelope(said, suit.ES256, bytes(8), sign)
    digest = cbor2.loads(cbor2.loads(cbor2.loads(data).value[2])[0])[1]
    assert digest.hex() == "6658ea560262696dd1f13b782239a064da7c6c5cbaf52fded428a6fc83c7e5af"
    assert es256.verify(key, made[0], signature)
