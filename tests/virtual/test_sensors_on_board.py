"""The I2C drivers on real MicroPython: set up, through every fault of the bus and their chips, and back."""

from __future__ import annotations

from pathlib import Path

from boards.virtual.board import INPUT_PINS, SENSORS_I2C
from boards.virtual.chips.bmp390 import Bmp390
from boards.virtual.chips.lis3dh import Lis3dh
from boards.virtual.chips.registers import FAULTS, RegisterChip
from tests.virtual.conftest import MakeBoard, lines

ROOT = Path(__file__).resolve().parent.parent.parent


class Stage(RegisterChip):
    """On a bus of its own: the node says which fault the others shall have, so nothing depends on timing."""

    def __init__(self, *chips: RegisterChip) -> None:
        super().__init__(0x50)
        self._chips = chips

    def _power_on(self) -> None:
        pass

    def _write(self, register: int, data: bytes) -> None:
        for chip in self._chips:
            chip.fault = FAULTS[data[0]] if data[0] < len(FAULTS) else None


MAIN = f"""
    import sys
    sys.path.append({str(ROOT)!r})
    import machine, time
    from firmware.sensors.lis3dh import Lis3dh
    from firmware.sensors.bmp390 import Bmp390
    stage = machine.I2C(1)
    i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=400000)
    lis, bmp = Lis3dh(i2c, 100), Bmp390(i2c)
    drained = Lis3dh(i2c, 100, fifo=True, address=0x19)
    xyz, samples = [0] * 3, [0] * 96

    def cycle():
        time.sleep_ms(50)
        found = lis.latest(xyz) and abs(xyz[2] - 1000) < 20, drained.drain(samples) > 0, bmp.pressure() is not None
        return tuple(int(one) for one in found)

    def cycles(count):
        sums = [0, 0, 0]
        for _ in range(count):
            for i, one in enumerate(cycle()):
                sums[i] += one
        return sums

    cycle()
    for fault in range({len(FAULTS)}):
        before = cycles(10)
        errors = lis.errors, drained.errors, bmp.errors
        stage.writeto_mem(0x50, 0, bytes((fault,)))
        cycles(2)
        ill = cycles(58)
        counted = [int(now > then) for now, then in zip((lis.errors, drained.errors, bmp.errors), errors)]
        stage.writeto_mem(0x50, 0, b"\\xff")
        cycles(4)
        print(fault, before, ill, counted, cycles(10))
"""


def test_every_fault_is_counted_costs_its_readings_only_and_passes(board: MakeBoard) -> None:
    one = board(MAIN, time_scale=20)
    lis = Lis3dh(lambda _: (0.0, 0.0, 1.0), seed=1)
    fifo = Lis3dh(lambda _: (0.0, 0.0, 1.0), seed=2, address=0x19)
    bmp = Bmp390(lambda _: (101_325.0, 20.0), seed=1)
    for chip in (lis, fifo, bmp):
        one.attach_i2c(SENSORS_I2C, chip)
    one.attach_i2c(1, Stage(lis, fifo, bmp))
    one.power_on()
    one.wait("halted", timeout_s=60)
    found = lines(one)
    assert len(found) == len(FAULTS), found
    for fault, line in zip(FAULTS, found, strict=True):
        _, before, ill, counted, after = eval(line.replace(" [", ", ["))  # noqa: S307  (five lists of numbers)
        assert before == after == [10, 10, 10], (fault, line)
        if fault in ("absent", "hangs", "garbage"):
            assert ill == [0, 0, 0], (fault, line)
        assert counted == ([1, 0, 1] if fault == "frozen" else [1, 1, 1]), (fault, line)


WATCH = f"""
    import sys
    sys.path.append({str(ROOT)!r})
    from firmware.hal.board import Board
    from firmware.sensors.lis3dh import X_HIGH, Y_HIGH, Lis3dh
    hal = Board()
    hal.configure("virtual")
    driver = Lis3dh(hal.i2c("sensors"), 10, low_power=True)
    driver.wake_on(1, X_HIGH | Y_HIGH, 259, 3000)
    print(hal.wake, driver.start(), driver.sources())
    if hal.wake != 2:
        hal.deep_sleep(3600000, ("motion",))
"""


def test_the_accelerometer_ends_the_deep_sleep_of_a_real_node_when_it_is_tilted(board: MakeBoard) -> None:
    """Shaken for two seconds after a minute, tilted for good after two: only the second wakes it."""
    one = board(WATCH, time_scale=100)
    begin_s = one.now_s()

    def felt(t: float) -> tuple[float, float, float]:
        passed_s = t - begin_s
        if passed_s > 120:
            return (0.5, 0.0, 0.866)
        return (0.5, 0.3, 0.7) if 60 < passed_s < 62 else (0.0, 0.0, 1.0)

    def steady_until(t: float) -> float:
        return next((begin_s + at for at in (60.0, 62.0, 120.0) if t <= begin_s + at), t + 1e9)

    chip = Lis3dh(felt, steady_until=steady_until, seed=1)
    one.attach_i2c(SENSORS_I2C, chip)
    one.wire(chip.int1, INPUT_PINS["motion"])
    one.power_on()
    one.wait("boot", 2)
    one.wait("halted")
    assert lines(one) == ["0 True 0", "2 True 66"], "66: active, x high"
    assert 122 < one.now_s() - begin_s < 140
