"""Seal and open frames: OSCORE (RFC 8613) without CoAP. SPEC.md section 3 has every byte.

A key object belongs to one sender id in one epoch, for sealing and for opening alike, and holds everything
that does not change from frame to frame. Who seals must never use a PIV twice: the durable counters are the
caller's.
"""

import sys
from collections import namedtuple

from protocols.wire import cbor, crypto
from protocols.wire.errors import EncodeError, FrameError
from protocols.wire.limits import MAX_FRAME, MAX_PIV, REPLAY_WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Header(NamedTuple):
        """What a receiver reads before it has a key. The ciphertext begins at ``start``."""

        piv: int
        kid: bytes
        kid_context: bytes
        start: int

else:
    Header = namedtuple("Header", ("piv", "kid", "kid_context", "start"))

KID_UP = 2  # bytes of the kid of a node: its address
KID_DOWN = 3  # of who sends to a node: the node's address and g
OWNER = 1  # g of the gateway that owns the node
BENCH = 2  # g of a bench tool
BENCH = 2  # g of a bench tool

_ALGORITHM = 10  # AES-CCM-16-64-128
_KEY_SIZE = 16
_NONCE_SIZE = 13
_TAG_SIZE = 8
_MAX_KID = _NONCE_SIZE - 6  # RFC 8613 section 3.3
_FLAG_KID = 0x08
_FLAG_CONTEXT = 0x10
_CONTEXT_SIZES = (8, 16)


def node_kid(address: int) -> bytes:
    """The sender id of a node."""
    return address.to_bytes(2, "big")


def gateway_kid(address: int, g: int = OWNER) -> bytes:
    """The sender id of whoever sends to that node."""
    return address.to_bytes(2, "big") + bytes((g,))


class SenderKey:
    """The key of one sender id in one epoch."""

    def __init__(self, kid: bytes, key: bytes, common_iv: bytes) -> None:
        self.kid = kid
        self.cipher = crypto.ccm(key)
        # Section 5.2: size of id | id, padded to 7 | PIV, padded to 5, all xor the common IV. The PIV is the
        # only part that changes; the rest is kept as bytes and the PIV's five as a number below 2**40.
        padded = bytes((len(kid),)) + b"\x00" * (_MAX_KID - len(kid)) + kid
        self.nonce_head = bytes([padded[index] ^ common_iv[index] for index in range(8)])
        self.nonce_tail = int.from_bytes(common_iv[8:], "big")
        if sys.implementation.name != "micropython":
            # Section 5.4, as far as it goes before the PIV, by the length of the PIV. A gateway opens thousands of
            # frames a second under this key; a node has more use for the half kilobyte.
            self.aad_heads = tuple([_aad_head(kid, size) for size in range(6)])


def sender_key(
    master_secret: bytes, master_salt: bytes, id_context: "bytes | None", kid: bytes
) -> "SenderKey":
    """The key with which ``kid`` seals; id_context None is no context at all."""
    if len(kid) > _MAX_KID:
        raise EncodeError("kid of %d bytes: at most %d are allowed" % (len(kid), _MAX_KID))
    return SenderKey(kid, *derive(master_secret, master_salt, id_context, kid))


def derive(
    master_secret: bytes, master_salt: bytes, id_context: "bytes | None", kid: bytes
) -> "tuple[bytes, bytes]":
    """The sender key of ``kid`` and the common IV (section 3.2.1)."""
    key_info = cbor.dumps([kid, id_context, _ALGORITHM, "Key", _KEY_SIZE])
    iv_info = cbor.dumps([b"", id_context, _ALGORITHM, "IV", _NONCE_SIZE])
    key = crypto.hkdf(master_salt, master_secret, key_info, _KEY_SIZE)
    return key, crypto.hkdf(master_salt, master_secret, iv_info, _NONCE_SIZE)


def _aad_head(kid: bytes, piv_size: int) -> bytes:
    """["Encrypt0", h'', bstr .cbor [1, [10], kid, piv, h'']] up to the bytes of the PIV."""
    inside = b"\x85\x01\x81\x0a" + bytes((0x40 | len(kid),)) + kid + bytes((0x40 | piv_size,))
    # The PIV and one byte for h'' follow; 4 + 8 + 6 + 1 bytes at most: one byte of length.
    return b"\x83\x68Encrypt0\x40" + bytes((0x40 | (len(inside) + piv_size + 1),)) + inside


def nonce_of(key: "SenderKey", piv: int) -> bytes:
    """Section 5.2."""
    return key.nonce_head + (key.nonce_tail ^ piv).to_bytes(5, "big")


if sys.implementation.name != "micropython":

    def aad_of(key: "SenderKey", piv_bytes: bytes) -> bytes:
        """Section 5.4."""
        return key.aad_heads[len(piv_bytes)] + piv_bytes + b"\x40"

else:

    def aad_of(key: "SenderKey", piv_bytes: bytes) -> bytes:
        return _aad_head(key.kid, len(piv_bytes)) + piv_bytes + b"\x40"


def piv_bytes_of(piv: int) -> bytes:
    """The minimal form of a PIV; 0 takes one byte."""
    if piv < 0x100:
        size = 1
    elif piv < 0x10000:
        size = 2
    elif piv < 0x1000000:
        size = 3
    elif piv < 0x100000000:
        size = 4
    else:
        size = 5
    return piv.to_bytes(size, "big")


