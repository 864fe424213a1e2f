"""Values of devices become records: scaled, flagged, with ids that are given once, through every failure."""

from __future__ import annotations

import json
from pathlib import Path

from gateway import audit
from gateway.northbound import mqtt
from tests.gateway.device_desk import DeviceDesk, device_desk, on_a_loop


async def committed(desk: DeviceDesk) -> None:
    """Wait for the commit that is due."""
    await desk.store.write(lambda connection: None)


def books(desk: DeviceDesk) -> list[audit.Balance]:
    return desk.store.read(audit.balance)


@on_a_loop
async def test_a_set_is_a_record_like_a_node_s(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        await desk.devices.begin(desk.office.registry)
        device = desk.devices.get("level-1")
        assert desk.accept.accept(device, {"level": 123.44, "ph_up": 7.125})
        await committed(desk)
        (reading,) = desk.store.readings(0, 10, 10)
        assert reading.values == (1234, 713)
        assert reading.flags is None
        assert reading.seq == 1
        place = desk.office.registry.place_of(device.address, desk.clock.now_ms)
        payload = json.loads(mqtt.format(reading, place.site, resent=False, devices=desk.devices))
        assert payload["node"] == f"{device.address:08x}"
        assert payload["device"] == "level-1"
        assert payload["source"] == "modbus"
        assert payload["site"] == "site-level-1"
        assert payload["readings"] == {
            "level": {"v": 123.4, "u": "cm", "q": 1},
            "ph_up": {"v": 7.13, "u": "[pH]", "q": 1},
        }


@on_a_loop
async def test_flags_come_from_the_profile_s_ranges_and_from_the_poller(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        device = desk.devices.get("level-1")
        desk.accept.accept(device, {"level": 501.0, "flow": None, "ph_up": 7.0}, flags={"ph_up": 2})
        desk.accept.accept(device, {"level": 450.0, "flow": float("nan"), "ph_up": 7.0}, flags={"ph_up": 4})
        desk.accept.accept(device, {"flow": 1e30})
        await committed(desk)
        sets = [(one.values, one.flags) for one in desk.store.readings(0, 10, 10)]
        assert sets[0] == ((5010, None, 700), (4, 9, 1))
        assert sets[1] == ((4500, None, 700), (3, 9, 4))
        assert sets[2] == ((None,), (9,))
        assert device.counters["no_room"] == 2
        assert books(desk)[0].holds


@on_a_loop
async def test_ids_go_on_after_a_restart_and_the_schema_is_known_again(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        await desk.devices.begin()
        address = desk.devices.get("level-1").address
        for level in range(5):
            desk.accept.accept(desk.devices.get("level-1"), {"level": float(level)})
        await committed(desk)
    with device_desk(tmp_path, seed=8) as desk:
        device = desk.devices.get("level-1")
        assert device.address == address
        desk.accept.accept(device, {"level": 5.0, "flow": 1.0})
        await committed(desk)
        found = desk.store.readings(0, 100, 100)
        assert [one.seq for one in found] == [1, 2, 3, 4, 5, 6]
        assert len({one.ledger.number for one in found}) == 1
        assert books(desk)[0].holds
