"""The whole daemon on a Bluetooth street: an advert and a characteristic become records like any other."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gateway import bluetooth, exchange, keys, limits
from gateway import config as configs
from gateway.config_devices import BleSection
from gateway.daemon import DataDir, Gateway
from gateway.errors import GatewayError
from hil_tests.world import ble_street as street
from tests.pollers.ble_desk import until

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.pollers.ble import BlePoller

KEY = bytes(range(16))
CONFIG = """
    [keys]
    master_key_file = "master.key"
    [clock]
    assume_synchronised = true
    [health]
    port = 0
    [[ble]]
    name = "mast"
    backend = "bumble"
    adapter = "tcp-client:127.0.0.1:1"
    connections = 2
    [[device]]
    name = "shelf"
    profile = "bthome_thermometer"
    ble = "mast"
    address = "C0:00:00:00:00:01"
    period_s = 0.1
    [[device]]
    name = "sealed"
    profile = "bthome_thermometer"
    ble = "mast"
    address = "C0:00:00:00:00:02"
    key_file = "sealed.key"
    period_s = 0.1
    [[device]]
    name = "roof"
    profile = "environmental_sensing"
    ble = "mast"
    address = "D0:00:00:00:00:01"
    period_s = 1
"""


class StreetGateway(Gateway):
    """The daemon, with the adapter of a simulated street."""

    adapter: street.Adapter

    def _build_bluetooth(self, sections: Iterable[BleSection]) -> dict[str, BlePoller]:
        return bluetooth.build(
            sections,
            self._part,
            self.devices,
            self.accept,
            self.bthome_counters,
            self.clock,
            self.log,
            lambda _section, _devices: self.adapter.backend(),
        )


@asynccontextmanager
async def running(folder: Path, text: str = CONFIG) -> AsyncIterator[tuple[StreetGateway, street.Air]]:
    keys.write_file(folder / "master.key")
    (folder / "sealed.key").write_text(KEY.hex())
    (folder / "sealed.key").chmod(0o600)
    config = configs.parse(text, "gateway.toml", folder)
    air = street.Air(random.Random(3))
    StreetGateway.adapter = street.Adapter(air)
    with DataDir(folder / "data"):
        gateway = StreetGateway(config, structlog.get_logger())
        started = asyncio.Event()
        task = asyncio.create_task(gateway.run(started=started.set))
        await started.wait()
        try:
            yield gateway, air
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gateway.store.close()


def sensors(air: street.Air) -> list[street.Beacon]:
    def plain(count: int) -> bytes:
        return street.bthome(street.measurements(count, 2100, 4000 + count))

    def sealed(count: int) -> bytes:
        return street.bthome_encrypted(
            street.measurements(count, -350, 8000), KEY, "C0:00:00:00:00:02", count
        )

    made = [
        street.Beacon(air, "C0:00:00:00:00:01", plain, period_s=0.2),
        street.Beacon(air, "C0:00:00:00:00:02", sealed, period_s=0.2),
    ]
    for one in made:
        one.start()
    return made


def test_adverts_and_characteristics_become_records_of_their_devices(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path) as (gateway, air):
            beacons = sensors(air)
            roof = street.Peripheral(air, "D0:00:00:00:00:01", "roof")
            await roof.start()

            def last(name: str) -> dict[str, Any]:
                return {key: one.value for key, one in gateway.devices.get(name).last.items()}

            await until(lambda: last("shelf") and last("sealed") and last("roof"), "all three are heard")
            assert last("shelf")["ambient_temperature"] == 21.0
            assert last("sealed") == {"ambient_temperature": -3.5, "relative_humidity": 80.0}
            assert last("roof")["relative_humidity"] == 55.0
            assert last("roof")["barometric_pressure"] == pytest.approx(1013.25)
            await until(
                lambda: len({one.ledger.node for one in gateway.store.readings(0, 100, 100)}) == 3, "stored"
            )
            assert gateway.reasons() == []
            picture = gateway.picture()
            assert picture["ble"]["mast"]["scanning"] == 1.0
            assert picture["ble_devices"]["roof"]["connects"] >= 1
            assert gateway.health is not None
            page = gateway.health.pages["/metrics"]().body.decode()
            assert 'tidegate_ble_adverts_total{adapter="mast"}' in page
            assert 'tidegate_ble_device_connects_total{device="roof"}' in page
            for beacon in beacons:
                beacon.stop()
            await roof.stop()

    asyncio.run(body())


VALVE = f"""
title = "Valve of the street"
vendor = "Tidegate"
model = "valve"
sources = ["hil_tests/world/ble_street.py"]
checked = "with the street"
[gatt]
service = "{street.SETTINGS}"
[[gatt.point]]
measurand = "ambient_temperature"
name = "set_point"
unit = "Cel"
characteristic = "{street.SETTING}"
type = "s16"
scale = 0.1
writable = {{ min = 5, max = 30 }}
"""
VALVE_DEVICE = """
    [devices]
    profiles = "profiles"
    [[device]]
    name = "valve"
    profile = "valve"
    ble = "mast"
    address = "D0:00:00:00:00:07"
