"""Named slots in the RTC memory, behind the clock's twelve bytes: what a node wants to know after a deep sleep.

One CRC is over all of them. A power cut, a watchdog reset or a hard reset leaves nothing, so whatever must hold is a
durable.Document; what is here may only spare work. A slot is: length of the name, the name, length of the data, data.
"""

import binascii
import struct

from firmware.hal.clock import CACHE_AT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware.hal import Rtc

# Of the 2048 bytes an ESP32 has: what a node type caches is a state, not a log.
SIZE_MAX = 512
_MAGIC = b"TGs1"
_SLOT_MAX = 255


class Cache:
    """Implements firmware.hal.Cache."""

    def __init__(self, rtc: "Rtc") -> None:
        self._rtc = rtc

    def load(self, name: str) -> "bytes | None":
        for found, data in _slots(self._rtc.load()):
            if found == name.encode():
                return data
        return None

    def save(self, name: str, data: "bytes | bytearray") -> None:
        """ValueError when it is more than there is room for."""
        key = name.encode()
        if len(data) > _SLOT_MAX or len(key) > _SLOT_MAX:
            raise ValueError("cache: %s has %d bytes, allowed are %d" % (name, len(data), _SLOT_MAX))
        memory = self._rtc.load()
        body = bytearray(_MAGIC)
        for found, kept in _slots(memory):
            if found != key:
                _append(body, found, kept)
        _append(body, key, data)
        if len(body) + 4 > SIZE_MAX:
            raise ValueError("cache: %d bytes with %s, allowed are %d" % (len(body) + 4, name, SIZE_MAX))
        head = memory[:CACHE_AT] + bytes(CACHE_AT - min(CACHE_AT, len(memory)))
        self._rtc.save(head + bytes(body) + struct.pack(">I", binascii.crc32(body)))


def _append(body: bytearray, key: bytes, data: "bytes | bytearray") -> None:
    for part in (key, data):
        body.append(len(part))
        body.extend(part)


def _slots(memory: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """Every slot; none when the CRC does not vouch for them."""
    end = len(memory) - 4
    body = memory[CACHE_AT:end]
    if body[:4] != _MAGIC or struct.unpack(">I", memory[end:])[0] != binascii.crc32(body):
        return
    at = len(_MAGIC)
    while at < len(body):
        key_end = at + 1 + body[at]
        data_end = key_end + 1 + body[key_end]
        yield body[at + 1 : key_end], body[key_end + 1 : data_end]
        at = data_end
