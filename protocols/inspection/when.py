"""Seconds of a message as a date, without a clock."""

from __future__ import annotations

from protocols.wire.messages import UNSYNCHRONISED, split_unsynced

_DAY_S = 86400
# Beyond the year 9999 no calendar is asked.
_MAX_S = 253_402_300_800


def placed(time: int, tq: int) -> str:
    """A date, or seconds since a boot where the clock was never set."""
    if tq == UNSYNCHRONISED:
        boots, uptime_s = split_unsynced(time)
        return f"{uptime_s} s after boot {boots} (modulo 256)"
    if not 0 <= time < _MAX_S:
        return f"{time} s after 1970"
    year, month, day = civil(time // _DAY_S)
    left = time % _DAY_S
    return f"{year:04d}-{month:02d}-{day:02d} {left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}Z"


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day so many days after 1970-01-01 (proleptic Gregorian calendar)."""
    era, of_era = divmod(days + 719_468, 146_097)  # eras of 400 years begin in March
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
