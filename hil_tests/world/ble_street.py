"""A street with Bluetooth in it: sensors that advertise, peripherals that are connected to, and one adapter.

Everything is on one bumble link, so the gateway's own Bluetooth stack runs unchanged above it. Whatever a real street
does to a gateway can be asked for: connections lost with and without a word, an adapter pulled out, packets out of
order, devices that say too much, nothing, or refuse.

A sensor that only advertises needs no controller of its own: its PDUs are put on the link directly.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

from bumble import att, controller, core, crypto, device, gatt, hci, host, link, ll
from bumble.transport.common import AsyncPipeSink, StreamPacketSink, StreamPacketSource

from gateway.pollers.ble_bumble import Bumble, Line

BTHOME_UUID = 0xFCD2
ESS_UUID, TEMPERATURE, HUMIDITY, PRESSURE = 0x181A, 0x2A6E, 0x2A6F, 0x2A6D
# What a maker would use for a service of his own.
SETTINGS = "7e57c0de-0001-4c4d-9a9e-51a7e0000001"
SETTING = "7e57c0de-0002-4c4d-9a9e-51a7e0000001"
ADVERTISING_S = 1.0


class Air(link.LocalLink):
    """The link; `jitter_s` is how late a packet may come, and with it out of order."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rng = rng
        self.jitter_s = 0.0
        self.rssi_dbm: dict[hci.Address, int] = {}
        self.errors = 0

    def _later(self, call: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if self.jitter_s:
            loop.call_later(self.rng.random() * self.jitter_s, call)
        else:
            loop.call_soon(call)

    def send_acl_data(
        self,
        sender_controller: controller.Controller,
        destination_address: hci.Address,
        transport: core.PhysicalTransport,
        data: bytes,
    ) -> None:
        there = self.find_le_controller(destination_address)
        source = sender_controller.random_address
        if there is not None:
            self._later(lambda: there.on_link_acl_data(source, transport, data))

    def send_advertising_pdu(self, sender_controller: Any, packet: ll.AdvertisingPdu) -> None:
        for one in sorted(
            self.controllers, key=lambda one: one.name
        ):  # a set has another order in each process
            if one is not sender_controller:
                self._later(lambda one=one: one.on_ll_advertising_pdu(packet))  # type: ignore[misc]

    def send_ll_control_pdu(
        self, sender_address: hci.Address, receiver_address: hci.Address, packet: ll.ControlPdu
    ) -> None:
        there = self.find_le_controller(receiver_address)
        if there is not None:  # a peer that was pulled out hears no farewell
            self._later(lambda: there.on_ll_control_pdu(sender_address, packet))


class Chip(controller.Controller):
    """bumble's controller with what the core specification wants of one: an attempt can be given up, a reset resets."""

    link: Air

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address.address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
        )
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> hci.HCI_StatusReturnParameters:
        """Also the start of a host that came after one that was killed: nothing of that one may stay."""
        self.pending_le_connection = None
        self.le_scan_enable = False
        for connection in list(self.le_connections.values()):
            self.cut(connection)
        return super().on_hci_reset_command(command)

    def on_le_disconnected(self, connection: controller.Connection, reason: int) -> None:
        """Once: a farewell may cross with another, or with a lost link."""
        if self.le_connections.get(connection.peer_address) is connection:
            super().on_le_disconnected(connection, reason)

    def cut(self, connection: controller.Connection) -> None:
        """The link is gone without a word, and both sides notice by their supervision time-outs."""
        there = self.link.find_le_controller(connection.peer_address)
        reason = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
        if there is not None:
            other = there.le_connections.get(connection.self_address)
            if other is not None:
                there.on_le_disconnected(other, reason)
        self.on_le_disconnected(connection, reason)

    def leave(self) -> None:
        """It is pulled out: its connections are lost, and the air knows it no more."""
        if self in self.link.controllers:
            for connection in list(self.le_connections.values()):
                self.cut(connection)
            self.link.controllers.discard(self)

    def on_advertising_pdu(self, pdu: ll.AdvInd | ll.AdvExtInd) -> None:
        self._hearing = pdu.advertiser_address
        super().on_advertising_pdu(pdu)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if isinstance(packet, hci.HCI_LE_Extended_Advertising_Report_Event):
            for report in packet.reports:
                report.rssi = self.link.rssi_dbm.get(self._hearing, -70)
        super().send_hci_packet(packet)


