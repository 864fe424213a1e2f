"""The barometer: compensation against double precision, the driver against the register-level chip."""

from __future__ import annotations

import itertools
import math
import random
import struct
import subprocess
from typing import Any

import pytest

from boards.virtual.chips.bmp390 import TRIMMING, Formulas
from boards.virtual.chips.bmp390 import Bmp390 as Chip
from boards.virtual.rom_image import micropython
from firmware.sensors.bmp390 import STOPPED_AFTER, Bmp390, compensate
from tests.sensors.bench import I2cBench, since_start
from tests.wire.interpreters import ROOT

AIR = (101_325.0, 21.5)


class Rig(I2cBench):
    def __init__(self, *, noise: float = 1.0, seed: int = 1, **options: Any) -> None:
        self.air = AIR
        self.chip = Chip(lambda _: self.air, seed=seed, noise=noise)
        super().__init__(self.chip)
        self.driver = Bmp390(self.i2c, **options)

    def pressures(self, seconds: float) -> list[int]:
        found = []
        end_s = self.t_s + seconds
        while self.t_s < end_s:
            self.pass_s(0.005)
            if (pressure := self.driver.pressure()) is not None:
                found.append(pressure)
        return found


def trimmings(seed: int) -> list[bytes]:
    """Chips that differ as chips do: each coefficient by some per cent."""
    rng = random.Random(seed)
    made = [TRIMMING]
    for _ in range(9):
        values = struct.unpack("<HHbhhbbHHbbhbb", TRIMMING)
        made.append(struct.pack("<HHbhhbbHHbbhbb", *(round(v * rng.uniform(0.97, 1.03)) for v in values)))
    return made


def test_a_chip_that_somebody_has_measured_with() -> None:
    """Calibration bytes and a reading of a BMP388, which has the same formulas, as the tests of the public Elixir
    library bmp3xx have them, with the result of the formulas in double precision."""
    coefficients = struct.unpack("<HHbhhbbHHbbhbb", TRIMMING)
    assert coefficients == (
        27_427, 18_776, -10, -164, -2866, 35, 0, 25_578, 31_086, -13, -10, 17_322, 18, -60,
    )  # fmt: skip
    reading = bytes.fromhex("979f6d73d885")
    raw_p, raw_t = int.from_bytes(reading[:3], "little"), int.from_bytes(reading[3:], "little")
    formulas = Formulas()
    celsius = formulas.temperature(raw_t)
    assert celsius == pytest.approx(30.499314453874284, abs=1e-9)
    assert formulas.pressure(raw_p, celsius) == pytest.approx(100_876.00634692199, abs=1e-6)
    assert compensate(coefficients, raw_p, raw_t) == (10_087_601, 3050)


def cases(seed: int) -> list[tuple[int, int, bytes]]:
    rng = random.Random(seed)
    made = []
    for trimming in trimmings(seed):
        formulas = Formulas(trimming)
        for _ in range(100):
            raw_p, raw_t = formulas.raw(rng.uniform(30_000, 125_000), rng.uniform(-40, 85))
            made.append((round(raw_p), round(raw_t), trimming))
    return made


