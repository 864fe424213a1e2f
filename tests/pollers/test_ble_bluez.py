"""The Bluetooth poller above bleak's own BlueZ backend, which speaks D-Bus with a BlueZ that is not there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.pollers import ble_faults
from gateway.pollers.ble_advert import uuid16
from gateway.pollers.ble_backend import BlueZ, or_patterns
from gateway.pollers.ble_gatt import GattPoint
from gateway.pollers.ble_writes import Write
from hil_tests.world.fake_bluez import FakeBlueZ, PrivateBus, Refused
from protocols.fields import Form
from tests.pollers.ble_desk import Desk, until

if TYPE_CHECKING:
    from pathlib import Path

THERMOMETER = "A4:C1:38:00:00:01"
STATION = "D0:00:00:00:00:01"
BTHOME = uuid16(0xFCD2)
PAYLOAD = bytes.fromhex("40000102c409")
BTHOME_AD = ((0x16, b"\xd2\xfc" + PAYLOAD),)
CONNECTABLE_AD = ((0x01, b"\x06"),)
STRANGER_AD = ((0xFF, b"\x4c\x00\x10"),)
ESS, TEMPERATURE, PRESSURE = uuid16(0x181A), uuid16(0x2A6E), uuid16(0x2A6D)
POINTS = (GattPoint(ESS, TEMPERATURE, "notify", 60.0), GattPoint(ESS, PRESSURE, "read", 60.0))


OnBus = Callable[[Callable[[FakeBlueZ], Awaitable[None]]], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps at a pace for tests."""
    monkeypatch.setattr(limits, "BLE_CHECK_S", 0.02)
    monkeypatch.setattr(limits, "BLE_SCAN_RETRY_MIN_S", 0.02)
    monkeypatch.setattr(limits, "BLE_SCAN_RETRY_MAX_S", 0.05)


@pytest.fixture
def on_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnBus:
    """Runs a scenario beside a fake BlueZ that bleak takes for the system's."""

    async def scenario(body: Callable[[FakeBlueZ], Awaitable[None]]) -> None:
        async with bluez(tmp_path, monkeypatch) as fake:
            await body(fake)

    return lambda body: asyncio.run(scenario(body))


@asynccontextmanager
async def bluez(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeBlueZ]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed: apt-get install dbus")
    bus = PrivateBus(folder)
    await bus.start()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    fake = FakeBlueZ(bus.address)
    fake.bus_dies = bus.stop
    try:
        await fake.start()
        yield fake
    finally:
        await fake.stop()
        await bus.stop()


def desk(**options: object) -> Desk:
    return Desk(BlueZ(patterns=or_patterns(services=[0xFCD2])), **options)


