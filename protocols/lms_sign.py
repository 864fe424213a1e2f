"""HSS/LMS keys and signatures (RFC 8554) for the host; what a node does with them is wire/lms.py.

One tree (L = 1) of 24-byte hashes and Winternitz parameter 8 (SP 800-208): the smallest signatures there are. A leaf
signs once: two signatures by the same leaf let anybody forge a third. Who keeps count is flash_tools/signing.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from struct import pack

HASH_BYTES = 24
SEED_BYTES = 24
NAME_BYTES = 16
# Height of the tree -> LMS type (SP 800-208, table 3): so many releases can be signed by one key.
TYPES = {5: 10, 10: 11}
_OTS_TYPE = 8  # LMOTS_SHA256_N24_W8
_CHAINS = 26
_STEPS = 255


def leaves(
    height: int, name: bytes, seed: bytes, progress: Callable[[int], None] | None = None
) -> list[bytes]:
    """The lowest nodes of the tree, from which all that is public follows. Some 6,600 hashes each."""
    made = []
    for leaf in range(1 << height):
        whole = hashlib.sha256(name + pack(">IH", leaf, 0x8080))
        for chain in range(_CHAINS):
            whole.update(_walk(name, leaf, chain, _start(name, leaf, chain, seed), 0, _STEPS))
        node = pack(">IH", (1 << height) + leaf, 0x8282)
        made.append(_hash(name + node + whole.digest()[:HASH_BYTES]))
        if progress:
            progress(leaf + 1)
    return made


def public_key(name: bytes, lowest: list[bytes]) -> bytes:
    """As wire/lms.py takes it."""
    height = len(lowest).bit_length() - 1
    return pack(">III", 1, TYPES[height], _OTS_TYPE) + name + _nodes(name, lowest)[1]


def sign(
    name: bytes, seed: bytes, lowest: list[bytes], leaf: int, randomizer: bytes, message: bytes
) -> bytes:
    """The signature of ``message`` by this leaf, which must never have signed, and never will again."""
    height = len(lowest).bit_length() - 1
    if not 0 <= leaf < len(lowest) or len(randomizer) != HASH_BYTES:
        raise ValueError(f"leaf {leaf}: this tree has {len(lowest)}")
    hashed = _hash(name + pack(">IH", leaf, 0x8181) + randomizer + message)
    digits = hashed + pack(">H", sum(_STEPS - digit for digit in hashed))
    chains = b"".join(
        _walk(name, leaf, chain, _start(name, leaf, chain, seed), 0, digit)
        for chain, digit in enumerate(digits)
    )
    nodes = _nodes(name, lowest)
    node = (1 << height) + leaf
    path = b"".join(nodes[(node >> level) ^ 1] for level in range(height))
    once = pack(">I", _OTS_TYPE) + randomizer + chains
    return pack(">II", 0, leaf) + once + pack(">I", TYPES[height]) + path


def _nodes(name: bytes, lowest: list[bytes]) -> dict[int, bytes]:
    """The tree, numbered as the RFC does: 1 is the root."""
    nodes = {len(lowest) + at: value for at, value in enumerate(lowest)}
    for node in range(len(lowest) - 1, 0, -1):
        nodes[node] = _hash(name + pack(">IH", node, 0x8383) + nodes[2 * node] + nodes[2 * node + 1])
    return nodes


def _start(name: bytes, leaf: int, chain: int, seed: bytes) -> bytes:
    """RFC 8554 appendix A."""
    return _hash(name + pack(">IHB", leaf, chain, 0xFF) + seed)


def _walk(name: bytes, leaf: int, chain: int, value: bytes, first: int, last: int) -> bytes:
    head = name + pack(">IH", leaf, chain)
    for step in range(first, last):
        value = hashlib.sha256(head + bytes((step,)) + value).digest()[:HASH_BYTES]
    return value


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:HASH_BYTES]