class Adapter:
    """The gateway's adapter: can be pulled out and put back, and is another controller afterwards."""

    def __init__(self, air: Air, address: str = "F0:00:00:00:00:01") -> None:
        self.air = air
        self.address = address
        self.is_plugged = True
        self.opened = 0
        self.chip: Chip | None = None

    def backend(self) -> Bumble:
        """What a gateway uses it by."""
        return Bumble("simulated", self._open, self.address)

    async def _open(self) -> Line:
        if not self.is_plugged:
            raise OSError(errno.ENODEV, "no such device")
        self.opened += 1
        chip = self.chip = Chip("adapter", link=self.air)

        async def close() -> None:
            chip.leave()

        return Line(chip, AsyncPipeSink(chip), close)

    def unplug(self) -> None:
        self.is_plugged = False
        chip, self.chip = self.chip, None
        if chip is not None:
            sink: Any = chip.host
            chip.set_packet_sink(None)
            chip.leave()
            sink.on_transport_lost()

    def plug(self) -> None:
        self.is_plugged = True

    def connections(self) -> list[controller.Connection]:
        return list(self.chip.le_connections.values()) if self.chip else []


class Beacon:
    """A sensor that only advertises; `payload(count)` makes the AD structures of its nth advert."""

    def __init__(
        self,
        air: Air,
        address: str,
        payload: Callable[[int], bytes],
        *,
        period_s: float = ADVERTISING_S,
        copies: int = 3,
        rssi_dbm: int = -70,
        irk: bytes = b"",
    ) -> None:
        self._air = air
        self.address = hci.Address(address)
        self.payload = payload
        self.period_s = period_s
        self._irk = irk
        self._copies = copies
        self._rssi_dbm = rssi_dbm
        self.count = 0
        self._timer: asyncio.TimerHandle | None = None
        air.rssi_dbm[self.address] = rssi_dbm

    def start(self) -> None:
        first_s = self._air.rng.random() * self.period_s
        self._timer = asyncio.get_running_loop().call_later(first_s, self._advertise)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def rotate(self) -> None:
        """Take another private address, as phones and some sensors do every 15 minutes."""
        self._air.rssi_dbm.pop(self.address, None)
        self.address = private_address(self._air.rng, self._irk or self._air.rng.randbytes(16))
        self._air.rssi_dbm[self.address] = self._rssi_dbm

    def say(self) -> None:
        """One advert, now."""
        data = self.payload(self.count)
        self.count += 1
        for _ in range(self._copies):
            self._air.send_advertising_pdu(self, ll.AdvInd(self.address, data))

    def _advertise(self) -> None:
        self.say()
        self._timer = asyncio.get_running_loop().call_later(self.period_s, self._advertise)


