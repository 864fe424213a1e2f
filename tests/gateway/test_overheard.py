"""Adverts become sets: once each, as often as asked, never from a recording, and silence is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway import bind_key, limits
from gateway.config_devices import DeviceSection
from gateway.devices import Devices
from gateway.errors import KeyFileError, RegistryError
from gateway.pollers import bthome
from gateway.pollers.bthome_counters import Counters, Verdict
from gateway.pollers.overheard import Overheard
from gateway.profile_library import Library
from tests.gateway.desk import BY
from tests.gateway.device_desk import DeviceDesk, device_desk, on_a_loop

KEY = bytes(range(16))
ADDRESS = "A4:C1:38:01:02:03"
TAG = "CB:B8:33:4C:88:4F"


class Advert(NamedTuple):
    address: str
    service_data: dict[str, bytes]
    manufacturer_data: dict[int, bytes]

    @property
    def who(self) -> str:
        return self.address


def plain(packet: int, hundredths: int = 2506) -> Advert:
    data = bytes([0x40, 0x00, packet, 0x02]) + hundredths.to_bytes(2, "little", signed=True)
    return Advert(ADDRESS, {bthome.UUID: data}, {})


def sealed(counter: int, hundredths: int = 2506, flags: int = 0x41) -> Advert:
    said = b"\x02" + hundredths.to_bytes(2, "little", signed=True)
    tail = counter.to_bytes(4, "little")
    nonce = bytes.fromhex(ADDRESS.replace(":", "")) + b"\xd2\xfc" + bytes([flags]) + tail
    cipher = AESCCM(KEY, tag_length=4).encrypt(nonce, said, None)
    return Advert(ADDRESS, {bthome.UUID: bytes([flags]) + cipher[:-4] + tail + cipher[-4:]}, {})


class Street:
    def __init__(self, desk: DeviceDesk, *, period_s: float | None, key: bytes | None) -> None:
        more: dict[str, Any] = {} if period_s is None else {"period_s": period_s}
        sections = [
            DeviceSection.model_validate(
                {"name": name, "profile": profile, "ble": "air", "address": address, **more}
            )
            for name, profile, address in (
                ("therm", "bthome_thermometer", ADDRESS),
                ("tag", "ruuvitag", TAG),
            )
        ]
        library = Library()
        profiles = {name: library.get(name) for name in ("bthome_thermometer", "ruuvitag")}
        self.desk = desk
        self.devices = Devices(desk.store, desk.clock, sections, profiles)
        desk.accept.devices = self.devices
        self.therm, self.tag = self.devices.get("therm"), self.devices.get("tag")
        self.counters = Counters(desk.store)
        keys = {} if key is None else {"therm": key}
        self.ears = Overheard(desk.accept, self.devices.by_name.values(), self.counters, desk.clock, keys)

    async def kept(self) -> list[tuple[int | None, ...]]:
        await self.desk.store.write(lambda connection: None)
        return [one.values for one in self.desk.store.readings(0, 1000, 1000)]


@contextmanager
def street(folder: Path, period_s: float | None = 0.1, key: bytes | None = None) -> Iterator[Street]:
    with device_desk(folder) as desk:
        yield Street(desk, period_s=period_s, key=key)


@on_a_loop
async def test_a_repeated_packet_is_one_set_and_a_stranger_is_none(tmp_path: Path) -> None:
    with street(tmp_path) as town:
        for packet in (1, 1, 1, 2, 2):
            town.ears.advert(plain(packet, 2500 + packet))
            town.desk.clock.pass_s(1)
        town.ears.advert(plain(3)._replace(address="00:00:00:00:00:00"))
        assert await town.kept() == [(2501,), (2502,)]
        assert town.therm.counters["repeats"] == 3


@on_a_loop
async def test_an_advert_that_was_overtaken_is_not_taken_for_a_newer_one(tmp_path: Path) -> None:
    with street(tmp_path) as town:
        for packet, hundredths in ((254, 2000), (0, 2002), (255, 2001), (1, 2003)):
            town.ears.advert(plain(packet, hundredths))
            town.desk.clock.pass_s(1)
        assert await town.kept() == [(2000,), (2002,), (2003,)]
        assert town.therm.counters["late"] == 1
        town.desk.clock.pass_s(5)
        town.ears.advert(plain(0, 2100))  # a battery was changed: it counts anew
        assert (await town.kept())[-1] == (2100,)


@on_a_loop
async def test_a_chatty_device_is_kept_as_often_as_asked_and_a_trigger_always(tmp_path: Path) -> None:
    with street(tmp_path, period_s=None, key=KEY) as town:
        for second in range(180):
            town.ears.advert(sealed(second))
            town.desk.clock.pass_s(1)
        assert len(await town.kept()) == 180 / limits.OVERHEARD_PERIOD_S + 1
        town.ears.advert(sealed(500, flags=0x45))
        town.ears.advert(sealed(501, flags=0x45))
        assert len(await town.kept()) == 180 / limits.OVERHEARD_PERIOD_S + 3


@on_a_loop
async def test_a_recording_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    with street(tmp_path, key=KEY) as town:
        for counter in (7, 9, 9):
            town.ears.advert(sealed(counter))
            town.desk.clock.pass_s(1)
        assert len(await town.kept()) == 2
        town.ears.advert(sealed(7))
        assert town.therm.counters["refused_replay"] == 1
    with street(tmp_path, key=KEY) as town:
        town.desk.clock.pass_s(10)
        for counter in (7, 8, 9):
            town.ears.advert(sealed(counter))
        assert town.therm.counters["refused_replay"] == 2
        town.ears.advert(sealed(10))
        assert len(await town.kept()) == 3


@on_a_loop
async def test_a_counter_is_as_durable_as_its_set_when_a_commit_fails(tmp_path: Path) -> None:
    with street(tmp_path, key=KEY) as town:
        store = town.desk.store
        execute = store._execute

        def full(batch: object) -> None:
            raise sqlite3.OperationalError("disk is full")

        store._execute = full  # type: ignore[assignment, method-assign]
        town.ears.advert(sealed(20))
        with pytest.raises(Exception, match="disk is full"):
            await store.write(lambda connection: None)
        store._execute = execute  # type: ignore[method-assign]
        assert len(await town.kept()) == 1
    with street(tmp_path, key=KEY) as town:
        assert town.counters.take(town.therm.address, 19) is Verdict.REPLAY
        assert town.counters.take(town.therm.address, 20) is Verdict.REPEAT


@on_a_loop
async def test_a_person_lets_a_device_count_anew(tmp_path: Path) -> None:
    with street(tmp_path, key=KEY) as town:
        with pytest.raises(RegistryError, match="nothing sealed"):
            await town.counters.reset(town.therm.address, "therm", 0, BY)
        town.ears.advert(sealed(1000))
        await town.kept()
        town.ears.advert(sealed(0))
        assert town.therm.counters["refused_replay"] == 1
        assert await town.counters.reset(town.therm.address, "therm", 0, BY) == 1000
        town.desk.clock.pass_s(1)
        town.ears.advert(sealed(0))
        assert len(await town.kept()) == 2


@on_a_loop
async def test_with_a_key_nothing_plain_is_believed(tmp_path: Path) -> None:
    with street(tmp_path, key=KEY) as town:
        town.ears.advert(plain(1))
        assert await town.kept() == []
        assert town.therm.counters["refused_plain"] == 1


@on_a_loop
async def test_a_layout_of_the_maker_s_own_is_told_once_for_each_measurement(tmp_path: Path) -> None:
    with street(tmp_path) as town:
        data = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
        for one in (data, data, data[:16] + b"\x00\xce" + data[18:], data[:-1]):
            town.ears.advert(Advert(TAG, {}, {0x0499: one}))
            town.desk.clock.pass_s(1)
        first, second = await town.kept()
        assert first == second
        assert first[:3] == (24_300, 534_900, 100_044)


@on_a_loop
async def test_a_device_that_is_not_heard_any_more_is_told_of_and_so_is_its_return(tmp_path: Path) -> None:
    with street(tmp_path) as town:
        told: list[tuple[int, bool]] = []
        town.desk.accept.on_down = lambda address, is_down, waited_s: told.append((address, is_down))
        town.ears.advert(plain(1))
        town.desk.clock.pass_s(limits.OVERHEARD_SILENT_S + 1)
        town.ears.look()
        assert (town.therm.state, town.tag.state) == ("down", "down")
        town.ears.advert(plain(2))
        assert town.therm.state == "up"
        assert told[-1] == (town.therm.address, False)
        await town.kept()


def test_a_bind_key_is_private_and_has_sixteen_bytes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("231d39c1d7cc1ab1aee224cd096db932\n")
    file.chmod(0o600)
    assert len(bind_key.load(file)) == 16
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        bind_key.load(file)
    file.chmod(0o600)
    file.write_text("nonsense")
    with pytest.raises(KeyFileError, match="32 hexadecimal digits"):
        bind_key.load(file)
    with pytest.raises(KeyFileError, match="cannot be read"):
        bind_key.load(tmp_path / "none")
