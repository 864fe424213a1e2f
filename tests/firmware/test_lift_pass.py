"""A lift that receives sees nobody: who is in the car, or calls it, comes before an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from hil_tests.world.lift_profile import LiftDrive
from hil_tests.world.lift_shaft import Shaft
from protocols.wire import update
from tests.firmware.receive_rig import alone, is_receiving
from tests.firmware.sky import Sky
from tests.firmware.test_pass_or_alarm import until
from tests.firmware.test_receive_air import COMES, Sender, is_listening

if TYPE_CHECKING:
    from hil_tests.world.sim_hal import SimStation

NOT_NOW = bytes((update.COME, update.NOT_NOW))


@pytest.fixture(autouse=True)
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware.update.begin", lambda hal: False)


def chips(station: SimStation) -> None:
    """A car that stands, its door shut."""
    shaft = Shaft((0.0, 4.5), LiftDrive(1.6, 0.9, 1.2), 0)
    station.attach(Lis3dh(shaft.acceleration, seed=5))
    station.attach(Bmp390(shaft.air, seed=5))
    station.set_pin("door", 1)


def test_somebody_in_the_car_comes_before_a_broadcast() -> None:
    sky = Sky(settings={0: 60, 1: 60, 2: 86400}, node_type="lift", prepare=chips)
    sky.run(120)
    desk = Sender(sky, 2500)
    desk.invite()
    sky.station.set_pin("presence", 1)
    sky.run(20)
    assert desk.call(60, 200) == NOT_NOW
    sky.station.set_pin("presence", 0)
    sky.run(60)
    assert desk.call(100, 200) == COMES
    sky.station.set_pin("presence", 1)
    sky.run(desk.from_s + 120 - sky.agenda.now_s())
    assert not is_receiving(sky.station)
    # Who has left is not waited for longer than it takes to see it, and the next one ends the pass.
    sky.station.set_pin("presence", 0)
    until(sky, lambda: is_receiving(sky.station), 40)
    assert is_listening(sky)
    sky.station.set_pin("presence", 1)
    until(sky, lambda: not is_receiving(sky.station), 3)


def test_a_sensor_that_sees_somebody_for_ever_keeps_no_lift_from_a_pass_of_its_own() -> None:
    """Only a broadcast waits for an empty car: this one is how such a lift is updated all the same."""
    sky = Sky(settings={0: 60, 1: 60, 2: 86400}, node_type="lift", prepare=chips)
    sky.run(120)
    desk = Sender(sky, 2500)
    desk.invite()
    sky.station.set_pin("presence", 1)
    sky.run(60)
    assert desk.call(60, 200) == NOT_NOW
    assert desk.ask(lambda piv: alone(piv, 30)) == COMES
    until(sky, lambda: is_receiving(sky.station), 60)
    sky.run(5)
    assert is_receiving(sky.station), "what was high already ends nothing"
