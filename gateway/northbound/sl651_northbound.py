"""One [[sl651]] of gateway.toml, put together."""

from __future__ import annotations

import importlib.metadata
import random
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.config_sl651 import Sl651Section
from gateway.marks import Mark
from gateway.northbound.rows import Place, RowsRunner
from gateway.northbound.sl651 import SlSender
from gateway.northbound.sl651_desk import SlDesk
from gateway.northbound.sl651_report import SlReport
from gateway.northbound.sl651_settings import SlSettings
from gateway.records import Reading
from gateway.report_rows import Key
from gateway.store import Store


class SlRunner(RowsRunner):
    """The rows' runner with what a session counts beside it."""

    sender: SlSender
    desk: SlDesk

    def status(self) -> dict[str, Any]:
        """As any northbound of rows, and the centre's peculiarities."""
        counted = {**self.sender.counters, **self.desk.counters}
        return {**super().status(), **counted, "clock_off_s": self.desk.clock_off_s}


def settings_of(section: Sl651Section, password: str) -> SlSettings:
    return SlSettings(
        name=section.name,
        host=section.host,
        port=section.port,
        centre=section.centre,
        stations=section.stations,
        kind=ord(section.station_class),
        password=password,
        zone=ZoneInfo(section.timezone),
        version=f"tidegate {importlib.metadata.version('tidegate')}",
        confirmed=section.mode == "M2",
        timed_s=section.timed_min * 60,
        hourly=section.hourly,
        grace_s=section.grace_s,
        link_keep_s=section.link_keep_s,
        timeout_s=section.timeout_s,
        resends=section.resends,
        in_flight=section.in_flight,
        steps=section.steps,
        above=section.above,
        below=section.below,
    )


def build(
    section: Sl651Section, password: str, store: Store, places: Callable[[int, int], Place],
    marks: Callable[[Reading], Mark], clock: Clock, rng: random.Random,
) -> SlRunner:  # fmt: skip
    """Everything of one centre."""
    settings = settings_of(section, password)

    def history(site: str, start_ms: int, end_ms: int) -> Sequence[Reading]:
        return runner.readings(Key(site, "", start_ms), end_ms)

    report = SlReport(settings, marks, history, clock)
    desk = SlDesk(settings, report, history, clock)
    sender = SlSender(settings, lambda: desk, store, clock)
    runner = SlRunner(section.name, store, report, sender, places, clock, rng)
    runner.sender, runner.desk = sender, desk
    return runner
