"""When a radio should rather listen than answer: a half-duplex concentrator that sends is deaf on all its channels.

In a flood, hundreds of nodes speak within a minute. Each answer that goes out then costs more alarms of others, under
way or begun meanwhile, than it saves repetitions: the first copy of an alarm is what counts, and a node that is not
answered asks again after a pause that grows. So while many are heard, a radio sends for a share of the time only.
"""

from __future__ import annotations

from collections import deque

from gateway import limits


class Crowd:
    """One radio's last seconds."""

    def __init__(self) -> None:
        self._heard_s: deque[float] = deque()
        self._sent: deque[tuple[float, float]] = deque()  # when, and for how long

    def heard(self, now_s: float) -> None:
        """A packet came in."""
        self._heard_s.append(now_s)
        if len(self._heard_s) > limits.CROWD_PACKETS:
            self._heard_s.popleft()

    def sent(self, now_s: float, air_s: float) -> None:
        """The radio was given something to send."""
        self._forget(now_s)
        self._sent.append((now_s, air_s))

    def may_send(self, now_s: float, air_s: float) -> bool:
        """Whether to send for so long, or to listen instead."""
        if not self.is_on(now_s):
            return True
        self._forget(now_s)
        return sum(air for _, air in self._sent) + air_s <= limits.CROWD_S * limits.CROWD_SHARE

    def is_on(self, now_s: float) -> bool:
        """Whether many are heard just now."""
        return len(self._heard_s) >= limits.CROWD_PACKETS and now_s - self._heard_s[0] <= limits.CROWD_S

    def _forget(self, now_s: float) -> None:
        while self._sent and now_s - self._sent[0][0] > limits.CROWD_S:
            self._sent.popleft()