"""


def test_a_point_is_written_by_a_person_who_says_why_and_is_told_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "valve.toml").write_text(VALVE)
    order = {
        "operation": "device.write",
        "device": "valve",
        "point": "set_point",
        "ttl_s": 20.0,
        "why": "test",
    }

    async def body() -> None:
        async with running(tmp_path, CONFIG + VALVE_DEVICE) as (gateway, air):
            valve = street.Peripheral(air, "D0:00:00:00:00:07", "valve")
            await valve.start()
            handle = gateway.operations.handle
            assert await handle({**order, "value": 21.5}, "wang") == {"result": "done", "detail": ""}
            assert bytes(valve.settings[:2]) == b"\xd7\x00"
            last = gateway.devices.get("valve").last
            await until(lambda: "set_point" in last and last["set_point"].value == 21.5, "it is told at once")
            for change, words in (
                ({"value": 31.0}, "Allowed is 5 to 30 Cel"),
                ({"point": "setpoint", "value": 20.0}, "lets be written: set_point"),
                ({"device": "shelf", "value": 20.0}, "shelf only advertises"),
                ({"why": "", "value": 20.0}, "--why"),
            ):
                with pytest.raises(GatewayError, match=words):
                    await handle({**order, **change}, "wang")

            def notes() -> list[tuple[str, str, str]]:
                rows = "SELECT who, target, detail FROM audit WHERE action LIKE 'device.wr%' ORDER BY rowid"
                return gateway.store.read(lambda connection: connection.execute(rows).fetchall())

            await until(lambda: len(notes()) == 2, "both notes")
            assert notes() == [
                ("wang", "valve set_point", "21.5 within 20 s"),
                ("wang", "valve set_point", "done"),
            ]
            assert gateway.health is not None
            page = gateway.health.pages["/metrics"]().body.decode()
            assert 'tidegate_ble_device_write_done_total{device="valve"} 1.0' in page
            await valve.stop()

    asyncio.run(body())


ROTATING = """
    [[device]]
    name = "pass"
    profile = "bthome_thermometer"
    ble = "mast"
    irk_file = "pass.irk"
    key_file = "sealed.key"
    period_s = 0.1
    [[device]]
    name = "moving"
    profile = "environmental_sensing"
    ble = "mast"
    irk_file = "moving.irk"
    period_s = 1
