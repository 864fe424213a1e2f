"""The Modbus buses of a daemon: built from the configuration, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.accept import Accept
from gateway.clock import Clock
from gateway.config import Config
from gateway.devices import Devices
from gateway.log import Logger
from gateway.parts import Part

if TYPE_CHECKING:
    from gateway.pollers.modbus import ModbusPoller


def build(
    config: Config,
    make_part: Callable[[str], Part],
    devices: Devices,
    accept: Accept,
    clock: Clock,
    log: Logger,
) -> dict[str, ModbusPoller]:
    """A supervised part for each enabled [[modbus]] that has devices."""
    pollers: dict[str, ModbusPoller] = {}
    for section in config.modbus:
        own = [device for device in devices.on_bus(section.name) if device.section.enabled]
        if not section.enabled or not own:
            log.warning("bus_left_alone", bus=section.name, enabled=section.enabled, devices=len(own))
            continue
        from gateway.pollers.modbus import (
            ModbusPoller,
        )  # a gateway without a bus starts without its libraries

        part = make_part(f"modbus:{section.name}")
        poller = ModbusPoller(
            section, own, accept.accept, accept.state, log, on_progress=part.beat, monotonic=clock.monotonic
        )
        part.run = poller.run
        pollers[section.name] = poller
    return pollers


def reasons(pollers: Mapping[str, ModbusPoller]) -> list[str]:
    """Why a gateway with these is not ready. A device that is down is an event, and no reason."""
    return [
        f"modbus:{name}: {poller.bus.last_error or 'closed'}"
        for name, poller in pollers.items()
        if not poller.bus.is_open
    ]


def picture(pollers: Mapping[str, ModbusPoller]) -> dict[str, Any]:
    """By bus and by device, for /metrics."""
    by_device: dict[str, dict[str, float]] = {}
    for poller in pollers.values():
        for name, row in poller.bus.device_pictures().items():
            by_device[name] = {key: value for key, value in row.items() if isinstance(value, (int, float))}
    return {
        "modbus": {name: poller.bus.picture() for name, poller in pollers.items()},
        "modbus_devices": by_device,
    }
