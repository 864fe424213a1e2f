"""A cover in traffic that nobody opens, with its real node, for days or years: for the tests and the energy bench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from boards.virtual.chips.lis3dh import Lis3dh
from firmware.hal import WAKE_PIN
from hil_tests.world.sim_hal import SimStation
from hil_tests.world.street_cover import DAY_S, CoverMotion, RestingLis3dh
from protocols.wire.messages import RTC_HOLDOVER, Event, Status, Time
from tests.firmware.street import START_MS, Street

BOOT_MS = 800


@dataclass
class Counts:
    """What one cover in traffic came to."""

    days: float
    passes: int
    by_pin: int
    wakes: int
    awake_s: int
    frames: int
    bytes_up: int
    flash_bytes: int
    flash_erases: int
    alarms: int


class CoverInTraffic(Street):
    """A cover that nobody opens, its node, and a gateway that tells the time when it is asked for it."""

    def __init__(
        self,
        seed: int,
        chip_type: type[Lis3dh] = Lis3dh,
        trucks_a_day: float = 500,
        drift: float = 0.03,
        node_type: str = "cover",
    ) -> None:
        self.by_pin = self.wakes = self.bytes_up = 0
        super().__init__(powered=False, node_type=node_type)
        self.motion = CoverMotion(
            seed, start_s=START_MS / 1000, trucks_a_day=trucks_a_day, is_loose=seed % 2 == 1
        )
        chip = chip_type(
            self.motion.acceleration,
            steady_until=self.motion.steady_until,
            offset_g=self.motion.offset_g,
            noise=20.0,
            seed=seed,
        )
        self.chip = chip
        station = self.station
        station.attach(chip, motion=chip.int1)
        station.supply_mv = 3600
        station.boot_ms = BOOT_MS
        station.sleep_drift = drift
        self._count_wakes(station)
        replies = self.peer._replies

        def with_time(epoch: Any, message: Any) -> list[bytes]:
            out = replies(epoch, message)
            if isinstance(message, Status) and message.tq == RTC_HOLDOVER:
                out.append(epoch.seal(Time(self.peer.latest_piv, self.now_ms // 1000, self.now_ms % 1000)))
            return out

        self.peer._replies = with_time  # type: ignore[method-assign]  (a gateway's clock beside it)
        station.power_on()

    def _up(self, data: bytes) -> None:
        self.bytes_up += len(data)
        super()._up(data)

    def _count_wakes(self, station: SimStation) -> None:
        wake_up = station._wake_up

        def counted(sleep: Any, wake: int) -> None:
            self.wakes += 1
            self.by_pin += wake == WAKE_PIN
            wake_up(sleep, wake)

        station._wake_up = counted  # type: ignore[method-assign]  (counted on the way)

    def counts(self, days: float) -> Counts:
        health = self.peer.of(Status)[-1].health
        flash = self.station.flash
        return Counts(
            days,
            self.motion.passes,
            self.by_pin,
            self.wakes,
            health[18],
            health[13],
            self.bytes_up,
            getattr(flash, "prog_bytes", 0),
            getattr(flash, "erases", 0),
            sum(event.code in (6, 7, 8) for event in self.peer.of(Event)),
        )


def year(seed: int, days: int, chip_type: type[Lis3dh] = RestingLis3dh, trucks_a_day: float = 505) -> Counts:
    street = CoverInTraffic(seed, chip_type, trucks_a_day)
    street.run(days * DAY_S)
    assert [event.code for event in street.peer.of(Event)][:1] == [20], "the pose is learned"
    return street.counts(days)
