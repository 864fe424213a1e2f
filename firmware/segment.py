"""The bytes of one outbox segment: a header, then records. Pure functions over a buffer, no I/O.

    segment = header | records
    header  = version u8 | lane u8 | first u32 | epoch 6 | prev first u32 | prev last u32 | prev count u16 | crc32 u32
    record  = seq u32 | kind u8 | length u8 | payload | crc32 u32            (all little-endian but the epoch)

`first` is the seq of the first record. The prev fields describe the segment of the same lane that was full when this
one began, so that a start reads one header per segment and walks only the two newest. A record's CRC begins with that
of its segment's header: bytes of another segment, however whole, are no record here. Epoch all ones: made before the
node's first epoch.
"""

from binascii import crc32
from collections import namedtuple
from struct import pack, pack_into, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from typing import NamedTuple

    class Header(NamedTuple):
        """`seed` begins the CRC of each record."""

        lane: int
        first: int
        epoch: int
        prev_first: int
        prev_last: int
        prev_count: int
        seed: int

else:
    Header = namedtuple("Header", ("lane", "first", "epoch", "prev_first", "prev_last", "prev_count", "seed"))

# One littlefs data block: an append rewrites one block, a removal frees one.
SEGMENT_BYTES = 4096
HEADER_BYTES = 26
RECORD_BYTES = 10  # beside the payload
MAX_PAYLOAD = 200
# At least as many records as a segment can hold, of one byte each.
RECORDS_MAX = (SEGMENT_BYTES - HEADER_BYTES) // (RECORD_BYTES + 1) + 1
NO_EPOCH = (1 << 48) - 1

_VERSION = 1


def header(lane: int, first: int, epoch: int, prev: "tuple[int, int, int]") -> bytes:
    """The first bytes of a new segment; the last 4 are the seed of its records' CRCs. prev: (first, last, count)."""
    body = pack("<BBI", _VERSION, lane, first) + epoch.to_bytes(6, "big") + pack("<IIH", *prev)
    return body + pack("<I", crc32(body))


def read_header(data: "bytes | bytearray | memoryview") -> "Header | None":
    """The header at the start of ``data``, or None when it is not whole."""
    if len(data) < HEADER_BYTES:
        return None
    seed = unpack_from("<I", data, HEADER_BYTES - 4)[0]
    if data[0] != _VERSION or seed != crc32(bytes(data[: HEADER_BYTES - 4])):
        return None
    lane, first = unpack_from("<BI", data, 1)
    prev_first, prev_last, prev_count = unpack_from("<IIH", data, 12)
    epoch = int.from_bytes(bytes(data[6:12]), "big")
    return Header(lane, first, epoch, prev_first, prev_last, prev_count, seed)


def record(seq: int, kind: int, payload: bytes, seed: int) -> bytearray:
    """One record as it is appended."""
    out = bytearray(RECORD_BYTES + len(payload))
    pack_into("<IBB", out, 0, seq, kind, len(payload))
    end = 6 + len(payload)
    out[6:end] = payload
    pack_into("<I", out, end, crc32(memoryview(out)[:end], seed))
    return out


def index(view: memoryview, end: int, seed: int, offsets: "array[int]") -> "tuple[int, int]":
    """Write the offset of every whole record into ``offsets``; return (how many, records before the last damage or -1).

    Bytes that are no record are walked one by one until something checks out again: damage costs the records that it
    hit, not those behind.
    """
    count = 0
    damage = -1
    at = HEADER_BYTES
    while at < end and count < len(offsets):
        if _whole(view, at, end, seed):
            offsets[count] = at
            count += 1
            at += RECORD_BYTES + view[at + 5]
        else:
            damage = count
            at += 1
    return count, damage


def _whole(view: memoryview, at: int, end: int, seed: int) -> bool:
    """Whether a record begins here."""
    if at + RECORD_BYTES >= end:
        return False
    size = view[at + 5]
    stop = at + 6 + size
    if not 1 <= size <= MAX_PAYLOAD or stop + 4 > end:
        return False
    return bool(unpack_from("<I", view, stop)[0] == crc32(view[at:stop], seed))


def seq_at(view: memoryview, at: int) -> int:
    """The seq of the record at this offset."""
    seq: int = unpack_from("<I", view, at)[0]
    return seq


def content_at(view: memoryview, at: int) -> "tuple[int, bytes]":
    """Its kind and a copy of its payload."""
    return view[at + 4], bytes(view[at + 6 : at + 6 + view[at + 5]])
