"""HSS/LMS (RFC 8554, SP 800-208, COSE algorithm -46), verification only: signatures that need nothing but SHA-256.

    verify(key, message, signature) -> bool      key and signature as the RFC's section 6 has them

One hash value and one hash's input are alive at a time. With Winternitz parameter 8 a signature of 24-byte hashes costs
some 3,400 hashes.
"""

import hashlib
from struct import pack, unpack_from

ALGORITHM = -46
# Levels of trees: what more of them save a signer is not worth a node's room for their signatures.
MAX_LEVELS = 2
_KEY_BYTES = 24  # of an LMS public key, beside the root
_HEIGHTS = (5, 10, 15, 20, 25)
# LM-OTS type -> (bytes of a hash, Winternitz parameter, chains, left shift of the checksum)
_CHAINS = {
    1: (32, 1, 265, 7),
    2: (32, 2, 133, 6),
    3: (32, 4, 67, 4),
    4: (32, 8, 34, 0),
    5: (24, 1, 200, 8),
    6: (24, 2, 101, 6),
    7: (24, 4, 51, 4),
    8: (24, 8, 26, 0),
}


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is one of ``message`` by the owner of ``key``. False for whatever is malformed, too."""
    if len(key) < 8 or len(signature) < 4:
        return False
    levels = unpack_from(">I", key)[0]
    if not 1 <= levels <= MAX_LEVELS or unpack_from(">I", signature)[0] != levels - 1:
        return False
    key = key[4:]
    at = 4
    for _ in range(levels - 1):
        used = _used(key, signature, at)
        size = _key_size(signature, at + used) if used else 0
        if not size or len(signature) < at + used + size:
            return False
        below = signature[at + used : at + used + size]
        if not _is_signed(key, below, signature, at):
            return False
        key = below
        at += used + size
    used = _used(key, signature, at)  # 0 also where nothing is left, which is no signature
    return used > 0 and used == len(signature) - at and _is_signed(key, message, signature, at)


def _tree(kind: int) -> "tuple[int, int]":
    """(bytes of a hash, height) of an LMS type; (0, 0) for one that is none."""
    if 5 <= kind <= 9:
        return 32, _HEIGHTS[kind - 5]
    if 10 <= kind <= 14:
        return 24, _HEIGHTS[kind - 10]
    return 0, 0


def _key_size(data: bytes, at: int) -> int:
    """Of the LMS public key that begins there; 0 when none does."""
    if len(data) < at + 4:
        return 0
    size = _tree(unpack_from(">I", data, at)[0])[0]
    return size and _KEY_BYTES + size


def _used(key: bytes, signature: bytes, at: int) -> int:
    """Bytes of an LMS signature by this key; 0 when the key is none, or so many are not there."""
    if len(key) < _KEY_BYTES:
        return 0
    kind, ots = unpack_from(">II", key)
    size, height = _tree(kind)
    if ots not in _CHAINS or _CHAINS[ots][0] != size or len(key) != _KEY_BYTES + size:
        return 0
    used = 4 + 4 + size * (1 + _CHAINS[ots][2]) + 4 + size * height
    return used if len(signature) - at >= used else 0


def _is_signed(key: bytes, message: bytes, signature: bytes, at: int) -> bool:
    """By the LMS key, by the signature that begins there; `_used` said that it is all there."""
    kind, ots = unpack_from(">II", key)
    size, height = _tree(kind)
    tree = key[8:24]
    leaf, said = unpack_from(">II", signature, at)
    at += 8
    end = at + size * (1 + _CHAINS[ots][2])
    if said != ots or leaf >> height or unpack_from(">I", signature, end)[0] != kind:
        return False
    node = (1 << height) + leaf
    value = _candidate(tree + pack(">I", leaf), ots, message, signature, at)
    value = _hash(tree + pack(">IH", node, 0x8282) + value, size)
    at = end + 4
    while node > 1:
        beside = signature[at : at + size]
        pair = beside + value if node & 1 else value + beside
        node >>= 1
        value = _hash(tree + pack(">IH", node, 0x8383) + pair, size)
        at += size
    return value == key[24:]


def _candidate(name: bytes, ots: int, message: bytes, signature: bytes, at: int) -> bytes:
    """The one-time public key that would have made this signature (RFC 8554, algorithm 4b)."""
    size, width, chains, shift = _CHAINS[ots]
    hashed = hashlib.sha256(name + b"\x81\x81")
    hashed.update(signature[at : at + size])
    hashed.update(message)
    digits = hashed.digest()[:size]
    most = (1 << width) - 1
    total = 0
    for index in range(size * 8 // width):
        total += most - _digit(digits, index, width)
    digits += pack(">H", total << shift)
    whole = hashlib.sha256(name + b"\x80\x80")
    step = bytearray(name + bytes(3 + size))
    for index in range(chains):
        at += size
        step[20] = index >> 8
        step[21] = index & 0xFF
        value = signature[at : at + size]
        for at_step in range(_digit(digits, index, width), most):
            step[22] = at_step
            step[23:] = value
            value = hashlib.sha256(step).digest()
            if size < 32:
                value = value[:size]
        whole.update(value)
    return whole.digest()[:size]


def _digit(digits: bytes, index: int, width: int) -> int:
    bit = index * width
    return digits[bit >> 3] >> (8 - width - (bit & 7)) & ((1 << width) - 1)


def _hash(data: bytes, size: int) -> bytes:
    return hashlib.sha256(data).digest()[:size]
