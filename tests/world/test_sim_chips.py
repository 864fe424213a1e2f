"""Chips on the ports of a simulated station: the same ones, reached through its hal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from boards.virtual.chips.lis3dh import Lis3dh as Lis3dhChip
from boards.virtual.chips.ultrasonic import Ultrasonic as UltrasonicChip
from firmware.hal import WAKE_PIN
from firmware.sensors.lis3dh import ACTIVE, X_HIGH, Lis3dh
from firmware.sensors.ultrasonic import Ultrasonic
from hil_tests.world.sim_hal import SimDeepSleep, SimHal, SimStation
from tests.firmware.street import CALM, IDENTITY

if TYPE_CHECKING:
    from firmware.node import Node

START_MS = 1_790_000_000_000
TILTED_S = START_MS / 1000 + 3 * 86_400


class World:
    def __init__(self) -> None:
        self.now_ms = START_MS
        self.station = SimStation(IDENTITY, now_ms=lambda: self.now_ms, water=lambda _: CALM)

    def hal(self) -> SimHal:
        if self.station.hal is None:
            self.station.power_on()
        assert self.station.hal is not None
        return self.station.hal


def test_a_level_sensor_on_its_port() -> None:
    world = World()
    world.station.attach_uart("ultrasonic", UltrasonicChip(lambda _: 1250.0, noise_mm=0.0))
    sensor = Ultrasonic(world.hal().uart("ultrasonic", 9600), 3000)
    readings: list[int | None] = [None]
    for wait_ms in sensor.measure(readings):
        world.station.clock.spend(wait_ms)
    assert readings == [1750]


def test_a_port_without_a_chip_is_silent() -> None:
    sensor = Ultrasonic(World().hal().uart("ultrasonic", 9600), 3000)
    readings: list[int | None] = [7]
    list(sensor.measure(readings))
    assert readings == [None]
    assert sensor.errors == 1


def test_the_accelerometer_wakes_a_sleeping_station_by_itself_and_few_steps_pass_until_then() -> None:
    world = World()
    station = world.station
    chip = Lis3dhChip(
        lambda t: (0.5, 0.0, 0.87) if t >= TILTED_S else (0.0, 0.0, 1.0),
        steady_until=lambda t: TILTED_S if t < TILTED_S else math.inf,
        seed=1,
    )
    station.attach(chip, motion=chip.int1)

    def sleeps(node: Node) -> None:
        hal = station.hal
        assert hal is not None
        driver = Lis3dh(hal.i2c("sensors"), 1, low_power=True)
        driver.wake_on(1, X_HIGH, 259, 4000)
        driver.start()
        found.append((hal.wake, driver.sources()))

        def step() -> int:
            raise SimDeepSleep(0, ("motion",))

        setattr(node, "step", step)  # noqa: B010  (a method is not assigned to, says the type checker)

    found: list[tuple[int, int]] = []
    station.on_start = sleeps
    world.hal()
    steps = 0
    while len(found) < 2:
        world.now_ms += station.step()
        steps += 1
        assert steps < 60, "polled instead of waited"
    assert found == [(0, 0), (WAKE_PIN, ACTIVE | X_HIGH)]
    assert 4 <= world.now_ms / 1000 - TILTED_S <= 7
