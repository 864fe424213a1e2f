"""Connected Bluetooth devices that misbehave, one at a time, beside one that does not; on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.pollers.ble_advert import uuid16
from gateway.pollers.ble_gatt import GattPoint
from hil_tests.world import ble_street as street
from hil_tests.world.clock import WorldClock, run
from tests.pollers.ble_desk import Desk

if TYPE_CHECKING:
    from gateway.pollers.ble_gatt import GattDevice

ESS = uuid16(street.ESS_UUID)
TEMPERATURE = GattPoint(ESS, uuid16(street.TEMPERATURE), "notify", 5.0)
PRESSURE = GattPoint(ESS, uuid16(street.PRESSURE), "read", 10.0)
SELDOM = GattPoint(ESS, uuid16(street.PRESSURE), "read", 60.0)
POINTS = (TEMPERATURE, PRESSURE)
# What a healthy peripheral tells and is read in a minute: 30 notifications, 6 reads.
A_MINUTE = 36


class Street:
    """An adapter with a poller, and peripherals on the air."""

    def __init__(self, slots: int = limits.BLE_SLOTS, power_cycle: bool = False) -> None:
        self.air = street.Air(random.Random(5))
        self.adapter = street.Adapter(self.air)
        clock = WorldClock(asyncio.get_running_loop())
        self.desk = Desk(self.adapter.backend(), clock, slots=slots, power_cycle=power_cycle)

    async def peripheral(
        self, name: str, number: int, points: tuple[GattPoint, ...] = POINTS
    ) -> tuple[street.Peripheral, GattDevice]:
        address = f"D0:00:00:00:00:{number:02X}"
        made = street.Peripheral(self.air, address, name)
        await made.start()
        return made, self.desk.poller.add_device(name, address, points)


def on_street(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    run(main())


async def minute(desk: Desk, name: str) -> int:
    """How many values a device gave within a minute from now."""
    before = desk.count[name]
    await asyncio.sleep(60.0)
    return desk.count[name] - before


def storm(one: street.Peripheral) -> None:
    one.storm_per_s = 100


def silence(one: street.Peripheral) -> None:
    one.is_silent = True


def hang(one: street.Peripheral) -> None:
    one.hangs = True


def refuse(one: street.Peripheral) -> None:
    one.refuses = 0x0F  # insufficient encryption: it wants to be paired


@pytest.mark.parametrize(
    ("misbehave", "kind"), [(storm, "storm"), (silence, "silent"), (hang, "timeout"), (refuse, "auth")]
)
def test_a_device_that_misbehaves_pauses_and_its_neighbour_does_not_notice(
    misbehave: Callable[[street.Peripheral], None], kind: str
) -> None:
    async def body() -> None:
        here = Street()
        bad, bad_device = await here.peripheral("bad", 1)
        await here.peripheral("good", 2)
        async with here.desk.running() as desk:
            await asyncio.sleep(30.0)
            misbehave(bad)
            for _ in range(4):
                assert await minute(desk, "good") >= A_MINUTE - 2
            assert bad_device.fault_kinds[kind] >= 1
            assert set(bad_device.fault_kinds) == {kind}
            assert bad_device.counters.connects <= 12, "its pause grows"
            assert desk.poller.slots.holders <= {"bad", "good"}

    on_street(body)


def test_of_a_burst_the_newest_value_goes_on_once_a_second() -> None:
    async def body() -> None:
        here = Street()
        bad, device = await here.peripheral("bad", 1, (TEMPERATURE,))
        async with here.desk.running() as desk:
            await asyncio.sleep(10.0)
            before = desk.count["bad"]
            bad.storm_per_s = 200
            await asyncio.sleep(3.0)
            bad.storm_per_s = 0
            await asyncio.sleep(1.5)
            assert desk.count["bad"] - before <= 6
            assert device.counters.superseded >= 400
            assert device.is_connected, "three seconds are a burst, not a storm"
            assert desk.values[-1][2] == bad.temperature_centi.to_bytes(2, "little", signed=True)

    on_street(body)


def test_a_device_that_lacks_what_its_profile_names_is_told_and_left_alone() -> None:
    async def body() -> None:
        here = Street()
        wind = GattPoint(ESS, uuid16(0x2A72), "read", 10.0)
        _, device = await here.peripheral("bad", 1, (wind,))
        async with here.desk.running() as desk:
            await asyncio.sleep(300.0)
            assert set(device.fault_kinds) == {"profile"}
            assert device.counters.connects <= 4
            assert "2A72 in a service 181A" in desk.poller.reasons()[0]

    on_street(body)


def test_six_devices_share_two_slots_and_none_is_left_out() -> None:
    async def body() -> None:
        here = Street(slots=2)
        for number in range(6):
            await here.peripheral(f"ess{number}", number)
        async with here.desk.running() as desk:
            for _ in range(5):
                await asyncio.sleep(60.0)
                assert len(desk.poller.slots.holders) <= 2
                assert len(here.adapter.connections()) <= 2
            assert min(desk.count[f"ess{number}"] for number in range(6)) >= 20
            assert all(not device.counters.faults for device in desk.poller.devices.values())

    on_street(body)


def test_a_device_that_is_only_read_holds_no_slot_between_its_reads() -> None:
    async def body() -> None:
        here = Street()
        await here.peripheral("seldom", 1, (SELDOM,))
        async with here.desk.running() as desk:
            await asyncio.sleep(90.0)
            assert not desk.poller.slots.holders
            assert not here.adapter.connections()
            assert await minute(desk, "seldom") == 1

    on_street(body)


def test_an_absent_device_costs_no_attempt() -> None:
    async def body() -> None:
        here = Street()
        device = here.desk.poller.add_device("gone", "D0:00:00:00:00:77", POINTS)
        await here.peripheral("good", 1)
        async with here.desk.running() as desk:
            await asyncio.sleep(300.0)
            assert not device.counters.faults
            assert not desk.poller.slots.connecting.locked()
            assert desk.poller.slots.holders == {"good"}

    on_street(body)


def test_a_device_that_advertises_and_cannot_be_connected_costs_the_others_little() -> None:
    async def body() -> None:
        here = Street()
        ghost = here.desk.poller.add_device("ghost", "C0:00:00:00:00:99", POINTS)
        street.Beacon(here.air, "C0:00:00:00:00:99", lambda _n: street.flags()).start()
        good, device = await here.peripheral("good", 1)
        async with here.desk.running() as desk:
            await asyncio.sleep(60.0)
            for _ in range(8):
                good.vanish()
                assert await minute(desk, "good") >= A_MINUTE // 2
            assert ghost.counters.faults >= 4
            assert device.counters.lost == 8
            assert len(here.adapter.connections()) == 1

    on_street(body)


def test_an_attempt_that_is_given_up_is_not_left_in_the_controller() -> None:
    async def body() -> None:
        here = Street()
        ghost = here.desk.poller.add_device("ghost", "C0:00:00:00:00:99", POINTS)
        once = street.Beacon(here.air, "C0:00:00:00:00:99", lambda _n: street.flags(), period_s=3600.0)
        good, device = await here.peripheral("good", 1)
        async with here.desk.running():
            await asyncio.sleep(30.0)
            once.say()  # heard, and gone before it can be connected to
            await asyncio.sleep(limits.BLE_CONNECT_TIMEOUT_S + 3.0)
            assert ghost.fault_kinds["timeout"] == 1
            good.vanish()
            await asyncio.sleep(20.0)
            assert device.is_connected
            assert set(device.fault_kinds) == {"lost"}

    on_street(body)


def test_a_scanner_that_hears_nothing_is_started_anew_and_says_so() -> None:
    async def body() -> None:
        here = Street()
        async with here.desk.running() as desk:
            scanner = desk.poller.scanner
            await asyncio.sleep(limits.BLE_SILENCE_MIN_S + 3 * limits.BLE_CHECK_S)
            assert scanner.counters.restarts == 1
            assert "nothing heard for" in desk.poller.reasons()[0]
            assert scanner.mode == "active", "a passive scan that finds nothing is not trusted"
            await asyncio.sleep(3600.0)
            assert scanner.counters.restarts <= 7, "an empty street is not rescanned every minute"
            beacon = street.Beacon(here.air, "C0:00:00:00:00:01", lambda _n: street.flags())
            beacon.start()
            await asyncio.sleep(10.0)
            assert not desk.poller.reasons()
            beacon.stop()

    on_street(body)


@pytest.mark.parametrize(("power_cycle", "resets"), [(True, 3), (False, 0)])
def test_an_adapter_that_hears_nothing_in_either_mode_is_switched_off_and_on_once_an_hour(
    power_cycle: bool, resets: int
) -> None:
    async def body() -> None:
        here = Street(power_cycle=power_cycle)
        async with here.desk.running() as desk:
            await asyncio.sleep(3 * limits.BLE_RESET_PAUSE_S)
            assert desk.poller.scanner.counters.resets == resets
            one, _device = await here.peripheral("one", 1)
            desk.poller.devices.clear()
            await asyncio.sleep(30.0)
            assert desk.poller.scanner.is_scanning
            assert not desk.poller.reasons()
            await one.stop()

    on_street(body)


def test_addresses_that_rotate_for_days_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLE_ADDRESSES_MAX", 50)

    async def body() -> None:
        here = Street()
        beacons = [
            street.Beacon(here.air, f"C0:00:00:00:00:{n:02X}", lambda _n: street.flags()) for n in range(5)
        ]
        for beacon in beacons:
            beacon.start()
        async with here.desk.running() as desk:
            for _ in range(30):
                await asyncio.sleep(2.0)
                for beacon in beacons:
                    beacon.rotate()
            radio = desk.poller.backend.radio  # type: ignore[attr-defined]
            assert len(desk.poller.scanner.repeats) <= 50
            assert len((await radio.powered()).advertisement_accumulators) <= 52
            assert desk.poller.scanner.counters.news >= 120

    on_street(body)


def test_what_is_stopped_in_the_middle_of_connecting_leaves_nothing_behind() -> None:
    async def body() -> None:
        here = Street()
        one, _device = await here.peripheral("one", 1)
        here.air.jitter_s = 0.2
        for number in range(20):
            async with here.desk.running() as desk:
                await asyncio.sleep(0.15 * (number + 1))
            assert not desk.poller.slots.holders
            assert not here.adapter.connections()
            await asyncio.sleep(5.0)
            assert not one.chip.le_connections
        here.air.jitter_s = 0.0
        async with here.desk.running() as desk:
            await asyncio.sleep(60.0)
            assert await minute(desk, "one") >= A_MINUTE - 2
        await one.stop()
        assert len(asyncio.all_tasks()) == 1

    on_street(body)
