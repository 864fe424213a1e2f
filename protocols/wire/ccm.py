"""AES-CCM (RFC 3610, L = 2, 8-byte tag) from AES-CBC and AES-ECB alone: what the MicroPython of an ESP32 has.

One CBC call over the formatted blocks: its last block is the MAC. One ECB call over the counter blocks: their
encryptions are the key stream. `cipher(key, mode[, iv])` is cryptolib.aes or its like, so that CPython can
test this very construction.

Sizes are those of COSE algorithm 10 (AES-CCM-16-64-128): 13-byte nonce, tag of 8 bytes, additional data
under 65280 bytes.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_ECB = 1
_CBC = 2
_TAG_SIZE = 8
_ZERO_IV = b"\x00" * 16


class InvalidTag(Exception):
    """The ciphertext, the nonce or the additional data is not what was sealed under this key."""


class Ccm:
    """The methods of cryptography's AESCCM, for one key."""

    def __init__(self, key: bytes, cipher: "Callable[..., Any]") -> None:
        self._key = key
        self._cipher = cipher
        self._ecb = cipher(key, _ECB)

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """Ciphertext and tag."""
        stream = self._key_stream(nonce, len(data))
        out = bytearray(len(data) + _TAG_SIZE)
        mac = self._mac(nonce, data, associated_data)
        for index in range(len(data)):
            out[index] = data[index] ^ stream[16 + index]
        for index in range(_TAG_SIZE):
            out[len(data) + index] = mac[index] ^ stream[index]
        return bytes(out)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The plaintext; InvalidTag when it is not authentic."""
        length = len(data) - _TAG_SIZE
        if length < 0:
            raise InvalidTag("%d bytes are shorter than a tag" % len(data))
        stream = self._key_stream(nonce, length)
        plain = bytearray(length)
        for index in range(length):
            plain[index] = data[index] ^ stream[16 + index]
        mac = self._mac(nonce, plain, associated_data)
        difference = 0  # all bytes are looked at: the time says nothing about which one differs
        for index in range(_TAG_SIZE):
            difference |= mac[index] ^ stream[index] ^ data[length + index]
        if difference:
            raise InvalidTag("the tag does not match")
        return bytes(plain)

    def _key_stream(self, nonce: bytes, length: int) -> bytearray:
        """A block for the tag, then enough for the data (RFC 3610 section 2.3)."""
        count = 1 + (length + 15) // 16
        blocks = bytearray(16 * count)
        for index in range(count):
            at = 16 * index
            blocks[at] = 1
            blocks[at + 1 : at + 14] = nonce
            blocks[at + 14] = index >> 8
            blocks[at + 15] = index & 0xFF
        return self._ecb.encrypt(blocks)

    def _mac(self, nonce: bytes, data: "bytes | bytearray", associated_data: bytes) -> bytes:
        """RFC 3610 section 2.2; 0x59: additional data follows, 8-byte tag, 2-byte length."""
        blocks = bytearray(b"\x59")
        blocks.extend(nonce)
        blocks.extend(len(data).to_bytes(2, "big"))
        blocks.extend(len(associated_data).to_bytes(2, "big"))
        blocks.extend(associated_data)
        blocks.extend(_ZERO_IV[: -len(blocks) % 16])
        blocks.extend(data)
        blocks.extend(_ZERO_IV[: -len(blocks) % 16])
        chained = self._cipher(self._key, _CBC, _ZERO_IV).encrypt(blocks)
        return bytes(chained[-16:])
