"""How a node keeps one small fact in its state partition. Minting writes these too, so the bytes stand here.

    copy = crc32 u32 | generation u32 | data          (little-endian; the CRC covers the document's name, too)

Each document has two copies, ``/a/<name>`` and ``/b/<name>``; the one of the higher generation that checks out counts.
"""

from binascii import crc32
from struct import pack, unpack_from

FOLDERS = ("/a", "/b")
SETTINGS = "settings"
# A settings document is the largest; what does not fit littlefs' inline files (128 bytes) costs a block per copy.
MAX_DOCUMENT = 512
HEAD_BYTES = 8
# Stays a small integer on a 32-bit chip; a billion saves outlive the flash.
MAX_GENERATION = 0x3FFFFFFF


def encode(name: str, generation: int, data: bytes) -> bytes:
    """One copy of a document."""
    body = pack("<I", generation) + data
    return pack("<I", crc32(body, crc32(name.encode()))) + body


def decode(name: str, copy: bytes) -> "tuple[int, bytes] | None":
    """(generation, data) of a copy, or None when it does not check out."""
    if len(copy) < HEAD_BYTES:
        return None
    crc, generation = unpack_from("<II", copy)
    if crc != crc32(copy[4:], crc32(name.encode())) or generation > MAX_GENERATION:
        return None
    return generation, copy[HEAD_BYTES:]
