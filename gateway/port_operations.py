"""Handing a serial port over to another program on this machine, as one that flashes its board, and taking it back.

A port that is handed over is closed for a stated time and then opened again by itself; so does a restart of the
gateway, which then waits until the other program lets go. Audited, with who and why.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from gateway import limits
from gateway.clock import Clock
from gateway.config import Config
from gateway.errors import CommandError, ControlError
from gateway.links.port import SerialPort
from gateway.operations import Operations, Reply, Request
from gateway.registry import By, audit
from gateway.store import Store


class PortOperations:
    """`ports`: those of the running gateway by name; None while none runs."""

    def __init__(
        self, config: Config, store: Store, clock: Clock, ports: Callable[[], Mapping[str, Any]] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._ports = ports
        # What a person may take for a port of ours: told why not.
        self._others = {section.name: "a Modbus bus" for section in config.modbus}
        self._others |= {section.name: "a concentrator on the network" for section in config.semtech}

    def serve(self, operations: Operations) -> None:
        operations.add("port.list", self._do_list)
        operations.add("port.release", self._do_release)
        operations.add("port.take", self._do_take)

    async def _do_list(self, request: Request, by: By) -> Reply:
        return {"ports": [row(port) for port in self._all().values()]}

    async def _do_release(self, request: Request, by: By) -> Reply:
        port = self._named(request)
        seconds: Any = request.get("seconds", limits.PORT_RELEASE_S)
        if type(seconds) is not int or not 1 <= seconds <= limits.PORT_RELEASE_MAX_S:
            raise CommandError(
                f"seconds = {seconds!r:.40} is not allowed. Allowed is 1 to {limits.PORT_RELEASE_MAX_S}."
            )
        if not by.why.strip() or len(by.why) > limits.WHY_CHARS_MAX:
            raise CommandError(
                f"say why with --why, in 1 to {limits.WHY_CHARS_MAX} characters: it is kept in the audit log."
            )
        # The books first: what could not be noted is not done.
        await self._note(by, "port.release", port.name, f"{port.path} for {seconds} s")
        try:
            async with asyncio.timeout(limits.PORT_CLOSE_S):
                await port.release(seconds, by.who, by.why)
        except TimeoutError as exc:
            raise ControlError(
                f"{port.path}: its driver has not let go of it within {limits.PORT_CLOSE_S:.0f} s. Pull the cable, "
                "and ask again."
            ) from exc
        return row(port)

    async def _do_take(self, request: Request, by: By) -> Reply:
        port = self._named(request)
        if port.handed is None:
            raise CommandError(f"port {port.name} is not handed over: the gateway has it, or waits for it.")
        await self._note(by, "port.take", port.name, port.path)
        port.take(by.who)
        return row(port)

    async def _note(self, by: By, action: str, name: str, detail: str) -> None:
        now_ms = self._clock.unix_ms()

        def write(connection: sqlite3.Connection) -> None:
            audit(connection, now_ms, by, action, name, detail)

        await self._store.write(write)

    def _all(self) -> dict[str, SerialPort]:
        if self._ports is None:
            raise ControlError("no gateway is running: every port is free.")
        return {name: port for name, port in self._ports().items() if isinstance(port, SerialPort)}

    def _named(self, request: Request) -> SerialPort:
        """By its name, or by any path of the device: who flashes a board knows only that."""
        ports = self._all()
        name = request.get("port")
        if not isinstance(name, str):
            raise CommandError(f"port {name!r:.40} is not a name. `tidegate gateway port list` shows them.")
        if name in ports:
            return ports[name]
        device = os.path.realpath(name)
        for port in ports.values():
            if name == port.path or device == os.path.realpath(port.path):
                return port
        if name in self._others:
            raise CommandError(
                f"{name} is {self._others[name]}: only ports of nodes and bridges are handed over."
            )
        near = get_close_matches(name, ports, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise CommandError(f"there is no port {name!r:.80}. There are: {', '.join(ports) or 'none'}.{hint}")


def row(port: SerialPort) -> Reply:
    """A port as a person is told of it."""
    handed = port.handed
    if handed is not None:
        state = "handed over"
    else:
        state = "open" if port.is_open else "closed"
    return {
        "name": port.name,
        "path": port.path,
        "state": state,
        "left_s": round(port.handed_left_s()),
        "who": "" if handed is None else handed.who,
        "why": "" if handed is None else handed.why,
        "problem": "" if port.is_open or handed is not None else port.last_error,
    }
