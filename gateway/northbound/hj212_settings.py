"""How one platform is spoken to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.northbound.hj212_report import ReportSettings


@dataclass
class Hj212Settings:
    """`set_password` keeps a password that the platform sets; None where it may not."""

    name: str
    host: str
    port: int
    st: str
    version: int
    password: str
    report: ReportSettings
    wants_ack: bool = True
    heartbeat_s: int = 0
    in_flight: int = 16
    mark_resent: bool = True
    set_password: Callable[[str], None] | None = None
