"""A release that hangs, in the simulated world: its watchdog, three starts, and the old one says why."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from firmware.nodes import river_station
from hil_tests.world.flash import Flash
from hil_tests.world.sim_slots import SlotStation
from protocols.wire import codes, outcomes
from protocols.wire.messages import Event
from tests.firmware.install_cases import files, update
from tests.firmware.sky import Sky
from tests.firmware.test_safe_mode import WATCHDOG_S, Hang, fault_of
from tests.firmware.test_update_on_board import received

OLD, NEW = 1, 2


@pytest.mark.parametrize("fault", ["sensor", "watch", "poll", "hang"])
def test_three_starts_and_the_old_release_says_why(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware.gate.gc.collect", lambda: None)
    sky = Sky(settings={0: 60, 1: 60, 2: 3600}, make_station=functools.partial(SlotStation, files=files(OLD)))
    sky.run(200)
    station: Any = sky.station
    good, bad = river_station.NODE_TYPE, fault_of(fault)

    def started(sequence: int) -> None:
        monkeypatch.setattr(river_station, "NODE_TYPE", bad if sequence == NEW else good)

    station.power_cut()
    station.flash = Flash(image=received(bytes(station.flash.image), update(files(OLD), files(NEW), NEW)))
    station.on_release = started
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
    ends = [event.detail for event in sky.peer.of(Event) if event.code == codes.UPDATE]
    assert ends == [[NEW, outcomes.CRASHED]]
    assert sky.node.safe is None, "starts of the other release are not held against this one"
