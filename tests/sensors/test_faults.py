"""Every driver through every fault of its chip: no reading or a flag, a count, and the cycle goes on. And back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from boards.virtual.chips import lis3dh as lis3dh_chip
from boards.virtual.chips import modbus_sonde
from boards.virtual.chips.bmp390 import Bmp390 as Bmp390Chip
from boards.virtual.chips.registers import FAULTS as BUS_FAULTS
from boards.virtual.chips.ultrasonic import Ultrasonic as UltrasonicChip
from firmware.sensors.bmp390 import Bmp390
from firmware.sensors.lis3dh import Lis3dh
from firmware.sensors.loop import Loop
from firmware.sensors.sonde import Sonde
from firmware.sensors.supply import Supply
from firmware.sensors.ultrasonic import Ultrasonic
from hil_tests.world.sim_hal import LocalClock, SondeLine, _Uart
from tests.sensors.bench import START_MS, I2cBench
from tests.sensors.test_register_maps import MAPS
from tests.sensors.test_register_maps import bench as sonde_bench

if TYPE_CHECKING:
    from collections.abc import Iterator


class Case:
    """A driver and its chip: cycle() gives a reading, or None; and what it counts."""

    chip: Any
    driver: Any
    clock: LocalClock
    pause_ms = 100

    def cycle(self) -> Any:
        self.clock.spend(self.pause_ms)
        return self.read()

    def read(self) -> Any:
        readings: list[int | None] = [7] * self.driver.count
        waits: Iterator[int] = self.driver.measure(readings)
        for wait_ms in waits:
            self.clock.spend(wait_ms)
        return None if None in readings else readings


class Acceleration(Case):
    def __init__(self, *, fifo: bool = False) -> None:
        self.chip = lis3dh_chip.Lis3dh(lambda _: (0.0, 0.0, 1.0), seed=1)
        bench = I2cBench(self.chip)
        self.clock = bench.clock
        self.fifo = fifo
        self.driver = Lis3dh(bench.i2c, 100, fifo=fifo)

    def read(self) -> Any:
        samples = [0] * 96
        if self.fifo:
            return self.driver.drain(samples) or None
        return samples[:3] if self.driver.latest(samples) else None


class Pressure(Case):
    def __init__(self) -> None:
        self.chip = Bmp390Chip(lambda _: (101_325.0, 20.0), seed=1)
        bench = I2cBench(self.chip)
        self.clock = bench.clock
        self.driver = Bmp390(bench.i2c)

    def read(self) -> Any:
        return self.driver.pressure()


class Water(Case):
    def __init__(self, name: str) -> None:
        self.driver, self.chip, self.clock = sonde_bench(*MAPS[name])
        assert isinstance(self.driver, Sonde)


class Level(Case):
    def __init__(self) -> None:
        self.clock = LocalClock(lambda: START_MS)
        line = SondeLine(self.clock)
        self.chip = UltrasonicChip(lambda _: 800.0, seed=1)
        self.chip.connect(line)
        self.driver = Ultrasonic(_Uart(self.clock, line, self.chip), 4000)


class Analog(Case):
    """The ADC of the board; `fault`: what it does instead."""

    class Chip:
        fault: str | None = None

        def read_mv(self, channel: str) -> int:
            if self.fault == "no_adc":
                raise OSError(errno.EIO)
            return {"broken_wire": 0, "over_range": 2300}.get(self.fault or "", 1200)

    def __init__(self, kind: str) -> None:
        self.clock = LocalClock(lambda: START_MS)
        self.chip = Analog.Chip()
        self.driver = Loop(self.chip, 0, 1000) if kind == "loop" else Supply(self.chip)  # type: ignore[arg-type]


CASES = {
    "lis3dh": Acceleration,
    "lis3dh fifo": lambda: Acceleration(fifo=True),
    "bmp390": Pressure,
    "yosemitech": lambda: Water("yosemitech"),
    "sen0710": lambda: Water("sen0710"),
    "ultrasonic": Level,
    "loop": lambda: Analog("loop"),
    "supply": lambda: Analog("supply"),
}
# What stays within what the sensor can mean is no fault to its driver: quality control finds it (flat line, range).
QUALITY = {
    ("lis3dh fifo", "frozen"),  # ten bits of a car that stands do repeat
    *((name, fault) for name in ("yosemitech", "sen0710") for fault in ("stuck", "out_of_range")),
    ("ultrasonic", "frozen"),
}
# A reading now and then is not wrong: between two refusals, from a late reply, or before a chip counts as stopped.
SOME_READINGS = {"flaky", "slow", "frozen"}
FAULTS_OF = {
    "lis3dh": BUS_FAULTS,
    "lis3dh fifo": BUS_FAULTS,
    "bmp390": BUS_FAULTS,
    "yosemitech": modbus_sonde.FAULTS,
    "sen0710": modbus_sonde.FAULTS,
    "ultrasonic": ("silent", "crc", "garbage", "frozen", "out_of_range"),
    "loop": ("no_adc", "broken_wire", "over_range"),
    "supply": ("no_adc",),
}


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in CASES for fault in FAULTS_OF[name]])
def test_a_fault_is_no_reading_and_a_count_and_passes(name: str, fault: str) -> None:
    case = CASES[name]()
    case.cycle()  # sets it up, where that takes a cycle
    healthy = [case.cycle() for _ in range(5)]
    assert None not in healthy
    assert case.driver.errors == 0

    case.chip.fault = fault
    ill = [case.cycle() for _ in range(60)]
    counted = case.driver.errors
    if (name, fault) in QUALITY:
        assert None not in ill
    else:
        assert counted > 0
        if fault not in SOME_READINGS:
            assert set(ill[2:]) == {None}

    case.chip.fault = None
    for _ in range(4):
        case.cycle()
    counted = case.driver.errors
    well = [case.cycle() for _ in range(5)]
    assert None not in well, "it has recovered by itself"
    assert case.driver.errors == counted
