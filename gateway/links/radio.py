"""What a radio is to the link "lora": it hears packets, and sends one at a time of its own counter.

A radio knows nothing of nodes, frames and windows; `lora.py` gives it what to send and when. Its counter runs in
microseconds, 32 bits wide, and begins anew when the radio does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway import limits

COUNTER = 1 << 32
_HALF = COUNTER >> 1
# The longest packet there is.
PACKET_BYTES_MAX = 255

# How a transmission ended (SPEC 8).
SENT = 0
TOO_LATE = 1
TOO_EARLY = 2
REFUSED = 3
BUSY = 4
FAULT = 5
CUT_SHORT = 6
DISPLACED = 7
RESULT_NAMES = (
    "sent",
    "too_late",
    "too_early",
    "refused",
    "channel_busy",
    "fault",
    "cut_short",
    "displaced",
)


class Uplink(NamedTuple):
    """A packet that a radio heard whole. `at_us` is its counter at the packet's end; None: it can not be answered."""

    radio: str
    at_us: int | None
    freq_hz: int
    sf: int
    rssi_dbm: float
    snr_db: float
    packet: bytes


class Transmission(NamedTuple):
    """A packet to send: `at_us` is the radio's counter at its begin; None: at once, within the radio's `lead_s`."""

    id: int
    at_us: int | None
    freq_hz: int
    sf: int
    dbm: int
    packet: bytes


class Radio(Protocol):
    """One receiver and one transmitter with one counter."""

    name: str
    lead_s: float
    """From the hand-over of a packet that goes at once until it is on the air, at most."""
    on_uplink: Callable[[Uplink], None]
    on_result: Callable[[str, int, int], None]
    """Called with the radio's name, the id of a transmission and how it ended. A radio that can not tell never does."""

    @property
    def is_ready(self) -> bool:
        """Whether it can send now."""
        ...

    @property
    def problem(self) -> str:
        """Why it is not ready, for a person; "" when it is."""
        ...

    def picture(self) -> dict[str, float]:
        """Counters for /metrics and status."""
        ...

    def send(self, transmission: Transmission) -> bool:
        """Have it sent; False when it is not going out. Never blocks, never raises for a radio that is gone."""
        ...


def later_us(at_us: int, than_us: int) -> int:
    """How much later one reading of a counter is than another, within half its width."""
    return (at_us - than_us + _HALF) % COUNTER - _HALF


class RadioClock:
    """When, by the gateway's clock, a radio's counter showed something.

    The time a packet takes from the radio to here varies, and is never negative: what came fastest of late is the
    best estimate. The counter may begin anew at any time.
    """

    def __init__(self) -> None:
        self._at_us = 0
        self._at_s: float | None = None

    def heard(self, at_us: int, now_s: float) -> None:
        """The counter showed `at_us` a little while before `now_s`."""
        if self._at_s is not None:
            delay_s = now_s - self.at_s(at_us)
            is_recent = now_s - self._at_s < limits.RADIO_CLOCK_AGE_S
            if is_recent and 0 <= delay_s < limits.RADIO_CLOCK_JUMP_S:
                return
        self._at_us, self._at_s = at_us, now_s

    def at_s(self, at_us: int) -> float:
        """The gateway's time of that count."""
        return (self._at_s or 0.0) + later_us(at_us, self._at_us) / 1e6

    def us_at(self, at_s: float) -> int:
        """What it shows then."""
        return round(self._at_us + (at_s - (self._at_s or 0.0)) * 1e6) % COUNTER

    @property
    def is_known(self) -> bool:
        """Whether the counter was ever heard of."""
        return self._at_s is not None
