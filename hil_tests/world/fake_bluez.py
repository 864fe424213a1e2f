"""A BlueZ that is not there: its D-Bus objects on a private bus, so that bleak's own BlueZ backend runs unchanged.

It keeps to what BlueZ 5.6x does where a gateway can notice: a monitor is used only when it is exported after it was
registered, and only adverts that match one of its patterns pass; the removal of an adapter takes its devices with it;
a client that ends takes its discovery and monitors with it; calls are refused with BlueZ's own error names. Signals
carry what changed, like BlueZ's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from dbus_fast import BusType, Message, MessageType, NameFlag, Variant
from dbus_fast.aio.message_bus import MessageBus

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
MONITORS, MONITOR = "org.bluez.AdvertisementMonitorManager1", "org.bluez.AdvertisementMonitor1"
OBJECTS, PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"

_BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""


class PrivateBus:
    """dbus-daemon on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:path={folder / 'bus'}"
        self._config = folder / "bus.conf"
        self._config.write_text(_BUS_CONFIG.format(path=folder / "bus"))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "dbus-daemon",
            f"--config-file={self._config}",
            "--nofork",
            "--nopidfile",
            "--nosyslog",
            "--print-address",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it complains about limits it does not need
        )
        assert self._process.stdout is not None
        await self._process.stdout.readline()  # it is listening when it says where

    async def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
            self._process = None