def test_a_passive_scan_hears_what_its_patterns_let_through_and_nothing_else(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        async with desk().running() as seen:
            await until(lambda: any(fake.monitors.values()), "the monitor is exported")
            assert not fake.advertise("AA:AA:AA:AA:AA:AA", structures=STRANGER_AD)
            assert fake.advertise(
                THERMOMETER, name="ATC", service_data={BTHOME: PAYLOAD}, structures=BTHOME_AD
            )
            await until(lambda: seen.adverts, "the advert")
            fake.advertise(THERMOMETER, rssi_dbm=-71, service_data={BTHOME: PAYLOAD}, structures=BTHOME_AD)
            news = PAYLOAD[:-1] + b"\x0a"
            fake.advertise(THERMOMETER, service_data={BTHOME: news}, structures=BTHOME_AD)
            await until(lambda: len(seen.adverts) > 1, "the second advert")
            first, second = seen.adverts
            assert (first.address, first.name, first.rssi_dbm) == (THERMOMETER, "ATC", -60)
            assert (first.service_data, second.service_data) == ({BTHOME: PAYLOAD}, {BTHOME: news})
            assert seen.poller.scanner.mode == "passive"
            assert not fake.calls["StartDiscovery"]
        assert not fake.monitors, "the monitor is unregistered at the end"

    on_bus(body)


def test_without_monitors_it_scans_actively_and_says_so(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.has_monitors = False
        fake.plug()
        async with desk().running() as seen:
            await until(lambda: fake.discovering, "an active scan")
            fake.advertise(THERMOMETER, service_data={BTHOME: PAYLOAD}, structures=STRANGER_AD)
            await until(lambda: seen.adverts, "the advert")
            assert seen.poller.scanner.mode == "active"
        assert not fake.discovering

    on_bus(body)


def test_a_passive_scan_that_was_demanded_and_refused_is_told_with_what_to_do(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.has_monitors = False
        fake.plug()
        async with desk(mode="passive").running() as seen:
            await until(seen.poller.reasons, "a reason")
            (reason,) = seen.poller.reasons()
            assert "--experimental" in reason
            assert not fake.calls["StartDiscovery"], "nobody is made to answer who did not want to be"

    on_bus(body)


def test_no_adapter_a_switched_off_one_and_no_bluez_are_told_apart(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        async with desk().running() as seen:
            await until(lambda: "No Bluetooth adapters found" in str(seen.poller.reasons()), "no adapter")
            fake.plug(powered=False)
            await until(lambda: "No powered Bluetooth adapters" in str(seen.poller.reasons()), "off")
            fake.power(is_on=True)
            await until(lambda: seen.poller.scanner.is_scanning, "scanning")
            assert not seen.poller.reasons()

    on_bus(body)


def test_an_adapter_that_is_pulled_out_and_put_back_is_scanned_with_again(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        async with desk().running() as seen:
            for turn in range(3):
                await until(lambda: any(fake.monitors.values()), f"the monitor of turn {turn}")
                payload = PAYLOAD[:-1] + bytes((turn,))
                fake.advertise(THERMOMETER, service_data={BTHOME: payload}, structures=BTHOME_AD)
                await until(lambda: len(seen.adverts) > turn, f"the advert of turn {turn}")  # noqa: B023
                fake.unplug()
                await until(lambda: not seen.poller.scanner.is_scanning, "the loss is noticed")
                fake.plug()
            assert seen.poller.scanner.counters.starts >= 3

    on_bus(body)


def test_a_bluetooth_service_that_restarts_is_found_again(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        async with desk().running() as seen:
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.unplug()  # what bluetoothd does on its way out
            await fake.stop()
            await until(lambda: not seen.poller.scanner.is_scanning, "the loss is noticed")
            await fake.start()
            fake.plug()
            await until(lambda: any(fake.monitors.values()), "the monitor again")

    on_bus(body)


def test_a_bus_that_dies_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with bluez(tmp_path, monkeypatch) as fake, desk().running() as seen:
            fake.plug()
            await until(lambda: any(fake.monitors.values()), "the monitor")
            (tmp_path / "again").mkdir()
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'again' / 'bus'}")
            await fake.bus_dies()
            await until(lambda: not seen.poller.scanner.is_scanning, "the loss is noticed")
            assert seen.poller.reasons()
            async with bluez(tmp_path / "again", monkeypatch) as second:
                second.plug()
                await until(lambda: any(second.monitors.values()), "the monitor again")
                assert not seen.poller.reasons()

    asyncio.run(body())


def test_a_device_is_read_and_told_by_and_told_by_once_after_it_was_lost(on_bus: OnBus) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        seen = desk()
        station = seen.poller.add_device("station", STATION, POINTS)
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.advertise(STATION, name="ESS", structures=CONNECTABLE_AD)
            pressure = fake.characteristic(STATION, ESS, PRESSURE, ["read"], b"\xf2\x75\x0f\x00")
            temperature = fake.characteristic(STATION, ESS, TEMPERATURE, ["read", "notify"], b"\x66\x08")
            for turn in range(3):
                fake.advertise(STATION, structures=CONNECTABLE_AD)
                await until(lambda: fake.notifying[temperature] == 1, f"subscribed in turn {turn}")
                fake.notify(temperature, bytes((turn, 8)))
                wanted = ("station", TEMPERATURE, bytes((turn, 8)))
                await until(lambda: wanted in seen.values, f"told in turn {turn}")  # noqa: B023
                assert seen.values.count(wanted) == 1
                fake.drop(STATION)
                await until(lambda: not station.is_connected, "the loss is noticed")
            assert ("station", PRESSURE, fake.values[pressure]) in seen.values
            assert station.counters.lost == 3
        assert not seen.poller.slots.holders

    on_bus(body)


@pytest.mark.parametrize(
    ("refusal", "result"),
    [
        (None, "done"),
        (Refused("org.bluez.Error.NotPermitted", "Write not permitted"), "refused"),
        (Refused("org.bluez.Error.NotAuthorized", "Not Authorized"), "refused"),
        (Refused("org.bluez.Error.Failed", "Operation failed with ATT error: 0x80"), "refused"),
    ],
)
def test_a_value_is_written_and_read_back(on_bus: OnBus, refusal: Refused | None, result: str) -> None:
    where = GattPoint(ESS, PRESSURE, "read", 600.0)
    ends: list[tuple[str, str]] = []

    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        if refusal is not None:
            fake.refuse["WriteValue"] = refusal
        seen = desk()
        station = seen.poller.add_device("station", STATION, (where,))
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            path = fake.characteristic(STATION, ESS, PRESSURE, ["read", "write"], b"\0\0\0\0")
            write = Write(where, 0, Form("u32", "DCBA"), 7, False, lambda *end: ends.append(end))
            assert not station.writes.add(write, 5.0)
            await until(lambda: ends, "the end")
            assert ends[0][0] == result
            assert fake.values[path] == (b"\x07\0\0\0" if refusal is None else b"\0\0\0\0")

    on_bus(body)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("org.bluez.Error.InProgress", "busy"),
        ("org.bluez.Error.AuthenticationFailed", "auth"),
        ("org.bluez.Error.Failed", "other"),
    ],
)
def test_a_refused_connection_costs_a_pause_and_no_slot(on_bus: OnBus, error: str, kind: str) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.refuse["Connect"] = Refused(error, "no")
        seen = desk()
        station = seen.poller.add_device("station", STATION, POINTS)
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            await until(lambda: station.counters.faults, "the refusal")
            assert station.last_kind == kind
            await until(lambda: not seen.poller.slots.holders, "the slot is free")

    on_bus(body)


def test_a_connection_that_is_stuck_in_bluez_is_freed_by_having_the_device_forgotten(
    on_bus: OnBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ble_faults.PAUSES, ble_faults.BUSY, ble_faults.Pause(0.0, 0.0))

    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.refuse["Connect"] = Refused("org.bluez.Error.InProgress", "In Progress")
        seen = desk()
        station = seen.poller.add_device("station", STATION, POINTS)
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            await until(lambda: fake.calls["RemoveDevice"] == 1, "the device is forgotten")
            assert station.fault_kinds["busy"] == limits.BLE_STUCK_AFTER
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            fake.characteristic(STATION, ESS, PRESSURE, ["read"], b"\xf2\x75\x0f\x00")
            fake.characteristic(STATION, ESS, TEMPERATURE, ["read", "notify"], b"\x66\x08")
            await until(lambda: station.is_connected, "connected")

    on_bus(body)
