"""The gateway's clock, and whether it may be trusted with the nodes' time.

Everything that needs time is given one of these, so that a simulated world can pass its own.
"""

from __future__ import annotations

import ctypes
import time
from functools import cache
from typing import Protocol

from gateway import limits

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_STA_UNSYNC = 0x0040
# struct timex has at most 208 bytes; room for more. `modes` = 0 at its start only asks.
_TIMEX_BYTES = 512
_Timex = ctypes.c_long * (_TIMEX_BYTES // ctypes.sizeof(ctypes.c_long))
_STATUS = 5  # after modes, offset, freq, maxerror and esterror, each on a long's boundary


class Clock(Protocol):
    """What everything in the gateway takes its time from."""

    def unix_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class TrustedClock(Clock, Protocol):
    """A clock that also knows whether its wall time may be passed on."""

    def synchronised(self) -> bool: ...


class SystemClock:
    """Wall and monotonic time of this machine."""

    def __init__(self, *, assume_synchronised: bool = False) -> None:
        self._assume = assume_synchronised
        self._checked_s = float("-inf")
        self._synchronised = False

    def unix_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never jump; the event loop's own time."""
        return time.monotonic()

    def synchronised(self) -> bool:
        """Whether the wall clock is kept in time, by the kernel's account (NTP, PTP and GNSS all tell it)."""
        if self._assume:
            return True
        now_s = self.monotonic()
        if now_s - self._checked_s >= limits.CLOCK_CHECK_S:
            self._checked_s = now_s
            self._synchronised = kernel_synchronised()
        return self._synchronised


@cache
def _libc() -> ctypes.CDLL:
    """Once: each makes classes of its own, 2 KB that only a rare full garbage collection finds."""
    return ctypes.CDLL(None, use_errno=True)


def kernel_synchronised() -> bool:
    """Ask adjtimex(2). False when the kernel does not let us ask: not knowing is not being synchronised."""
    buffer = _Timex()
    try:
        state = _libc().adjtimex(ctypes.byref(buffer))
    except (OSError, AttributeError):
        return False
    if state < 0 or state == _TIME_ERROR:
        return False
    return not buffer[_STATUS] & _STA_UNSYNC
