"""What a node takes as an update, and what it refuses, with the reason that it reports."""

from __future__ import annotations

import uuid
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocols import suit
from protocols.wire import manifest
from protocols.wire.manifest import Refused, match
from tests.wire.release_cases import CLASS, DEVICE, KEY, SIGNER, VENDOR, contents, envelope

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


def test_every_flipped_bit_is_refused() -> None:
    found = set()
    for at in range(len(GOOD)):
        for bit in range(8):
            spoilt = bytearray(GOOD)
            spoilt[at] ^= 1 << bit
            found.add(refused(bytes(spoilt)))
    assert {"signature", "digest", "unknown-key", "vendor", "class", "command"} <= found


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
    from tests.wire.release_cases import sign

    said = cbor2.loads(suit.manifest(contents()))
    for key, value, reason in ((7, cbor2.dumps([3, 15]), "command"), (1, 2, "cbor"), (2, "7", "parameter")):
        other = cbor2.dumps({**said, key: value}, canonical=True)
        assert refused(suit.envelope(other, suit.ES256, KEY.kid, sign)) == reason
