"""From the configuration to the scheduler's words: tables and profiles become a line, and devices with points.

Needs no port and no client library, so that the check of a configuration can ask for the load of a bus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.config_devices import DeviceSection, ModbusSection
from gateway.pollers import modbus_load
from gateway.pollers.modbus_time import Line
from gateway.pollers.modbus_types import (
    READ_COILS,
    READ_DISCRETE,
    READ_HOLDING,
    READ_INPUT,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_REGISTER,
    WRITE_REGISTERS,
    Device,
    Point,
    Request,
)
from gateway.profiles import COIL, DISCRETE, HOLDING, INPUT, ModbusPoint, ModbusProfile, Profile, Step

FUNCTIONS = {COIL: READ_COILS, DISCRETE: READ_DISCRETE, INPUT: READ_INPUT, HOLDING: READ_HOLDING}
PARITIES = {"none": "N", "even": "E", "odd": "O"}


def line_of(section: ModbusSection) -> Line:
    """What a character costs there. Behind a serial server the line is as slow as it is."""
    if section.transport == "tcp":
        return Line()
    return Line(section.baud, PARITIES[section.parity], section.stop_bits)


def polled(section: DeviceSection, profile: ModbusProfile, bus: ModbusSection) -> Device:
    """What the scheduler is told of a device."""
    unit, timeout_ms = section.unit or profile.unit_id, bus.timeout_ms or profile.timeout_ms
    return Device(
        section.name,
        unit,
        tuple(_point(section, profile, point) for point in profile.point),
        timeout_s=timeout_ms / 1000,
        registers_max=profile.max_registers,
        bits_max=profile.max_bits,
        gap_s=max(profile.gap_ms, bus.gap_ms or 0.0) / 1000,
        warm_up_s=max(profile.warm_up_s, profile.wipe_s),
        hole_max=profile.max_hole,
        start=tuple(step_request(unit, profile, step) for step in profile.start),
        stop=()
        if profile.keep_running
        else tuple(step_request(unit, profile, step) for step in profile.stop),
    )


def _point(section: DeviceSection, profile: ModbusProfile, point: ModbusPoint) -> Point:
    period_s = section.periods.get(point.key) or section.period_s or point.period_s or profile.period_s
    function, address = FUNCTIONS[point.function], profile.wire_address(point)
    return Point(point.key, function, address, profile.length(point), period_s, period_s)


def step_request(unit: int, profile: ModbusProfile, step: Step) -> Request:
    """A step of a start or stop sequence as a request."""
    address = profile.wire_address(step)
    if step.do == "read":
        return Request(unit, FUNCTIONS[step.function], address, step.count)
    if step.function == COIL:
        function = WRITE_COIL if len(step.values) == 1 else WRITE_COILS
    else:
        function = WRITE_REGISTER if len(step.values) == 1 else WRITE_REGISTERS
    return Request(unit, function, address, len(step.values), tuple(step.values))


def on_bus(
    bus: ModbusSection, sections: Sequence[DeviceSection], profiles: Mapping[str, Profile]
) -> list[Device]:
    """The enabled devices of a bus."""
    found = []
    for section in sections:
        profile = profiles[section.profile].modbus if section.profile in profiles else None
        if section.enabled and section.modbus == bus.name and profile is not None:
            found.append(polled(section, profile, bus))
    return found


def overloads(
    buses: Sequence[ModbusSection], sections: Sequence[DeviceSection], profiles: Mapping[str, Profile]
) -> Iterator[tuple[int, str]]:
    """Buses that are asked for more than they can carry: which, and what to do."""
    for index, bus in enumerate(buses):
        told = modbus_load.problem(line_of(bus), on_bus(bus, sections, profiles)) if bus.enabled else ""
        if told:
            yield index, told
