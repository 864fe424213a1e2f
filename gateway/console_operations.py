"""Watching a node's line live while the gateway has its port: console text, and beside it what the frames say."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway import limits
from gateway.errors import CommandError, ControlError
from gateway.links import tail
from gateway.links.port import SerialPort
from gateway.links.tail import Entry
from gateway.log import printable
from gateway.node_file import parse_address
from gateway.operations import Operations, Reply, Request
from gateway.port_operations import PortOperations
from gateway.presence import Presence
from gateway.registry import By, Registry
from gateway.store import Store
from protocols.inspection.brief import brief
from protocols.inspection.frames import KeyRing, Secrets
from protocols.wire import messages
from protocols.wire.errors import WireError

if TYPE_CHECKING:
    from gateway.daemon import Gateway

# Contexts that a frame may be of: the current one, and those that a node may still send records of.
_CONTEXTS_MAX = 4


def serve_lines(gateway: Gateway) -> None:
    """What may be asked of the serial ports of a running gateway: who has them, and what is on them."""

    def ports() -> dict[str, Any]:
        radios = () if gateway.air is None else gateway.air.radios
        return {one.name: one for one in (*gateway.links, *radios)}

    def absent_s(link: str, since_s: float, now_s: float) -> float:
        port = ports().get(link)
        return port.absent_s(since_s, now_s) if isinstance(port, SerialPort) else 0.0

    gateway.silence.link_absent_s = absent_s
    PortOperations(gateway.config, gateway.store, gateway.clock, ports).serve(gateway.operations)
    ConsoleOperations(gateway.registry, gateway.presence, gateway.store, ports).serve(gateway.operations)


class ConsoleOperations:
    """`ports`: those of the running gateway by name."""

    def __init__(
        self, registry: Registry, presence: Presence, store: Store, ports: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._registry = registry
        self._presence = presence
        self._store = store
        self._ports = ports

    def serve(self, operations: Operations) -> None:
        operations.add("node.console", self._do_console)

    async def _do_console(self, request: Request, by: By) -> Reply:
        address, port = self._which(request)
        after: Any = request.get("after", 0)
        if type(after) is not int or after < 0:
            raise CommandError(f"after = {after!r:.40} is not allowed. Allowed is a number from 0 on.")
        entries = port.tail.since(min(after, port.tail.last))
        ring = self._ring(address)
        now_s = port.tail.now_s()
        return {
            "port": port.name,
            "last": port.tail.last,
            "missed": max(0, entries[0].number - after - 1) if entries and after else 0,
            "entries": [
                {"kind": one.kind, "age_s": round(now_s - one.at_s, 3), "text": printable(_text(one, ring))}
                for one in entries
            ],
        }

    def _which(self, request: Request) -> tuple[int, SerialPort]:
        address = parse_address(request.get("node"))
        if address is None:
            raise CommandError(
                f"node {request.get('node')!r:.40} is not an address. Allowed is 0001 to fffe, as on the label."
            )
        seen = self._presence.of(address)
        ports = self._ports()
        name = request.get("port")
        if name is None:
            if seen is None:
                lines = (
                    ", ".join(name for name, port in ports.items() if isinstance(port, SerialPort)) or "none"
                )
                raise ControlError(
                    f"node {address:04x} was not heard since the gateway started, so nobody knows its line. Name one "
                    f"with --line. There are: {lines}."
                )
            name = seen.link
        port = ports.get(name) if isinstance(name, str) else None
        if not isinstance(port, SerialPort):
            raise CommandError(
                f"node {address:04x} is heard by {name!r:.40}, which has no console. `tidegate gateway command send "
                f"{address:04x} console 0 --why … --wait` asks it for a line of its own."
            )
        return address, port

    def _ring(self, address: int) -> KeyRing:
        keys = self._registry.keys_of(address)
        if keys is None:
            return KeyRing({})

        def read(reader: sqlite3.Connection) -> list[bytes]:
            query = "SELECT id_context FROM epoch WHERE node = ? AND id_context IS NOT NULL ORDER BY id DESC LIMIT ?"
            return [bytes(row[0]) for row in reader.execute(query, (address, _CONTEXTS_MAX))]

        return KeyRing({address: Secrets(*keys)}, {address: self._store.read(read)[::-1]})


def _text(entry: Entry, ring: KeyRing) -> str:
    """A line of the console as it is; of a frame what it says, if it is the node's."""
    if isinstance(entry.data, str):
        return entry.data[: limits.NODE_LOG_CHARS_MAX]
    opened = ring.open(entry.data)
    if opened is None:
        return f"frame of {len(entry.data)} bytes, not opened"
    decode = messages.decode_down if entry.kind == tail.DOWN else messages.decode_up
    try:
        return brief(decode(opened.plain))
    except WireError as exc:
        return f"frame that is no message: {exc}"
