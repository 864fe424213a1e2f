"""A gateway on a Bluetooth street where everything goes wrong, on a virtual clock, from one seed.

Twenty sensors advertise, four peripherals are connected and written to; connections are lost with and without a word,
addresses change, the adapter is pulled out and put back, packets come late and out of order. After each hundred events
the street is left alone for a while, and the books are balanced: what each peripheral told is what the gateway heard,
once, and each write ended as was told.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import resource
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from gateway.pollers.ble import BlePoller
from gateway.pollers.ble_advert import Advert, uuid16
from gateway.pollers.ble_gatt import GattDevice, GattPoint
from gateway.pollers.ble_identity import Identities
from gateway.pollers.ble_writes import Write
from hil_tests.world import ble_street as street
from hil_tests.world.clock import WorldClock, run
from protocols.fields import Form

SENSORS, PERIPHERALS = 20, 4
ROUND = 100
CALM_S = 150.0  # the longest pause of a device, and a connection
COUNTED_S = 40.0
# One in twenty is an adapter loss, one in five changes the order of packets, the rest are lost connections.
EVENTS = ("disconnect",) * 8 + ("vanish",) * 6 + ("rotate",) + ("reorder",) * 4 + ("unplug",)
# The last peripheral and every fifth sensor take another address now and then, and are known by their keys.
ROTATING = PERIPHERALS - 1

_ESS = uuid16(street.ESS_UUID)
TEMPERATURE = GattPoint(_ESS, uuid16(street.TEMPERATURE), "notify", 5.0)
HUMIDITY = GattPoint(_ESS, uuid16(street.HUMIDITY), "notify", 5.0)
PRESSURE = GattPoint(_ESS, uuid16(street.PRESSURE), "read", 10.0)
SETTING = GattPoint(street.SETTINGS, street.SETTING, "read", 60.0)
POINTS = (TEMPERATURE, HUMIDITY, PRESSURE, SETTING)
SET_POINT = Form("s16", "DCBA", scale=0.1)


class Checkpoint(NamedTuple):
    """What there was after a round, all calm."""

    slots: int
    connections: int
    lost: int  # told by a peripheral and not heard
    doubled: int  # heard more often than told
    sensors_unheard: int
    writes_open: int  # ordered, and not told how they ended
    identities: int
    tasks: int
    objects: int
    rss_kb: int


class Chaos:
    """One run; `checkpoints` holds what was found."""

    def __init__(self, seed: int, events: int) -> None:
        self.seed = seed
        self.events = events
        self.rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.checkpoints: list[Checkpoint] = []
        self.picture: dict[str, Any] = {}
        self.tasks_left = -1
        self.loop_errors: list[str] = []
        self._passed_on: Counter[str] = Counter()
        self._adverts: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()  # ordered, and by how they ended
        self.untrue: list[str] = []  # told as done, and not there; told as never sent, and there

    def run(self) -> Chaos:
        """Everything, from start to end, on a clock of its own."""
        run(self._main())
        return self

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.loop_errors.append(str(context)))
        await self._build(WorldClock(loop))
        work = asyncio.create_task(self.poller.run())
        await asyncio.sleep(CALM_S)
        await self._check()
        for number in range(1, self.events + 1):
            await asyncio.sleep(self.rng.uniform(0.0, 6.0))
            await self._event(self.rng.choice(EVENTS))
            if number % ROUND == 0 or number == self.events:
                await self._calm()
                await self._check()
        self.picture = self.poller.picture()
        work.cancel()
        await asyncio.wait((work,))
        for one in self.peripherals:
            await one.stop()
        for sensor in self.sensors:
            sensor.stop()
        self.tasks_left = len(asyncio.all_tasks()) - 1

    async def _build(self, clock: WorldClock) -> None:
        self.air = street.Air(self.rng)
        self.adapter = street.Adapter(self.air)
        self.irks = {f"irk:sensor{number}": _irk(number) for number in range(0, SENSORS, 5)}
        self.irks["irk:peripheral"] = _irk(SENSORS)
        self.identities = Identities({}, self.irks)
        self.poller = BlePoller(
            "sim",
            self.adapter.backend(),
            clock,
            structlog.wrap_logger(
                None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
            ),
            on_advert=self._advert,
            on_values=self._values,
            who=self.identities.of,
        )
        self.sensors = [self._sensor(number) for number in range(SENSORS)]
        self.peripherals = []
        for number in range(PERIPHERALS):
            who = address = f"D0:00:00:00:00:{number:02X}"
            if number == ROTATING:
                who, address = "irk:peripheral", text(self.air, _irk(SENSORS))
            one = street.Peripheral(self.air, address, f"ess{number}")
            await one.start()
            self.peripherals.append(one)
            self.poller.add_device(one.name, who, POINTS)

    def _sensor(self, number: int) -> street.Beacon:
        """Half of them encrypt; every fifth takes another address now and then."""
        irk = self.irks.get(f"irk:sensor{number}", b"")
        address = text(self.air, irk) if irk else f"C0:00:00:00:00:{number:02X}"
        key = bytes((number,)) * 16

        def plain(count: int) -> bytes:
            return street.bthome(street.measurements(count, 2000 + number, 5000))

        def encrypted(count: int) -> bytes:
            objects = street.measurements(count, 2000 + number, 5000)
            return street.bthome_encrypted(objects, key, address, count)

        sensor = street.Beacon(
            self.air, address, encrypted if number % 2 else plain, copies=2, period_s=2.0, irk=irk
        )
        sensor.start()
        return sensor

    def _advert(self, advert: Advert) -> None:
        self._adverts[advert.who] += 1

    def _values(self, device: GattDevice, values: dict[GattPoint, bytes]) -> None:
        self._passed_on[device.name] += sum(point.mode == "notify" for point in values)

    def _heard(self, name: str) -> int:
        """How many notifications came in. The handlers count, for two of them on one characteristic would not show
        in the values."""
        device = next(one for one in self.poller.devices.values() if one.name == name)
        return device.counters.notifications

    async def _connected(self) -> list[street.Peripheral]:
        """Those that are connected now, at least one: what is not connected cannot be lost."""
        while True:
            connected = [one for one in self.peripherals if one.chip.le_connections]
            if connected:
                return connected
            await asyncio.sleep(1.0)

    async def _event(self, kind: str) -> None:
        connected = await self._connected()
        self.done[kind] += 1
        if self.rng.random() < 0.25:
            self._order()
        one = self.rng.choice(connected)
        if kind == "disconnect":
            one.disconnect()
        elif kind == "vanish":
            one.vanish()
        elif kind == "rotate":
            await self.peripherals[ROTATING].rotate(_irk(SENSORS))
        elif kind == "reorder":
            self.air.jitter_s = self.rng.choice((0.0, 0.02, 0.1, 0.3))
            self.rng.choice(self.sensors[::5]).rotate()
        else:
            self.adapter.unplug()
            await asyncio.sleep(self.rng.choice((0.1, 3.0, 30.0)))
            self.adapter.plug()

    def _who(self, number: int) -> str:
        """What a sensor is known by."""
        name = f"irk:sensor{number}"
        return name if name in self.irks else str_address(self.sensors[number])

    def _order(self) -> None:
        """A write that may or may not make it. No two devices or orders have the same value, so that it is known."""
        at = self.rng.randrange(PERIPHERALS)
        one = self.peripherals[at]
        self.writes["ordered"] += 1
        number = self.writes["ordered"] % 3000
        raw = number.to_bytes(2, "little")

        def ended(result: str, detail: str) -> None:
            self.writes[result] += 1
            is_there = bytes(one.settings[:2]) == raw
            if (result == "done" and not is_there) or (result == "expired" and is_there):
                self.untrue.append(f"{one.name} {number}: {result} {detail}")

        device = next(each for each in self.poller.devices.values() if each.name == one.name)
        write = Write(SETTING, 0, SET_POINT, number / 10, True, ended)
        if device.writes.add(write, self.rng.choice((1.0, 5.0, 30.0))):
            self.writes["declined"] += 1

    async def _calm(self) -> None:
        self.air.jitter_s = 0.0
        await asyncio.sleep(CALM_S)

    async def _hold_tongue(self) -> None:
        """Let what is under way arrive, so that told and heard are of the same time."""
        for one in self.peripherals:
            one.is_silent = True
        await asyncio.sleep(3.0)
        for one in self.peripherals:
            one.is_silent = False

    async def _check(self) -> None:
        await self._hold_tongue()
        told_before = [one.told for one in self.peripherals]
        heard_before = [self._heard(one.name) for one in self.peripherals]
        self._passed_on.clear()
        self._adverts.clear()
        await asyncio.sleep(COUNTED_S)
        await self._hold_tongue()
        lost = doubled = 0
        for one, told, heard in zip(self.peripherals, told_before, heard_before, strict=True):
            told, heard = one.told - told, self._heard(one.name) - heard
            lost += max(0, told - min(heard, self._passed_on[one.name]))
            doubled += max(0, max(heard, self._passed_on[one.name]) - told)
        gc.collect()
        self.checkpoints.append(
            Checkpoint(
                slots=len(self.poller.slots.holders),
                connections=len(self.adapter.connections()),
                lost=lost,
                doubled=doubled,
                sensors_unheard=sum(not self._adverts[self._who(number)] for number in range(SENSORS)),
                writes_open=2 * self.writes["ordered"] - sum(self.writes.values()),
                identities=len(self.identities),
                tasks=len(asyncio.all_tasks()),
                objects=len(gc.get_objects()),
                rss_kb=rss_kb(),
            )
        )


def _irk(number: int) -> bytes:
    return bytes((0xA0 + number,)) * 16


def text(air: street.Air, irk: bytes) -> str:
    """A first address made with that key."""
    return street.private_address(air.rng, irk).to_string(with_type_qualifier=False)


def str_address(sensor: street.Beacon) -> str:
    return str(sensor.address.to_string(with_type_qualifier=False))


def rss_kb() -> int:
    """What this process holds of memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
