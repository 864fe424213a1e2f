"""bleak's interface over a bumble host: a Bluetooth radio of our own, with no BlueZ and no kernel driver.

For containers without D-Bus, for a radio on a serial or network line, and for a simulated street. The radio is named
by a transport of bumble (`usb:0`, `serial:/dev/ttyACM0,1000000`, `tcp-client:127.0.0.1:6402`); whoever holds it holds
it alone.

bumble is a research stack: it leaves an attempt in the controller when its caller goes away, cancels (instead of
failing) what waits for a peer that is gone, and keeps something of every address it ever heard. What that takes is
done here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import bumble.core
from bleak import BleakClient, BleakScanner
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError
from bleak.exc import BleakGATTProtocolError as GattError
from bleak.uuids import normalize_uuid_str
from bumble import att, core, device, gatt, gatt_client, hci, host
from bumble.transport import open_transport

from gateway import limits
from gateway.config_devices import transport_problem
from gateway.pollers.ble_backend import OnAdvert, OnLost, ScanMode
from gateway.pollers.ble_faults import ADAPTER, OTHER, BleFault

_T = TypeVar("_T")

# How long a controller may take to say that an attempt was given up; one that does not is opened anew.
_CANCEL_TIMEOUT_S = 2.0
_BUMBLE_ERRORS = (core.BaseBumbleError, hci.HCI_Error, asyncio.InvalidStateError)


class Line(NamedTuple):
    """An open way to a controller."""

    source: Any  # bumble's TransportSource
    sink: Any  # bumble's TransportSink
    close: Callable[[], Awaitable[None]]


Opener = Callable[[], Awaitable[Line]]


def transport(spec: str) -> Opener:
    """What opens the radio that `spec` names. Raises BleFault for one that no radio can have."""
    wrong = transport_problem(spec)
    if wrong:
        raise BleFault(OTHER, wrong)

    async def opener() -> Line:
        opened = await open_transport(spec)
        return Line(opened.source, opened.sink, opened.close)

    return opener


class Radio:
    """One controller under one bumble host; opened when first needed, and again after it was lost."""

    def __init__(self, name: str, opener: Opener, address: str = "") -> None:
        self.name = name
        self._opener = opener
        self._address = hci.Address(address) if address else hci.Address.ANY_RANDOM
        self._opening = asyncio.Lock()
        self._line: Line | None = None
        self._device: device.Device | None = None
        self.on_lost: dict[object, Callable[[], None]] = {}
        self._claimed: set[int] = set()

    async def powered(self) -> device.Device:
        """The host, opened and on. Raises BleFault when the radio is not there."""
        async with self._opening:
            if self._device is None:
                await self._open()
            assert self._device is not None
            return self._device

    async def _open(self) -> None:
        # A radio that is pulled out is a page of its tracebacks; what matters of it arrives here as an error.
        logging.getLogger("bumble").setLevel(logging.CRITICAL)
        try:
            self._line = line = await self._opener()
        except (OSError, ValueError, core.BaseBumbleError) as exc:
            raise _not_available(f"{self.name}: the radio cannot be opened: {exc}") from exc
        made = device.Device(
            config=device.DeviceConfiguration(name="tidegate", address=self._address),
            host=host.Host(controller_source=line.source, controller_sink=line.sink),
        )
        made.host.on("flush", lambda: self._lost(made))
        made.on("connection", self._unclaimed)
        try:
            async with asyncio.timeout(limits.BLE_CALL_TIMEOUT_S):
                await made.power_on()
        except (TimeoutError, OSError, *_BUMBLE_ERRORS) as exc:
            await self.close()
            raise _not_available(f"{self.name}: the radio does not answer: {exc}") from exc
        self._device = made

    def _lost(self, made: device.Device) -> None:
        """The transport ended: whoever scans or is connected hears it, and the next use opens anew."""
        if self._device is not made:
            return  # bumble also says so when we reset it ourselves
        self._device, line, self._line = None, self._line, None
        if line is not None:
            _in_background(line.close())
        for told in list(self.on_lost.values()):
            told()

    def _unclaimed(self, connection: device.Connection) -> None:
        """A connection that came about after its caller had given up is ended, or it would hold a slot for ever."""

        def look() -> None:
            if connection.handle not in self._claimed and connection.handle in connection.device.connections:
                _in_background(_hang_up(connection))

        asyncio.get_running_loop().call_later(_CANCEL_TIMEOUT_S, look)

    async def connect(self, address: hci.Address, timeout_s: float) -> device.Connection:
        """Connect; a caller that goes away meanwhile leaves no attempt behind in the controller."""
        made = await self.powered()
        # bumble's own time-out would give the attempt up as well, and cross with ours.
        attempt = asyncio.ensure_future(made.connect_le(address, timeout=None))
        attempt.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, whoever is left
        try:
            async with asyncio.timeout(timeout_s):
                connection = await asyncio.shield(attempt)
        except TimeoutError:
            await self._give_up(made, attempt)
            raise
        except asyncio.CancelledError:
            if not _is_cancelled():
                raise BleakError("disconnected: the radio went away") from None
            await self._give_up(made, attempt)
            raise
        self._claimed.add(connection.handle)
        connection.once("disconnection", lambda _reason: self._claimed.discard(connection.handle))
        return connection

    async def _give_up(self, made: device.Device, attempt: asyncio.Future[device.Connection]) -> None:
        if not attempt.done() and self._device is made:
            _in_background(_quietly(made.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())))
        done, _ = await asyncio.wait((attempt,), timeout=_CANCEL_TIMEOUT_S)
        if not done:
            attempt.cancel()
        elif not attempt.cancelled() and attempt.exception() is None:
            await _quietly(_hang_up(attempt.result()))

    def check(self, made: device.Device | None) -> None:
        """Raise unless `made` is the host that is open: a radio that came back knows of no scan."""
        if made is None or self._device is not made:
            raise _not_available(f"{self.name}: the radio is gone")

    async def close(self) -> None:
        """Switch off and let go of the transport."""
        made, line = self._device, self._line
        self._device = self._line = None
        if made is not None:
            await _quietly(made.host.reset())
        if line is not None:
            await _quietly(line.close())


class Bumble:
    """Backend (ble_backend.py) over one radio."""

    def __init__(self, spec: str, opener: Opener | None = None, address: str = "") -> None:
        self.radio = Radio(spec, opener or transport(spec), address)
        self._prepared: device.Device | None = None

    @property
    def name(self) -> str:
        return self.radio.name

    def scanner(self, on_advert: OnAdvert, mode: ScanMode) -> BleakScanner:
        return BleakScanner(on_advert, scanning_mode=mode, backend=BumbleScanner, radio=self.radio)

    def client(self, peripheral: BLEDevice, on_lost: OnLost) -> BleakClient:
        return BleakClient(
            peripheral, on_lost, timeout=limits.BLE_CONNECT_TIMEOUT_S, backend=BumbleClient, radio=self.radio
        )

    async def unstick(self, peripheral: BLEDevice) -> None:
        """An attempt that was left behind is ended by the next reset; see Radio.connect for why there is none."""

    async def held(self) -> list[BLEDevice]:
        """None: a host that starts resets its controller, and nobody else has it."""
        return []

    async def reset(self) -> None:
        """Opened anew when it is next needed, and reset by that."""
        await self.radio.close()

    async def prepare(self) -> None:
        self._prepared = await self.radio.powered()

    async def check(self) -> None:
        self.radio.check(self._prepared)

    async def close(self) -> None:
        await self.radio.close()


class BumbleScanner(BaseBleakScanner):
    """bleak's scanner over a Radio."""

    def __init__(
        self,
        detection_callback: Any,
        service_uuids: list[str] | None,
        scanning_mode: ScanMode,
        *,
        radio: Radio,
        **_other: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._radio = radio
        self._is_active = scanning_mode == "active"
        self._device: device.Device | None = None

    async def start(self) -> None:
        self.seen_devices = {}
        made = await self._radio.powered()
        made.on("advertisement", self._advertisement)
        self._device = made
        await _answered(made.start_scanning(active=self._is_active))

    async def stop(self) -> None:
        made, self._device = self._device, None
        if made is None:
            return
        made.remove_listener("advertisement", self._advertisement)
        self._radio.check(made)
        await _answered(made.stop_scanning())

    def _advertisement(self, advertisement: device.Advertisement) -> None:
        made = self._device
        if made is not None and len(made.advertisement_accumulators) > limits.BLE_ADDRESSES_MAX:
            made.advertisement_accumulators.clear()
        data = _advertisement_data(advertisement)
        if not self.is_allowed_uuid(data.service_uuids):
            return
        if len(self.seen_devices) > limits.BLE_ADDRESSES_MAX:
            self.seen_devices.clear()
        address = advertisement.address.to_string(with_type_qualifier=False)
        found = self.create_or_update_device(address, address, data.local_name, advertisement.address, data)
        self.call_detection_callbacks(found, data)


def _advertisement_data(advertisement: device.Advertisement) -> AdvertisementData:
    """The AD structures of the core specification supplement as bleak tells them."""
    name: str | None = None
    service_data: dict[str, bytes] = {}
    manufacturer_data: dict[int, bytes] = {}
    services: list[str] = []
    tx_power: int | None = None
    kinds = core.AdvertisingData.Type
    for kind, value in advertisement.data.ad_structures:
        if kind in (kinds.COMPLETE_LOCAL_NAME, kinds.SHORTENED_LOCAL_NAME):
            name = value.decode("utf-8", "replace")
        elif kind in _DATA_SIZES and len(value) >= _DATA_SIZES[kind]:
            size = _DATA_SIZES[kind]
            service_data[_uuid(value[:size])] = value[size:]
        elif kind in _LIST_SIZES:
            size = _LIST_SIZES[kind]
            services += [_uuid(value[at : at + size]) for at in range(0, len(value) - size + 1, size)]
        elif kind == kinds.MANUFACTURER_SPECIFIC_DATA and len(value) >= 2:
            manufacturer_data[int.from_bytes(value[:2], "little")] = value[2:]
        elif kind == kinds.TX_POWER_LEVEL and len(value) == 1:
            tx_power = int.from_bytes(value, "little", signed=True)
    unique = list(dict.fromkeys(services))
    return AdvertisementData(
        name, manufacturer_data, service_data, unique, tx_power, advertisement.rssi, (advertisement,)
    )


_Type = bumble.core.AdvertisingData.Type
_DATA_SIZES = {
    _Type.SERVICE_DATA_16_BIT_UUID: 2,
    _Type.SERVICE_DATA_32_BIT_UUID: 4,
    _Type.SERVICE_DATA_128_BIT_UUID: 16,
}
_LIST_SIZES = {
    _Type.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    _Type.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    _Type.INCOMPLETE_LIST_OF_32_BIT_SERVICE_CLASS_UUIDS: 4,
    _Type.COMPLETE_LIST_OF_32_BIT_SERVICE_CLASS_UUIDS: 4,
    _Type.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
    _Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
}


def _uuid(little_endian: bytes) -> str:
    text = little_endian[::-1].hex()
    if len(text) == 32:
        text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return normalize_uuid_str(text)


class BumbleClient(BaseBleakClient):
    """bleak's client over a Radio."""

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        radio: Radio,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        **_other: Any,
    ) -> None:
        super().__init__(address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout)
        self._radio = radio
        self._peer = _peer_address(address_or_ble_device)
        self._connection: device.Connection | None = None
        self._gone: asyncio.Future[None] | None = None
        self._name = address_or_ble_device.name if isinstance(address_or_ble_device, BLEDevice) else None

    @property
    def name(self) -> str:
        return self._name or self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        return self._connection.att_mtu if self._connection is not None else 23

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        if self._connection is not None:
            raise BleakError("Client is already connected")
        timeout_s = float(kwargs.get("timeout", self._timeout))
        self._connection = connection = await _answered(self._radio.connect(self._peer, timeout_s))
        self._gone = asyncio.get_running_loop().create_future()
        self._radio.on_lost[self] = self._disconnected
        connection.once("disconnection", lambda _reason: self._disconnected())
        try:
            if pair:
                await self.pair()
            self.services = await self._while_connected(_discover(connection))
        except BaseException:
            await self._drop()
            raise

    def _disconnected(self) -> None:
        """The peer, the radio or we ended it; told to the owner only when it was not us (see disconnect)."""
        connection, self._connection = self._connection, None
        self._radio.on_lost.pop(self, None)
        self.services = None
        if connection is None:
            return
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def disconnect(self) -> None:
        await self._drop()

    async def _drop(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            await _answered(_hang_up(connection))
        finally:
            self._disconnected()

    async def _while_connected(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, or BleakError as soon as the connection is gone: bumble would cancel us."""
        gone = self._gone
        if self._connection is None or gone is None:
            work.close()
            raise BleakError("Not connected")
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or task.cancelled():
                raise BleakError("disconnected")
            return task.result()
        except att.ATT_Error as exc:
            raise GattError(exc.error_code) from exc
        except core.TimeoutError as exc:
            raise TimeoutError(str(exc)) from exc
        except _BUMBLE_ERRORS as exc:
            raise BleakError(str(exc)) from exc
        finally:
            if not task.done():
                task.cancel()
            await asyncio.wait((task,), timeout=_CANCEL_TIMEOUT_S)

    async def pair(self, *_args: Any, **_kwargs: Any) -> None:
        if self._connection is None:
            raise BleakError("Not connected")
        await self._while_connected(self._connection.pair())

    async def unpair(self) -> None:
        raise BleakError("bumble keeps no pairing beyond a connection: there is nothing to undo")

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_kwargs: Any
    ) -> bytearray:
        proxy: gatt_client.CharacteristicProxy[bytes] = characteristic.obj
        return bytearray(await self._while_connected(proxy.read_value()))

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_kwargs: Any
    ) -> bytearray:
        proxy: gatt_client.DescriptorProxy = descriptor.obj
        return bytearray(await self._while_connected(proxy.read_value()))

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: Any, response: bool
    ) -> None:
        proxy: gatt_client.CharacteristicProxy[bytes] = characteristic.obj
        await self._while_connected(proxy.write_value(bytes(data), with_response=response))

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: Any) -> None:
        proxy: gatt_client.DescriptorProxy = descriptor.obj
        await self._while_connected(proxy.write_value(bytes(data), with_response=True))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_kwargs: Any
    ) -> None:
        proxy: gatt_client.CharacteristicProxy[bytes] = characteristic.obj
        await self._while_connected(proxy.subscribe(lambda value: callback(bytearray(value))))

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        proxy: gatt_client.CharacteristicProxy[bytes] = characteristic.obj
        await self._while_connected(proxy.unsubscribe(force=True))


_PROPERTIES = {
    gatt.Characteristic.Properties.READ: "read",
    gatt.Characteristic.Properties.WRITE_WITHOUT_RESPONSE: "write-without-response",
    gatt.Characteristic.Properties.WRITE: "write",
    gatt.Characteristic.Properties.NOTIFY: "notify",
    gatt.Characteristic.Properties.INDICATE: "indicate",
}


async def _discover(connection: device.Connection) -> BleakGATTServiceCollection:
    """Ask the peer for everything it has."""
    peer = device.Peer(connection)
    await peer.discover_services()
    found = BleakGATTServiceCollection()
    for service in peer.services:
        known = BleakGATTService(service, service.handle, _uuid(service.uuid.to_bytes()))
        found.add_service(known)
        for proxy in await peer.discover_characteristics(service=service):
            names: list[Any] = [name for flag, name in _PROPERTIES.items() if flag in proxy.properties]
            characteristic = BleakGATTCharacteristic(
                proxy,
                proxy.handle,
                _uuid(proxy.uuid.to_bytes()),
                names,
                lambda: connection.att_mtu - 3,
                known,
            )
            found.add_characteristic(characteristic)
            for descriptor in await peer.discover_descriptors(characteristic=proxy):
                uuid = _uuid(descriptor.type.to_bytes())
                found.add_descriptor(BleakGATTDescriptor(descriptor, descriptor.handle, uuid, characteristic))
    return found


def _peer_address(named: BLEDevice | str) -> hci.Address:
    """An advert told which kind of address it is; a bare one is taken for random, as most sensors' are."""
    if isinstance(named, BLEDevice) and isinstance(named.details, hci.Address):
        return named.details
    return hci.Address(named.address if isinstance(named, BLEDevice) else named)


async def _answered(work: Awaitable[_T]) -> _T:
    """`work`, with bumble's errors told as bleak's."""
    try:
        return await work
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise BleakError("disconnected: the radio went away") from None
    except core.TimeoutError as exc:
        raise TimeoutError(f"no answer within {limits.BLE_CONNECT_TIMEOUT_S:.0f} s") from exc
    except _BUMBLE_ERRORS as exc:
        raise BleakError(f"{type(exc).__name__}: {exc}") from exc


async def _hang_up(connection: device.Connection) -> None:
    """Say farewell. bumble's own `disconnect` leaves an error that nobody asks for when the peer's crosses with it."""
    if connection.handle not in connection.device.connections:
        return
    gone = asyncio.Event()
    connection.once("disconnection", lambda _reason: gone.set())
    reason = hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR
    await connection.device.send_async_command(
        hci.HCI_Disconnect_Command(connection_handle=connection.handle, reason=reason)
    )
    async with asyncio.timeout(_CANCEL_TIMEOUT_S):
        await gone.wait()


async def _quietly(work: Awaitable[Any]) -> None:
    """For what is being let go of: whether that works does not matter any more."""
    try:
        async with asyncio.timeout(_CANCEL_TIMEOUT_S):
            await work
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
    except (BleFault, OSError, TimeoutError, *_BUMBLE_ERRORS):
        return


def _is_cancelled() -> bool:
    """Whether somebody cancels this task; bumble cancels what waits for a radio that is gone, and we are not meant."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_background: set[asyncio.Task[None]] = set()


def _in_background(work: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(_quietly(work))
    _background.add(task)
    task.add_done_callback(_background.discard)


def _not_available(message: str) -> BleFault:
    return BleFault(
        ADAPTER,
        f"{message}. Is it plugged in, and held by nobody else? BlueZ lets go of a USB radio after "
        "`bluetoothctl power off`, or when its service is stopped.",
    )
