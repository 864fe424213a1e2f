"""Frames on the air: the first byte of a packet, and how a frame becomes several packets. SPEC.md section 7.2.

Fragments are not sealed one by one: the frame they make is. So whoever forges fragments spoils or displaces frames that
are being collected, as a jammer does, and nothing worse: their senders send again.
"""

from protocols.wire.errors import EncodeError
from protocols.wire.limits import MAX_FRAGMENTS, MAX_FRAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KIND = 0xE0  # the top three bits of the first byte, which are the link's on the air
WANTS_ANSWER = 0x20
FRAGMENT = 0xE0
HEAD = 4  # first byte, tag and address
# Fragments of one frame arrive one after the other, up to half a minute at the slowest.
LIFE_S = 60

_LAST = 0x10
_INDEX = 0x0F


def split(frame: bytes, address: int, tag: int, room: int) -> "list[bytes]":
    """The packets, of at most ``room`` bytes each, that carry a frame; one that fits goes whole."""
    if len(frame) <= room:
        return [frame]
    size = room - HEAD
    count = -(-len(frame) // size) if size > 0 else MAX_FRAGMENTS + 1
    if count > MAX_FRAGMENTS:
        raise EncodeError(
            "frame of %d bytes: at most %d fit %d fragments of %d"
            % (len(frame), MAX_FRAGMENTS * max(size, 0), MAX_FRAGMENTS, room)
        )
    packets = []
    for index in range(count):
        first = FRAGMENT | index | (_LAST if index == count - 1 else 0)
        head = bytes((first, tag & 0xFF)) + address.to_bytes(2, "big")
        packets.append(head + frame[index * size : (index + 1) * size])
    return packets


class Collector:
    """Frames out of the fragments that come in, in any order and repeated; nothing of what arrives raises.

    At most ``frames_max`` frames are collected at a time: beyond that, the one begun first is given up. ``dropped``
    counts fragments that were malformed or whose frame was given up.
    """

    def __init__(self, frames_max: int) -> None:
        self.dropped = 0
        self._frames_max = frames_max
        # Per (tag, address): when it began, the number of its fragments or 0, and what is there by index.
        self._open: "dict[bytes, list[Any]]" = {}

    def take(self, packet: bytes, now_s: int) -> "bytes | None":
        """The frame that this fragment completes. The first byte must be that of a fragment."""
        self._give_up(now_s)
        if len(packet) <= HEAD or packet[0] & KIND != FRAGMENT:
            self.dropped += 1
            return None
        key = bytes(packet[1:HEAD])
        index = packet[0] & _INDEX
        count = index + 1 if packet[0] & _LAST else 0
        entry = self._open.get(key)
        if entry is None or _contradicts(entry, index, count, packet):
            entry = self._begin(key, now_s)
        entry[1] = entry[1] or count
        pieces = entry[2]
        pieces[index] = bytes(packet[HEAD:])
        if sum([len(piece) for piece in pieces.values()]) > MAX_FRAME:
            self._drop(key)
        elif len(pieces) == entry[1]:
            del self._open[key]
            return b"".join([pieces[at] for at in range(entry[1])])
        return None

    def _begin(self, key: bytes, now_s: int) -> "list[Any]":
        if key in self._open:
            self._drop(key)  # its sender began anew
        elif len(self._open) >= self._frames_max:
            self._drop(min(self._open, key=lambda one: self._open[one][0]))
        entry: "list[Any]" = [now_s, 0, {}]
        self._open[key] = entry
        return entry

    def _give_up(self, now_s: int) -> None:
        for key in [key for key, entry in self._open.items() if now_s - entry[0] >= LIFE_S]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self.dropped += len(self._open.pop(key)[2])


def _contradicts(entry: "list[Any]", index: int, count: int, packet: bytes) -> bool:
    """Whether a fragment can not be of the frame that is being collected."""
    _, known, pieces = entry
    if count and ((known and known != count) or max(pieces) >= count):
        return True
    if known and index >= known:
        return True
    return index in pieces and pieces[index] != packet[HEAD:]
