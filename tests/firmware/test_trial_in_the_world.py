"""A release that hangs or crawls, in the simulated world: its watchdog or its gate, and the old one says why."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from firmware import gate
from firmware.nodes import river_station
from hil_tests.world.flash import Flash
from hil_tests.world.sim_slots import SlotStation
from protocols.wire import codes, outcomes
from protocols.wire.messages import Event
from tests.firmware.install_cases import files, update
from tests.firmware.sky import Sky
from tests.firmware.test_safe_mode import WATCHDOG_S, FaultyWatch, Hang, fault_of
from tests.firmware.test_update_on_board import received

OLD, NEW = 1, 2


class CrawlingWatch(FaultyWatch):
    """Each look takes longer than a step may."""

    def __init__(self, hal: Any) -> None:
        self._clock = hal.clock

    def poll(self) -> int:
        self._clock.sleep_ms(gate.STEP_MAX_MS + 1000)
        return 0


def with_release(sky: Sky, bad: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its station, that has been sent a release of which node type `bad` is what comes of it."""
    station: Any = sky.station
    good = river_station.NODE_TYPE

    def started(sequence: int) -> None:
        monkeypatch.setattr(river_station, "NODE_TYPE", bad if sequence == NEW else good)

    station.power_cut()
    station.flash = Flash(image=received(bytes(station.flash.image), update(files(OLD), files(NEW), NEW)))
    station.on_release = started
    return station


def ends(sky: Sky) -> list[Any]:
    return [event.detail for event in sky.peer.of(Event) if event.code == codes.UPDATE]


def begun(monkeypatch: pytest.MonkeyPatch) -> Sky:
    monkeypatch.setattr("firmware.gate.gc.collect", lambda: None)
    sky = Sky(settings={0: 60, 1: 60, 2: 3600}, make_station=functools.partial(SlotStation, files=files(OLD)))
    sky.run(200)
    return sky


@pytest.mark.parametrize("fault", ["sensor", "watch", "poll", "hang"])
def test_three_starts_and_the_old_release_says_why(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sky = begun(monkeypatch)
    station = with_release(sky, fault_of(fault), monkeypatch)
    lives = [station.power_on]
    for _ in range(600):
        try:
            if lives:
                lives.pop()()
            sky.run(2)
        except Hang:
            sky.agenda.run_until(sky.agenda.now_s() + WATCHDOG_S)
            lives.append(station.watchdog_reset)
    assert station.sequences[-4:] == [NEW, NEW, NEW, OLD], station.sequences
    assert ends(sky) == [[NEW, outcomes.CRASHED]]
    assert sky.node.safe is None, "starts of the other release are not held against this one"


def test_one_that_measures_and_answers_but_crawls_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = begun(monkeypatch)
    crawls = river_station.NODE_TYPE._replace(watch=lambda hal, settings, keep: CrawlingWatch(hal))
    station = with_release(sky, crawls, monkeypatch)
    station.power_on()
    sky.run(3 * 3600)
    assert station.sequences[-2:] == [NEW, OLD], station.sequences
    assert ends(sky) == [[NEW, outcomes.UNHEALTHY]]
