"""Writes to connected devices: read back, once, in time or not at all, whatever the device does; on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway import limits
from gateway.pollers.ble_gatt import GattPoint
from gateway.pollers.ble_writes import Write
from hil_tests.world import ble_street as street
from hil_tests.world.clock import run
from protocols.fields import Form
from tests.pollers.test_ble_devices import Street

if TYPE_CHECKING:
    from gateway.pollers.ble_gatt import GattDevice

SETTING = GattPoint(street.SETTINGS, street.SETTING, "read", 600.0)
SET_POINT = Form("s16", "DCBA", scale=0.1)
MODE = Form("u8", "DCBA", bits=(4, 2))


class Order:
    """One write, and what was said of it."""

    def __init__(
        self, device: GattDevice, value: float, ttl_s: float = 10.0, form: Form = SET_POINT, at: int = 0
    ) -> None:
        self.done: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        write = Write(SETTING, at, form, value, True, lambda *end: self.done.set_result(end))
        self.refusal = device.writes.add(write, ttl_s)


async def heard(device: GattDevice) -> None:
    while not device.counters.reads:  # noqa: ASYNC110  (the clock is virtual)
        await asyncio.sleep(0.1)


def test_a_write_is_read_back_and_leaves_the_rest_of_its_characteristic_alone() -> None:
    async def body() -> None:
        here = Street()
        one, device = await here.peripheral("valve", 1, (SETTING,))
        async with here.desk.running() as desk:
            await heard(device)
            assert not device.is_connected  # it is read every ten minutes, and left alone in between
            assert await Order(device, 21.5).done == ("done", "")
            assert bytes(one.settings) == b"\xd7\x00\x01"
            assert await Order(device, 3, form=MODE, at=2).done == ("done", "")
            assert bytes(one.settings) == b"\xd7\x00\x31"
            assert await Order(device, -4.0).done == ("done", "")
            assert one.writes == 3
            await asyncio.sleep(2.0)
            assert desk.values[-1] == ("valve", street.SETTING, b"\xd8\xff\x31"), "what was written is told"
            assert not desk.poller.slots.holders
        await one.stop()

    run(body())


def test_a_device_that_refuses_or_ignores_a_write_is_told_so() -> None:
    async def body() -> None:
        here = Street()
        one, device = await here.peripheral("valve", 1, (SETTING,))
        async with here.desk.running():
            await heard(device)
            one.write_refuses = 0x03  # write not permitted
            result, detail = await Order(device, 21.5).done
            assert (result, "Write not permitted" in detail or "WRITE_NOT_PERMITTED" in detail) == (
                "refused",
                True,
            )
            one.write_refuses, one.write_is_ignored = 0, True
            assert await Order(device, 21.5).done == ("differs", "reads back 20")
            one.write_is_ignored, one.write_refuses = False, 0x0F  # insufficient encryption
            result, detail = await Order(device, 21.5).done
            assert result == "refused"
            assert "bluetoothctl pair" in detail
            await asyncio.sleep(1.0)
            assert device.last_kind == "auth"
        await one.stop()

    run(body())


def test_a_write_whose_answer_is_lost_is_looked_for_and_not_sent_twice() -> None:
    async def body() -> None:
        here = Street()
        one, device = await here.peripheral("valve", 1, (SETTING,))
        async with here.desk.running():
            await heard(device)
            one.write_is_lost = True
            assert await Order(device, 21.5).done == ("done", "")
            assert (one.writes, bytes(one.settings)) == (1, b"\xd7\x00\x01")
            one.write_is_lost = one.write_is_ignored = True  # lost on its way: once more
            order = Order(device, 30.0)
            while one.writes < 2:  # noqa: ASYNC110  (the clock is virtual)
                await asyncio.sleep(0.01)
            one.write_is_ignored = False
            assert await order.done == ("done", "")
            assert (one.writes, bytes(one.settings)) == (3, b"\x2c\x01\x01")
        await one.stop()

    run(body())


def test_a_write_that_comes_too_late_never_comes() -> None:
    async def body() -> None:
        here = Street()
        one, device = await here.peripheral("valve", 1, (SETTING,))
        async with here.desk.running():
            await heard(device)
            await one.go()
            order = Order(device, 21.5, ttl_s=5.0)
            result, detail = await order.done
            assert (result, "never sent" in detail) == ("expired", True)
            await one.come()
            await asyncio.sleep(300.0)
            assert one.writes == 0
            one.hangs_at_settings = True
            assert (await Order(device, 21.5, ttl_s=5.0).done)[0] == "expired"
            one.hangs_at_settings = False
            await asyncio.sleep(300.0)
            assert one.writes == 0
            assert await Order(device, 21.5).done == ("done", "")
        await one.stop()

    run(body())


def test_writes_are_bounded_in_order_and_told_of_when_the_gateway_stops() -> None:
    async def body() -> None:
        here = Street()
        one, device = await here.peripheral("valve", 1, (SETTING,))
        async with here.desk.running():
            await heard(device)
            orders = [Order(device, float(number)) for number in range(limits.BLE_WRITES_MAX)]
            assert "too many" in Order(device, 1.0).refusal
            for order in orders:
                assert await order.done == ("done", "")
            assert bytes(one.settings) == b"\x96\x00\x01"
            await one.go()
            last = Order(device, 1.0, ttl_s=600.0)
            await asyncio.sleep(1.0)
        assert last.done.result() == ("expired", "never sent: the gateway stops")
        await one.stop()
        assert dict(device.writes.counters) == {"done": limits.BLE_WRITES_MAX, "expired": 1}

    run(body())


@pytest.mark.parametrize("seed", range(3))
def test_writes_through_lost_connections_end_once_and_truly(seed: int) -> None:
    """Of every write it is told once how it ended, and `done` and `expired` are true."""

    async def body() -> None:
        here = Street()
        rng = here.air.rng
        rng.seed(seed)
        one, device = await here.peripheral("valve", 1, (SETTING,))
        ends: list[str] = []
        async with here.desk.running():
            await heard(device)
            for number in range(40):
                before = bytes(one.settings[:2])
                order = Order(device, float(number % 7), ttl_s=rng.choice((1.0, 4.0, 20.0)))
                while not order.done.done():
                    await asyncio.sleep(rng.uniform(0.0, 1.5))
                    rng.choice((one.vanish, one.disconnect, lambda: None, lambda: None))()
                result, detail = order.done.result()
                ends.append(result)
                now, wanted = bytes(one.settings[:2]), int(number % 7 * 10).to_bytes(2, "little")
                if result == "done":
                    assert now == wanted, f"seed {seed}, write {number}: {detail}"
                if result == "expired":
                    assert now == before, f"seed {seed}, write {number}: {detail}"
        assert len(ends) == sum(device.writes.counters.values()) == 40
        assert ends.count("done") >= 10, ends
        await one.stop()

    run(body())
