"""MQTT, QoS 1: publishes, and says which publishes the broker took. What is owed and when to send it is runner.py's.

gmqtt speaks the protocol (mqtt_client.py); it was chosen by measurement (DESIGN.md, bench/mqtt_clients.py). Here is
what a session means for the runner:

* any PUBACK below 0x80 is a yes, 0x80 and above a no; silence is neither.
* connect() waits a bounded time for a CONNACK, and nothing waits for the peer to close.
* a record may be several publishes (a topic for each measurand): it is confirmed when all of them are.
* lost() looks itself whether the line is silent, and whether our certificates were renewed.
* what is retained (birth, discovery) goes before the first record that it is about, and is nobody's to wait for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError

from gateway.devices import Devices
from gateway.errors import NorthboundError
from gateway.marks import Marks
from gateway.northbound import payloads
from gateway.northbound.mqtt_client import Client, Mids, quiet
from gateway.northbound.payloads import Message, Part
from gateway.northbound.runner import Destination, OnConfirm
from gateway.records import Event, Reading
from gateway.tls_files import TlsFiles, distrust
from protocols.northbound import topics

log = logging.getLogger(__name__)

_FAILURE = 0x80
# CONNACK reasons of a broker that does not speak MQTT 5: one of 3.1.1, one of 5.
_NOT_THIS_VERSION = (1, 0x84)
_RECEIVE_MAXIMUM_DEFAULT = 65_535
_PACKET_MAX_DEFAULT = 268_435_455
# Of a PUBLISH beside topic and payload: fixed header, length of the topic, packet id, no properties.
_PUBLISH_OVERHEAD = 5 + 2 + 2 + 1
# Brokers from before MQTT 5 that hang up without an answer: after so many of those in a row 3.1.1 is tried.
_HANG_UPS = 2

# What a platform wants to hear of a node before its first record: (topic, payload, retained).
Announce = Callable[[Destination, Message, Callable[[str], str]], list[tuple[str, bytes, bool]]]


@dataclass(frozen=True)
class MqttSettings:
    """One broker."""

    host: str
    port: int = 1883
    client_id: str = "tidegate"
    topic: str = "tidegate/{area}/{site}/{node}/{stream}"
    username: str | None = field(default=None, repr=False)  # with some platforms it is the secret
    password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    gateway: str = "gateway"
    # Retained, so that whoever subscribes knows at once whether we are there; the broker tells when we are gone.
    status_topic: str | None = None
    # "auto", "5" or "3.1.1".
    version: str = "auto"
    announce: Announce | None = None
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
    """The JSON of a record: what every northbound of records understands."""
    return payloads.json_of(record, site, resent, payloads.Known(marks, devices))


class MqttSender:
    """Connects to one broker."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._version = MQTTv311 if settings.version == "3.1.1" else MQTTv50
        self._hang_ups = 0

    async def connect(self, on_confirm: OnConfirm) -> MqttSession:
        """A session that the broker accepted, within connect_timeout_s."""
        try:
            session = await self._connect(on_confirm)
        except MQTTConnectError as error:
            if _code_of(error) in _NOT_THIS_VERSION:
                self._step_down("it says that it does not speak MQTT 5")
            raise NorthboundError(f"{self._name()} refused us: {error}{self._remark()}") from error
        except _HungUp as error:
            self._hang_ups += 1
            if self._hang_ups >= _HANG_UPS:
                self._step_down("it hangs up on MQTT 5 without a word")
            raise NorthboundError(f"{self._name()} cannot be reached: {error}{self._remark()}") from error
        except ssl.SSLCertVerificationError as error:
            raise NorthboundError(f"{self._name()} {distrust(error, 'host')}") from error
        except (OSError, TimeoutError, ssl.SSLError) as error:
            raise NorthboundError(f"{self._name()} cannot be reached: {error}{self._remark()}") from error
        self._hang_ups = 0
        return session

    def _step_down(self, why: str) -> None:
        if self._settings.version == "auto" and self._version == MQTTv50:
            self._version = MQTTv311
            log.warning("%s: %s; MQTT 3.1.1 from here on, which cannot refuse a record", self._name(), why)

    async def _connect(self, on_confirm: OnConfirm) -> MqttSession:
        settings = self._settings
        session = MqttSession(settings, on_confirm)
        connecting = asyncio.ensure_future(
            session.client.connect(
                settings.host,
                settings.port,
                ssl=False if settings.tls is None else settings.tls.context(),
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
            if not connecting.done():
                # A broker that refuses MQTT 5 in the words of 3.1.1 makes gmqtt step down by itself.
                if session.client._connection_state.protocol_version != self._version:
                    self._step_down("it says so in the words of 3.1.1")
                if not session.gone.done():
                    raise TimeoutError("no answer in time")
                why = session.gone.result()
                raise OSError(why) if session.client.violation is not None else _HungUp(why)
            connecting.result()
            if session.gone.done():
                raise OSError(session.gone.result())
            session.begin()
        except BaseException:
            connecting.cancel()
            session.abort()
            raise
        return session

    def _name(self) -> str:
        return f"broker {self._settings.host}:{self._settings.port}"

    def _remark(self) -> str:
        return "" if self._settings.tls is None else self._settings.tls.remark()


class _HungUp(OSError):
    """The connection ended before a CONNACK."""


class _Group:
    """Publishes that together are one record."""

    __slots__ = ("left", "taken", "token")

    def __init__(self, token: int, left: int) -> None:
        self.token = token
        self.left = left
        self.taken = True


class MqttSession:
    """One connection that the broker accepted. Ends once; it does not come back."""

    def __init__(self, settings: MqttSettings, on_confirm: OnConfirm) -> None:
        self.window = settings.window
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._topics: dict[tuple[Destination, str], bytes] = {}
        self._silent_max_s = 2 * settings.keepalive_s
        self._packet_max = _PACKET_MAX_DEFAULT
        self._may_retain = True
        self._on_confirm = on_confirm
        self._mids = Mids()
        self._token = 0
        # Whose publish a packet id is; None: nobody waits for it.
        self._owners: dict[int, int | _Group | None] = {}
        # Publishes for which no packet id was free: parts of at most `window` records and what is announced of them.
        self._waiting: deque[tuple[bytes, bytes, bool, int | _Group | None]] = deque()
        self._announced: set[tuple[Destination, object]] = set()
        self._told_size = False
        self._status_topic = self._make_status_topic()
        will = None
        if self._status_topic is not None:
            will = gmqtt.Message(self._status_topic, self._status("offline"), qos=1, retain=True)
        self.client = Client(
            settings.client_id,
            clean_session=True,
            persistent_storage=self._mids,
            logger=quiet,
            will_message=will,
        )
        if settings.username is not None:
            self.client.set_auth_credentials(settings.username, settings.password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        handler = self.client._package_handler
        handler._handle_puback_packet = self._on_puback
        self._free_mid = handler.id_generator.free_id

    def begin(self) -> None:
        """Tell that we are there. Raises NorthboundError when the broker cannot do what is needed of it."""
        properties = self.client._package_handler._connack_properties
        if properties.get("max_qos", properties.get("maximum_qos", [1]))[0] == 0:
            raise NorthboundError(
                "the broker takes only QoS 0, and never says what it has taken: nothing can be delivered to it"
            )
        if self._status_topic is not None and self._may_retain:
            self._send(self._status_topic, self._status("online"), True, None)

    def publish(self, destination: Destination, payload: Message | bytes) -> int:
        """Hand the publishes of a record to the connection; its token."""
        self._token += 1
        token = self._token
        if isinstance(payload, bytes):
            parts: tuple[Part, ...] = (Part("", payload),)
        else:
            parts = payload.parts
            if self._settings.announce is not None:
                self._announce(destination, payload)
        routed = [(self._topic_of(destination, part), part.payload) for part in parts]
        if any(len(topic) + len(data) + _PUBLISH_OVERHEAD > self._packet_max for topic, data in routed):
            self._too_large(token, max(len(data) for _, data in routed))
            return token
        owner = token if len(parts) == 1 else _Group(token, len(parts))
        for topic, data in routed:
            self._send(topic, data, False, owner)
        return token

    async def lost(self) -> str:
        """Wait until the connection is gone, or so silent that it must be, or has to be made anew."""
        loop = asyncio.get_running_loop()
        while True:
            done, _ = await asyncio.wait({self.gone}, timeout=self._silent_max_s / 8)
            if done:
                return self.gone.result()
            silent_s = loop.time() - self.client._connection._last_data_in
            if silent_s > self._silent_max_s:
                return f"nothing came for {silent_s:.1f} s although we asked"
            if self._settings.tls is not None and self._settings.tls.renewed():
                return "the TLS files were renewed: connecting anew with them"

    def abort(self) -> None:
        """Drop the connection and what is in its buffers."""
        self.client.forget()
        self._end("closed by us")

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _make_status_topic(self) -> bytes | None:
        template = self._settings.status_topic
        if not template:
            return None
        return topics.fill(template, topics.Fields(gateway=self._settings.gateway)).encode()

    def _status(self, state: str) -> bytes:
        return json.dumps({"gateway": self._settings.gateway, "state": state}).encode()

    def _topic_of(self, destination: Destination, part: Part) -> bytes:
        if part.topic is not None:
            return part.topic.encode()
        topic = self._topics.get((destination, part.measurand))
        if topic is None:
            topic = self._fill(destination, part.measurand).encode()
            self._topics[destination, part.measurand] = topic
        return topic

    def _fill(self, destination: Destination, measurand: str) -> str:
        area, site, node, stream = destination.area, destination.site, destination.node, destination.stream
        fields = topics.Fields(self._settings.gateway, area, site, node, stream, measurand)
        return topics.fill(self._settings.topic, fields)

    def _announce(self, destination: Destination, message: Message) -> None:
        """Once per connection, node and kind of set."""
        announce = self._settings.announce
        kind = message.record.schema if isinstance(message.record, Reading) else None
        if announce is None or (destination, kind) in self._announced:
            return
        self._announced.add((destination, kind))
        for topic, payload, retained in announce(
            destination, message, lambda measurand: self._fill(destination, measurand)
        ):
            if self._may_retain or not retained:
                self._send(topic.encode(), payload, retained, None)

    def _send(self, topic: bytes, payload: bytes, retained: bool, owner: int | _Group | None) -> None:
        if self._waiting or not self._try_send(topic, payload, retained, owner):
            self._waiting.append((topic, payload, retained, owner))

    def _try_send(self, topic: bytes, payload: bytes, retained: bool, owner: int | _Group | None) -> bool:
        try:
            self.client.publish(topic, payload, qos=1, retain=retained)
        except OverflowError:
            return False  # as much is in flight as the broker allows
        self._owners[self._mids.last] = owner
        return True

    def _too_large(self, token: int, size: int) -> None:
        """The broker would end the connection for it, again and again: better refused here."""
        if not self._told_size:
            self._told_size = True
            log.warning(
                "broker %s takes packets of %d bytes; a record of %d cannot go there and is offered again later",
                self._settings.host, self._packet_max, size,
            )  # fmt: skip
        asyncio.get_running_loop().call_soon(self._confirm, token, False)

    # ---- what comes back -----------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        if not self.gone.done():
            self.gone.set_result(why)

    def _on_connect(self, client: gmqtt.Client, flags: int, code: int, properties: dict[str, Any]) -> None:
        (allowed,) = properties.get("receive_maximum", [_RECEIVE_MAXIMUM_DEFAULT])
        # gmqtt hands out one packet id less than the broker allows, and ignores a maximum of 1.
        self.window = max(1, min(self.window, allowed - 1))
        self._packet_max = properties.get("maximum_packet_size", [_PACKET_MAX_DEFAULT])[0]
        self._may_retain = bool(properties.get("retain_available", [1])[0])

    def _on_disconnect(self, client: gmqtt.Client, packet: object, *rest: object) -> None:
        violation = self.client.violation
        if violation is not None:
            self._end(f"this is no broker, or a hostile one: {violation}")
        else:
            self._end(f"the broker closed it ({packet!r})" if packet else "the connection broke")

    def _on_puback(self, command: int, packet: bytes) -> None:
        if self.gone.done():
            return  # the runner counts it as owed by now, and the next session may use the same packet id
        mid = packet[0] << 8 | packet[1]
        if mid not in self._owners:
            return  # confirmed before, or never sent
        owner = self._owners.pop(mid)
        self._free_mid(mid)
        while self._waiting and self._try_send(*self._waiting[0]):
            self._waiting.popleft()
        # Without a reason code the publish was taken (MQTT 5 section 3.4.2.1; always so in 3.1.1).
        taken = len(packet) < 3 or packet[2] < _FAILURE
        if isinstance(owner, int):
            self._on_confirm(owner, taken)
        elif owner is not None:
            owner.left -= 1
            owner.taken &= taken
            if not owner.left:
                self._on_confirm(owner.token, owner.taken)

    def _confirm(self, token: int, taken: bool) -> None:
        if not self.gone.done():
            self._on_confirm(token, taken)


def _code_of(error: MQTTConnectError) -> int:
    return int(getattr(error, "_code", 0))
