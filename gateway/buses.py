"""The Modbus buses of a daemon: built from the configuration, and what they say of themselves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gateway import limits
from gateway.accept import Accept
from gateway.clock import Clock
from gateway.config_devices import ModbusSection
from gateway.devices import Devices
from gateway.errors import CommandError
from gateway.log import Logger
from gateway.parts import Part
from gateway.pollers.modbus_memory import Memory
from gateway.registry import By, audit
from gateway.store import Store

if TYPE_CHECKING:
    from gateway.pollers.modbus import ModbusPoller


def build(
    sections: Iterable[ModbusSection],
    make_part: Callable[[str], Part],
    devices: Devices,
    accept: Accept,
    clock: Clock,
    log: Logger,
    store: Store,
) -> dict[str, ModbusPoller]:
    """A supervised part for each enabled [[modbus]] that has devices."""
    memory = Memory(store)
    pollers: dict[str, ModbusPoller] = {}
    for section in sections:
        own = [device for device in devices.on_bus(section.name) if device.section.enabled]
        if not section.enabled or not own:
            log.warning("bus_left_alone", bus=section.name, enabled=section.enabled, devices=len(own))
            continue
        from gateway.pollers.modbus import (
            ModbusPoller,
        )  # a gateway without a bus starts without its libraries

        part = make_part(f"modbus:{section.name}")
        poller = ModbusPoller(
            section, own, accept.accept, accept.state, log,
            memory=memory, on_progress=part.beat, monotonic=clock.monotonic,
        )  # fmt: skip
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


class Writing(Protocol):
    """A poller, as far as writes go; both raise GatewayError for a write that may not be."""

    def check_write(self, name: str, key: str, value: float) -> object: ...

    def write(
        self, name: str, key: str, value: float, ttl_s: float, on_done: Callable[[str, str], None]
    ) -> None: ...


class Writer:
    """Writes to points of devices as a person orders them: who, why, and how it ended are in the audit log."""

    def __init__(
        self,
        buses: Mapping[str, Writing],
        adapters: Mapping[str, Writing],
        devices: Devices,
        store: Store,
        clock: Clock,
    ) -> None:
        self._buses = buses
        self._adapters = adapters
        self._devices = devices
        self._store = store
        self._clock = clock
        self._ends: set[asyncio.Task[None]] = set()

    async def write(self, name: str, point: str, value: float, ttl_s: float, by: By) -> tuple[str, str]:
        """How it ended, and more of it. Raises GatewayError when it may not be."""
        section = self._devices.get(name).section
        poller = self._buses.get(section.modbus or "") or self._adapters.get(section.ble or "")
        if poller is None:
            raise CommandError(
                f"{name} is behind {section.modbus or section.ble}, which does not run (enabled = false): it cannot be "
                f"written."
            )
        if not 0 < ttl_s <= limits.MODBUS_WRITE_TTL_MAX_S:
            raise CommandError(
                f"{ttl_s:g} s is not allowed. Allowed is up to {limits.MODBUS_WRITE_TTL_MAX_S:g} s."
            )
        done: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        target = f"{name} {point}"
        poller.check_write(name, point, value)
        await self._note(by, "device.write", target, f"{value:g} within {ttl_s:g} s")

        def ended(result: str, detail: str) -> None:
            if not done.done():
                done.set_result((result, detail))
            end = asyncio.ensure_future(
                self._note(by, "device.written", target, f"{result} {detail}".strip())
            )
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)

        poller.write(name, point, value, ttl_s, ended)
        try:
            return await asyncio.wait_for(asyncio.shield(done), limits.MODBUS_WRITE_WAIT_S)
        except TimeoutError:
            return "pending", "how it ends will be in the audit log"

    async def _note(self, by: By, action: str, target: str, detail: str) -> None:
        now_ms = self._clock.unix_ms()

        def work(connection: sqlite3.Connection) -> None:
            audit(connection, now_ms, by, action, target, detail)

        await self._store.write(work)
