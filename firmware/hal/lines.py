"""The last lines that the console was told: what a person at the site would have read, for one who is not there."""

from protocols.wire.limits import MAX_DETAIL_TEXT

# All of them together, in bytes: five to twenty lines.
KEPT_BYTES = 512


class Lines:
    """Bounded; the oldest go first."""

    def __init__(self) -> None:
        self._kept = b""

    def keep(self, text: str) -> None:
        """Note what is being printed; each line as far as it fits a result."""
        for line in text.split("\n"):
            if line:
                self._kept += _cut(line.encode()) + b"\n"
        surplus = len(self._kept) - KEPT_BYTES
        if surplus > 0:
            self._kept = self._kept[self._kept.find(b"\n", surplus - 1) + 1 :]

    def line(self, number: int) -> "str | None":
        """0 is the newest; None when there are not so many."""
        lines = self._kept.split(b"\n")  # behind the newest there is an empty one
        at = len(lines) - 2 - number
        return lines[at].decode() if 0 <= at else None

    @property
    def count(self) -> int:
        return self._kept.count(b"\n")


def _cut(data: bytes) -> bytes:
    """At most MAX_DETAIL_TEXT bytes, and no part of a character."""
    if len(data) <= MAX_DETAIL_TEXT:
        return data
    end = MAX_DETAIL_TEXT
    while data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end]
