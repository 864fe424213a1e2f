"""One Bluetooth device under a person's eyes: its adverts and, once connected, each characteristic it lets us read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bleak.exc import BleakGATTProtocolError
from bleak.uuids import uuidstr_to_str
from rich.table import Table
from rich.text import Text

from gateway import limits
from gateway.log import printable
from gateway.pollers import bthome
from gateway.pollers.ble_advert import Advert, short_uuid
from gateway.pollers.ble_backend import Backend
from gateway.pollers.ble_faults import STACK_ERRORS, classify, text_of, told
from gateway.pollers.ble_survey import advert_data, fits
from gateway.profiles import GattPoint, Profile, full_uuid
from protocols.fields import FieldError

if TYPE_CHECKING:
    from bleak import BleakClient
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.device import BLEDevice

READ_PERIOD_S = 5.0
# Rows of the table: a device has 10 to 40 characteristics.
ROWS_MAX = 128


class Watch:
    """What one address says; `table` shows it."""

    def __init__(
        self,
        backend: Backend,
        who: str,
        known: dict[str, Profile],
        *,
        connect: bool = True,
        key: bytes | None = None,
    ) -> None:
        self.count = 0
        self.state = "waiting for an advert"
        self._backend = backend
        self.who = who  # its address, or what it is known by instead
        self._known = known
        self._connect = connect
        self._key = key
        self._advert: Advert | None = None
        self._device: BLEDevice | None = None
        self._heard = asyncio.Event()
        self._rows: dict[tuple[str, str], tuple[str, bytes, int]] = {}  # (where, what) → value, raw, times

    def heard(self, device: BLEDevice, advert: Advert) -> None:
        """Any advert; those of others are none of its business."""
        if advert.who != self.who:
            return
        self.count += 1
        self._advert, self._device = advert, device
        self._heard.set()
        for what, value, raw in _of_advert(advert, self._known, self._key):
            self._row("advert", what, value, raw)

    def _row(self, where: str, what: str, value: str, raw: bytes) -> None:
        times = self._rows.get((where, what), ("", b"", 0))[2]
        if times or len(self._rows) < ROWS_MAX:
            self._rows[(where, what)] = (value, raw, times + 1)

    def table(self, seconds: float) -> Table:
        """Everything known now."""
        advert = self._advert
        title = self.who
        if advert is not None:
            title = f"{advert.address} {advert.name}  {advert.rssi_dbm} dBm, {self.count} adverts, {seconds:.0f} s"
        table = Table(
            "where", "what", "value", "raw", "times", title=printable(title), caption=printable(self.state)
        )
        for (where, what), (value, raw, times) in self._rows.items():
            cells = (where, what, value, raw.hex(" "), str(times))
            table.add_row(*(Text(printable(cell)) for cell in cells))
        return table

    async def run(self) -> None:
        """Connect when it is heard, read and listen, and again when it is lost; until cancelled."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            device = self._device
            if not self._connect or device is None:
                self.state = "adverts only"
                continue
            try:
                await self._visit(device)
            except STACK_ERRORS as exc:
                kind = classify(exc)
                self.state = told(kind, f"not connected: {text_of(exc)}")
                await asyncio.sleep(READ_PERIOD_S)

    async def _visit(self, device: BLEDevice) -> None:
        self.state = "connecting"
        lost = asyncio.Event()
        client = self._backend.client(device, lambda _client: lost.set())
        try:
            async with asyncio.timeout(limits.BLE_CONNECT_TIMEOUT_S):
                await client.connect()
            self.state = "connected"
            async with asyncio.timeout(limits.BLE_CONNECT_TIMEOUT_S):
                await self._subscribe(client)
            while not lost.is_set():
                await self._read(client, lost)
                try:
                    await asyncio.wait_for(lost.wait(), READ_PERIOD_S)
                except TimeoutError:
                    continue
            self.state = "the connection was lost"
        finally:
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await client.disconnect()

    async def _subscribe(self, client: BleakClient) -> None:
        for one in client.services.characteristics.values():
            if "notify" in one.properties or "indicate" in one.properties:

                def told_by_it(_sender: object, data: bytearray, one: BleakGATTCharacteristic = one) -> None:
                    self._characteristic(one, bytes(data), "told")

                await client.start_notify(one, told_by_it)

    async def _read(self, client: BleakClient, lost: asyncio.Event) -> None:
        for one in client.services.characteristics.values():
            if "read" not in one.properties or lost.is_set():
                continue
            try:
                async with asyncio.timeout(limits.BLE_READ_TIMEOUT_S):
                    data = bytes(await client.read_gatt_char(one))
            except BleakGATTProtocolError as exc:
                self._row(_name(one.service_uuid), _name(one.uuid), f"({text_of(exc)})", b"")
            else:
                self._characteristic(one, data, "read")

    def _characteristic(self, one: BleakGATTCharacteristic, data: bytes, how: str) -> None:
        value = _decoded(self._known, one.service_uuid, one.uuid, data)
        self._row(_name(one.service_uuid), f"{_name(one.uuid)} ({how})", value, data)


