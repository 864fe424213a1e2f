"""The node's one clock: uptime, and the time of day with its quality.

The time of day is an offset to the uptime, set by the gateway. Every number here is an integer: a float32 has 24 bits,
and counts seconds since 1970 in steps of two minutes. Ticks wrap (after 12.4 days on an ESP32), so they are only
ever subtracted, and the clock must be looked at more often than half a wrap; a node that steps does.

What the chip keeps over a deep sleep or a soft reset is its calendar clock and the RTC memory; the latter tells
whether the former was ever set. It is a cache with a CRC, and gone after a power cut, a watchdog reset or a hard
reset: then time starts as seconds since boot, and the gateway places it.
"""

import binascii
import struct

from protocols.wire.messages import RTC_HOLDOVER, SYNCHRONISED, UNSYNCHRONISED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from firmware.hal import Rtc, Ticks

# A crystal of 20 ppm is 2 s wrong after a day: from then on the time is called holdover.
HOLDOVER_AFTER_S = 86400
# Before this (2024-01-01) no gateway ever sent a time: a cache that says so is wrong.
EARLIEST_S = 1704067200
_MAGIC = b"TGc1"
# In the RTC memory the clock has the first bytes, hal/cache.py what follows.
CACHE_AT = 12
# Asleep, a chip counts seconds with an RC oscillator, 5 % off at worst: two seconds after this much sleep.
_SLEPT_MAX_MS = 40_000
# How much faster than the sleep's clock true time goes, in 1/8192: a small integer also times a day. Learned from the
# gateway's time after this much sleep, and never more than a tenth.
RATE_ONE = 1 << 13
_RATE_MAX = RATE_ONE // 10
_RATE_FROM_MS = 1_800_000
# uptime | ms | offset | ms | synchronised at | slept since, ms | rate, learned | the chip's clock, ms
_REST = ">IHIHiIhBQ"
_SLEPT_LIMIT_MS = (1 << 32) - 1
# Longest wait that anyone asks for; keeps milliseconds small integers.
_WAIT_S_MAX = 86400


