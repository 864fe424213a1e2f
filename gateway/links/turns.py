"""When a radio may send what answers nothing: in turns, so that no alarm waits long for one that listens.

A radio that sends is deaf. What it sends of an update comes in turns of three seconds, and after each it listens for
longer than an alarm takes to come twice more: one that fell into a turn is repeated 4 to 8 s later and 8 to 16 s after
that (SPEC 7.4), and both find the radio listening. DESIGN.md has the figures that the lengths come from. In a crowd
(crowd.py), and where a plan has a duty cycle, it takes less.
"""

from __future__ import annotations

from collections import deque

from gateway import update_limits


class Turns:
    """One radio's turns. `hour_s` is what its plan allows in an hour, 0 for no limit."""

    def __init__(self, hour_s: float = 0.0) -> None:
        self.is_full = False  # nothing more this hour
        self._hour_s = hour_s * update_limits.BROADCAST_DUTY_SHARE
        self._sent: deque[tuple[float, float]] = deque()  # when it ended, and how long it took
        self._sent_s = 0.0
        self._began_s = self._ended_s = float("-inf")
        self._air_s = 0.0

    def wait_s(self, now_s: float, air_s: float, *, is_crowd: bool) -> float:
        """How long to wait until `air_s` may be sent, at least; 0: it may."""
        self._forget(now_s)
        self.is_full = bool(self._hour_s) and self._sent_s + air_s > self._hour_s
        if self.is_full:
            return update_limits.BROADCAST_LOOK_S
        if (
            is_crowd
            and self._of_late(now_s) + air_s
            > update_limits.BROADCAST_CROWD_S * update_limits.BROADCAST_CROWD_SHARE
        ):
            return update_limits.BROADCAST_LOOK_S
        if self._is_on(now_s, air_s):
            return max(0.0, self._ended_s - now_s)
        return max(0.0, self._ended_s + update_limits.BROADCAST_LISTEN_S - now_s)

    def sent(self, begin_s: float, air_s: float) -> None:
        """It sends for so long."""
        if not self._is_on(begin_s, air_s):
            self._began_s, self._air_s = begin_s, 0.0
        self._air_s += air_s
        self._ended_s = begin_s + air_s
        self._sent.append((self._ended_s, air_s))
        self._sent_s += air_s

    def _is_on(self, now_s: float, air_s: float) -> bool:
        """Whether so much more still belongs to the turn that is on."""
        return (
            now_s + air_s <= self._began_s + update_limits.BROADCAST_TURN_S
            and self._air_s + air_s <= update_limits.BROADCAST_TURN_AIR_S
        )

    def _of_late(self, now_s: float) -> float:
        total_s = 0.0
        for ended_s, air_s in reversed(self._sent):
            if now_s - ended_s > update_limits.BROADCAST_CROWD_S:
                break
            total_s += air_s
        return total_s

    def _forget(self, now_s: float) -> None:
        """What is older than an hour, as the law counts one (duty.py)."""
        while self._sent and now_s - self._sent[0][0] > update_limits.BROADCAST_HOUR_S:
            self._sent_s -= self._sent.popleft()[1]
