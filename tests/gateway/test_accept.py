"""Values of devices become records: scaled, flagged, with ids that are given once, through every failure."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import audit, limits
from gateway.batch import Batch
from gateway.northbound import mqtt
from gateway.profiles import Profile
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


def refuse(desk: DeviceDesk) -> Callable[[], None]:
    """The disk is full until what is returned is called."""
    execute = desk.store._execute

    def full(batch: Batch) -> None:
        raise sqlite3.OperationalError("disk is full")

    def mend() -> None:
        desk.store._execute = execute  # type: ignore[method-assign]

    desk.store._execute = full  # type: ignore[method-assign]
    return mend


async def fails(desk: DeviceDesk) -> None:
    with pytest.raises(Exception, match="disk is full"):
        await committed(desk)


@on_a_loop
async def test_what_a_failed_commit_had_goes_with_the_next_one_under_the_same_ids(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        device = desk.devices.get("level-1")
        desk.accept.accept(device, {"level": 1.0})
        await committed(desk)
        mend = refuse(desk)
        for level in (2.0, 3.0):
            desk.accept.accept(device, {"level": level, "flow": level})  # a schema that is new, too
        await fails(desk)
        desk.accept.accept(device, {"level": 4.0})
        await fails(desk)
        mend()
        await committed(desk)
        found = desk.store.readings(0, 100, 100)
        assert sorted((one.seq, one.values[0]) for one in found) == [(1, 10), (2, 20), (3, 30), (4, 40)]
        assert len({one.ledger.number for one in found}) == 1
        assert books(desk)[0].holds
    with device_desk(tmp_path) as desk:
        assert len(desk.store.readings(0, 100, 100)) == 4  # read back by schemas that are in the database


@on_a_loop
async def test_a_first_commit_that_fails_leaves_no_epoch_behind(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        mend = refuse(desk)
        desk.accept.accept(desk.devices.get("level-1"), {"level": 1.0})
        await fails(desk)
        mend()
        await committed(desk)
        assert [(one.seq, one.values) for one in desk.store.readings(0, 100, 100)] == [(1, (10,))]
        assert books(desk)[0].holds


@on_a_loop
async def test_what_there_is_no_room_for_is_counted_and_listed_as_lost(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        device = desk.devices.get("level-1")
        mend = refuse(desk)
        for number in range(limits.DEVICE_SETS_WAITING_MAX + 100):
            desk.accept.accept(device, {"level": number % 100})
        await fails(desk)
        assert device.counters["dropped"] >= 100
        mend()
        await committed(desk)
        desk.accept.accept(device, {"level": 1.0})
        await committed(desk)
        (balance,) = books(desk)
        assert balance.holds
        assert balance.lost == device.counters["dropped"]
        assert balance.produced == limits.DEVICE_SETS_WAITING_MAX + 101
        assert balance.missing == 0
    with device_desk(tmp_path) as desk:
        desk.accept.accept(desk.devices.get("level-1"), {"level": 2.0})
        await committed(desk)
        (balance,) = books(desk)
        assert balance.holds
        assert balance.missing == 0


@on_a_loop
async def test_a_restored_database_gives_no_id_twice(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        desk.accept.accept(desk.devices.get("level-1"), {"level": 1.0})
        await committed(desk)
    backup = (tmp_path / "tidegate.db").read_bytes()
    with device_desk(tmp_path) as desk:
        desk.accept.accept(desk.devices.get("level-1"), {"level": 2.0})
        await committed(desk)
        before = {(one.ledger.number, one.seq) for one in desk.store.readings(0, 100, 100)}
    (tmp_path / "tidegate.db").unlink()
    (tmp_path / "tidegate.db").write_bytes(backup)
    with device_desk(tmp_path, seed=9) as desk:
        assert desk.store.restored
        desk.accept.accept(desk.devices.get("level-1"), {"level": 3.0})
        await committed(desk)
        last = desk.store.readings(0, 100, 100)[-1]
        assert (last.ledger.number, last.seq) not in before


@on_a_loop
async def test_too_many_kinds_of_sets_travel_one_value_to_a_set(tmp_path: Path) -> None:
    points = [
        {
            "measurand": "voltage",
            "unit": "V",
            "name": f"v{i}",
            "function": "input",
            "address": i,
            "type": "u16",
        }
        for i in range(8)
    ]
    head = {"title": "t", "vendor": "v", "model": "m", "sources": ["s"], "checked": "c"}
    wide = Profile.model_validate({**head, "modbus": {"point": points}})
    with device_desk(tmp_path, profile=wide) as desk:
        device = desk.devices.get("level-1")
        for mask in range(1, 256):
            desk.accept.accept(device, {f"v{i}": float(mask) for i in range(8) if mask >> i & 1})
        await committed(desk)
        assert len(device.schemas) <= limits.DEVICE_SCHEMAS_MAX + 8
        values = [value for one in desk.store.readings(0, 9999, 9999) for value in one.values]
        assert len(values) == 8 * 128  # every value of every set, whatever it travelled in


@on_a_loop
async def test_a_device_keeps_its_address_when_it_is_taken_out_and_put_back(tmp_path: Path) -> None:
    with device_desk(tmp_path, "a", "b") as desk:
        await desk.devices.begin(desk.office.registry)
        addresses = {name: device.address for name, device in desk.devices.by_name.items()}
        assert len(set(addresses.values())) == 2
        assert all(address >= 1 << 31 for address in addresses.values())
    with device_desk(tmp_path, "b") as desk:
        await desk.devices.begin(desk.office.registry)
        known = desk.devices.known(addresses["a"])
        assert known is not None
        assert known.name == "a"  # its backlog is still delivered under its name
    with device_desk(tmp_path, "b", "a") as desk:
        assert {name: device.address for name, device in desk.devices.by_name.items()} == addresses


@on_a_loop
async def test_down_and_up_are_events_of_the_device_told_once(tmp_path: Path) -> None:
    with device_desk(tmp_path) as desk:
        told: list[tuple[bool, int | None]] = []
        desk.accept.on_down = lambda address, is_down, waited_s: told.append((is_down, waited_s))
        device = desk.devices.get("level-1")
        desk.accept.accept(device, {"level": 1.0})
        desk.clock.pass_s(90)
        desk.accept.state(device, "suspect", "no answer")
        desk.accept.state(device, "down", "no answer for 90 s")
        assert told[1:] == [(True, 90)]
        (row,) = desk.devices.rows()
        assert (row["state"], row["reason"], row["age_s"]) == ("down", "no answer for 90 s", 90)
        assert row["values"]["level"]["v"] == 1.0
        await committed(desk)


@on_a_loop
async def test_a_thousand_points_a_second_leave_most_of_a_core(tmp_path: Path) -> None:
    """Fifty devices of twenty points, a set each second, for a minute of their time; the figure is for whoever asks."""
    points = [
        {
            "measurand": "voltage",
            "unit": "V",
            "name": f"v{i}",
            "function": "input",
            "address": i,
            "type": "u16",
        }
        for i in range(20)
    ]
    head = {"title": "t", "vendor": "v", "model": "m", "sources": ["s"], "checked": "c"}
    wide = Profile.model_validate({**head, "modbus": {"point": points}})
    with device_desk(tmp_path, *(f"meter-{i}" for i in range(50)), profile=wide) as desk:
        began = time.process_time()
        for second in range(60):
            for device in desk.devices.by_name.values():
                assert desk.accept.accept(device, {f"v{i}": 230.0 + second % 7 for i in range(20)})
            await committed(desk)
        used = time.process_time() - began
        print(f"points_per_cpu_s={60_000 / used:.0f} cpu_share_at_1000_per_s={used / 60:.3f}")
        assert sum(device.counters["sets"] for device in desk.devices.by_name.values()) == 3000
        assert sum(device.counters["dropped"] for device in desk.devices.by_name.values()) == 0
        rows = books(desk)
        assert len(rows) == 50
        assert all(row.holds for row in rows)