def seal(key: "SenderKey", piv: int, plain: bytes, kid_context: bytes = b"") -> bytes:
    """The frame of one message. The caller has made ``piv`` durable as used, and never gives it again for
    this key.
    """
    if not 0 <= piv <= MAX_PIV:
        raise EncodeError("PIV %d: allowed are 0 to 2**40 - 1; after that only a new epoch helps" % piv)
    piv_bytes = piv_bytes_of(piv)
    flag = _FLAG_KID | len(piv_bytes)
    if kid_context:
        if len(kid_context) not in _CONTEXT_SIZES:
            raise EncodeError("kid context of %d bytes: allowed are 8 and 16" % len(kid_context))
        head = bytes((flag | _FLAG_CONTEXT,)) + piv_bytes + bytes((len(kid_context),)) + kid_context + key.kid
    else:
        head = bytes((flag,)) + piv_bytes + key.kid
    size = len(head) + len(plain) + _TAG_SIZE
    if size > MAX_FRAME:
        raise EncodeError("frame of %d bytes: at most %d are allowed; split the message" % (size, MAX_FRAME))
    return head + key.cipher.encrypt(nonce_of(key, piv), plain, aad_of(key, piv_bytes))


def parse(frame: bytes, kid_bytes: int) -> "Header":
    """Read what is in the clear; FrameError (version, malformed, oversize) when it is no frame of this
    direction.
    """
    size = len(frame)
    if size > MAX_FRAME:
        raise FrameError("oversize", "frame of %d bytes: at most %d are allowed" % (size, MAX_FRAME))
    flag = frame[0] if size else 0
    if flag == 0x0A and size > 3 + kid_bytes + _TAG_SIZE:  # 2-byte PIV, no context: nearly every frame
        if not frame[1]:
            raise FrameError("malformed", "PIV with a leading zero")
        return Header(frame[1] << 8 | frame[2], frame[3 : 3 + kid_bytes], b"", 3 + kid_bytes)
    return _parse_any(frame, kid_bytes, flag)


def _parse_any(frame: bytes, kid_bytes: int, flag: int) -> "Header":
    if flag & 0xE0:
        raise FrameError("version", "flag 0x%02x: a version this program does not know" % flag)
    piv_size = flag & 7
    if not flag & _FLAG_KID or not 1 <= piv_size <= 5:
        raise FrameError("malformed", "flag 0x%02x: a kid and a PIV of 1 to 5 bytes must be there" % flag)
    start = 1 + piv_size
    context_size = 0
    if flag & _FLAG_CONTEXT:
        context_size = frame[start] if start < len(frame) else 0
        if context_size not in _CONTEXT_SIZES:
            raise FrameError("malformed", "kid context of %d bytes: allowed are 8 and 16" % context_size)
        start += 1 + context_size
    kid = frame[start : start + kid_bytes]
    start += kid_bytes
    if len(frame) <= start + _TAG_SIZE:
        raise FrameError("malformed", "%d bytes: too short for its header and a tag" % len(frame))
    piv_bytes = frame[1 : 1 + piv_size]
    if piv_size > 1 and not piv_bytes[0]:
        raise FrameError("malformed", "PIV with a leading zero")
    context_end = start - kid_bytes
    return Header(
        int.from_bytes(piv_bytes, "big"), kid, frame[context_end - context_size : context_end], start
    )


def open_(key: "SenderKey", header: "Header", frame: bytes) -> bytes:
    """The message in a frame that `parse` took apart; FrameError (auth) when this key did not seal it."""
    piv_size = frame[0] & 7
    try:
        # The key's own kid is what the tag protects, so a changed one in the clear must be caught here.
        if header.kid != key.kid:
            raise crypto.InvalidTag
        return key.cipher.decrypt(
            key.nonce_head + (key.nonce_tail ^ header.piv).to_bytes(5, "big"),
            frame[header.start :],
            aad_of(key, frame[1 : 1 + piv_size]),
        )
    except crypto.InvalidTag:
        raise FrameError("auth", "not sealed with the key of kid %s in this epoch" % header.kid.hex())


class ReplayWindow:
    """Which PIVs of one sender key were accepted: the highest, and of the 63 below it one bit each (RFC 8613
    section 7.4).

    Bit i of ``bitmap`` stands for highest - 1 - i, so that it fits a signed 64-bit column.
    """

    def __init__(self, highest: int = -1, bitmap: int = 0) -> None:
        self.highest = highest
        self.bitmap = bitmap

    def is_new(self, piv: int) -> bool:
        """Whether a frame with this PIV may be accepted. Changes nothing: first open the frame."""
        below = self.highest - piv
        if below < 0:
            return True
        return 0 < below < REPLAY_WINDOW and not self.bitmap >> (below - 1) & 1

    def accept(self, piv: int) -> None:
        """Note a PIV whose frame was authentic."""
        above = piv - self.highest
        if above > 0:
            if above < REPLAY_WINDOW and self.highest >= 0:
                self.bitmap = (self.bitmap << above | 1 << (above - 1)) & _BITMAP_MASK
            else:
                self.bitmap = 0
            self.highest = piv
        elif -REPLAY_WINDOW < above < 0:
            self.bitmap |= 1 << (-above - 1)


_BITMAP_MASK = (1 << (REPLAY_WINDOW - 1)) - 1
