# mypy: ignore-errors
"""Two places for MicroPython and what says which one is started, as ESP-IDF has them. For node and supervisor alike.

`otadata` has two sectors with an entry each, of which one is erased and written at a time:

    entry = sequence u32 | 20 bytes | state u32 | CRC-32 of the sequence      little-endian

The valid entry with the higher sequence names the place: (sequence - 1) mod 2. What follows is what ESP-IDF does with
rollback switched on, as MicroPython's builds have it: set_boot() writes a new entry, the bootloader makes it "to be
verified" before it starts it, and whoever is still that at the next start is aborted. A `flash` here has
read(at, count), erase(sector) and write(at, data).
"""

import hashlib
import struct
from binascii import crc32

SECTOR = 4096
NEW, PENDING_VERIFY, VALID, INVALID, ABORTED = 0, 1, 2, 3, 4
_NONE = 0xFFFFFFFF
_ENTRY = "<I20sII"
# OSError(-code) of MicroPython: ESP_ERR_OTA_VALIDATE_FAILED, ESP_FAIL, ESP_ERR_NOT_FOUND.
VALIDATE_FAILED, FAIL, NOT_FOUND = -0x1503, 1, -0x105
_IMAGE_MAGIC = 0xE9
_IMAGE_HEADER = 24
_SEGMENTS_MAX = 16
_CHUNK = 4096


class OtaData:
    """``entries``: [sequence, state, CRC] of both sectors, as they are now."""

    def __init__(self, flash):
        self._flash = flash
        self.entries = []
        for sector in (0, 1):
            sequence, _, state, crc = struct.unpack(_ENTRY, flash.read(sector * SECTOR, 32))
            self.entries.append([sequence, state, crc])

    def is_intact(self, at):
        sequence, _, crc = self.entries[at]
        return sequence != _NONE and crc == _crc(sequence)

    def is_given_up(self, at):
        sequence, state, _ = self.entries[at]
        return sequence == _NONE or state in (INVALID, ABORTED)

    def active(self):
        """The entry that counts; -1: none does."""
        valid = [at for at in (0, 1) if self.is_intact(at) and not self.is_given_up(at)]
        if len(valid) == 2:
            return 0 if self.entries[0][0] >= self.entries[1][0] else 1
        return valid[0] if valid else -1

    def place(self, at):
        return (self.entries[at][0] - 1) % 2

    def put(self, at, sequence, state):
        self.entries[at] = [sequence, state, _crc(sequence)]
        self.write(at)

    def write(self, at):
        """Not at once: a power cut in between leaves the other entry alone."""
        sequence, state, crc = self.entries[at]
        self._flash.erase(at)
        self._flash.write(at * SECTOR, struct.pack(_ENTRY, sequence, b"\xff" * 20, state, crc))

    def set_boot(self, place):
        """As esp_ota_set_boot_partition, for an image that was found whole."""
        at = self.active()
        if at < 0:
            self.put(0, place + 1, NEW)
        elif self.place(at) == place:
            self.put(at, self.entries[at][0], NEW)
        else:
            sequence = (place + 1) % 2
            while sequence < self.entries[at][0]:
                sequence += 2
            self.put(1 - at, sequence, NEW)

    def mark_valid(self):
        """As esp_ota_mark_app_valid_cancel_rollback: it asks which entry counts, not which image runs."""
        at = self.active()
        if at < 0:
            raise OSError(FAIL)
        if self.entries[at][1] != VALID:
            self.put(at, self.entries[at][0], VALID)


def start(otadata, is_bootable):
    """What the bootloader does unless the chip wakes from deep sleep: the place to start, None if there is none."""
    for at in (0, 1):
        if otadata.entries[at][1] == PENDING_VERIFY:
            otadata.entries[at][1] = ABORTED
            otadata.write(at)
    place = 0
    is_fresh = False
    at = otadata.active()
    if otadata.is_given_up(0) and otadata.is_given_up(1):
        is_fresh = not otadata.is_intact(0) and not otadata.is_intact(1)
    elif at >= 0:
        place = otadata.place(at)
        if otadata.entries[at][1] == NEW:
            otadata.entries[at][1] = PENDING_VERIFY
            otadata.write(at)
    for candidate in (place, 1 - place):
        if is_bootable(candidate):
            if is_fresh:
                otadata.put(0, candidate + 1, VALID)
            return candidate
    return None


def image_size(read, room):
    """Bytes of the image that begins there, 0 unless it is whole by its own SHA-256 (the checksum is not looked at)."""
    head = read(0, _IMAGE_HEADER)
    if head[0] != _IMAGE_MAGIC or not 0 < head[1] <= _SEGMENTS_MAX or head[23] != 1:
        return 0
    at = _IMAGE_HEADER
    for _ in range(head[1]):
        if at + 8 > room:
            return 0
        at += 8 + struct.unpack("<I", read(at + 4, 4))[0]
    at += 16 - at % 16
    if at + 32 > room:
        return 0
    digest = hashlib.sha256()
    for done in range(0, at, _CHUNK):
        digest.update(read(done, min(_CHUNK, at - done)))
    return at + 32 if digest.digest() == read(at, 32) else 0


def _crc(sequence):
    return crc32(struct.pack("<I", sequence), 0xFFFFFFFF)
