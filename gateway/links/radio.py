"""What a radio is to the link "lora": it hears packets, and sends one at a time of its own counter.

A radio knows nothing of nodes, frames and windows; `lora.py` gives it what to send and when. Its counter runs in
microseconds, 32 bits wide, and begins anew when the radio does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

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
    """A packet to send: `at_us` is the radio's counter at its begin."""

    id: int
    at_us: int
    freq_hz: int
    sf: int
    dbm: int
    packet: bytes


class Radio(Protocol):
    """One receiver and one transmitter with one counter."""

    name: str
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
