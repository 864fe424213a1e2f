"""SM4 by the vectors of GB/T 32907, and what is no text of it."""

from __future__ import annotations

import pytest
from cryptography.exceptions import UnsupportedAlgorithm, _Reasons
from hypothesis import given
from hypothesis import strategies as st

from protocols.northbound import sm4
from protocols.northbound.sm4 import Sm4Error

KEY = bytes.fromhex("0123456789abcdeffedcba9876543210")


def test_the_standards_own_block() -> None:
    assert sm4.encrypt_blocks(KEY, KEY).hex() == "681edf34d206965e86b3e94f536e4246"
    assert sm4.decrypt_blocks(KEY, bytes.fromhex("681edf34d206965e86b3e94f536e4246")) == KEY


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
def test_texts_of_any_length_come_back_and_always_have_padding(text: bytes, key: bytes) -> None:
    data = sm4.encrypt(key, text)
    assert len(data) == (len(text) // 16 + 1) * 16
    assert sm4.decrypt(key, data) == text


def test_a_whole_block_gets_a_block_of_padding() -> None:
    data = sm4.encrypt(KEY, KEY)
    assert data[:16].hex() == "681edf34d206965e86b3e94f536e4246"
    assert sm4.decrypt_blocks(KEY, data)[16:] == b"\x10" * 16


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(Sm4Error, match="15 bytes are no whole blocks"):
        sm4.decrypt(KEY, b"x" * 15)
    with pytest.raises(Sm4Error, match="a key of SM4 has 16 bytes, this one has 3"):
        sm4.encrypt(b"key", b"")
    with pytest.raises(Sm4Error, match="padding is wrong"):
        sm4.decrypt(KEY, KEY)


def test_an_openssl_without_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def encryptor(self) -> None:
            raise UnsupportedAlgorithm("no SM4", _Reasons.UNSUPPORTED_CIPHER)

    monkeypatch.setattr(sm4, "Cipher", lambda *args: Without())
    with pytest.raises(Sm4Error, match="built without SM4"):
        sm4.encrypt(KEY, b"x")
