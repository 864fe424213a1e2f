"""A cover on the air that sleeps while a release is on trial on it: how its deadlines count, and what ends its trial.

The firmware, its radio and its sleeps are the real ones on a virtual clock; what differs between two releases is done
to its sensors and its gateway from outside (hil_tests/world/sim_slots.py).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips.lis3dh import Lis3dh
from firmware import gate, pending, slots
from firmware.settings import INTERVAL_S, REPORT_S, STATUS_S
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.sim_slots import SlotStation
from hil_tests.world.street_cover import CoverMotion
from protocols.wire import codes, outcomes
from protocols.wire.messages import Event, Hello, Status
from tests.firmware.install_cases import files, update
from tests.firmware.sky import Sky
from tests.firmware.street import START_MS
from tests.firmware.test_update_on_board import received

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil_tests.world.sim_hal import SimStation

HOUR_S = 3600
OLD, NEW = 1, 2
# Of a cover as it ships: a set each six hours, a status each day.
SETTINGS = {INTERVAL_S: 6 * HOUR_S, REPORT_S: 6 * HOUR_S, STATUS_S: 24 * HOUR_S}


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.gc, "collect", lambda: None)  # of all tests before this one, at each look


class Cover(Sky):
    """It has joined with the first release, and sleeps. ``chip``: its sensor."""

    def __init__(self) -> None:
        self.awake_s = 0.0
        super().__init__(
            settings=SETTINGS, node_type="cover", sleep_drift=0.05, boot_ms=800, prepare=self._fit,
            make_station=functools.partial(SlotStation, files=files(OLD)),
        )  # fmt: skip
        self.run(2 * HOUR_S)
        assert self.is_asleep

    def _fit(self, station: SimStation) -> None:
        motion = CoverMotion(5, start_s=START_MS / 1000, trucks_a_day=0)
        self.chip = Lis3dh(
            motion.acceleration, steady_until=motion.steady_until, offset_g=motion.offset_g, noise=20.0
        )
        station.attach(self.chip, motion=self.chip.int1)
        station.supply_mv = 3600

    @property
    def slotted(self) -> SlotStation:
        assert isinstance(self.station, SlotStation)
        return self.station

    @property
    def is_asleep(self) -> bool:
        return self.station.sleep is not None

    def begin(self, then: Callable[[], None] = lambda: None) -> None:
        """The second release is all there, and installed; ``then``: whenever it starts."""

        def started(sequence: int) -> None:
            if sequence == NEW:
                then()

        self.station.power_cut()
        flash: Any = self.station.flash
        self.station.flash = Flash(image=received(bytes(flash.image), update(files(OLD), files(NEW), NEW)))
        self.slotted.on_release = started
        self.began_s = self.agenda.now_s()
        self.station.power_on()
        assert self.slotted.sequences[-1] == NEW

    @property
    def is_on_trial(self) -> bool:
        return bool(slots.Slots(LittleFs(self.slotted.app)).record[slots.TRIAL] != slots.NONE)

    def until_it_ends(self, at_most_h: float) -> float:
        """Hours of the trial."""
        while self.is_on_trial and self.agenda.now_s() < self.began_s + at_most_h * HOUR_S:
            self.run(60)
        return (self.agenda.now_s() - self.began_s) / HOUR_S

    @property
    def phase(self) -> int:
        return int(pending.Pending(LittleFs(self.station.flash)).f[pending.PHASE])

    def told(self) -> list[Any]:
        return [event.detail for event in self.peer.of(Event) if event.code == codes.UPDATE]

    def away(self) -> None:
        self.peer.deaf = self.peer.mute = True

    def back(self) -> None:
        self.peer.deaf = self.peer.mute = False


def test_it_is_confirmed_with_its_first_exchange_and_tells_so_before_it_sleeps_for_long() -> None:
    cover = Cover()
    cover.begin()
    cover.until_it_ends(1)
    cover.run(600)
    assert cover.is_asleep
    assert cover.told() == [[NEW, outcomes.INSTALLED]]
    assert cover.slotted.sequences[-1] == NEW
    assert cover.peer.of(Hello)[-1].boots == 2
    assert cover.phase == pending.NOTHING
    cover.run(26 * HOUR_S)
    assert cover.told() == [[NEW, outcomes.INSTALLED]]
    assert cover.peer.of(Status)


@pytest.mark.parametrize(
    ("off_h", "outcome"),
    [
        (24, outcomes.INSTALLED),
        pytest.param(
            74, outcomes.INSTALLED, marks=pytest.mark.soak
        ),  # its clock is slow, and it looks when it wakes
        pytest.param(90, outcomes.SILENT, marks=pytest.mark.soak),
    ],
)
def test_a_gateway_that_is_off_in_mid_trial(off_h: int, outcome: int) -> None:
    cover = Cover()
    cover.begin(cover.away)
    took_h = cover.until_it_ends(off_h)
    cover.back()
    cover.slotted.on_release = lambda sequence: None
    cover.run(14 * HOUR_S)
    print(f"off_h={off_h} trial_h={took_h:.1f} told={cover.told()} wakes={cover.station.starts}")
    assert cover.told() == [[NEW, outcome]]
    assert cover.slotted.sequences[-1] == (NEW if outcome == outcomes.INSTALLED else OLD)
    if outcome == outcomes.SILENT:
        assert 72 <= took_h <= 84


def test_one_whose_sensor_is_mute_is_rolled_back_in_an_hour_of_its_own_time_though_it_sleeps() -> None:
    cover = Cover()

    def mute() -> None:
        cover.chip.fault = "absent"

    cover.begin(mute)
    took_h = cover.until_it_ends(12)
    cover.chip.fault = None
    cover.run(HOUR_S)
    print(f"trial_h={took_h:.2f}")
    assert took_h < 1.1
    assert cover.told() == [[NEW, outcomes.UNHEALTHY]]
    assert cover.slotted.sequences[-1] == OLD
    assert cover.is_asleep
    assert cover.phase == pending.NOTHING, "else each waking loads what tells of an update"
