"""BlueZ as people report it: it hangs, is "in progress" for ever, keeps connections of processes that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.pollers import ble_faults
from hil_tests.world.fake_bluez import Refused
from tests.pollers.ble_desk import until
from tests.pollers.test_ble_bluez import (
    BTHOME,
    BTHOME_AD,
    CONNECTABLE_AD,
    ESS,
    PAYLOAD,
    POINTS,
    PRESSURE,
    STATION,
    TEMPERATURE,
    THERMOMETER,
    OnBus,
    desk,
    on_bus,  # noqa: F401  (a fixture)
    quick,  # noqa: F401  (a fixture)
)

if TYPE_CHECKING:
    from hil_tests.world.fake_bluez import FakeBlueZ

IN_PROGRESS = Refused("org.bluez.Error.InProgress", "Operation already in progress")
OTHER = "D0:00:00:00:00:02"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BLE_CONNECT_TIMEOUT_S", "BLE_CALL_TIMEOUT_S"):
        monkeypatch.setattr(limits, name, 0.3)
    monkeypatch.setattr(limits, "BLE_HELD_S", 0.05)
    for kind in (ble_faults.BUSY, ble_faults.TIMEOUT, ble_faults.PROFILE):
        monkeypatch.setitem(ble_faults.PAUSES, kind, ble_faults.Pause(0.01, 0.02))


def station_has(fake: FakeBlueZ, address: str = STATION) -> str:
    fake.characteristic(address, ESS, PRESSURE, ["read"], b"\xf2\x75\x0f\x00")
    return fake.characteristic(address, ESS, TEMPERATURE, ["read", "notify"], b"\x66\x08")


def test_a_bluetooth_service_that_hangs_while_connecting_holds_up_one_device_and_only_while_it_hangs(
    on_bus: OnBus,  # noqa: F811
) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        seen = desk(slots=1)
        station = seen.poller.add_device("station", STATION, POINTS)
        other = seen.poller.add_device("other", OTHER, POINTS)
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.swallows = {"Connect", "Disconnect"}
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            station_has(fake)
            await until(lambda: station.counters.faults >= 2, "given up, and again")
            assert station.last_kind in ("busy", "timeout")
            fake.swallows = set()  # answered again, though not what was asked before
            fake.advertise(OTHER, structures=CONNECTABLE_AD)
            station_has(fake, OTHER)
            await until(lambda: other.is_connected, "the other one is served")
            fake.thaw()
            fake.drop(OTHER)

            def both() -> bool:
                for address in (STATION, OTHER):
                    fake.advertise(address, structures=CONNECTABLE_AD)
                return station.counters.connects > 0

            await until(both, "the station is served, too")
        assert not seen.poller.slots.holders

    on_bus(body)


def test_a_connection_of_a_gateway_that_was_killed_is_taken_over(on_bus: OnBus) -> None:  # noqa: F811
    """BlueZ keeps it, and a connected device does not advertise: it would never be heard again."""

    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.hold(STATION, "ESS")
        temperature = station_has(fake)
        seen = desk()
        seen.poller.add_device("station", STATION, POINTS)
        async with seen.running():
            await until(lambda: fake.notifying[temperature] == 1, "subscribed")
            fake.notify(temperature, b"\x01\x08")
            await until(lambda: ("station", TEMPERATURE, b"\x01\x08") in seen.values, "told")
            assert fake.calls["Connect"] == 0
        assert fake.calls["Disconnect"] >= 1, "and let go of at the end"

    on_bus(body)


def test_a_passive_scan_that_is_refused_for_a_moment_is_not_given_up(on_bus: OnBus) -> None:  # noqa: F811
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.refuse["RegisterMonitor"] = IN_PROGRESS
        async with desk().running() as seen:
            await until(lambda: fake.calls["RegisterMonitor"] >= 2, "tried again")
            del fake.refuse["RegisterMonitor"]
            await until(lambda: any(fake.monitors.values()), "the monitor")
            assert seen.poller.scanner.mode == "passive"
            assert not fake.calls["StartDiscovery"]

    on_bus(body)


def test_a_passive_scan_that_is_refused_for_long_is_an_active_one(on_bus: OnBus) -> None:  # noqa: F811
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.refuse["RegisterMonitor"] = IN_PROGRESS
        async with desk().running() as seen:
            await until(lambda: fake.discovering, "an active scan")
            assert seen.poller.scanner.mode == "active"
            fake.advertise(THERMOMETER, service_data={BTHOME: PAYLOAD}, structures=BTHOME_AD)
            await until(lambda: seen.adverts, "the advert")

    on_bus(body)


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_adapter_that_is_in_progress_for_ever_is_switched_off_and_on_once(
    on_bus: OnBus,  # noqa: F811
    is_ours: bool,
) -> None:
    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        fake.refuse["RegisterMonitor"] = fake.refuse["StartDiscovery"] = IN_PROGRESS
        async with desk(power_cycle=is_ours).running() as seen:
            if not is_ours:
                await until(lambda: fake.calls["StartDiscovery"] > limits.BLE_STUCK_AFTER, "tried and tried")
                assert fake.calls["Set"] == 0, "somebody else may be using it"
                assert "power off" in seen.poller.reasons()[0]
                return
            await until(lambda: any(fake.monitors.values()), "the monitor")
            await until(lambda: not seen.poller.reasons(), "no reason left")
            assert (fake.calls["Set"], seen.poller.scanner.counters.resets) == (2, 1)
            assert seen.poller.scanner.mode == "passive"

    on_bus(body)


def test_a_device_whose_firmware_was_updated_is_discovered_anew(on_bus: OnBus) -> None:  # noqa: F811
    """BlueZ keeps the list of characteristics from before."""

    async def body(fake: FakeBlueZ) -> None:
        fake.plug()
        seen = desk()
        station = seen.poller.add_device("station", STATION, POINTS)
        async with seen.running():
            await until(lambda: any(fake.monitors.values()), "the monitor")
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            fake.characteristic(STATION, ESS, PRESSURE, ["read"], b"\0\0\0\0")
            await until(lambda: fake.calls["RemoveDevice"] == 1, "the device is forgotten")
            assert station.last_kind == "profile"
            fake.advertise(STATION, structures=CONNECTABLE_AD)
            temperature = station_has(fake)
            await until(lambda: fake.notifying[temperature] == 1, "subscribed")

    on_bus(body)
