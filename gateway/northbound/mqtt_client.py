"""gmqtt, held to the protocol: without ideas of its own, and closed to whatever nobody asked for.

A broker is a stranger: it may be another program on that port, or in somebody else's hands. We subscribe to nothing,
so all it has to say is CONNACK, PUBACK, PINGRESP and DISCONNECT, none of them long. Anything else, a packet that is
too long or cut short, ends the connection with a reason; the runner connects again after its pause.

What of gmqtt is replaced, and why:

* it keeps every unconfirmed message and sends it again by itself, without bound; the store is our queue, so Mids keeps
  nothing.
* it reconnects by itself, for ever, at a fixed pause: Client.reconnect does nothing; the runner decides.
* its reader fails with an AttributeError when the transport is gone first, takes packets of 256 MB, and dies with an
  exception on a packet that is cut short: Protocol reads by itself.
* it lets the broker make the keep-alive longer than ours: then a dead line would be noticed late.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import gmqtt
from gmqtt.mqtt import connection
from gmqtt.mqtt.package import Package

from gateway.limits import MQTT_PACKET_IN_MAX

CONNACK, PUBACK, PINGRESP, DISCONNECT = 0x20, 0x40, 0xD0, 0xE0
_NAMES = {0x30: "PUBLISH", 0x50: "PUBREC", 0x62: "PUBREL", 0x70: "PUBCOMP", 0x90: "SUBACK", 0xF0: "AUTH"}
_READ_BYTES = 65_536
_SHORTEST = {CONNACK: 2, PUBACK: 2, PINGRESP: 0, DISCONNECT: 0}

quiet = logging.getLogger("gateway.northbound.gmqtt")
quiet.setLevel(logging.CRITICAL)  # it logs each packet; what matters is in the errors raised here
logging.getLogger("gmqtt").setLevel(logging.CRITICAL)


class Violation(Exception):
    """The broker sent what no broker sends to a client without subscriptions."""


def split(data: bytes, packets: list[tuple[int, bytes]]) -> bytes:
    """Take whole packets off `data` into `packets`; what is left. Raises Violation."""
    at, size = 0, len(data)
    while size - at >= 2:
        head = data[at]
        length, shift, behind = 0, 0, at + 1
        while True:
            if behind == size:
                return data[at:]
            byte = data[behind]
            length |= (byte & 0x7F) << shift
            behind += 1
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise Violation("it sent a packet whose length does not end")
        _check(head, length)
        if behind + length > size:
            return data[at:]
        packets.append((head, data[behind : behind + length]))
        at = behind + length
    return data[at:]


def _check(head: int, length: int) -> None:
    if head not in _SHORTEST:
        name = _NAMES.get(head & 0xF0, f"0x{head:02x}")
        raise Violation(f"it sent {name}, which nobody asked for")
    if length > MQTT_PACKET_IN_MAX:
        raise Violation(f"it sent a packet of {length} bytes; {MQTT_PACKET_IN_MAX} are allowed")
    if length < _SHORTEST[head]:
        raise Violation("it sent a packet that is cut short")


class Protocol(connection.MQTTProtocol):  # type: ignore[misc]  # gmqtt has no types
    """gmqtt's protocol with a reader of our own."""

    violation: str | None = None

    async def _read_loop(self) -> None:
        await self._connected.wait()
        rest = b""
        try:
            while self._connected.is_set() and (data := await self._stream_reader.read(_READ_BYTES)):
                packets: list[tuple[int, bytes]] = []
                rest = split(rest + data, packets)
                for head, body in packets:
                    self._connection.put_package(Package(head, body))
        except Violation as error:
            self.violation = str(error)
        except (LookupError, ValueError, TypeError, ArithmeticError) as error:
            # What gmqtt's decoders of CONNACK and DISCONNECT throw at bytes that they do not understand.
            self.violation = f"it sent a packet that cannot be read ({type(error).__name__}: {error})"
        except OSError:
            pass  # the connection is gone, and connection_lost() tells it
        if self._transport is not None:
            self._transport.abort()


class Connection(connection.MQTTConnection):  # type: ignore[misc]  # gmqtt has no types
    """gmqtt's connection with our protocol in it."""

    @classmethod
    async def create_connection(
        cls, host: str, port: int, ssl: Any, clean_session: bool, keepalive: int, connection_state: Any,
        package_handler: Any, logger: Any = None,
    ) -> Connection:  # fmt: skip
        """Connect, and keep what comes for the handler."""
        factory = functools.partial(
            Protocol, connection_state=connection_state, id_generator=package_handler.id_generator
        )
        transport, protocol = await asyncio.get_running_loop().create_connection(factory, host, port, ssl=ssl)
        return cls(
            transport, protocol, clean_session, keepalive, package_handler=package_handler, logger=logger
        )


class Client(gmqtt.Client):  # type: ignore[misc]  # gmqtt has no types
    """gmqtt without its own ideas about reconnecting."""

    def __init__(self, client_id: str, **options: Any) -> None:
        super().__init__(client_id.encode(), **options)
        handler = self._package_handler
        keepalive = handler._update_keepalive_if_needed

        def no_longer() -> None:
            # A broker may ask for a longer keep-alive; asking more often than that is always allowed.
            asked = handler._connack_properties.get("server_keep_alive", [0])[0]
            if 0 < asked < self._keepalive:
                keepalive()

        handler._update_keepalive_if_needed = no_longer

    async def _create_connection(
        self, host: str, port: int, ssl: Any, clean_session: bool, keepalive: int
    ) -> Connection:
        return await Connection.create_connection(
            host, port, ssl, clean_session, keepalive, self._connection_state, self._package_handler, quiet
        )

    def reconnect(self, delay: bool = False) -> asyncio.Future[None]:
        """Not here: the runner makes a new session. gmqtt wants something to await."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    @property
    def violation(self) -> str | None:
        """What the broker did that ended the connection."""
        return None if self._connection is None else self._connection._protocol.violation

    def forget(self) -> None:
        """Abort the transport, whatever state the client is in."""
        self._is_active = False
        if self._connection is not None:
            if self._connection._keep_connection_callback is not None:
                self._connection._keep_connection_callback.cancel()
            self._connection._transport.abort()


class Mids:
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
