"""Civil time for regulators: their hours and days begin by a time zone of theirs, whatever this machine's is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECONDS = "%Y%m%d%H%M%S"


def at(unix_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(unix_ms // 1000, UTC).astimezone(zone) + timedelta(
        milliseconds=unix_ms % 1000
    )


def text(unix_ms: int, zone: ZoneInfo) -> str:
    """YYYYMMDDhhmmss."""
    return at(unix_ms, zone).strftime(_SECONDS)


def text_ms(unix_ms: int, zone: ZoneInfo) -> str:
    """YYYYMMDDhhmmsszzz, as a QN has it."""
    return f"{text(unix_ms, zone)}{unix_ms % 1000:03d}"


def unix_ms(civil: str, zone: ZoneInfo) -> int:
    """The moment of a text of either form; of a civil time that comes twice, the first. ValueError: there is none."""
    moment = datetime.strptime(civil[:14], _SECONDS).replace(tzinfo=zone)
    return int(moment.timestamp()) * 1000 + int(civil[14:] or 0)


def period_start_ms(moment_ms: int, period_s: int, zone: ZoneInfo) -> int:
    """The begin of the period that holds a moment: minutes and hours from midnight of that day, by civil time."""
    local = at(moment_ms, zone)
    now = local.replace(tzinfo=None)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    passed_s = int((now - midnight).total_seconds())
    begin = midnight + timedelta(seconds=passed_s // period_s * period_s)
    return int(begin.replace(tzinfo=zone, fold=local.fold).timestamp()) * 1000


def period_end_ms(start_ms: int, period_s: int, zone: ZoneInfo) -> int:
    """Where the period that begins there ends. Up to an hour by the stopwatch, longer ones by the clock on the wall."""
    if period_s <= 3600:
        return start_ms + period_s * 1000
    begin = at(start_ms, zone)
    end = (begin.replace(tzinfo=None) + timedelta(seconds=period_s)).replace(tzinfo=zone)
    return int(end.timestamp()) * 1000