def _name(uuid: str) -> str:
    text = uuidstr_to_str(uuid)
    return short_uuid(uuid) if text in ("Unknown", "Vendor specific") else f"{short_uuid(uuid)} {text}"


def _decoded(known: dict[str, Profile], service: str, characteristic: str, data: bytes) -> str:
    """By the first profile that knows the characteristic; else as text, if it is one."""
    for profile in known.values():
        for point in profile.gatt.point if profile.gatt else ():
            if _is_at(profile, point, service, characteristic):
                return _value(point, data)
    text = data.decode("utf-8", "replace")
    return text if len(text) > 2 and text.isprintable() else ""


def _is_at(profile: Profile, point: GattPoint, service: str, characteristic: str) -> bool:
    assert profile.gatt is not None
    return (
        full_uuid(point.characteristic) == characteristic
        and full_uuid(point.service or profile.gatt.service) == service
    )


def _value(point: GattPoint, data: bytes) -> str:
    try:
        value = point.value(data)
    except FieldError as exc:
        return f"({exc})"
    return "no value" if value is None else f"{point.key} {_short(value)} {point.unit}"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _of_advert(
    advert: Advert, known: dict[str, Profile], key: bytes | None
) -> Iterator[tuple[str, str, bytes]]:
    """(what, value, raw) for each thing an advert says."""
    said = advert.service_data.get(bthome.UUID)
    if said is not None:
        yield from _of_bthome(advert.address, said, known, key)
    for name, profile in known.items():
        if profile.advert is not None and fits(profile, advert):
            data = advert_data(profile.advert, advert) or b""
            for point in profile.advert.point:
                try:
                    value = point.value(data)
                except FieldError:
                    continue
                yield f"{name}: {point.key}", f"{_short(value)} {point.unit}", data
    for uuid, data in advert.service_data.items():
        yield f"service data {_name(uuid)}", "", data
    for company, data in advert.manufacturer_data.items():
        yield f"manufacturer data {company:04X}", "", data


def _of_bthome(
    address: str, data: bytes, known: dict[str, Profile], key: bytes | None
) -> Iterator[tuple[str, str, bytes]]:
    """Objects that a profile knows by their measurand, others by their number."""
    try:
        said = bthome.decode(data, key=key, address=address)
    except bthome.BthomeError as exc:
        hint = ": name the file with its bind key by --key-file" if exc.reason == "key" else ""
        yield "BTHome", f"({exc}{hint})", data
        return
    points = {
        (point.object, point.index): point
        for profile in known.values()
        for point in (profile.bthome.point if profile.bthome else ())
    }
    if said.packet_id is not None:
        yield "BTHome: packet", str(said.packet_id), b""
    for number, index, value in said.objects:
        point = points.get((number, index))
        if point is None:
            yield f"BTHome: object {number:02X}", _short(value), b""
        else:
            yield f"BTHome: {point.key}", f"{_short(value * point.scale + point.offset)} {point.unit}", b""