class Refused(Exception):
    """A call that is answered with a D-Bus error."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


class Pattern(NamedTuple):
    """One or-pattern of a monitor."""

    start: int
    kind: int
    content: bytes


class FakeBlueZ:
    """org.bluez on `bus_address`. Attributes can be changed at any time, as a real BlueZ changes its mind."""

    def __init__(self, bus_address: str) -> None:
        self._address = bus_address
        self._bus: MessageBus | None = None
        self.bus_dies: Callable[[], Awaitable[None]]  # set by who made the bus
        self.objects: dict[str, dict[str, dict[str, Variant]]] = {}
        self.has_monitors = True  # run with --experimental
        self.refuse: dict[str, Refused] = {}  # by method: answered with this until it is taken out
        self.swallows: set[str] = (
            set()
        )  # methods that are not answered until `thaw`, as by a service that hangs
        self._unanswered: list[Message] = []
        self.calls: Counter[str] = Counter()
        self.monitors: dict[tuple[str, str], list[Pattern]] = {}  # (client, path) → patterns, once exported
        self.discovering: set[str] = set()  # clients
        self.notifying: Counter[str] = Counter()  # by characteristic
        self.values: dict[str, bytes] = {}  # what a read of a characteristic gives

    async def start(self) -> None:
        self._bus = bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)
        await bus.connect()
        bus.add_message_handler(self._handle)
        for rule in (
            f"type='signal',interface='{OBJECTS}',member='InterfacesAdded'",
            "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged'",
        ):
            await bus.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="AddMatch",
                    signature="s",
                    body=[rule],
                )
            )
        await bus.request_name("org.bluez", NameFlag.DO_NOT_QUEUE)

    async def stop(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            with contextlib.suppress(EOFError, OSError):  # the bus may have died first
                await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    # --- what a test does to it ------------------------------------------------------------------

    def plug(self, name: str = "hci0", *, powered: bool = True) -> str:
        """An adapter appears."""
        path = f"/org/bluez/{name}"
        self._add(
            path,
            ADAPTER,
            {
                "Address": Variant("s", "00:1A:7D:DA:71:13"),
                "Name": Variant("s", name),
                "Alias": Variant("s", name),
                "Powered": Variant("b", powered),
                "Discovering": Variant("b", False),
                "Roles": Variant("as", ["central", "peripheral"]),
                "UUIDs": Variant("as", []),
            },
        )
        return path

    def unplug(self, name: str = "hci0") -> None:
        """The adapter goes, and what it knew with it."""
        root = f"/org/bluez/{name}"
        for path in sorted((path for path in self.objects if path.startswith(root)), reverse=True):
            self._remove(path)
        self.monitors.clear()
        self.discovering.clear()

    def thaw(self) -> None:
        """Goes on where it hung."""
        self.swallows.clear()
        messages, self._unanswered = self._unanswered, []
        for message in messages:
            reply = self._handle(message)
            if isinstance(reply, Message):
                self._send(reply)

    def power(self, is_on: bool, name: str = "hci0") -> None:
        self._change(f"/org/bluez/{name}", ADAPTER, {"Powered": Variant("b", is_on)})

    def advertise(
        self,
        address: str,
        *,
        name: str = "",
        rssi_dbm: int = -60,
        service_data: dict[str, bytes] | None = None,
        uuids: tuple[str, ...] = (),
        structures: tuple[tuple[int, bytes], ...] = (),
    ) -> bool:
        """Something advertises; `structures` (AD type, bytes) are what patterns are matched with. True: told."""
        root = "/org/bluez/hci0"
        if root not in self.objects or not self._listening(structures):
            return False
        path = f"{root}/dev_{address.replace(':', '_')}"
        data = Variant("a{sv}", {uuid: Variant("ay", value) for uuid, value in (service_data or {}).items()})
        heard = {"RSSI": Variant("n", rssi_dbm), "ServiceData": data}
        if path in self.objects:
            self._change(path, DEVICE, heard)
            return True
        self._know(path, address, name, uuids, heard)
        return True

    def hold(self, address: str, name: str = "") -> None:
        """A device is connected, and whoever had that done is gone: BlueZ keeps the connection."""
        path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        self._know(path, address, name, (), {})
        self.objects[path][DEVICE]["Connected"] = Variant("b", True)
        self.objects[path][DEVICE]["ServicesResolved"] = Variant("b", True)

    def _know(
        self, path: str, address: str, name: str, uuids: tuple[str, ...], heard: dict[str, Variant]
    ) -> None:
        about = {
            "Address": Variant("s", address),
            "AddressType": Variant("s", "random"),
            "Alias": Variant("s", name or address.replace(":", "-")),
            "Adapter": Variant("o", path.rpartition("/")[0]),
            "Connected": Variant("b", False),
            "Paired": Variant("b", False),
            "ServicesResolved": Variant("b", False),
            "UUIDs": Variant("as", list(uuids)),
        }
        self._add(path, DEVICE, {**about, **({"Name": Variant("s", name)} if name else {}), **heard})

    def characteristic(self, address: str, service: str, uuid: str, flags: list[str], value: bytes) -> str:
        """Give a device a characteristic (in a service of its own, made when missing)."""
        device = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        at = next(
            (
                path
                for path, one in self.objects.items()
                if path.startswith(device) and one.get(SERVICE, {}).get("UUID") == Variant("s", service)
            ),
            "",
        )
        number = 0x10 * len(self.objects)
        if not at:
            at = f"{device}/service{number:04x}"
            self._add(
                at,
                SERVICE,
                {
                    "UUID": Variant("s", service),
                    "Device": Variant("o", device),
                    "Primary": Variant("b", True),
                },
            )
        path = f"{at}/char{number + 1:04x}"
        self._add(
            path,
            CHARACTERISTIC,
            {
                "UUID": Variant("s", uuid),
                "Service": Variant("o", at),
                "Flags": Variant("as", flags),
                "Notifying": Variant("b", False),
                "Value": Variant("ay", b""),
            },
        )
        self.values[path] = value
        return path

    def notify(self, path: str, value: bytes) -> None:
        """The device tells a value; without a subscription nobody hears it."""
        if self.notifying[path]:
            self._change(path, CHARACTERISTIC, {"Value": Variant("ay", value)})

    def drop(self, address: str) -> None:
        """The device's connection is lost."""
        device = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        for path in [path for path in self.notifying if path.startswith(device)]:
            self.notifying[path] = 0
        lost = {"Connected": Variant("b", False), "ServicesResolved": Variant("b", False)}
        self._change(device, DEVICE, lost)

    def _listening(self, structures: tuple[tuple[int, bytes], ...]) -> bool:
        if self.discovering:
            return True
        return any(
            kind == pattern.kind and value[pattern.start :].startswith(pattern.content)
            for patterns in self.monitors.values()
            for pattern in patterns
            for kind, value in structures
        )

    # --- D-Bus -----------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        assert self._bus is not None
        self._bus.send(message)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._send(Message.new_signal(path, interface, member, signature, body))

    def _add(self, path: str, interface: str, values: dict[str, Variant]) -> None:
        self.objects.setdefault(path, {})[interface] = values
        if interface == ADAPTER and self.has_monitors:
            types = {"SupportedMonitorTypes": Variant("as", ["or_patterns"])}
            self.objects[path][MONITORS] = types
        self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, self.objects[path]])

    def _remove(self, path: str) -> None:
        interfaces = list(self.objects.pop(path))
        self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [path, interfaces])

    def _change(self, path: str, interface: str, values: dict[str, Variant]) -> None:
        if path in self.objects:
            self.objects[path][interface].update(values)
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, values, []])

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self._heard(message)
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.destination is None:
            return None
        member = message.member or ""
        self.calls[member] += 1
        if member in self.swallows:
            self._unanswered.append(message)
            return True
        try:
            if member in self.refuse:
                raise self.refuse[member]
            signature, body = self._answer(message, member)
        except Refused as exc:
            return Message.new_error(message, exc.name, exc.text)
        return Message.new_method_return(message, signature, body)

    def _heard(self, message: Message) -> None:
        if message.member == "InterfacesAdded" and message.body[0].startswith("/org/bleak"):
            path, interfaces = message.body
            registered = (message.sender or "", path)
            if registered in self.monitors and MONITOR in interfaces:
                patterns = interfaces[MONITOR]["Patterns"].value
                self.monitors[registered] = [Pattern(*pattern) for pattern in patterns]
        elif message.member == "NameOwnerChanged" and not message.body[2]:
            gone = message.body[0]
            self.discovering.discard(gone)
            for registered in [one for one in self.monitors if one[0] == gone]:
                del self.monitors[registered]

    def _answer(self, message: Message, member: str) -> tuple[str, list[Any]]:
        path, sender = message.path or "", message.sender or ""
        if member == "GetManagedObjects":
            return "a{oa{sa{sv}}}", [self.objects]
        if path not in self.objects:
            raise Refused("org.freedesktop.DBus.Error.UnknownObject", f"no such object {path}")
        if member == "Set":
            interface, name, value = message.body
            self._set(path, interface, name, value)
            return "", []
        if member == "Get":
            interface, name = message.body
            return "v", [self.objects[path][interface][name]]
        if message.interface not in self.objects[path]:
            raise Refused("org.freedesktop.DBus.Error.UnknownMethod", f"no method {member}")
        answer = getattr(self, f"_on_{member}", None)
        if answer is None:
            raise Refused("org.freedesktop.DBus.Error.UnknownMethod", f"no method {member}")
        result: tuple[str, list[Any]] = answer(path, sender, message.body)
        return result

    def _set(self, path: str, interface: str, name: str, value: Variant) -> None:
        if name == "Powered" and not value.value:  # what was going on ends, and so does what was stuck
            self.monitors.clear()
            self.discovering.clear()
            self.refuse.pop("StartDiscovery", None)
            self.refuse.pop("RegisterMonitor", None)
        self._change(path, interface, {name: value})

    def _on_RegisterMonitor(self, path: str, sender: str, body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self._want_power(path)
        self.monitors[(sender, body[0])] = []
        return "", []

    def _on_UnregisterMonitor(self, _path: str, sender: str, body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        if self.monitors.pop((sender, body[0]), None) is None:
            raise Refused("org.bluez.Error.DoesNotExist", "Does Not Exist")
        return "", []

    def _on_SetDiscoveryFilter(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self._want_power(path)
        return "", []

    def _on_StartDiscovery(self, path: str, sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self._want_power(path)
        if sender in self.discovering:
            raise Refused("org.bluez.Error.InProgress", "Operation already in progress")
        self.discovering.add(sender)
        return "", []

    def _on_StopDiscovery(self, path: str, sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self._want_power(path)
        self.discovering.discard(sender)
        return "", []

    def _on_RemoveDevice(self, _path: str, _sender: str, body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        if body[0] not in self.objects:
            raise Refused("org.bluez.Error.DoesNotExist", "Does Not Exist")
        for path in sorted((path for path in self.objects if path.startswith(body[0])), reverse=True):
            self._remove(path)
        self.refuse.pop("Connect", None)  # an attempt that was stuck goes with its device
        return "", []

    def _on_Connect(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self._change(path, DEVICE, {"Connected": Variant("b", True)})
        self._change(path, DEVICE, {"ServicesResolved": Variant("b", True)})
        return "", []

    def _on_Disconnect(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self.drop(path.rpartition("/dev_")[2].replace("_", ":"))
        return "", []

    def _on_ReadValue(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        return "ay", [self.values[path]]

    def _on_WriteValue(self, path: str, _sender: str, body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self.values[path] = bytes(body[0])
        return "", []

    def _on_StartNotify(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self.notifying[path] += 1
        return "", []

    def _on_StopNotify(self, path: str, _sender: str, _body: list[Any]) -> tuple[str, list[Any]]:  # noqa: N802
        self.notifying[path] -= 1
        return "", []

    def _want_power(self, path: str) -> None:
        if not self.objects[path][ADAPTER]["Powered"].value:
            raise Refused("org.bluez.Error.NotReady", "Resource Not Ready")


def private_bus_environment(bus: PrivateBus) -> dict[str, str]:
    """What makes a process take `bus` for the system's."""
    return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
