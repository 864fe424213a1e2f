"""What tells a record from another one with its id, and a row from one that the disk has changed.

Epoch (by its row) and seq are in it as well: else a bit that flips there would make one record of another.
"""

from __future__ import annotations

from zlib import crc32


def of_reading(epoch: int, seq: int, body: bytes, time: int, schema: int) -> int:
    """`time` is what the node said: seconds since its boot when its clock was not set."""
    start = time ^ time >> 32 ^ schema * 2654435761 ^ seq * 2246822519 ^ epoch * 3266489917
    return crc32(body, start & 0xFFFFFFFF) & 0x7FFFFFFF or 1


def of_event(epoch: int, seq: int, kind: int, time: int, tq: int, code: int, state: int, detail: str) -> int:
    """`detail` as JSON."""
    return crc32(f"{epoch} {seq} {kind} {time} {tq} {code} {state} {detail}".encode()) & 0x7FFFFFFF or 1
