"""Which Bluetooth stack carries scans and connections: BlueZ over D-Bus, or a radio of our own under bumble.

Both speak bleak's interface, so nothing above this file knows which one it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from bleak import BleakClient, BleakScanner
from bleak.args.bluez import OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakDBusError, BleakError
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.unpack import unpack_variants

from gateway import limits
from gateway.pollers.ble_faults import ADAPTER, BleFault

OnAdvert = Callable[[BLEDevice, AdvertisementData], None]
OnLost = Callable[[BleakClient], None]
ScanMode = Literal["passive", "active"]

# Flags that peripherals set: limited or general discoverable, with and without "no BR/EDR", and dual-mode chips.
_FLAGS = (0x01, 0x02, 0x04, 0x05, 0x06, 0x1A)


_NO_BUS = (
    "this system's D-Bus is not there, so BlueZ cannot be either. In a container give it the host's /run/dbus; a radio "
    "without BlueZ is used by its transport, such as usb:0"
)


class Backend(Protocol):
    """A Bluetooth stack with one adapter."""

    @property
    def name(self) -> str:
        """What people call it: `hci0`, `usb:0`."""
        ...

    def scanner(self, on_advert: OnAdvert, mode: ScanMode) -> BleakScanner:
        """A scanner that is not started. Raises BleakError when `mode` cannot be had."""
        ...

    def client(self, peripheral: BLEDevice, on_lost: OnLost) -> BleakClient:
        """A client that is not connected; `on_lost` is called once when its connection ends unasked."""
        ...

    async def unstick(self, peripheral: BLEDevice) -> None:
        """The stack says for long that it is connecting already: have it forget the device, unless it is paired."""
        ...

    async def held(self) -> list[BLEDevice]:
        """Devices that the stack holds connected, whoever asked for it: a gateway that was killed, for one. They do not
        advertise, so nothing else tells of them."""
        ...

    async def reset(self) -> None:
        """Switch the adapter off and on: what is stuck in it, or in its driver, goes by that alone."""
        ...

    async def prepare(self) -> None:
        """Have the adapter ready for a scanner. Raises (one of ble_faults.STACK_ERRORS) when it is not there or off."""
        ...

    async def check(self) -> None:
        """Raise (likewise) when the adapter of the latest `prepare` is not there or off any more."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


def or_patterns(services: Iterable[int] = (), companies: Iterable[int] = ()) -> list[OrPattern]:
    """What a passive scan of BlueZ lets through: BlueZ wants patterns, and there is none for everything.

    Flags catch whatever can be connected; sensors that only advertise may leave them out, and are caught by the
    16-bit `services` and `companies` that profiles name.
    """
    flags = [OrPattern(0, AdvertisementDataType.FLAGS, bytes((value,))) for value in _FLAGS]
    data = [
        OrPattern(0, AdvertisementDataType.SERVICE_DATA_UUID16, number.to_bytes(2, "little"))
        for number in sorted(set(services))
    ]
    makers = [
        OrPattern(0, AdvertisementDataType.MANUFACTURER_SPECIFIC_DATA, number.to_bytes(2, "little"))
        for number in sorted(set(companies))
    ]
    return (flags + data + makers)[: limits.BLE_PATTERNS_MAX]


class BlueZ:
    """The kernel's adapter, over D-Bus. Without a name the first that is on."""

    def __init__(self, adapter: str = "", patterns: list[OrPattern] | None = None) -> None:
        self._adapter = adapter
        self._patterns = or_patterns() if patterns is None else patterns

    @property
    def name(self) -> str:
        return self._adapter or "bluez"

    def scanner(self, on_advert: OnAdvert, mode: ScanMode) -> BleakScanner:
        if self._adapter:
            return BleakScanner(
                on_advert,
                scanning_mode=mode,
                bluez={"adapter": self._adapter, "or_patterns": [*self._patterns]},
            )
        return BleakScanner(on_advert, scanning_mode=mode, bluez={"or_patterns": [*self._patterns]})

    def client(self, peripheral: BLEDevice, on_lost: OnLost) -> BleakClient:
        return BleakClient(peripheral, on_lost, timeout=limits.BLE_CONNECT_TIMEOUT_S)

    async def unstick(self, peripheral: BLEDevice) -> None:
        details = peripheral.details
        if details["props"].get("Paired"):
            return  # a person made that pairing, and would have to make it again
        path: str = details["path"]
        await _call(path.rpartition("/")[0], "org.bluez.Adapter1", "RemoveDevice", "o", [path])

    async def held(self) -> list[BLEDevice]:
        reply = await _call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", [])
        if reply.message_type is MessageType.ERROR:
            return []
        found = []
        for path, interfaces in unpack_variants(reply.body[0]).items():
            props = interfaces.get("org.bluez.Device1")
            if props and props.get("Connected") and self._is_mine(path):
                details = {"path": path, "props": props}
                found.append(BLEDevice(props["Address"], props.get("Name"), details))
        return found

    def _is_mine(self, path: str) -> bool:
        return not self._adapter or path.startswith(f"/org/bluez/{self._adapter}/")

    async def reset(self) -> None:
        path = f"/org/bluez/{self._adapter}"
        if not self._adapter:
            path = (await get_global_bluez_manager()).get_default_adapter()
        for is_on in (False, True):
            reply = await _call(
                path,
                "org.freedesktop.DBus.Properties",
                "Set",
                "ssv",
                ["org.bluez.Adapter1", "Powered", Variant("b", is_on)],
            )
            if reply.message_type is MessageType.ERROR:
                raise BleakDBusError(reply.error_name or "", reply.body)

    async def prepare(self) -> None:
        await self.check()

    async def check(self) -> None:
        try:
            manager = await get_global_bluez_manager()
        except (FileNotFoundError, ConnectionRefusedError) as exc:
            raise BleFault(ADAPTER, f"{_NO_BUS} ({exc.strerror})") from exc
        on = manager.get_default_adapter()  # raises when none is there, or none is on
        if self._adapter and not on.endswith(f"/{self._adapter}"):
            await _check_named(self._adapter)

    async def close(self) -> None:
        """BlueZ keeps nothing of ours: scanner and clients were stopped by their owners."""


async def _check_named(adapter: str) -> None:
    """One adapter among several: the manager answers only for the first, the bus for each."""
    powered = ["org.bluez.Adapter1", "Powered"]
    reply = await _call(f"/org/bluez/{adapter}", "org.freedesktop.DBus.Properties", "Get", "ss", powered)
    if reply.message_type is MessageType.ERROR:
        raise BleakError(f"adapter '{adapter}' not found")
    if not reply.body[0].value:
        raise BleakError(f"adapter '{adapter}' not found switched on")


async def _call(path: str, interface: str, member: str, signature: str, body: list[Any]) -> Message:
    """Ask BlueZ what bleak has no call for."""
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        await bus.connect()
        return await bus.call(
            Message(
                destination="org.bluez",
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )
    finally:
        bus.disconnect()
