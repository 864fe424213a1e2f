"""Modbus devices of the configuration: profiles become points on a bus, registers become values, values go in.

    [[modbus]] + [[device]] + profile → types.Device → Scheduler → Client        what is asked
    registers → profile's form → one set a round → accept()                      what is kept

A set is everything of a device that was due together. What its device refused, or says that it has not, is in it as
None; a device that is silent gives no set, and is told by its state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.accept import Sink
from gateway.config_devices import ModbusSection
from gateway.devices import Device, State
from gateway.errors import GatewayError
from gateway.log import Logger
from gateway.pollers.modbus_bus import Bus, Exchanger
from gateway.pollers.modbus_memory import Memory
from gateway.pollers.modbus_ports import RTU_TCP, SERIAL, TCP, Place, PortSettings
from gateway.pollers.modbus_profile import PARITIES, line_of, on_bus
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_types import MASK_WRITE, WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS, Write
from gateway.pollers.modbus_types import Device as Polled
from gateway.profiles import COIL, ModbusPoint
from protocols import fields

KINDS = {"rtu": SERIAL, "tcp": TCP, "rtu-over-tcp": RTU_TCP}


class TellState(Protocol):
    """How a device is: Accept.state."""

    def __call__(self, device: Device, state: State, reason: str = "") -> None: ...


def place_of(section: ModbusSection) -> Place:
    """Where the bus of a table is."""
    kind = KINDS[section.transport]
    return Place(kind, section.path or "", section.host or "", 0 if kind == SERIAL else section.port)


def settings_of(section: ModbusSection) -> PortSettings:
    return PortSettings(
        section.baud,
        PARITIES[section.parity],
        section.stop_bits,
        section.rs485,
        section.rs485_rts == "high",
    )


class ModbusPoller:
    """One [[modbus]] table with its devices; `run` never returns."""

    def __init__(
        self,
        section: ModbusSection,
        devices: Sequence[Device],
        accept: Sink,
        tell: TellState,
        log: Logger,
        *,
        client: Exchanger | None = None,
        memory: Memory | None = None,
        on_progress: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = section.name
        self.devices = {device.name: device for device in devices}
        self._accept = accept
        self._tell = tell
        self._monotonic = monotonic
        self._rounds: dict[str, dict[str, float | None]] = {name: {} for name in self.devices}
        self.scheduler = Scheduler(
            line_of(section),
            on_bus(
                section,
                [device.section for device in devices],
                {device.section.profile: device.profile for device in devices},
            ),
            monotonic(),
            is_numbered=section.transport == "tcp",
            on_values=self._values,
            on_fault=self._fault,
            on_round=self._round,
            on_state=self._state,
            on_learned=self._learned,
        )
        self._memory = memory
        if memory is not None:
            for state in self.scheduler.states:
                state.refused = memory.recall(self.devices[state.device.name])
        if client is None:
            client = _client(section, monotonic)
        self.bus = Bus(
            section.name, client, self.scheduler, log, on_progress=on_progress, monotonic=monotonic
        )

    async def run(self) -> None:
        """Serve the bus; ends only by cancellation."""
        await self.bus.run()

    # --- values ----------------------------------------------------------------------------------

    def _values(self, polled: Polled, index: int, registers: tuple[int, ...]) -> None:
        device = self.devices[polled.name]
        key = polled.points[index].key
        values = self._rounds[polled.name]
        if key in values:  # read again before the rest was: a bus that is behind still hands on what it has
            self._round(polled)
        values[key] = self._value(device, key, registers)

    @staticmethod
    def _value(device: Device, key: str, registers: tuple[int, ...]) -> float | None:
        point = device.quantities[key].point
        profile = device.profile.modbus
        if not isinstance(point, ModbusPoint) or profile is None:
            return None
        if point.type == "bit":
            return registers[0] * point.scale + point.offset
        try:
            value = fields.decode(profile.form(point), fields.registers_to_bytes(registers))
        except fields.FieldError:  # digits that are none: the device has no value
            return None
        return float(value) if isinstance(value, (int, float)) else None

    def _fault(self, polled: Polled, points: tuple[int, ...], reason: str) -> None:
        for index in points:
            self._rounds[polled.name][polled.points[index].key] = None
        self._tell(self.devices[polled.name], "up", reason)

    def _round(self, polled: Polled) -> None:
        """Everything that was due has been read: one set."""
        values = self._rounds[polled.name]
        if values:
            self._accept(self.devices[polled.name], dict(values))
            values.clear()

    def _state(self, polled: Polled, old: str, new: str) -> None:
        if new != "up":
            self._round(polled)
        states: dict[str, State] = {"up": "up", "suspect": "suspect", "down": "down"}
        self._tell(self.devices[polled.name], states[new], "" if new == "up" else "does not answer")

    def _learned(self, polled: Polled) -> None:
        if self._memory is not None:
            state = next(state for state in self.scheduler.states if state.device is polled)
            self._memory.keep(self.devices[polled.name], state.refused)

    # --- writes ----------------------------------------------------------------------------------

    def write(
        self, name: str, key: str, value: float, ttl_s: float, on_done: Callable[[str, str], None]
    ) -> None:
        """Write `value`, in the point's unit, within `ttl_s` or not at all. Raises GatewayError when it may not be."""
        function, address, values, mask = self.check_write(name, key, value)
        expires_s = self._monotonic() + ttl_s
        write = Write(name, function, address, values, expires_s, on_done, mask=mask)
        refusal = self.bus.write(write)
        if refusal:
            raise GatewayError(f"{name}: {key} was not written: {refusal}.")

    def check_write(
        self, name: str, key: str, value: float
    ) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
        """Function, address, registers and, of a bit field, mask of a write. Raises GatewayError when it may not be."""
        device = self.devices[name]
        profile = device.profile.modbus
        point = device.quantities[key].point if key in device.quantities else None
        if profile is None or not isinstance(point, ModbusPoint) or point.writable is None:
            known = [each.key for each in profile.point if each.writable] if profile else []
            allowed = ", ".join(known) or "none of its points"
            raise GatewayError(f"{name}: {key} cannot be written. Its profile lets be written: {allowed}.")
        if not point.writable.min <= value <= point.writable.max:
            raise GatewayError(
                f"{name}: {key} = {value:g} is not allowed. Allowed is {point.writable.min:g} to "
                f"{point.writable.max:g} {point.unit}."
            )
        address = profile.wire_address(point)
        if point.function == COIL:
            return WRITE_COIL, address, (int(bool(value)),), ()
        registers, mask = _encoded(profile.form(point), key, value)
        if profile.mask_write and len(mask) == 1:
            return MASK_WRITE, address, registers, mask
        return (WRITE_REGISTER if len(registers) == 1 else WRITE_REGISTERS), address, registers, mask


def _encoded(form: fields.Form, key: str, value: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The registers of a value and, of a bit field, the mask of its bits."""
    try:
        if form.bits is None:
            return fields.bytes_to_registers(fields.encode(form, value)), ()
        nothing = bytes(form.length)
        data = fields.encode(form, value, into=nothing)
        every = fields.encode(form._replace(scale=1, offset=0), (1 << form.bits[1]) - 1, into=nothing)
    except fields.FieldError as exc:
        raise GatewayError(f"{key}: {exc}.") from exc
    return fields.bytes_to_registers(data), fields.bytes_to_registers(every)


def _client(section: ModbusSection, monotonic: Callable[[], float]) -> Exchanger:
    try:
        from gateway.pollers.modbus_client import Client
    except ModuleNotFoundError as exc:
        raise GatewayError(
            f"[[modbus]] {section.name} needs the Python package '{exc.name}', which is not installed here. Install "
            "it with: pip install 'tidegate[modbus]'"
        ) from exc
    return Client(place_of(section), settings_of(section), monotonic=monotonic)
