"""How one centre is spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo


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
    in_flight: int = 16
    steps: Mapping[str, float] = field(default_factory=dict)
    above: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)
