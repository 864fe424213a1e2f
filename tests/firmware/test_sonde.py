"""A sonde described by a register map: every layout of a number, warm-up, retries, and what a failure costs."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards.virtual.chips import modbus_sonde
from boards.virtual.chips.modbus_sonde import FAULTS, YOSEMITECH, ModbusSonde
from firmware.errors import SensorError
from firmware.nodes.river_station import REGISTER_MAP, SCHEMA_ID
from firmware.sensors import sonde as driver
from firmware.sensors.modbus_rtu import READ_HOLDING, READ_INPUT, Master
from firmware.sensors.sonde import TRIES, Action, Block, Channel, RegisterMap, Sonde
from hil_tests.world.sim_hal import LocalClock, SondeLine, _Ticks, _Uart
from tests.firmware.street import CALM

if TYPE_CHECKING:
    from collections.abc import Callable

SCALED = [748, 837, 980, 1258, 1423, -210, 42, 1234]


class Bench:
    """A sonde on a simulated line, and the driver on the other end."""

    def __init__(
        self, chip_map: modbus_sonde.RegisterMap = YOSEMITECH, register_map: RegisterMap = REGISTER_MAP
    ) -> None:
        self.now_ms = 1_790_000_000_000
        self.clock = LocalClock(lambda: self.now_ms)
        line = SondeLine(self.clock)
        self.chip = ModbusSonde(chip_map, lambda _: CALM, seed=3)
        self.chip.connect(line)
        master = Master(_Uart(self.clock, line, self.chip), _Ticks(self.clock, 0.0))  # type: ignore[arg-type]
        self.sonde = Sonde(master, register_map, SCHEMA_ID)
        self.longest_ms = 0

    def measure(self) -> list[int | None]:
        """One measurement, in as many steps as it takes."""
        readings: list[int | None] = [0] * self.sonde.count
        before_ms = self.clock.now_ms()
        for wait_ms in self.sonde.measure(readings):
            self.longest_ms = max(self.longest_ms, self.clock.now_ms() - before_ms)
            self.clock.spend(wait_ms)
            before_ms = self.clock.now_ms()
        return readings


class FixedMaster:
    """Gives the same registers to every read; ``fails`` says which block does not answer."""

    def __init__(self, blocks: dict[int, bytes], fails: Callable[[int], bool] = lambda _: False) -> None:
        self._blocks = blocks
        self._fails = fails
        self.reads: list[int] = []

    def read(
        self, address: int, function: int, register: int, count: int, reply_count: int = -1
    ) -> memoryview:
        self.reads.append(register)
        if self._fails(register):
            raise SensorError("no answer")
        return memoryview(self._blocks[register])


def one_reading(
    order: driver.Order, raw: bytes, factor: float = 1.0, absent: int | None = None
) -> int | None:
    register_map = RegisterMap(
        "bench",
        1,
        9600,
        None,
        None,
        0,
        (Block(READ_INPUT, 0, 2),),
        (Channel("ph", 0, 0, order, factor, absent),),
    )
    sonde = Sonde(FixedMaster({0: raw.ljust(4, b"\x00")}), register_map, SCHEMA_ID)  # type: ignore[arg-type]
    readings: list[int | None] = [None]
    for _ in sonde.measure(readings):
        pass
    return readings[0]


def test_a_measurement_starts_warms_up_reads_in_the_order_of_the_schema_and_stops() -> None:
    bench = Bench()
    assert bench.measure() == SCALED
    assert bench.sonde.errors == 0
    assert bench.chip.requests == 3
    assert bench.chip._started_s is None, "stopped, to spare the wiper"


def test_a_sonde_that_is_read_before_it_is_warm_gives_nothing() -> None:
    bench = Bench(register_map=REGISTER_MAP._replace(warm_up_ms=500))
    assert bench.measure() == [None] * 8


@pytest.mark.parametrize(
    ("order", "places"),
    [
        (driver.FLOAT_ABCD, (0, 1, 2, 3)),
        (driver.FLOAT_CDAB, (2, 3, 0, 1)),
        (driver.FLOAT_BADC, (1, 0, 3, 2)),
        (driver.FLOAT_DCBA, (3, 2, 1, 0)),
    ],
)
def test_every_order_of_a_float_is_understood(order: driver.Order, places: tuple[int, ...]) -> None:
    big = struct.pack(">f", 8.37)
    assert one_reading(order, bytes(big[i] for i in places)) == 837


@pytest.mark.parametrize(
    ("order", "raw", "expected"),
    [
        (driver.INT16, struct.pack(">h", -75), -75),
        (driver.UINT16, struct.pack(">H", 65000), 65000),
        (driver.INT32_ABCD, struct.pack(">i", -100000), -100000),
        (driver.INT32_CDAB, struct.pack(">i", 100000)[2:] + struct.pack(">i", 100000)[:2], 100000),
    ],
)
def test_integers_are_scaled_by_their_factor(order: driver.Order, raw: bytes, expected: int) -> None:
    assert one_reading(order, raw, factor=0.01) == expected


@given(st.integers(-32768, 32767))
def test_every_int16_in_hundredths_is_kept_exactly(number: int) -> None:
    assert one_reading(driver.INT16, struct.pack(">h", number), factor=0.01) == number


@given(st.floats(width=32))
def test_no_float_raises_and_only_what_a_probe_can_mean_is_a_reading(value: float) -> None:
    reading = one_reading(driver.FLOAT_ABCD, struct.pack(">f", value))
    if math.isnan(value) or abs(value) > 6e6:
        assert reading is None
    elif reading is not None:
        assert reading == math.floor(value * 100 + 0.5) or abs(reading - value * 100) <= 0.5 + 1e-9 * abs(
            reading
        )


def test_a_sondes_own_sign_for_no_value_is_missing() -> None:
    assert one_reading(driver.INT16, b"\x7f\xff", 0.01, absent=0x7FFF) is None


def test_a_block_that_stays_silent_costs_its_own_readings_after_a_few_tries() -> None:
    register_map = RegisterMap(
        "two blocks",
        1,
        9600,
        None,
        None,
        0,
        (Block(READ_INPUT, 10, 1), Block(READ_INPUT, 20, 1)),
        (Channel("ph", 0, 0, driver.INT16, 0.01, None), Channel("level", 1, 0, driver.INT16, 0.1, None)),
    )
    master = FixedMaster({10: b"\x03\x45\x00\x00", 20: b"\x04\xd2\x00\x00"}, lambda register: register == 10)
    sonde = Sonde(master, register_map, SCHEMA_ID)  # type: ignore[arg-type]
    readings: list[int | None] = [0, 0]
    waits = list(sonde.measure(readings))
    assert readings == [None, 1234]
    assert master.reads == [10] * TRIES + [20]
    assert sonde.errors == TRIES
    assert all(wait >= 0 for wait in waits)


def test_one_lost_reply_is_made_good_by_a_retry() -> None:
    tries: list[int] = []

    def fails(register: int) -> bool:
        tries.append(register)
        return len(tries) == 1

    bench_map = REGISTER_MAP._replace(start=None, stop=None)
    blocks = {
        0x2601: b"".join(
            struct.pack("<f", value) for value in (9.8, 142.3, 1.258, 8.37, 7.48, -210, 0.42, 123.4)
        )
    }
    sonde = Sonde(FixedMaster(blocks, fails), bench_map, SCHEMA_ID)  # type: ignore[arg-type]
    readings: list[int | None] = [0] * 8
    for _ in sonde.measure(readings):
        pass
    assert readings == SCALED
    assert sonde.errors == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_ends_as_missing_readings_and_never_as_an_error(fault: str) -> None:
    bench = Bench()
    bench.chip.fault = fault
    readings = bench.measure()
    assert bench.longest_ms <= 400, "one transaction between two steps"
    if fault in ("silent", "crc", "garbage", "exception"):
        assert readings == [None] * 8
        assert bench.sonde.errors >= TRIES
    elif fault == "stuck":
        assert readings == SCALED
    bench.chip.fault = None
    bench.clock.spend(2000)
    assert bench.measure() == SCALED


def test_a_start_that_is_written_rather_than_read_works_too() -> None:
    written = modbus_sonde.RegisterMap(
        "written", YOSEMITECH.channels, functions=(3, 6), start=0x10, stop=0x11, warm_up_s=1.0
    )
    register_map = REGISTER_MAP._replace(
        start=Action(6, 0x10, 1, 0), stop=Action(6, 0x11, 1, 0), blocks=(Block(READ_HOLDING, 0x2601, 16),)
    )
    # This sonde keeps conductivity in mS/cm as the other does.
    assert Bench(written, register_map).measure() == SCALED