def test_whole_numbers_agree_with_double_precision_over_the_whole_range_on_both_interpreters() -> None:
    seed = 390
    lines = []
    worst_pa = worst_c = 0.0
    expected = []
    for raw_p, raw_t, trimming in cases(seed):
        coefficients = struct.unpack("<HHbhhbbHHbbhbb", trimming)
        pressure, temperature = compensate(coefficients, raw_p, raw_t)
        formulas = Formulas(trimming)
        celsius = formulas.temperature(raw_t)
        worst_pa = max(worst_pa, abs(pressure / 100 - formulas.pressure(raw_p, celsius)))
        worst_c = max(worst_c, abs(temperature / 100 - celsius))
        lines.append(" ".join(map(str, (raw_p, raw_t, *coefficients))))
        expected.append(f"{pressure} {temperature}")
    print(f"bmp390: worst_pa={worst_pa:.4f} worst_c={worst_c:.4f} cases={len(lines)} seed={seed}")
    assert worst_pa < 0.02, f"seed {seed}"
    assert worst_c < 0.006, f"seed {seed}"
    done = subprocess.run(
        [micropython(), "tests/sensors/mpy_bmp390.py"],
        cwd=ROOT,
        env={"MICROPYPATH": str(ROOT)},
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[:-1] == expected


def test_a_step_of_a_metre_is_seen_through_a_reading() -> None:
    """The smallest step of the raw reading is far below a tenth of a pascal."""
    formulas = Formulas()
    raw_p, raw_t = (round(raw) for raw in formulas.raw(*AIR))
    coefficients = struct.unpack("<HHbhhbbHHbbhbb", TRIMMING)
    steps = [compensate(coefficients, raw_p + i, raw_t)[0] for i in range(50)]
    differences = [b - a for a, b in itertools.pairwise(steps)]
    assert all(abs(d) <= 5 for d in differences)
    assert abs(steps[49] - steps[0]) > 20, "and none is lost"


@pytest.mark.parametrize("pascal", [30_100.0, 67_000.0, 101_325.0, 124_900.0])
@pytest.mark.parametrize("celsius", [-39.0, 0.0, 25.0, 84.0])
def test_the_air_of_the_world_is_read_back(pascal: float, celsius: float) -> None:
    rig = Rig(noise=0.0)
    rig.air = (pascal, celsius)
    found = rig.pressures(0.2)
    assert found
    for pressure in found:
        assert abs(pressure / 100 - pascal) < 0.1
    assert abs(rig.driver.temperature / 100 - celsius) < 0.01
    assert rig.driver.errors == 0


@pytest.mark.parametrize(
    ("rate_hz", "oversampling", "expected"),
    [(25, 8, 100), (50, 8, 200), (200, 1, 800), (6, 32, 25)],
)
def test_readings_come_at_the_rate_and_each_once(rate_hz: int, oversampling: int, expected: int) -> None:
    rig = Rig(rate_hz=rate_hz, oversampling=oversampling)
    found = len(rig.pressures(4.0))
    assert abs(found - expected) <= max(2, expected // 12)


def test_a_rate_that_the_oversampling_does_not_allow_is_refused_before_the_chip_does() -> None:
    with pytest.raises(ValueError, match="takes 19 ms: too long for 100 Hz"):
        Rig(rate_hz=100, oversampling=8)
    rig = Rig()
    rig.driver.start()
    rig.i2c.writeto_mem(0x76, 0x1D, b"\x00")
    error = bytearray(1)
    rig.i2c.readfrom_mem_into(0x76, 0x02, error)
    assert error[0] == 0x04


def test_oversampling_and_smoothing_take_noise_away() -> None:
    def deviation(**options: Any) -> float:
        found = Rig(**options).pressures(8.0)[20:]
        mean = sum(found) / len(found)
        return math.sqrt(sum((p - mean) ** 2 for p in found) / len(found)) / 100

    plain, over, smooth = (
        deviation(oversampling=1),
        deviation(oversampling=16),
        deviation(oversampling=1, smoothing=3),
    )
    assert 1.5 < plain < 2.5
    assert over < plain / 3
    assert smooth < plain / 2


def test_a_measurement_on_demand() -> None:
    rig = Rig(rate_hz=0, oversampling=16)
    assert rig.driver.pressure() is None
    for _ in range(3):
        rig.driver.force()
        assert rig.driver.pressure() is None, "not so soon"
        rig.pass_s(rig.driver.conversion_ms / 1000)
        pressure = rig.driver.pressure()
        assert pressure is not None
        assert abs(pressure / 100 - 101_325) < 5
        assert rig.driver.pressure() is None, "once"
    assert rig.driver.errors == 0


def test_what_the_chip_is_not_made_for_is_no_reading() -> None:
    rig = Rig(noise=0.0)
    rig.air = (20_000.0, 20.0)
    assert rig.pressures(1.0) == []
    assert rig.driver.errors > 10


def test_a_dip_of_the_supply_is_noticed_and_mended() -> None:
    rig = Rig()
    assert rig.pressures(0.5)
    rig.chip._power_on()
    rig.pressures(5.0)
    assert rig.pressures(0.5)
    assert rig.driver.errors == 1


def test_a_value_that_never_changes_is_a_chip_that_has_stopped() -> None:
    rig = Rig()
    rig.pressures(0.5)
    rig.chip.fault = "frozen"
    rig.pressures(STOPPED_AFTER * 0.05)
    assert rig.driver.errors >= 1


def test_a_chip_whose_memory_is_not_loaded_is_no_barometer() -> None:
    bench = I2cBench(Chip(lambda _: AIR, trimming=TRIMMING))
    bench.bus._chips[0x76]._regs[0x31:0x46] = bytes(21)  # type: ignore[attr-defined]
    driver = Bmp390(bench.i2c)
    assert not driver.start()
    assert driver.errors == 1


def test_the_world_may_change_between_samples() -> None:
    bench = I2cBench(Chip(lambda t: (101_325.0 - 12.0 * since_start(t), 20.0), noise=0.0))
    driver = Bmp390(bench.i2c)
    driver.start()
    bench.pass_s(10.0)
    pressure = driver.pressure()
    assert pressure is not None
    assert abs(pressure / 100 - (101_325 - 120)) < 1
