"""Sealing and opening: RFC 8613 by other code, the portable CCM, what must be refused, sizes, replay."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.wire import ccm, crypto, envelope, messages
from protocols.wire.errors import EncodeError, FrameError
from protocols.wire.limits import MAX_FRAME, MAX_OVERHEAD, MAX_PIV, MAX_PLAIN, REPLAY_WINDOW

pivs = st.one_of(
    st.integers(0, 70000), st.integers(0, MAX_PIV), st.sampled_from([1 << n for n in range(0, 40, 8)])
)
kids = st.one_of(
    st.integers(1, 0xFFFE).map(envelope.node_kid), st.integers(1, 0xFFFE).map(envelope.gateway_kid)
)
contexts = st.one_of(st.just(b""), st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16))
secrets = st.binary(min_size=16, max_size=16)
salts = st.one_of(st.just(b""), st.binary(min_size=8, max_size=8))

SECRET = bytes(range(16))
SALT = bytes(range(8))
EPOCH = bytes(16)
NODE = envelope.sender_key(SECRET, SALT, EPOCH, envelope.node_kid(0x0012))


class LibraryAes:
    """cryptolib.aes, made of cryptography: what ccm.py leans on."""

    def __init__(self, key: bytes, mode: int, iv: bytes = b"") -> None:
        chosen = {1: modes.ECB, 2: lambda: modes.CBC(iv)}[mode]()
        self._encryptor = Cipher(algorithms.AES(key), chosen).encryptor()

    def encrypt(self, data: bytes) -> bytes:
        return self._encryptor.update(bytes(data))


def hkdf(secret: bytes, salt: bytes, info: Any, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, cbor2.dumps(info)).derive(secret)


def sealed_by_other_code(
    secret: bytes,
    salt: bytes,
    id_context: bytes | None,
    kid: bytes,
    piv: int,
    plain: bytes,
    kid_context: bytes,
) -> bytes:
    """SPEC.md section 3 once more, straight from the RFC with cryptography and cbor2."""
    key = hkdf(secret, salt, [kid, id_context, 10, "Key", 16], 16)
    common_iv = hkdf(secret, salt, [b"", id_context, 10, "IV", 13], 13)
    piv_bytes = piv.to_bytes(max(1, (piv.bit_length() + 7) // 8), "big")
    padded = bytes((len(kid),)) + kid.rjust(7, b"\0") + piv_bytes.rjust(5, b"\0")
    nonce = bytes(left ^ right for left, right in zip(padded, common_iv, strict=True))
    aad = cbor2.dumps(["Encrypt0", b"", cbor2.dumps([1, [10], kid, piv_bytes, b""])])
    flag = bytes(((0x18 if kid_context else 0x08) | len(piv_bytes),))
    context = bytes((len(kid_context),)) + kid_context if kid_context else b""
    return flag + piv_bytes + context + kid + AESCCM(key, tag_length=8).encrypt(nonce, plain, aad)


@given(
    secrets,
    salts,
    st.one_of(st.none(), contexts),
    kids,
    pivs,
    st.binary(min_size=1, max_size=MAX_PLAIN),
    contexts,
)
def test_a_frame_is_what_the_rfc_says_it_is(
    secret: bytes,
    salt: bytes,
    id_context: bytes | None,
    kid: bytes,
    piv: int,
    plain: bytes,
    kid_context: bytes,
) -> None:
    key = envelope.sender_key(secret, salt, id_context, kid)
    frame = envelope.seal(key, piv, plain, kid_context)
    assert frame == sealed_by_other_code(secret, salt, id_context, kid, piv, plain, kid_context)
    header = envelope.parse(frame, len(kid))
    assert header[:3] == (piv, kid, kid_context)
    assert envelope.open_(key, header, frame) == plain


@given(secrets, st.binary(min_size=13, max_size=13), st.binary(max_size=500), st.binary(max_size=60))
def test_the_portable_ccm_is_the_library_s(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> None:
    """Additional data of no bytes has another first block; the envelope never has that."""
    aad = aad or b"\x83"
    portable = ccm.Ccm(key, LibraryAes)
    sealed = portable.encrypt(nonce, plain, aad)
    assert sealed == crypto.ccm(key).encrypt(nonce, plain, aad)
    assert portable.decrypt(nonce, sealed, aad) == plain


@given(st.binary(max_size=40), st.integers(0, 500), st.integers(0, 7))
def test_the_portable_ccm_refuses_what_the_library_refuses(plain: bytes, at: int, bit: int) -> None:
    portable, library = ccm.Ccm(SECRET, LibraryAes), crypto.ccm(SECRET)
    sealed = bytearray(portable.encrypt(bytes(13), plain, b"a"))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(InvalidTag):
        library.decrypt(bytes(13), bytes(sealed), b"a")
    for damaged, aad in ((bytes(sealed), b"a"), (bytes(sealed[: at % 9]), b"a")):
        with pytest.raises(ccm.InvalidTag):
            portable.decrypt(bytes(13), damaged, aad)


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=40), st.integers(1, 32))
def test_hkdf_is_the_library_s(salt: bytes, secret: bytes, info: bytes, length: int) -> None:
    assert crypto.hkdf(salt, secret, info, length) == HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def test_one_changed_bit_anywhere_is_refused() -> None:
    plain = messages.encode(messages.Readings(1, 70080, 80, 1790000000, bytes(18), None))
    frame = envelope.seal(NODE, 300, plain)
    for bit in range(8 * len(frame)):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError) as refused:
            envelope.open_(NODE, envelope.parse(bytes(changed), 2), bytes(changed))
        assert refused.value.reason in {"auth", "malformed", "version"}


def test_a_frame_cut_anywhere_is_refused() -> None:
    frame = envelope.seal(NODE, 300, b"\x82\x15\x00")
    for size in range(len(frame)):
        with pytest.raises(FrameError) as refused:
            envelope.open_(NODE, envelope.parse(frame[:size], 2), frame[:size])
        assert refused.value.reason in {"auth", "malformed"}


@pytest.mark.parametrize(
    "other",
    [
        envelope.sender_key(SECRET, SALT, EPOCH, envelope.node_kid(0x0013)),
        envelope.sender_key(SECRET, SALT, EPOCH, envelope.gateway_kid(0x0012)),
        envelope.sender_key(SECRET, SALT, bytes(15) + b"\x01", envelope.node_kid(0x0012)),
        envelope.sender_key(SECRET, SALT, None, envelope.node_kid(0x0012)),
        envelope.sender_key(SECRET, bytes(8), EPOCH, envelope.node_kid(0x0012)),
        envelope.sender_key(bytes(16), SALT, EPOCH, envelope.node_kid(0x0012)),
    ],
)
def test_no_other_key_opens_a_frame(other: envelope.SenderKey) -> None:
    """Another node, the other direction, another epoch, another salt, another secret."""
    frame = envelope.seal(NODE, 300, b"\x82\x15\x00")
    with pytest.raises(FrameError) as refused:
        envelope.open_(other, envelope.parse(frame, 2), frame)
    assert refused.value.reason == "auth"


def test_a_bench_tool_cannot_speak_as_the_gateway() -> None:
    bench = envelope.sender_key(SECRET, SALT, EPOCH, envelope.gateway_kid(0x0012, envelope.BENCH))
    owner = envelope.sender_key(SECRET, SALT, EPOCH, envelope.gateway_kid(0x0012))
    frame = bytearray(envelope.seal(bench, 7, b"\x82\x15\x00"))
    frame[4] = envelope.OWNER
    with pytest.raises(FrameError) as refused:
        envelope.open_(owner, envelope.parse(bytes(frame), 3), bytes(frame))
    assert refused.value.reason == "auth"


def test_bounds_of_a_frame() -> None:
    with pytest.raises(EncodeError, match="PIV"):
        envelope.seal(NODE, MAX_PIV + 1, b"\x80")
    with pytest.raises(EncodeError, match="PIV"):
        envelope.seal(NODE, -1, b"\x80")
    with pytest.raises(EncodeError, match="kid context"):
        envelope.seal(NODE, 0, b"\x80", bytes(4))
    with pytest.raises(EncodeError, match="at most 512"):
        envelope.seal(NODE, 0, bytes(MAX_FRAME))
    with pytest.raises(EncodeError, match="kid"):
        envelope.sender_key(SECRET, SALT, EPOCH, bytes(8))
    largest = envelope.sender_key(SECRET, SALT, EPOCH, envelope.gateway_kid(0x0012))
    assert len(envelope.seal(largest, MAX_PIV, bytes(MAX_PLAIN), EPOCH)) == MAX_FRAME
    assert len(envelope.seal(largest, MAX_PIV, b"\x80", EPOCH)) == MAX_OVERHEAD + 1


# ---- replay ----


class RememberingEverything:
    """The window's meaning, kept the simple way."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()

    def is_new(self, piv: int) -> bool:
        highest = max(self.accepted, default=-1)
        return piv not in self.accepted and piv > highest - REPLAY_WINDOW


