"""What is known of a conversation with one node, or a pass with many, and forgotten with the process.

A kill costs what is here: a question is asked again, a pass is called anew. What must not be forgotten is in rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway import campaign_limits as limits
from gateway import update_limits
from protocols.wire import airtime


class Way(NamedTuple):
    """How a node can be spoken to now: a cable that listens, or the windows after one uplink."""

    listens: bool
    room: int  # bytes of the largest frame in one piece
    piv: int = 0  # of the uplink that is answered
    sf: int = 0  # of it; 0: no radio
    freq_hz: int = 0
    ended_s: float | None = None  # when it ended, by the gateway's clock; None: just now
    most: int = 1 << 16  # bytes of the largest frame that goes to everybody at its spreading factor

    @property
    def fragment(self) -> int:
        """Bytes of a fragment; 0: there is no room for one. Where nothing is broadcast it need not fit there."""
        room = (
            min(self.room, self.most)
            if self.most >= limits.ROOM_FOR_REST + limits.FRAGMENT_MIN
            else self.room
        )
        size = min(limits.FRAGMENT_MAX, room - limits.ROOM_FOR_REST)
        return size if size >= limits.FRAGMENT_MIN else 0


class Update(NamedTuple):
    """A message for a node: kind 23."""

    session: int
    command: bytes


@dataclass(slots=True)
class Talk:
    """With one node. Times are monotonic."""

    next_s: float = 0.0  # nothing is said before
    begins_s: float = 0.0  # of its pass alone
    until_s: float = 0.0
    ask_s: float = 0.0  # when it is asked, on a cable, unless it answered
    is_stuck: bool = False  # more is missing than it can work out
    first: int = 1  # where it is asked for fragments from
    wanted: list[int] = field(default_factory=list)
    is_called: bool = False  # to a pass of its own, and did not answer yet
    is_on_cable: bool = False  # as it was called
    is_asked: bool = False  # in a pass on a cable: what it has; nothing more is sent before it answered
    is_busy: bool = False  # something for it is on its way to the disk
    has_no_radio: bool = False  # for broadcasts

    def in_pass(self, now_s: float) -> bool:
        return self.begins_s <= now_s < self.until_s

    def end_pass(self) -> None:
        self.begins_s = self.until_s = 0.0


@dataclass(slots=True)
class Pass:
    """A time at which many listen: rows of one session, on one channel at one spreading factor."""

    session: int
    sf: int
    freq_hz: int
    key: bytes
    begins_s: float
    row_s: float  # from one row to the next
    told: set[int] = field(default_factory=set)
    coming: set[int] = field(default_factory=set)
    left: int | None = None  # rows still to be sent; None: it has not begun
    sent: int = 0  # rows that were handed out for it
    # It was named to all at the one before, who need not say that they come: `coming` is who should have heard.
    is_named: bool = False
    heard: set[int] = field(default_factory=set)  # who said since then what it has
    questions: int = update_limits.PASS_QUESTIONS  # at its end
    is_asked: bool = False  # once at least
    following: Pass | None = None  # when it is over: the one that is named at its end

    @property
    def lasts_s(self) -> int:
        return limits.PASS_MAX_S

    @property
    def ends_s(self) -> float:
        return self.begins_s + self.lasts_s


class Frame(NamedTuple):
    """A row for everybody in a pass, to be sealed under its key with this PIV."""

    session: int
    command: bytes
    key: bytes
    piv: int
    sf: int
    freq_hz: int


class Budget:
    """Airtime of one campaign: a share of each hour, and what was not used of the last one."""

    def __init__(self, share: float, now_s: float) -> None:
        self._share = share
        self._left_s = 0.0  # a start begins with nothing, so that starts do not add up
        self._at_s = now_s

    def left_s(self, now_s: float) -> float:
        self._left_s = min(self._left_s + (now_s - self._at_s) * self._share, 3600 * self._share)
        self._at_s = now_s
        return self._left_s

    def wait_s(self, now_s: float, seconds: float) -> float:
        """Until so much is there, or as much as ever will be."""
        missing_s = min(seconds, 3600 * self._share) - self.left_s(now_s)
        return max(0.0, missing_s / self._share) if self._share else 0.0

    def spend(self, now_s: float, seconds: float) -> None:
        self._left_s = self.left_s(now_s) - seconds


def air_s(sf: int, size: int) -> float:
    """Of a message with so many bytes of command; 0 on a cable."""
    if not sf:
        return 0.0
    total = min(size + limits.ROOM_FOR_REST - 3, airtime.SIZE_MAX)
    return airtime.time_on_air_us(airtime.lora(sf), total) / 1e6
