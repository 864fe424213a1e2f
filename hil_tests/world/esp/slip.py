"""SLIP frames, as the loaders speak it: an end byte at both ends of a frame, and two escapes within."""

from __future__ import annotations

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
# The longest that a host sends: a block of 16 KiB for the stub, its header, and every byte escaped.
FRAME_MAX = 2 * (16 * 1024 + 64)


def frame(payload: bytes) -> bytes:
    return b"\xc0" + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def xor_of(data: bytes) -> int:
    """All bytes exclusive-ored, by halves: a loader's checksum of a megabyte takes no time."""
    while len(data) > 1:
        half = (len(data) + 1) // 2
        low, high = int.from_bytes(data[:half], "little"), int.from_bytes(data[half:], "little")
        data = (low ^ high).to_bytes(half, "little")
    return data[0] if data else 0


class Reader:
    """Bytes of a line in, whole frames out. What stands outside of frames, and what is too long, is dropped."""

    def __init__(self) -> None:
        self._buffer: bytearray | None = None

    def reset(self) -> None:
        self._buffer = None

    def feed(self, data: bytes) -> list[bytes]:
        frames = []
        first, *rest = data.split(b"\xc0")
        if self._buffer is not None:
            self._buffer += first
        for piece in rest:
            if self._buffer:
                frames.append(_unescaped(bytes(self._buffer)))
                self._buffer = None
            # Of two frames, the end of one and the begin of the next may be one byte.
            self._buffer = bytearray(piece)
        if self._buffer is not None and len(self._buffer) > FRAME_MAX:
            self._buffer = None
        return frames


def _unescaped(raw: bytes) -> bytes:
    return raw.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
