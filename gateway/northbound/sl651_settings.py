"""How one centre is spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from gateway.limits import SL_STATION_SHARE, SL_WINDOW_MAX, SL_WINDOW_MIN
from gateway.northbound.shares import station_share, unacked_window


@dataclass
class SlSettings:
    """`stations`: address by site. `steps`, `above` and `below` are by measurand, in the registry's units: what makes
    an added report."""

    name: str
    host: str
    port: int
    centre: int
    stations: Mapping[str, str]
    kind: int
    password: str
    zone: ZoneInfo
    version: str = ""
    confirmed: bool = True  # mode M2
    timed_s: int = 300
    hourly: bool = True
    grace_s: int = 30
    link_keep_s: int = 40
    timeout_s: int = 10
    resends: int = 3
    in_flight: int | None = None  # two per station
    steps: Mapping[str, float] = field(default_factory=dict)
    above: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """How many reports are under way or wait for their station's turn."""
        if not self.confirmed:
            return unacked_window(self.timeout_s)
        return self.in_flight or min(max(SL_WINDOW_MIN, 2 * len(self.stations)), SL_WINDOW_MAX)

    @property
    def share(self) -> int:
        """How many of one station. In mode M2 a station has one under way, whatever it may have waiting."""
        share = station_share(self.window, len(self.stations))
        return min(share, SL_STATION_SHARE) if self.confirmed and len(self.stations) > 1 else share
