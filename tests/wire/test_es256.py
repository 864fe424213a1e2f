"""P-256 signatures, held to another implementation."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire import es256
from tests.wire.release_cases import public


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2**255), st.binary(max_size=100), st.integers(0, 511))
def test_what_others_sign_is_verified_and_nothing_else(secret: int, message: bytes, bit: int) -> None:
    signer = ec.derive_private_key(secret, ec.SECP256R1())
    r, s = decode_dss_signature(signer.sign(message, ec.ECDSA(hashes.SHA256())))
    signature = bytearray(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    assert es256.verify(public(signer), message, bytes(signature))
    assert not es256.verify(public(signer), message + b"x", bytes(signature))
    signature[bit >> 3] ^= 1 << (bit & 7)
    assert not es256.verify(public(signer), message, bytes(signature))
