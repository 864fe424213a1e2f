"""How many rows may be under way to a regulator, and how many of them of one station."""

from __future__ import annotations

from gateway.limits import STATION_SHARE_MIN, UNACKED_ROWS_PER_S, UNACKED_WINDOW_MAX, UNACKED_WINDOW_MIN


def unacked_window(timeout_s: float) -> int:
    """Where nothing is confirmed, each row stays under way for the time-out: the longer that is, the more of them a
    rate needs. A backlog has three quarters of it."""
    return min(max(UNACKED_WINDOW_MIN, int(UNACKED_ROWS_PER_S * timeout_s * 4 / 3)), UNACKED_WINDOW_MAX)


def station_share(window: int, stations: int) -> int:
    """Backlog of one station beside others: a third of what backlog may have, however much of it there is, and though
    none of its rows were ever confirmed. Its fresh rows may have as many again."""
    return window if stations == 1 else max(STATION_SHARE_MIN, window // 4)
