"""One [[hj212]] of gateway.toml, put together."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from gateway import quality_checks
from gateway.clock import Clock
from gateway.config_hj212 import Hj212Section
from gateway.marks import Marks
from gateway.northbound.hj212 import Hj212Sender
from gateway.northbound.hj212_commands import Desk
from gateway.northbound.hj212_report import Hj212Report, ReportSettings, Told
from gateway.northbound.hj212_settings import Hj212Settings
from gateway.northbound.rows import Place, RowsRunner
from gateway.store import Store
from protocols.northbound import hj212
from protocols.northbound.hj212_sm4 import Sealer

HEARTBEAT_S = 60


class Hj212Runner(RowsRunner):
    """The rows' runner with what a session counts beside it."""

    sender: Hj212Sender
    desk: Desk

    def status(self) -> dict[str, Any]:
        """As any northbound of rows, and the platform's peculiarities."""
        counted = self.sender.counters
        return {**super().status(), **counted, "clock_off_s": self.desk.clock_off_s}


def build(
    section: Hj212Section, password: str, set_password: Callable[[str], None] | None, store: Store,
    places: Callable[[int, int], Place], marks: Marks, clock: Clock, rng: random.Random, sm4_key: bytes | None = None,
) -> Hj212Runner:  # fmt: skip
    """Everything of one platform."""
    version = hj212.VERSIONS[section.version]
    heartbeat_s = section.heartbeat_s
    if heartbeat_s is None:
        heartbeat_s = 0 if version == hj212.VERSION_2017 else HEARTBEAT_S
    report_settings = ReportSettings(
        stations=section.stations,
        zone=ZoneInfo(section.timezone),
        hour_s=section.hours * 3600,
        day=section.day,
        grace_s=section.grace_s,
        share_percent=section.valid_percent,
        sample_s=section.sample_s,
        sums=section.sums,
        items=section.items,
    )
    told = Told(section.real_time_s, section.minutes * 60, section.timeout_s, section.resends)
    settings = Hj212Settings(
        section.name, section.host, section.port, section.st, version, password, report_settings, section.ack,
        heartbeat_s, section.in_flight, section.mark_resent, section.may_set, set_password,
        None if sm4_key is None else Sealer(sm4_key, section.sm4_text),
    )  # fmt: skip

    def checks(site: str, kind: str, at_ms: int) -> list[tuple[str, dict[str, str], str]]:
        return store.read(lambda connection: quality_checks.of_row(connection, site, kind, at_ms))

    report = Hj212Report(report_settings, told, marks.of, checks)
    sender = Hj212Sender(settings, told, lambda: runner.desk, clock)
    runner = Hj212Runner(section.name, store, report, sender, places, clock, rng)
    runner.sender = sender
    runner.desk = Desk(settings, told, report, store, clock, runner.readings)
    return runner
