"""Steps of the wall clock: noticed against the monotonic one, told and counted.

No timer of the gateway runs on the wall clock; what does depend on it is told here, so that it can count on in the new
time what it had learned in the old (boots.py). Silence looks by itself (silence.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from gateway.clock import TrustedClock
from gateway.limits import CLOCK_JUMP_S
from gateway.log import Logger


class ClockWatch:
    """`look` is called every few seconds."""

    def __init__(self, clock: TrustedClock, log: Logger) -> None:
        self.jumps = 0
        # Each is told by how many milliseconds the clock went ahead, or (negative) back.
        self.on_jump: list[Callable[[int], None]] = []
        self._clock = clock
        self._log = log
        self._ahead_ms = self._ahead()

    def look(self) -> None:
        ahead_ms = self._ahead()
        by_ms = ahead_ms - self._ahead_ms
        self._ahead_ms = ahead_ms  # slewing adds up over months and is no jump
        if abs(by_ms) < CLOCK_JUMP_S * 1000:
            return
        self.jumps += 1
        now_ms = self._clock.unix_ms()
        self._log.warning(
            "clock_jumped",
            by_s=round(by_ms / 1000, 1),
            from_utc=_text(now_ms - by_ms),
            to_utc=_text(now_ms),
            synchronised=self._clock.synchronised(),
        )
        for listener in self.on_jump:
            listener(by_ms)

    def _ahead(self) -> int:
        """Of the wall clock before the monotonic one."""
        return self._clock.unix_ms() - round(self._clock.monotonic() * 1000)


def _text(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")
