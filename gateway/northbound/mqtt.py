"""MQTT 5, QoS 1: publishes, and says which publishes the broker took. What is owed and when to send it is runner.py's.

gmqtt is used for the protocol and nothing else; it was chosen by measurement (DESIGN.md, bench/mqtt_clients.py). What
it does beside the protocol is not what we need, and is switched off here, in one place:

* it keeps every unconfirmed message and sends it again by itself, without bound; the store is our queue, so _Mids keeps
  nothing.
* it reconnects by itself, for ever, at a fixed pause: _Client.reconnect does nothing; the runner decides.
* it takes any PUBACK for success: _on_puback reads the reason code; 0x80 and above is a refusal.
* connect() waits for ever for a CONNACK, and close() for the peer: both are bounded or aborted here.
* its reader fails with an AttributeError when the transport is gone first: _Protocol.read ends it in order.
* it closes a silent connection only after two keep-alives, and with unsent data that close never ends: lost() looks
  itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import gmqtt
from gmqtt.mqtt import connection
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError

from gateway.devices import Devices
from gateway.errors import ConfigError, NorthboundError
from gateway.marks import Marks
from gateway.northbound.runner import Destination, OnConfirm
from gateway.records import KIND_RESULT, Event, Reading
from protocols.northbound import format_json

_PUBACK = 0x40
_FAILURE = 0x80
# CONNACK reasons of a broker that does not speak MQTT 5: one of 3.1.1, one of 5.
_NOT_THIS_VERSION = (1, 0x84)
_RECEIVE_MAXIMUM_DEFAULT = 65_535

LEVELS = {"province": 2, "city": 4, "district": 6, "street": 9}

_quiet = logging.getLogger("gateway.northbound.gmqtt")
_quiet.setLevel(logging.CRITICAL)  # it logs each packet; what matters is in the errors raised here
logging.getLogger("gmqtt").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class MqttSettings:
    """One broker."""

    host: str
    port: int = 1883
    client_id: str = "tidegate"
    topic: str = "tidegate/{area}/{site}/{node}/{stream}"
    username: str | None = None
    password: str | None = None
    # Read anew for each connection: a renewed certificate is shown from the next one on. Raises ConfigError.
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    # Retained, so that whoever subscribes knows at once whether we are there; the broker tells when we are gone.
    status_topic: str | None = None
    gateway: str = ""
    # A connection on which nothing came for two of these is taken for dead.
    keepalive_s: int = 4
    # Publishes that may be unconfirmed; the broker's receive maximum may lower it.
    window: int = 512
    connect_timeout_s: float = 2.0


def format(
    record: Reading | Event,
    site: str,
    resent: bool,
    marks: Marks | None = None,
    devices: Devices | None = None,
) -> bytes:
    """The JSON of a record."""
    ledger = record.ledger
    known = None if devices is None else devices.known(ledger.node)
    head = format_json.head(ledger.node, site, ledger.number, known)
    if isinstance(record, Reading):
        _, _, seq, backlog, received_ms, time, tq, schema, values, flags = record
        calibrations, maintenance = (None, False) if marks is None else marks.of(record)
        return format_json.reading(
            head,
            seq,
            backlog,
            resent,
            time,
            tq,
            received_ms,
            schema,
            values,
            flags,
            calibrations,
            maintenance,
        )
    formatter = format_json.result if record.kind == KIND_RESULT else format_json.event
    return formatter(
        head,
        record.seq,
        resent,
        record.time,
        record.tq,
        record.received_ms,
        record.code,
        record.state,
        record.detail,
    )


def prefixes(area: str) -> dict[str, str]:
    """The levels above an area code (GB/T 2260, GB/T 10114): province 2 digits, city 4, district 6, street 9.

    A code that is shorter than a level is that level's name, too; one that is no code at all is every level's.
    """
    is_code = area.isascii() and area.isdigit()
    return {level: area[:size] if is_code else area for level, size in LEVELS.items()}


class MqttSender:
    """Connects to one broker."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._version = MQTTv50

    async def connect(self, on_confirm: OnConfirm) -> MqttSession:
        """A session that the broker accepted, within connect_timeout_s."""
        try:
            return await self._connect(on_confirm)
        except MQTTConnectError as error:
            if self._version == MQTTv50 and _code_of(error) in _NOT_THIS_VERSION:
                self._version = MQTTv311
            raise NorthboundError(f"{self._name()} refused us: {error}") from error
        except ConfigError as error:  # a file that was there at the start, and is being renewed or is gone
            raise NorthboundError(f"{self._name()}: {error}") from error
        except (OSError, TimeoutError, ssl.SSLError) as error:
            raise NorthboundError(f"{self._name()} cannot be reached: {error}") from error

    async def _connect(self, on_confirm: OnConfirm) -> MqttSession:
        settings = self._settings
        session = MqttSession(settings, on_confirm)
        connecting = asyncio.ensure_future(
            session.client.connect(
                settings.host,
                settings.port,
                ssl=settings.tls() or False,
                keepalive=settings.keepalive_s,
                version=self._version,
            )
        )
        try:
            await asyncio.wait(
                {connecting, session.gone},
                timeout=settings.connect_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            # A broker that refuses MQTT 5 in the words of 3.1.1 makes gmqtt step down by itself.
            self._version = session.client._connection_state.protocol_version
            if not connecting.done():
                raise TimeoutError(session.gone.result() if session.gone.done() else "no answer in time")
            connecting.result()
            session.tell_birth()
        except BaseException:
            connecting.cancel()
            session.abort()
            raise
        return session

    def _name(self) -> str:
        return f"broker {self._settings.host}:{self._settings.port}"


class MqttSession:
    """One connection that the broker accepted. Ends once; it does not come back."""

    def __init__(self, settings: MqttSettings, on_confirm: OnConfirm) -> None:
        self.window = settings.window
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._topic = settings.topic
        self._gateway = settings.gateway
        self._status_topic = settings.status_topic
        self._topics: dict[Destination, bytes] = {}
        self._silent_max_s = 2 * settings.keepalive_s
        self._on_confirm = on_confirm
        self._mids = _Mids()
        self.client = _Client(
            settings.client_id,
            clean_session=True,
            persistent_storage=self._mids,
            logger=_quiet,
            will_message=self._status("offline"),
        )
        if settings.username is not None:
            self.client.set_auth_credentials(settings.username, settings.password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        handler = self.client._package_handler
        handler._handle_puback_packet = self._on_puback
        self._free_mid = handler.id_generator.free_id

    def _status(self, state: str) -> gmqtt.Message | None:
        if self._status_topic is None:
            return None
        told = {"gateway": self._gateway, "state": state}
        return gmqtt.Message(self._status_topic, told, qos=1, retain=True)

    def tell_birth(self) -> None:
        """Say that we are here. Its PUBACK belongs to no record, and is nobody's token."""
        birth = self._status("online")
        if birth is not None:
            self.client.publish(birth)

    def publish(self, destination: Destination, payload: bytes) -> int:
        """Hand a QoS 1 publish to the connection; its packet id."""
        topic = self._topics.get(destination)
        if topic is None:
            places = prefixes(destination.area)
            topic = self._topic.format(gateway=self._gateway, **places, **asdict(destination)).encode()
            self._topics[destination] = topic
        try:
            self.client.publish(topic, payload, qos=1)
        except OverflowError as error:
            raise NorthboundError("no packet id is free: more is in flight than the broker allows") from error
        return self._mids.last

    async def lost(self) -> str:
        """Wait until the connection is gone, or so silent that it must be."""
        loop = asyncio.get_running_loop()
        while True:
            done, _ = await asyncio.wait({self.gone}, timeout=self._silent_max_s / 8)
            if done:
                return self.gone.result()
            silent_s = loop.time() - self.client._connection._last_data_in
            if silent_s > self._silent_max_s:
                return f"nothing came for {silent_s:.1f} s although we asked"

    def abort(self) -> None:
        """Drop the connection and what is in its buffers."""
        self.client.forget()
        self._end("closed by us")

    def _end(self, why: str) -> None:
        if not self.gone.done():
            self.gone.set_result(why)

    def _on_connect(self, client: gmqtt.Client, flags: int, code: int, properties: dict[str, Any]) -> None:
        (allowed,) = properties.get("receive_maximum", [_RECEIVE_MAXIMUM_DEFAULT])
        # gmqtt hands out one packet id less than the broker allows, and ignores a maximum of 1.
        self.window = max(1, min(self.window, allowed - 1))

    def _on_disconnect(self, client: gmqtt.Client, packet: object, *rest: object) -> None:
        self._end(f"the broker closed it ({packet!r})" if packet else "the connection broke")

    def _on_puback(self, command: int, packet: bytes) -> None:
        if self.gone.done():
            return  # the runner counts it as owed by now, and the next session may use the same packet id
        mid = packet[0] << 8 | packet[1]
        self._free_mid(mid)
        # Without a reason code the publish was taken (MQTT 5 section 3.4.2.1; always so in 3.1.1).
        self._on_confirm(mid, len(packet) < 3 or packet[2] < _FAILURE)


class _Protocol(connection.MQTTProtocol):  # type: ignore[misc]  # gmqtt has no types
    """gmqtt's reader, which trips over its own transport when that is gone before the last read returns."""

    async def read(self, n: int = -1) -> bytes:
        data: bytes = await self._stream_reader.read(n)
        if data:
            return data
        if self._transport is not None:
            self._transport.close()
        raise ConnectionResetError("the peer closed the connection")


connection.MQTTProtocol = _Protocol


class _Client(gmqtt.Client):  # type: ignore[misc]  # gmqtt has no types
    """gmqtt without its own ideas about reconnecting."""

    def reconnect(self, delay: bool = False) -> asyncio.Future[None]:
        """Not here: the runner makes a new session. gmqtt wants something to await."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def forget(self) -> None:
        """Abort the transport, whatever state the client is in."""
        self._is_active = False
        if self._connection is not None:
            if self._connection._keep_connection_callback is not None:
                self._connection._keep_connection_callback.cancel()
            self._connection._transport.abort()


class _Mids:
    """In the place of gmqtt's store of unconfirmed messages: only tells the packet id of the last publish."""

    is_empty = True

    def __init__(self) -> None:
        self.last = 0

    def push_message(self, mid: int, package: bytes) -> None:
        self.last = mid

    def remove_message_by_mid(self, mid: int) -> None:
        """Nothing is kept."""

    async def wait_empty(self) -> None:
        """Nothing is kept."""

    def clear(self) -> None:
        """Nothing is kept."""

    def get_all(self) -> list[tuple[int, bytes]]:
        return []


def _code_of(error: MQTTConnectError) -> int:
    return int(getattr(error, "_code", 0))
