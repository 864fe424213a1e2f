"""The register maps of real sondes against simulated ones that were described apart from them."""

from __future__ import annotations

import pytest

from boards.virtual.chips import modbus_sonde
from boards.virtual.chips.modbus_sonde import ModbusSonde
from firmware.sensors import sonde_sen0710, sonde_yosemitech
from firmware.sensors.modbus_rtu import MAX_REGISTERS, Master, crc16
from firmware.sensors.sonde import RegisterMap, Sonde
from hil_tests.world.sim_hal import LocalClock, SondeLine, _Ticks, _Uart
from protocols.wire.readings import schema
from tests.firmware.street import CALM
from tests.sensors.bench import START_MS

MAPS = {
    "yosemitech": (sonde_yosemitech.REGISTER_MAP, modbus_sonde.YOSEMITECH),
    "sen0710": (sonde_sen0710.REGISTER_MAP, modbus_sonde.SEN0710),
}
RIVER = 1


def bench(
    register_map: RegisterMap, chip_map: modbus_sonde.RegisterMap
) -> tuple[Sonde, ModbusSonde, LocalClock]:
    clock = LocalClock(lambda: START_MS)
    line = SondeLine(clock)
    line.set_baudrate(register_map.baud_rate)
    chip = ModbusSonde(chip_map, lambda _: CALM, seed=5)
    chip.connect(line)
    uart = _Uart(clock, line, chip)
    master = Master(uart, _Ticks(clock, 0.0), register_map.baud_rate)  # type: ignore[arg-type]
    return Sonde(master, register_map, RIVER), chip, clock


@pytest.mark.parametrize("name", MAPS)
def test_every_channel_of_a_map_is_read_right(name: str) -> None:
    register_map, chip_map = MAPS[name]
    sonde, chip, clock = bench(register_map, chip_map)
    readings: list[int | None] = [None] * sonde.count
    for wait_ms in sonde.measure(readings):
        clock.spend(wait_ms)
    decimals = {series.name: series.decimals for series in schema(RIVER).series}
    expected = [round(CALM[c.measurand] * 10 ** decimals[c.measurand]) for c in register_map.channels]
    assert readings == expected
    assert sonde.errors == 0
    assert chip.requests == len(register_map.blocks) + sum(
        action is not None for action in (register_map.start, register_map.stop)
    )


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_whole(name: str) -> None:
    register_map, _ = MAPS[name]
    assert 1 <= register_map.address <= 247
    for block in register_map.blocks:
        assert 1 <= block.registers <= MAX_REGISTERS
    for channel in register_map.channels:
        assert channel.offset + len(channel.order.bytes) // 2 <= register_map.blocks[channel.block].registers


def test_a_sonde_at_another_baud_rate_does_not_answer() -> None:
    register_map, chip_map = MAPS["sen0710"]
    sonde, _, clock = bench(register_map._replace(baud_rate=9600), chip_map)
    readings: list[int | None] = [0]
    for wait_ms in sonde.measure(readings):
        clock.spend(wait_ms)
    assert readings == [None]
    assert sonde.errors > 0


def test_the_request_to_the_turbidity_sensor_is_the_one_of_modbus() -> None:
    request = bytearray(b"\x01\x03\x00\x00\x00\x01")
    assert crc16(request, 0, 6) == 0x0A84, "84 0A on the wire"
