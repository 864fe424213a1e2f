"""The accelerometer: its driver against the register-level chip, and the chip against what ST says of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from boards.virtual.chips.lis3dh import Lis3dh as Chip
from firmware.sensors.lis3dh import (
    ACTIVE,
    AND,
    MOVEMENT,
    POSITION,
    STOPPED_AFTER,
    X_HIGH,
    X_LOW,
    Y_HIGH,
    Y_LOW,
    Z_HIGH,
    Z_LOW,
    Lis3dh,
)
from tests.sensors.bench import START_MS, I2cBench, since_start

FLAT = (0.0, 0.0, 1.0)


class Rig(I2cBench):
    """A chip that feels `pose`, or what `move` says, and its driver."""

    def __init__(self, rate_hz: int = 10, noise: float = 1.0, seed: int = 1, **options: Any) -> None:
        self.pose: tuple[float, float, float] = FLAT
        self.still_until_s = math.inf
        self.chip = Chip(
            lambda _: self.pose, steady_until=lambda t: max(t, self.still_until_s), seed=seed, noise=noise
        )
        super().__init__(self.chip)
        self.driver = Lis3dh(self.i2c, rate_hz, **options)
        self.rises: list[float] = []
        self.chip.int1.connect(lambda level: self.rises.append(self.t_s) if level else None)

    def turn(self, *pose: float) -> None:
        x, y, z = pose
        self.clock.run_due()
        self.chip._catch_up()
        self.pose = (x, y, z)
        self.chip.changed()

    def sample(self) -> list[int]:
        xyz = [0, 0, 0]
        assert self.driver.latest(xyz), "nothing new"
        return xyz


class Wire:
    """A chip that is only bytes: what it answers from each register on."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers

    def readfrom_mem_into(self, address: int, register: int, buffer: Any) -> None:
        data = self.answers[register & 0x7F]
        buffer[:] = data[: len(buffer)]

    def writeto_mem(self, address: int, register: int, data: Any) -> None:
        self.answers[register & 0x7F] = bytes(data)


@pytest.mark.parametrize(
    ("low", "high", "mg"),
    [(0x00, 0x00, 0), (0xE0, 0x15, 350), (0x00, 0x40, 1024), (0x20, 0xEA, -350), (0x00, 0xC0, -1024)],
)
def test_output_registers_mean_what_the_application_note_says(low: int, high: int, mg: int) -> None:
    """AN3308 (revision 1), table 7: full scale 2 g, little endian."""
    driver = Lis3dh(Wire({0x27: bytes((0x0F, low, high, 0, 0, low, high))}), 100)
    driver.is_ready = True
    xyz = [1, 1, 1]
    assert driver.latest(xyz)
    assert xyz == [mg, 0, mg]


