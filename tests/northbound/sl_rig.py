"""A gateway with an SL 651 northbound in a world with a virtual clock: real store, real runner, a centre in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway import civil
from gateway.marks import Marks
from gateway.northbound.rows import RowsRunner
from gateway.northbound.sl651 import SlSender
from gateway.northbound.sl651_desk import SlDesk
from gateway.northbound.sl651_report import SlReport
from gateway.northbound.sl651_settings import SlSettings
from gateway.records import Reading
from gateway.registry import Place
from gateway.report_rows import Key
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.sl_centre import SlCentre
from protocols.northbound import sl651_codes as codes
from tests.northbound.hj_rig import ZONE, KillingExecutor, Rig

STATION = "0012345678"
TIMED, ADDED, HOURLY = "32", "33", "34"
RowKey = tuple[str, str, str]


class SlRig(Rig):
    """As Rig, with a hydrological centre. ``settings`` are of SlSettings."""

    def __init__(
        self, folder: Path, centre: SlCentre, *, sites: dict[int, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(folder, HjPlatform(), sites=sites)
        self.centre = centre
        self._sl = settings

    def open(self, executor: KillingExecutor | None = None) -> None:
        """Start, or start again."""
        self.open_store(executor)
        self._epochs = {epoch.node: epoch for epoch in self.store.epochs.values()}
        self.sl = SlSettings(
            "hydrology",
            "centre.example",
            6510,
            1,
            self.stations(),
            ord("Q"),
            "03E8",
            ZONE,
            "tidegate 1",
            **self._sl,
        )
        self.sl_report = SlReport(self.sl, Marks(self.store).of, self.history, self.clock)
        self.sl_desk = SlDesk(self.sl, self.sl_report, self.history, self.clock)
        self.sl_sender = SlSender(
            self.sl, lambda: self.sl_desk, self.store, self.clock, self.centre.open_wire
        )
        self.runner = RowsRunner(
            "hydrology", self.store, self.sl_report, self.sl_sender,
            lambda node, at_ms: Place(self.sites.get(node, "elsewhere"), "330106"), self.clock, self._rng,
        )  # fmt: skip
        self._task = asyncio.get_running_loop().create_task(self.runner.run())
        self._give_again()

    def history(self, site: str, start_ms: int, end_ms: int) -> Sequence[Reading]:
        return self.runner.readings(Key(site, "", start_ms), end_ms)

    def stations(self) -> Mapping[str, str]:
        """Addresses by site."""
        return {site: f"{int(STATION) + index:010d}" for index, site in enumerate(self.sites.values())}

    # ---- what must have come out ---------------------------------------------------------------------------------

    def newest_ph(self, kind: str, period_s: int, until_s: int) -> dict[RowKey, float]:
        """Rows by key with the pH that was newest, for periods that ended by `until_s`."""
        stations, rows = self.stations(), {}
        for given in sorted(self.given, key=lambda one: one.time_s):
            local_s = given.time_s + 8 * 3600  # eight hours before Greenwich, all year
            end_s = -(-local_s // period_s) * period_s - 8 * 3600
            if end_s <= until_s and given.values[1] is not None:
                key = stations[self.sites[given.node]], kind, civil.text(end_s * 1000, ZONE)[2:12]
                rows[key] = given.values[1] / 100
        return rows

    def ph_got(self, kind: str) -> dict[RowKey, float | None]:
        """The centre's rows, their pH."""
        return {key: arrival.number(0x46) for key, arrival in self.centre.rows.items() if key[1] == kind}


def asked(rig: SlRig, function: int) -> list[Any]:
    """Bodies of what the station answered to such questions."""
    from protocols.northbound import sl651_body

    return [sl651_body.decode(frame) for frame in rig.centre.answers if frame.function == function]


__all__ = ["ADDED", "HOURLY", "STATION", "TIMED", "SlRig", "asked", "codes"]