class Peripheral:
    """A connectable device with the Environmental Sensing service: temperature and humidity tell, pressure is read.

    In a service of its own it keeps a set point that can be written (0.1 Cel, then a byte of mode), and misbehaves
    with it on request.
    """

    def __init__(self, air: Air, address: str, name: str) -> None:
        self.name = name
        self.air = air
        self.address = hci.Address(address)
        self.temperature_centi = 2150
        self.period_s = 2.0
        self.is_silent = False
        self.storm_per_s = 0
        self.refuses = 0  # an ATT error code for every read
        self.hangs = False
        self.told = 0
        self.reads = 0
        self.settings = bytearray(b"\xc8\x00\x01")
        self.writes = 0
        self.hangs_at_settings = False
        self.write_refuses = 0  # an ATT error code for every write
        self.write_is_ignored = False
        self.write_is_lost = False  # taken, and the link is gone before the answer
        self.chip = Chip(name, link=air)
        self.device = device.Device(
            config=device.DeviceConfiguration(name=name, address=self.address),
            host=host.Host(self.chip, AsyncPipeSink(self.chip)),
        )
        properties = gatt.Characteristic.Properties
        self.temperature = self._characteristic(TEMPERATURE, properties.READ | properties.NOTIFY, self._t)
        self.humidity = self._characteristic(HUMIDITY, properties.READ | properties.NOTIFY, lambda: 5500)
        self.pressure = self._characteristic(PRESSURE, properties.READ, lambda: 1_013_250, size=4)
        self.device.add_service(
            gatt.Service(core.UUID.from_16_bits(ESS_UUID), [self.temperature, self.humidity, self.pressure])
        )
        self.setting: gatt.Characteristic[bytes] = gatt.Characteristic(
            core.UUID(SETTING),
            properties.READ | properties.WRITE,
            gatt.Characteristic.READABLE | gatt.Characteristic.WRITEABLE,
            gatt.CharacteristicValue(read=self._read_setting, write=self._write_setting),
        )
        self.device.add_service(gatt.Service(core.UUID(SETTINGS), [self.setting]))
        self._task: asyncio.Task[None] | None = None

    async def _read_setting(self, _connection: Any) -> bytes:
        if self.hangs_at_settings:
            await asyncio.get_running_loop().create_future()
        return bytes(self.settings)

    def _write_setting(self, _connection: Any, value: bytes) -> None:
        self.writes += 1
        if self.write_refuses:
            raise att.ATT_Error(error_code=att.ErrorCode(self.write_refuses))
        if not self.write_is_ignored:
            self.settings[: len(value)] = value
        if self.write_is_lost:
            self.write_is_lost = False
            self.vanish()

    def _t(self) -> int:
        return self.temperature_centi

    def _characteristic(
        self, uuid: int, properties: Any, value: Callable[[], int], size: int = 2
    ) -> gatt.Characteristic[bytes]:
        async def read(_connection: Any) -> bytes:
            self.reads += 1
            if self.hangs:
                await asyncio.get_running_loop().create_future()
            if self.refuses:
                raise att.ATT_Error(error_code=att.ErrorCode(self.refuses))
            return value().to_bytes(size, "little", signed=True)

        return gatt.Characteristic(
            core.UUID.from_16_bits(uuid),
            properties,
            gatt.Characteristic.READABLE,
            gatt.CharacteristicValue(read=read),
        )

    async def start(self) -> None:
        await self.device.power_on()
        self.device.advertising_data = flags() + uuid_list(ESS_UUID) + local_name(self.name)
        await self.device.start_advertising(auto_restart=True)
        self._task = asyncio.create_task(self._tell())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self.device.power_off()

    async def go(self) -> None:
        """Carried out of reach."""
        await self.device.stop_advertising()
        self.chip.leave()

    async def come(self) -> None:
        """And back."""
        self.air.controllers.add(self.chip)
        await self.device.start_advertising(auto_restart=True)

    async def rotate(self, irk: bytes) -> None:
        """Take another private address, with a farewell to whoever is connected."""
        self.disconnect()
        await asyncio.sleep(0.5)  # its host hears of it and advertises again
        if self.chip.le_connections:
            return  # somebody was quicker
        await self.device.stop_advertising()
        self.address = private_address(self.air.rng, irk)
        await self.device.send_sync_command(
            hci.HCI_LE_Set_Random_Address_Command(random_address=self.address)
        )
        self.device.random_address = self.address
        await self.device.start_advertising(auto_restart=True)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1 / self.storm_per_s if self.storm_per_s else self.period_s)
            if self.is_silent:
                continue
            self.temperature_centi += self.air.rng.choice((-1, 1))
            for one in (self.temperature, self.humidity):
                value = self.temperature_centi if one is self.temperature else 5500
                if self.subscribed(one):
                    self.told += 1
                await self.device.notify_subscribers(one, value.to_bytes(2, "little", signed=True))

    def subscribed(self, characteristic: gatt.Characteristic[bytes]) -> int:
        """How many centrals are subscribed to it now."""
        known = self.device.gatt_server.subscribers.values()
        return sum(handles.get(characteristic.handle, b"\0")[:1] == b"\1" for handles in known)

    @property
    def connections(self) -> list[device.Connection]:
        return list(self.device.connections.values())

    def disconnect(self) -> None:
        """Say farewell to whoever is connected."""
        for connection in list(self.chip.le_connections.values()):
            connection.send_ll_control_pdu(
                ll.TerminateInd(hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR)
            )
            self.chip.on_le_disconnected(
                connection, hci.HCI_ErrorCode.CONNECTION_TERMINATED_BY_LOCAL_HOST_ERROR
            )

    def vanish(self) -> None:
        """The link is lost without a word."""
        for connection in list(self.chip.le_connections.values()):
            self.chip.cut(connection)