@pytest.mark.parametrize("range_g", [2, 4, 8, 16])
@pytest.mark.parametrize("low_power", [False, True])
def test_a_pose_is_read_in_milli_g_in_every_range_and_mode(range_g: int, low_power: bool) -> None:
    rig = Rig(range_g=range_g, low_power=low_power)
    rig.pose = (0.5, -0.7, 0.52)
    assert rig.driver.start()
    rig.pass_s(0.3)
    step = (12 if range_g == 16 else range_g // 2) * (16 if low_power else 1)
    for got, felt in zip(rig.sample(), (500, -700, 520), strict=True):
        assert abs(got - felt) <= step + 5
    assert rig.driver.errors == 0


def test_samples_come_at_the_rate_within_the_tolerance_of_the_chip() -> None:
    rig = Rig(rate_hz=100)
    rig.driver.start()
    xyz = [0, 0, 0]
    new = 0
    while rig.t_s < 10:
        rig.pass_s(0.001)
        new += rig.driver.latest(xyz)
    assert 985 <= new <= 1015
    assert rig.driver.errors == 0


def test_noise_is_that_of_the_data_sheet_and_comes_from_the_seed() -> None:
    def deviations(seed: int) -> list[int]:
        rig = Rig(rate_hz=100, seed=seed)
        rig.driver.start()
        out = []
        for _ in range(400):
            rig.pass_s(0.011)
            out.append(rig.sample()[2] - 1000)
        return out

    found = deviations(1)
    assert found == deviations(1) != deviations(2)
    root = math.sqrt(sum(d * d for d in found) / len(found))
    assert 0.5 < root < 1.3, "220 ug per root of Hz over a ninth of 100 Hz, and the steps"


# ---- FIFO ----------------------------------------------------------------------------------------------------------


def test_the_fifo_hands_over_every_sample_once_and_in_order() -> None:
    rig = Rig(rate_hz=100, fifo=True, noise=0.0)
    ramp = Chip(lambda t: ((since_start(t) % 2) - 1.0, 0.0, 1.0), noise=0.0, address=0x19)
    rig.bus.attach(ramp, rig.clock)
    driver = Lis3dh(rig.i2c, 100, fifo=True, address=0x19)
    driver.start()
    samples = [0] * 96
    seen: list[int] = []
    while rig.t_s < 1.9:
        rig.pass_s(0.1)
        count = driver.drain(samples)
        assert 9 <= count <= 12
        seen += samples[: 3 * count : 3]
    assert 185 <= len(seen) <= 195
    assert all(4 <= after - before <= 16 for before, after in itertools.pairwise(seen)), "10 mg a step"
    assert driver.overruns == driver.errors == 0


def test_a_fifo_that_is_read_too_late_gives_the_newest_32_and_says_that_some_are_lost() -> None:
    rig = Rig(rate_hz=100, fifo=True)
    rig.driver.start()
    samples = [0] * 96
    rig.pass_s(1.0)
    rig.turn(0.5, 0.0, 0.866)
    rig.pass_s(0.105)
    assert rig.driver.drain(samples) == 32
    assert rig.driver.overruns == 1
    turned = [x > 250 for x in samples[::3]]
    assert 9 <= sum(turned) <= 12
    assert turned == sorted(turned), "the turned ones last"


def test_the_watermark_raises_the_pin_until_enough_is_read() -> None:
    rig = Rig(rate_hz=100, fifo=True)
    rig.driver.start()
    rig.i2c.writeto_mem(0x18, 0x2E, bytes((0x80 | 9,)))
    rig.i2c.writeto_mem(0x18, 0x22, b"\x04")
    began_s = rig.t_s
    rig.pass_s(0.2)
    assert len(rig.rises) == 1
    assert 0.095 <= rig.rises[0] - began_s <= 0.115, "ten samples"
    rig.driver.drain([0] * 96)
    assert rig.chip.int1.level == 0


# ---- interrupts ----------------------------------------------------------------------------------------------------


def tilted(degrees: float) -> tuple[float, float, float]:
    return (math.sin(math.radians(degrees)), 0.0, math.cos(math.radians(degrees)))


@pytest.mark.parametrize(
    ("degrees", "rises"), [(10, False), (14, False), (17, True), (40, True), (140, True)]
)
def test_a_tilt_that_lasts_raises_the_pin_and_holds_it_until_it_is_asked(degrees: float, rises: bool) -> None:
    rig = Rig()
    rig.driver.wake_on(1, X_HIGH | Y_HIGH, 259, 3000)
    assert rig.driver.start()
    rig.pass_s(10)
    rig.turn(*tilted(degrees))
    rig.pass_s(20)
    assert bool(rig.rises) == rises
    if rises:
        assert 2.9 <= rig.rises[0] - 10 <= 3.3
        rig.turn(*FLAT)
        rig.pass_s(5)
        assert rig.chip.int1.level == 1, "latched"
        assert rig.driver.sources() & ACTIVE
        assert rig.chip.int1.level == 0
        assert rig.driver.sources() & ACTIVE == 0


def test_a_shake_shorter_than_the_duration_raises_nothing() -> None:
    rig = Rig(rate_hz=50)
    shake = {"until_s": 0.0}

    def felt(t: float) -> tuple[float, float, float]:
        return (
            (0.6 * math.sin(90 * t), 0.4, 1.0) if since_start(t) < shake["until_s"] else FLAT
        )  # 0.4 g all the time, as in a curve

    chip = Chip(felt, address=0x19, seed=3)
    rig.bus.attach(chip, rig.clock)
    driver = Lis3dh(rig.i2c, 50, address=0x19)
    driver.wake_on(1, X_HIGH | Y_HIGH, 250, 2000)
    driver.start()
    for length_s, expected in ((1.8, 0), (2.3, 1)):
        shake["until_s"] = rig.t_s + length_s
        rig.pass_s(5)
        assert chip.int1.level == expected


def test_behind_the_filter_gravity_does_not_count_and_motion_does() -> None:
    rig = Rig(rate_hz=50)
    rig.pose = tilted(60)
    rig.driver.wake_on(1, X_HIGH | Y_HIGH | Z_HIGH, 64, 0, filtered=True)
    rig.driver.start()
    rig.pass_s(5)
    assert rig.rises == []
    rig.turn(*tilted(75))
    rig.pass_s(1)
    assert len(rig.rises) == 1


@pytest.mark.parametrize(
    ("pose", "source"),
    [
        ((0, 0, 1), Z_HIGH),
        ((0, 0, -1), Z_LOW),
        ((1, 0, 0), X_HIGH),
        ((-1, 0, 0), X_LOW),
        ((0, 1, 0), Y_HIGH),
        ((0, -1, 0), Y_LOW),
        ((0.7, 0, 0.7), 0),
    ],
)
def test_the_orientation_logic_knows_the_six_directions(
    pose: tuple[float, float, float], source: int
) -> None:
    rig = Rig()
    rig.pose = pose
    rig.driver.wake_on(2, POSITION | 0x3F, 560, 0)
    rig.driver.start()
    rig.pass_s(1)
    found = rig.driver.sources() >> 8
    if source:
        assert found == ACTIVE | source
    else:
        assert found & ACTIVE == 0, "between two of them"


def test_movement_is_told_once_when_another_direction_is_reached() -> None:
    rig = Rig()
    rig.driver.wake_on(1, MOVEMENT | 0x3F, 560, 0)
    rig.driver.start()
    rig.pass_s(1)
    rig.driver.sources()
    rig.pass_s(5)
    rig.driver.sources()
    count = len(rig.rises)
    rig.turn(1, 0, 0)
    rig.pass_s(5)
    assert len(rig.rises) == count + 1
    assert rig.driver.sources() == ACTIVE | X_HIGH


def test_free_fall_is_all_axes_low_at_once() -> None:
    rig = Rig(rate_hz=100)
    rig.driver.wake_on(1, AND | X_LOW | Y_LOW | Z_LOW, 350, 30)
    rig.driver.start()
    rig.pass_s(1)
    rig.turn(0, 0, 0.1)
    rig.pass_s(0.025)
    assert rig.rises == []
    rig.pass_s(0.05)
    assert len(rig.rises) == 1


def test_4d_ignores_the_z_axis() -> None:
    rig = Rig()
    rig.driver.wake_on(1, POSITION | 0x3F, 560, 0)
    rig.driver.start()
    rig.i2c.writeto_mem(0x18, 0x24, bytes((0x08 | 0x04,)))
    rig.driver.sources()
    rig.pass_s(1)
    assert rig.driver.sources() & ACTIVE == 0
    rig.turn(0.8, 0, 0.6)
    rig.pass_s(1)
    assert rig.driver.sources() & 0xFF == ACTIVE | X_HIGH


# ---- what costs nothing, and what goes wrong -----------------------------------------------------------------------


def test_years_of_lying_still_cost_nothing_and_the_end_of_stillness_is_seen() -> None:
    rig = Rig()
    rig.driver.wake_on(1, X_HIGH | Y_HIGH, 259, 2000)
    rig.driver.wake_on(2, POSITION | Z_LOW, 560, 0)
    rig.driver.start()
    rig.pass_s(60)
    before = rig.chip.samples
    end_s = rig.t_s + 3 * 365 * 86_400
    rig.still_until_s = START_MS / 1000 + end_s
    rig.pass_s(3 * 365 * 86_400)
    rig.turn(*tilted(30))
    rig.pass_s(5)
    assert rig.chip.samples - before < 200
    assert len(rig.rises) == 1
    assert 1.9 <= rig.rises[0] - end_s <= 2.3


def test_skipping_and_computing_every_sample_give_the_same_interrupts() -> None:
    def rises(promises: bool) -> list[float]:
        poses = (
            (0, FLAT),
            (100, tilted(20)),
            (101, FLAT),
            (300, tilted(60)),
            (500, FLAT),
            (900, tilted(-25)),
        )

        def at(t: float) -> int:
            return max(i for i, (begin, _) in enumerate(poses) if begin <= since_start(t))

        def steady(t: float) -> float:
            following = at(t) + 1
            return START_MS / 1000 + poses[following][0] if following < len(poses) else math.inf

        chip = Chip(lambda t: poses[at(t)][1], steady_until=steady if promises else lambda t: t, seed=4)
        bench = I2cBench(chip)
        driver = Lis3dh(bench.i2c, 10)
        found: list[float] = []
        chip.int1.connect(lambda level: found.append(bench.t_s) if level else None)
        driver.wake_on(1, X_HIGH | Y_HIGH, 259, 2000)
        driver.start()
        for _ in range(200):
            bench.pass_s(5)
            driver.sources()
        assert (chip.samples < 2000) == promises
        return found

    skipped, computed = rises(True), rises(False)
    assert len(skipped) == len(computed) > 2
    assert skipped == pytest.approx(computed, abs=0.01)


def test_a_wake_finds_what_was_latched_and_a_chip_that_is_set_up_is_left_alone() -> None:
    rig = Rig()
    rig.driver.wake_on(1, X_HIGH | Y_HIGH, 259, 1000)
    rig.driver.start()
    rig.turn(*tilted(30))
    rig.pass_s(3)
    again = Lis3dh(rig.i2c, 10)
    again.wake_on(1, X_HIGH | Y_HIGH, 259, 1000)
    assert again.start()
    assert again.sources() == ACTIVE | X_HIGH
    other = Lis3dh(rig.i2c, 10)
    other.wake_on(1, X_HIGH | Y_HIGH, 500, 1000)
    assert other.start(), "another setting is written"
    rig.pass_s(3)
    assert other.sources() == ACTIVE | X_HIGH


def test_a_dip_of_the_supply_is_noticed_and_mended() -> None:
    rig = Rig()
    rig.driver.start()
    rig.chip._power_on()
    assert not rig.driver.is_intact()
    xyz = [0, 0, 0]
    rig.driver.latest(xyz)
    rig.pass_s(0.3)
    assert rig.driver.latest(xyz)
    assert rig.driver.is_intact()
    assert rig.driver.errors == 1


def test_a_value_that_never_changes_is_a_chip_that_has_stopped() -> None:
    rig = Rig()
    rig.driver.start()
    rig.chip.fault = "frozen"
    for _ in range(STOPPED_AFTER + 2):
        rig.pass_s(0.2)
        rig.driver.latest([0, 0, 0])
    assert rig.driver.errors >= 1
    rig.chip.fault = None
    errors = rig.driver.errors
    for _ in range(3 * STOPPED_AFTER):
        rig.pass_s(0.2)
        rig.driver.latest([0, 0, 0])
    assert rig.driver.errors == errors


def test_read_only_registers_stay_and_the_reset_values_are_those_of_the_data_sheet() -> None:
    rig = Rig()
    values = bytearray(0x40)
    rig.i2c.readfrom_mem_into(0x18, 0x80, values)
    expected = {0x0F: 0x33, 0x1E: 0x10, 0x20: 0x07, 0x2F: 0x20}
    assert {at: value for at, value in enumerate(values) if value} == expected
    rig.i2c.writeto_mem(0x18, 0x0F, b"\x00")
    one = bytearray(2)
    rig.i2c.readfrom_mem_into(0x18, 0x0F, one)
    assert one == b"\x33\x33", "without the top bit of the address it does not move on"