"""


def test_devices_that_change_their_addresses_stay_the_same_devices(tmp_path: Path) -> None:
    irks = {"pass": bytes(range(16, 32)), "moving": bytes(range(32, 48))}
    for name, irk in irks.items():
        (tmp_path / f"{name}.irk").write_text(irk.hex())
        (tmp_path / f"{name}.irk").chmod(0o600)

    async def body() -> None:
        async with running(tmp_path, CONFIG + ROTATING) as (gateway, air):

            def sealed(count: int) -> bytes:
                objects = street.measurements(count, 500 + count, 5000)
                return street.bthome_encrypted(objects, KEY, beacon.address.to_string(False), count)

            first = street.private_address(air.rng, irks["pass"]).to_string(False)
            beacon = street.Beacon(air, first, sealed, period_s=0.1, irk=irks["pass"])
            beacon.start()
            moving = street.Peripheral(
                air, street.private_address(air.rng, irks["moving"]).to_string(False), "moving"
            )
            await moving.start()
            counters = {name: gateway.devices.get(name).counters for name in irks}
            for _ in range(2):
                before = {name: counters[name]["sets"] for name in irks}
                await until(
                    lambda: all(counters[name]["sets"] > before[name] + 1 for name in irks),  # noqa: B023
                    "both are heard",
                )
                beacon.rotate()
                await moving.rotate(irks["moving"])
            rows = {row["device"]: row for row in gateway.devices.rows()}
            assert rows["pass"]["at"] == "by its key"
            assert not {name for name in counters["pass"] if name.startswith("refused")}
            beacon.stop()
            await moving.stop()

    asyncio.run(body())


def test_a_radio_without_bluez_serves_a_gateway_goes_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon as it is, and its radio on a network line, as of a container whose host has the adapter."""
    monkeypatch.setattr(limits, "BLE_CHECK_S", 0.05)
    monkeypatch.setattr(limits, "BLE_SCAN_RETRY_MIN_S", 0.05)

    async def body() -> None:
        keys.write_file(tmp_path / "master.key")
        (tmp_path / "sealed.key").write_text(KEY.hex())
        (tmp_path / "sealed.key").chmod(0o600)
        air = street.Air(random.Random(3))
        lines: set[asyncio.StreamWriter] = set()
        line = await street.offer(air, lines=lines)
        port = line.sockets[0].getsockname()[1]
        config = configs.parse(CONFIG.replace("127.0.0.1:1", f"127.0.0.1:{port}"), "gateway.toml", tmp_path)
        beacons = sensors(air)
        roof = street.Peripheral(air, "D0:00:00:00:00:01", "roof")
        await roof.start()
        with DataDir(tmp_path / "data"):
            gateway = Gateway(config, structlog.get_logger())
            task = asyncio.create_task(gateway.run())
            heard = {name: gateway.devices.get(name) for name in ("shelf", "sealed", "roof")}
            await until(lambda: all(one.last for one in heard.values()), "all three are heard")
            line.close()
            for writer in lines:
                writer.close()
            refused = f"the radio cannot be opened: [Errno {errno.ECONNREFUSED}]"
            await until(lambda: refused in str(gateway.reasons()), "the loss is told")
            sets = heard["roof"].counters["sets"]
            line = await street.offer(air, port)
            await until(lambda: not gateway.reasons(), "it is back")
            await until(lambda: heard["roof"].counters["sets"] > sets, "and connects")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gateway.store.close()
        for beacon in beacons:
            beacon.stop()
        await roof.stop()
        line.close()
        await line.wait_closed()

    asyncio.run(body())


def test_an_adapter_that_is_gone_is_a_reason_not_to_be_ready_and_goes_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLE_CHECK_S", 0.05)

    async def body() -> None:
        async with running(tmp_path) as (gateway, air):
            beacons = sensors(air)
            await until(lambda: gateway.devices.get("shelf").last, "heard")
            gateway.adapter.unplug()
            await until(gateway.reasons, "the loss is told")
            assert "ble:mast: no scan on simulated: simulated: the radio is gone" in gateway.reasons()[0]
            gateway.adapter.plug()
            await until(lambda: not gateway.reasons(), "it is back")
            for beacon in beacons:
                beacon.stop()

    asyncio.run(body())


def test_a_gateway_without_the_bluetooth_libraries_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.write_file(tmp_path / "master.key")
    config = configs.parse(CONFIG.split("[[device]]")[0], "gateway.toml", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gateway.pollers.ble_bumble", None)
    with pytest.raises(GatewayError, match=r"pip install 'tidegate\[radio\]'"):
        bluetooth.backend_of(config.ble[0], [])


def test_a_device_that_was_changed_takes_its_adapter_with_it_and_nothing_else(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path) as (gateway, air):
            beacons = sensors(air)
            sets = {name: device.counters for name, device in gateway.devices.by_name.items()}
            await until(lambda: sets["shelf"]["sets"] and sets["sealed"]["sets"], "both are heard")
            before, shelf, sealed = gateway.bluetooth["mast"], *map(gateway.devices.get, ("shelf", "sealed"))
            changed = CONFIG.replace('name = "shelf"', 'name = "shelf"\n    trend = false')
            new = configs.parse(changed, "gateway.toml", tmp_path)
            assert await exchange.exchange(gateway, new) == ["bus mast: begun, with device shelf"]
            assert gateway.bluetooth["mast"] is not before
            assert gateway.devices.get("shelf") is not shelf
            assert gateway.devices.get("sealed") is sealed, "it has what it said last, and its counter"
            heard = sealed.counters["sets"]
            await until(
                lambda: gateway.devices.get("shelf").counters["sets"] and sealed.counters["sets"] > heard,
                "both are heard again",
            )
            assert [part.failures for part in gateway.parts if part.failures] == []
            for beacon in beacons:
                beacon.stop()

    asyncio.run(body())