class Clock:
    def __init__(self, ticks: "Ticks", rtc: "Rtc") -> None:
        self.ticks_ms = ticks.ticks_ms
        self.ticks_diff = ticks.ticks_diff
        self.sleep_ms = ticks.sleep_ms
        self._rtc = rtc
        self._last_tick = ticks.ticks_ms()
        self._uptime_s = 0
        self._uptime_ms = 0  # below 1000
        self._offset_s = 0  # time of day = uptime + offset
        self._offset_ms = 0  # 0 to 999
        self._synchronised_at_s = -1  # uptime; -1: not in this life
        self._slept_ms = 0  # since it was set, by the sleep's own clock
        self._rate = 0
        self.knows_rate = False
        self._is_set = self._restore()

    def uptime_s(self) -> int:
        self._advance()
        return self._uptime_s

    def now(self) -> "tuple[int, int]":
        """(seconds, time quality): seconds since 1970, or since boot when the quality is UNSYNCHRONISED."""
        self._advance()
        if not self._is_set:
            return self._uptime_s, UNSYNCHRONISED
        carry = 1 if self._uptime_ms + self._offset_ms >= 1000 else 0
        return self._uptime_s + self._offset_s + carry, self._quality()

    def ms_until(self, seconds: int) -> int:
        """Milliseconds until now() says ``seconds``, at most a day; 0 when it already does."""
        now_s, _ = self.now()
        if seconds <= now_s:
            return 0
        if seconds - now_s > _WAIT_S_MAX:
            return _WAIT_S_MAX * 1000
        part_ms = (self._uptime_ms + (self._offset_ms if self._is_set else 0)) % 1000
        return (seconds - now_s) * 1000 - part_ms

    def set(self, seconds: int, millis: int) -> int:
        """Take the gateway's time; the seconds by which the time of day was wrong, 0 when it was not known."""
        before_s, _ = self.now()
        was_set = self._is_set
        if was_set and self._slept_ms >= _RATE_FROM_MS:
            self._learn_rate(seconds - before_s)
        self._slept_ms = 0
        self._offset_s = seconds - self._uptime_s
        self._offset_ms = millis - self._uptime_ms
        if self._offset_ms < 0:
            self._offset_ms += 1000
            self._offset_s -= 1
        self._is_set = True
        self._synchronised_at_s = self._uptime_s
        self._rtc.write_s(seconds)
        self._rtc.save(_pack(seconds) + self._rtc.load()[CACHE_AT:])
        return seconds - before_s if was_set else 0

    # -- over a deep sleep: uptime and time of day go on ------------------------------------------------------

    def rest(self) -> bytes:
        """What resume() needs after a deep sleep that begins now."""
        self._advance()
        return struct.pack(
            _REST,
            self._uptime_s,
            self._uptime_ms,
            self._offset_s,
            self._offset_ms,
            self._synchronised_at_s,
            self._slept_ms,
            self._rate,
            self.knows_rate,
            self._rtc.read_ms(),
        )

    def resume(self, rested: bytes) -> None:
        """Go on after a deep sleep, by true seconds as far as they are known."""
        self._advance()
        found = struct.unpack(_REST, rested)
        slept_ms = max(0, self._rtc.read_ms() - found[8])
        self._rate = found[6]
        self.knows_rate = found[7] != 0
        self._slept_ms = min(found[5] + slept_ms, _SLEPT_LIMIT_MS)
        self._synchronised_at_s = found[4]
        self._offset_s, self._offset_ms = found[2:4]
        self._is_set = self._is_set or self._synchronised_at_s >= 0
        passed_ms = found[1] + slept_ms + (slept_ms >> 6) * self._rate // (RATE_ONE >> 6)
        self._uptime_s, self._uptime_ms = found[0] + passed_ms // 1000, passed_ms % 1000

    def asleep_ms(self, seconds: int) -> int:
        """What to ask of the sleep's clock to sleep that many true seconds."""
        return seconds * RATE_ONE // (RATE_ONE + self._rate) * 1000

    def drift_s(self) -> int:
        """By how much the time of day may be off for having slept: no reason to call that a step."""
        return self._slept_ms // 10_000

    def _learn_rate(self, late_s: int) -> None:
        """The time of day was so much behind after all that sleep."""
        slept_s = self._slept_ms // 1000
        if abs(late_s) > slept_s // 8:
            return  # no oscillator is that wrong: it is the gateway's time that was set
        rate = self._rate + late_s * RATE_ONE // slept_s
        self._rate = max(-_RATE_MAX, min(_RATE_MAX, rate))
        self.knows_rate = True

    def _quality(self) -> int:
        at_s = self._synchronised_at_s
        if self._slept_ms > _SLEPT_MAX_MS:
            return RTC_HOLDOVER
        return SYNCHRONISED if 0 <= at_s and self._uptime_s - at_s < HOLDOVER_AFTER_S else RTC_HOLDOVER

    def _advance(self) -> None:
        tick = self.ticks_ms()
        passed_ms = self.ticks_diff(tick, self._last_tick)
        if passed_ms > 0:
            self._last_tick = tick
            passed_ms += self._uptime_ms
            self._uptime_s += passed_ms // 1000
            self._uptime_ms = passed_ms % 1000

    def _restore(self) -> bool:
        """Go on with the chip's clock if the RTC memory vouches for it."""
        set_at_s = _unpack(self._rtc.load())
        now_s = self._rtc.read_s()
        if set_at_s < EARLIEST_S or now_s < set_at_s:
            return False
        self._offset_s = now_s
        return True


def _pack(seconds: int) -> bytes:
    body = _MAGIC + struct.pack(">I", seconds)
    return body + struct.pack(">I", binascii.crc32(body))


def _unpack(data: bytes) -> int:
    """When the chip's clock was last set; -1 when these bytes do not say so."""
    if (
        len(data) < CACHE_AT
        or data[:4] != _MAGIC
        or struct.unpack(">I", data[8:12])[0] != binascii.crc32(data[:8])
    ):
        return -1
    return int(struct.unpack(">I", data[4:8])[0])
