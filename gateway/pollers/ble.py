"""Bluetooth as one supervised part: a scanner for all, a task for each connected device.

adapter → scanner → on_news: decoders of adverts
              └→ devices (ble_gatt.py) → slots → on_values: decoders of characteristics
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gateway import limits
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.log import Logger
from gateway.pollers.ble_advert import Advert
from gateway.pollers.ble_backend import Backend
from gateway.pollers.ble_faults import STACK_ERRORS, text_of
from gateway.pollers.ble_gatt import GattDevice, GattPoint, OnValues
from gateway.pollers.ble_scan import Scanner, WantedMode
from gateway.pollers.ble_slots import Slots

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice

    from gateway.pollers.ble_sets import GattSets


class BlePoller:
    """One adapter with everything heard and connected through it."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        clock: Clock,
        log: Logger,
        *,
        mode: WantedMode = "auto",
        slots: int = limits.BLE_SLOTS,
        on_advert: Callable[[Advert], None],
        on_values: OnValues,
        on_progress: Callable[[], None] = lambda: None,
        who: Callable[[Advert], str] | None = None,
        power_cycle: bool = False,
    ) -> None:
        """`power_cycle`: the adapter is ours alone, and may be switched off and on when it is stuck."""
        self.name = name
        self.backend = backend
        self.slots = Slots(slots)
        self.devices: dict[str, GattDevice] = {}
        self.sets: dict[str, GattSets] = {}  # of those that are configured, by name
        self.scanner = Scanner(
            backend,
            clock,
            log,
            mode=mode,
            on_heard=self._heard,
            on_news=on_advert,
            on_progress=on_progress,
            who=who,
            may_reset=lambda is_stuck: (
                power_cycle and (is_stuck or not any(one.is_connected for one in self.devices.values()))
            ),
        )
        self._who = who
        self._clock = clock
        self._log = log
        self._on_values = on_values

    def add_device(
        self, name: str, who: str, points: Sequence[GattPoint], *, stays: bool = False
    ) -> GattDevice:
        """Have a device connected to, from the next `run` on. `who`: its address, or what it is known by instead;
        `stays`: also between reads that are far apart."""
        if len(self.devices) >= limits.BLE_DEVICES_MAX:
            raise GatewayError(
                f"{name}: more than {limits.BLE_DEVICES_MAX} connected devices on one adapter. Give the rest a [[ble]] "
                f"with an adapter of its own."
            )
        device = GattDevice(
            name,
            who,
            points,
            self.backend,
            self.slots,
            self._clock,
            self._log,
            self._on_values,
            stays=stays,
        )
        self.devices[device.who] = device
        return device

    async def run(self) -> None:
        """Scan and serve until cancelled; afterwards nothing is connected and nothing runs."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.scanner.run(), name=f"{self.name}:scan")
                if self.devices:
                    group.create_task(self._look_for_held(), name=f"{self.name}:held")
                for device in self.devices.values():
                    group.create_task(device.run(), name=f"{self.name}:{device.name}")
        finally:
            await self.backend.close()

    async def _look_for_held(self) -> None:
        """Devices of ours that the stack holds connected, and that nobody serves: taken over, and let go of in turn."""
        while True:
            try:
                async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                    held = await self.backend.held()
            except STACK_ERRORS as exc:
                self._log.debug("ble_held", error=text_of(exc))  # why, the scanner tells
                held = []
            for peripheral in held:
                known = self.devices.get(self._known_as(peripheral.address.upper()))
                if known is not None and not known.is_connected:
                    known.heard(peripheral)
            await asyncio.sleep(limits.BLE_HELD_S)

    def _known_as(self, address: str) -> str:
        advert = Advert(address, "", 0, {}, {}, (), self._clock.monotonic(), address)
        return address if self._who is None else self._who(advert)

    def _heard(self, device: BLEDevice, advert: Advert) -> None:
        known = self.devices.get(advert.who)
        if known is not None:
            known.heard(device)

    # --- writes ----------------------------------------------------------------------------------

    def check_write(self, name: str, key: str, value: float) -> None:
        """Raises GatewayError when it may not be."""
        self._sets_of(name).check_write(key, value)

    def write(
        self, name: str, key: str, value: float, ttl_s: float, on_done: Callable[[str, str], None]
    ) -> None:
        """Write `value`, in the point's unit, within `ttl_s` or not at all. Raises GatewayError when it may not be."""
        gatt = next(one for one in self.devices.values() if one.name == name)
        self._sets_of(name).write(gatt, key, value, ttl_s, on_done)

    def _sets_of(self, name: str) -> GattSets:
        sets = self.sets.get(name)
        if sets is None:
            raise GatewayError(f"{name} only advertises: nothing can be written to it.")
        return sets

    # --- what it says of itself ------------------------------------------------------------------

    def reasons(self) -> list[str]:
        """Why it cannot do all of its job; empty when it can."""
        found = [self.scanner.last_error] if self.scanner.last_error else []
        return found + [
            f"{device.name}: {device.last_error}"
            for device in self.devices.values()
            if device.last_error and not device.is_connected
        ]

    def picture(self) -> dict[str, Any]:
        """Everything countable."""
        scan, counters = self.scanner, self.scanner.counters
        return {
            "scan": {
                **{name: getattr(counters, name) for name in counters.__slots__},
                "scanning": float(scan.is_scanning),
                "passive": float(scan.mode == "passive"),
                "addresses": len(scan.repeats),
                "slots_used": len(self.slots.holders),
                "slots_waiting": self.slots.waiting,
            },
            "devices": {
                device.name: {
                    **{name: getattr(device.counters, name) for name in device.counters.__slots__},
                    **{f"fault_{kind}": count for kind, count in device.fault_kinds.items()},
                    **{f"write_{result}": count for result, count in device.writes.counters.items()},
                    "connected": float(device.is_connected),
                }
                for device in self.devices.values()
            },
        }
