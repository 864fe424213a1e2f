"""Simulated Modbus devices that obey a profile: registers where it says, with values in its ranges that drift."""

from __future__ import annotations

import random

from gateway.profile_library import Library
from gateway.profiles import COIL, DISCRETE, HOLDING, INPUT, ModbusPoint, ModbusProfile
from hil_tests.world.modbus_slave import Manner, Slave
from protocols import fields
from protocols.measurands import registry

TABLES = {COIL: 1, DISCRETE: 2, HOLDING: 3, INPUT: 4}
# What a meter in a street would show; anything else starts in the lower part of its range.
USUAL = {
    "voltage": 231.4,
    "current": 4.2,
    "active_power": 950.0,
    "frequency": 50.02,
    "power_factor": 0.97,
    "level": 142.0,
    "distance": 3.58,
    "air_temperature": 21.0,
}


def slave(profile_name: str, unit: int, rng: random.Random, turnaround_s: float = 0.01) -> Slave:
    """A device of a shipped profile."""
    profile = Library().get(profile_name).modbus
    assert profile is not None
    one = Slave(unit, turnaround_s=turnaround_s, seed=rng.randrange(1 << 30))
    for point in profile.point:
        low, high = (0.0, 1.0) if point.type == "bit" else fields.limits(profile.form(point))
        put(one, profile, point, min(max(_start(point, rng), low), high))
    for each in profile.identity:
        form = profile.form(each)
        value: fields.Value = "TG-0042" if each.type == "string" else (each.expect or 17)
        _store(one, TABLES[each.function], profile.wire_address(each), fields.encode(form, value))
    for step in profile.start:
        one.switches[TABLES[step.function], profile.wire_address(step), step.count] = True
    for step in profile.stop:
        one.switches[TABLES[step.function], profile.wire_address(step), step.count] = False
    one.registers_max = profile.max_registers
    whole = Library().get(profile_name)
    one.identity = {0: whole.vendor.encode(), 1: whole.model.encode(), 2: b"1.0"}
    return one


def put(one: Slave, profile: ModbusProfile, point: ModbusPoint, value: float) -> None:
    """Let `point` have `value`."""
    table, address = TABLES[point.function], profile.wire_address(point)
    if point.type == "bit":
        one.maps[table][address] = int(value != 0)
        return
    form = profile.form(point)
    old = [one.maps[table].get(address + i, 0) for i in range(profile.length(point))]
    _store(one, table, address, fields.encode(form, value, fields.registers_to_bytes(old)))


def _store(one: Slave, table: int, address: int, data: bytes) -> None:
    for i, register in enumerate(fields.bytes_to_registers(data)):
        one.maps[table][address + i] = register


def _start(point: ModbusPoint, rng: random.Random) -> float:
    if point.measurand in USUAL:
        return USUAL[point.measurand]
    low, high = point.range or registry().by_name[point.measurand].range
    return low + (high - low) * rng.uniform(0.2, 0.4) if point.type != "bit" else 0.0


def drift(one: Slave, rng: random.Random) -> None:
    """The last digit of a register or two moves, as measurements do."""
    for table in (3, 4):
        addresses = sorted(one.maps[table])
        for address in rng.sample(addresses, min(2, len(addresses))):
            register = one.maps[table][address]
            if address % 2 and 0 < register < 0xFFF0:
                one.maps[table][address] = register + rng.choice((-1, 1))


def spoil(one: Slave, rng: random.Random) -> None:
    """Bad manners, a few per cent of each."""
    for manner in (
        Manner("silence"),
        Manner("crc"),
        Manner("split", 0.004),
        Manner("noise"),
        Manner("late", 0.4),
    ):
        one.habit(rng.uniform(0.01, 0.03), manner)
