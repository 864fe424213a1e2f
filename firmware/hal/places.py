"""The two places for MicroPython on a board that has them, and ESP-IDF's `otadata`, which says which one is started."""

from binascii import crc32

import esp32

from firmware.modules import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIRST = 0x10  # subtype of the first place
_SECTOR = 4096
_NOT_MADE = 0xFFFFFFFF
# States of an entry of `otadata`.
_PENDING_VERIFY = 1


def find() -> "Places | None":
    """None on a board that has one MicroPython for good."""
    try:
        this = _special(esp32.Partition.RUNNING)
        other = this.get_next_update()
    except OSError:
        return None
    if this.info()[1] < _FIRST or other.info()[4] == this.info()[4]:
        return None
    return Places(this, other)


class Places:
    """``this``: 0 or 1, which one runs; ``room``: bytes of the other."""

    def __init__(self, this: "Any", other: "Any") -> None:
        self._running = this
        self._other = other
        self.this: int = this.info()[1] - _FIRST
        self.room: int = other.info()[3]

    def read(self, at: int, buffer: "bytearray | memoryview") -> None:
        """Out of the other."""
        self._other.readblocks(at // _SECTOR, buffer, at % _SECTOR)

    def erase(self, block: int) -> None:
        self._other.ioctl(6, block)

    def write(self, at: int, data: bytes) -> None:
        """Into the other, where it was erased."""
        self._other.writeblocks(at // _SECTOR, data, at % _SECTOR)

    def steady(self) -> None:
        """What a power cut left half programmed in `otadata` reads the same from now on."""
        from firmware.steady import steady

        for part in esp32.Partition.find(esp32.Partition.TYPE_DATA, 0):
            steady(part)
        forget("firmware.steady")

    @property
    def pending(self) -> int:
        """The place that is gone with the next start, unless it is confirmed; -1: none."""
        return pending()

    def confirm(self) -> None:
        """This one is started from now on."""
        chosen = _special(esp32.Partition.BOOT).info()[4]
        if chosen != self._running.info()[4]:  # what was chosen could not be started
            self._running.set_boot()
        esp32.Partition.mark_app_valid_cancel_rollback()

    def boot_other(self) -> None:
        """The other is started next. OSError: it is no image that this chip can start.

        Never while this one is pending: the entry of the other is all there would be to fall back on.
        """
        self._other.set_boot()


def _special(which: "Any") -> "Any":
    return esp32.Partition(which)


def pending() -> int:
    for part in esp32.Partition.find(esp32.Partition.TYPE_DATA, 0):
        entry = bytearray(32)
        for sector in (0, 1):
            part.readblocks(sector, entry)
            state, crc = int.from_bytes(entry[24:28], "little"), int.from_bytes(entry[28:], "little")
            # What a power cut left of another entry may look like one.
            if state == _PENDING_VERIFY and crc == crc32(entry[:4], 0xFFFFFFFF):
                return (int.from_bytes(entry[:4], "little") + 1) % 2
    return -1
