"""What is known of each node since the start: on which link, when last, how it says it is doing. Kept in
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.clock import Clock
from protocols.wire.codes import HEALTH_NAMES, SETTING_NAMES, TRACEBACK
from protocols.wire.messages import Hello, SettingsReport, Status


@dataclass(slots=True)
class Seen:
    """One node. Times in `…_s` are monotonic."""

    link: str
    heard_s: float
    heard_ms: int
    frames: int = 0
    firmware: str = ""
    board: str = ""
    health: dict[str, int] = field(default_factory=dict)
    traceback: str = ""
    boots: int | None = None
    reset_cause: int | None = None
    # What it last reported, when (wall), by name: every setting with the value in force.
    settings: dict[str, int] = field(default_factory=dict)
    settings_version: int | None = None
    settings_ms: int = 0
    time_sent_s: float | None = None
    ping_sent_s: float | None = None
    pings_unanswered: int = 0

    def backlog_hours(self) -> float | None:
        """How much the node still holds, at its own rate; None before its first status."""
        records, interval_s = self.health.get("outbox_records"), self.health.get("interval_s")
        return None if records is None or not interval_s else records * interval_s / 3600


class Presence:
    """address → what was seen of it. Holds authentic senders only, so at most the registered nodes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[int, Seen] = {}

    def heard(self, address: int, link: str, message: object, now_s: float, now_ms: int) -> None:
        """An authentic frame came at `now_s` (monotonic), `now_ms` (wall)."""
        seen = self._seen.get(address)
        if seen is None:
            seen = self._seen[address] = Seen(link, 0.0, 0)
        seen.link = link
        seen.heard_s = now_s
        seen.heard_ms = now_ms
        seen.pings_unanswered = 0
        seen.frames += 1
        if isinstance(message, Hello):
            seen.firmware, seen.board = message.firmware, message.board
            seen.boots, seen.reset_cause = message.boots, message.reset_cause
        elif isinstance(message, Status):
            self._status(seen, message)
        elif isinstance(message, SettingsReport):
            seen.settings_version, seen.settings_ms = message.version, now_ms
            seen.settings = {
                SETTING_NAMES[key]: value
                for key, value in message.document.items()
                if key < len(SETTING_NAMES)
            }

    def _status(self, seen: Seen, status: Status) -> None:
        seen.health = {}  # a status is the whole of it: what is over (maintenance, safe mode) is left out
        for key, value in status.health.items():
            if key == TRACEBACK:
                seen.traceback = str(value)
            elif key < len(HEALTH_NAMES) and isinstance(value, int):
                seen.health[HEALTH_NAMES[key]] = value

    def of(self, address: int) -> Seen | None:
        """What was seen of `address`, None when nothing was."""
        return self._seen.get(address)

    def count(self, within_s: float) -> int:
        """How many nodes were heard within the last `within_s` seconds."""
        since_s = self._clock.monotonic() - within_s
        return sum(seen.heard_s >= since_s for seen in self._seen.values())

    def forget(self, address: int) -> None:
        """The node was removed."""
        self._seen.pop(address, None)
