"""Updates of MicroPython itself (OTA.md section 7): whom they are for, and the command that brings the image.

Their manifest is that of every update, of the class `micropython/<board>`; the payload is the image as it is.
"""

import hashlib

from protocols.wire.manifest import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protocols.wire.release import Release

NAME = "micropython"
# In the descriptor of a setup, beside the sequence.
IS_ONE = 1 << 31
FILL = 0x42
BLOCK_BYTES = 4096
_HEAD_BYTES = 4  # of a piece


def class_id(vendor: bytes, board: str) -> bytes:
    """A UUID of version 5 in the name space of the vendor."""
    data = bytearray(hashlib.sha1(vendor + ("%s/%s" % (NAME, board)).encode()).digest()[:16])
    data[6] = data[6] & 0x0F | 0x50
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)


def device(release: "Release", board: str, sequence: int, room: int) -> "Device":
    """What manifest.match asks, of a node with this release on this board. ``sequence``: of the MicroPython it runs."""
    return Device(release.vendor, class_id(release.vendor, board), sequence, room, room)


def question() -> bytes:
    return bytes((FILL,))


def piece(at: int, data: bytes) -> bytes:
    """So much of the image, from that byte on."""
    return bytes((FILL,)) + at.to_bytes(3, "little") + data


def split(command: bytes) -> "tuple[int, bytes] | None":
    """(first byte, data) of a piece; None for the question."""
    if len(command) <= _HEAD_BYTES:
        return None
    return int.from_bytes(command[1:_HEAD_BYTES], "little"), command[_HEAD_BYTES:]


def answer(awaited: int, at: int, runs: int) -> bytes:
    """The image that is taken in, 0 when none is, and its byte that is wanted next; the one that runs."""
    return (
        bytes((FILL,)) + awaited.to_bytes(4, "little") + at.to_bytes(3, "little") + runs.to_bytes(4, "little")
    )


def decode_answer(data: bytes) -> "tuple[int, int, int]":
    """(sequence that is awaited, next byte, sequence that runs). ValueError for what is no answer."""
    if len(data) != 12 or data[0] != FILL:
        raise ValueError("no answer to a question about MicroPython")
    return (
        int.from_bytes(data[1:5], "little"),
        int.from_bytes(data[5:8], "little"),
        int.from_bytes(data[8:], "little"),
    )
