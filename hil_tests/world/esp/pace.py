"""What a board says, not before a line of its baud rate could have carried it: for ports of the operating system."""

from __future__ import annotations

from collections.abc import Callable

from boards.virtual.clock import BoardClock


class Pacer:
    """``slower``: how many times slower than the baud rate; 0: as fast as it goes."""

    def __init__(self, clock: BoardClock, send: Callable[[bytes], None], slower: float) -> None:
        self._clock = clock
        self._send = send
        self._slower = slower
        self._free_at_s = 0.0

    def heard(self, count: int, baud: int) -> None:
        """So many bytes came the other way; the answer to them comes later by that."""
        if self._slower:
            self._free_at_s = max(self._free_at_s, self._clock.now_s()) + count * 10 / baud * self._slower

    def send(self, data: bytes, baud: int) -> None:
        if not self._slower:
            self._send(data)
            return
        self.heard(len(data), baud)
        self._clock.call_later(self._free_at_s - self._clock.now_s(), lambda: self._send(data))