async def offer(air: Air, port: int = 0, lines: set[asyncio.StreamWriter] | None = None) -> asyncio.Server:
    """A radio in that street for whoever connects to this TCP port: `tcp-client:127.0.0.1:PORT`. `lines`: filled with
    the connections there are, for who wants to cut them."""
    clients = 0
    lines = set() if lines is None else lines

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        clients += 1
        lines.add(writer)
        source, sink = StreamPacketSource(), StreamPacketSink(writer.transport)
        chip = Chip(f"adapter {clients}", host_source=source, host_sink=sink, link=air)
        try:
            while data := await reader.read(4096):
                source.data_received(data)
        except ConnectionError:
            pass
        finally:
            chip.set_packet_sink(None)
            chip.leave()
            lines.discard(writer)
            writer.close()

    return await asyncio.start_server(client, "127.0.0.1", port)


def private_address(rng: random.Random, irk: bytes) -> hci.Address:
    """A resolvable private address by bumble's own arithmetic, least significant byte first as it has it."""
    prand = bytes((*rng.randbytes(2), 0x40 | rng.randrange(64)))
    return hci.Address(crypto.ah(irk[::-1], prand) + prand)


# --- AD structures: core specification supplement, part A ------------------------------------------


def ad(kind: int, value: bytes) -> bytes:
    return bytes((len(value) + 1, kind)) + value


def flags(value: int = 0x06) -> bytes:
    return ad(0x01, bytes((value,)))


def local_name(name: str) -> bytes:
    return ad(0x09, name.encode())


def uuid_list(number: int) -> bytes:
    return ad(0x03, number.to_bytes(2, "little"))


def bthome(objects: bytes) -> bytes:
    """A plain BTHome v2 advert (service data FCD2, device information 40) with measurements `objects`."""
    return flags() + ad(0x16, BTHOME_UUID.to_bytes(2, "little") + b"\x40" + objects)


def bthome_encrypted(objects: bytes, key: bytes, address: str, counter: int) -> bytes:
    """The same, encrypted: AES-CCM, nonce of address, UUID, device information and counter, a tag of 4 bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    uuid, information, count = BTHOME_UUID.to_bytes(2, "little"), b"\x41", counter.to_bytes(4, "little")
    nonce = bytes.fromhex(address.replace(":", "")) + uuid + information + count
    sealed = AESCCM(key, tag_length=4).encrypt(nonce, objects, None)
    return flags() + ad(0x16, uuid + information + sealed[:-4] + count + sealed[-4:])


def measurements(packet: int, temperature_centi: int, humidity_centi: int) -> bytes:
    """Packet id, temperature (0.01 degrees Celsius), humidity (0.01 %)."""
    return (
        bytes((0x00, packet & 0xFF, 0x02))
        + temperature_centi.to_bytes(2, "little", signed=True)
        + b"\x03"
        + humidity_centi.to_bytes(2, "little")
    )