@settings(max_examples=300)
@given(st.lists(st.one_of(st.integers(0, 200), st.integers(0, MAX_PIV)), max_size=120))
def test_the_window_accepts_each_piv_once_and_none_below(arrivals: list[int]) -> None:
    window, model = envelope.ReplayWindow(), RememberingEverything()
    for piv in arrivals:
        assert window.is_new(piv) == model.is_new(piv)
        if window.is_new(piv):
            window.accept(piv)
            model.accepted.add(piv)
        # What a gateway stores is all that the window is.
        window = envelope.ReplayWindow(window.highest, window.bitmap)
        assert 0 <= window.bitmap < 1 << 63


@given(st.integers(0, 300), st.integers(0, (1 << 63) - 1), st.integers(0, 400))
def test_asking_the_window_changes_nothing(highest: int, bitmap: int, piv: int) -> None:
    window = envelope.ReplayWindow(highest, bitmap)
    first = window.is_new(piv)
    assert window.is_new(piv) == first
    assert (window.highest, window.bitmap) == (highest, bitmap)


def test_accepting_twice_or_too_late_does_no_harm() -> None:
    window = envelope.ReplayWindow()
    for piv in (100, 100, 36, 37, 37):
        window.accept(piv)
    assert (window.highest, window.bitmap) == (100, 1 << 62)
