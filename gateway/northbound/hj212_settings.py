"""How one platform is spoken to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.northbound.hj212_report import ReportSettings
from protocols.northbound.hj212_sm4 import Sealer


@dataclass
class Hj212Settings:
    """`set_password` keeps a password that the platform sets; None where it may not."""

    name: str
    host: str
    port: int
    st: str
    version: int
    password: str = field(repr=False)
    report: ReportSettings
    wants_ack: bool = True
    heartbeat_s: int = 0
    in_flight: int = 16
    mark_resent: bool = True
    may_set: bool = True  # intervals, time-outs, real-time data on and off
    set_password: Callable[[str], None] | None = None
    sealer: Sealer | None = field(default=None, repr=False)  # encrypts data areas
