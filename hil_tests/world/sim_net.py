"""Datagrams between the gateway's host and machines around it, in the simulated world.

The gateway's own code opens its UDP ports on its event loop; here that is a `NetLoop`, whose ports are these. Datagrams
take their time, may be lost, and go nowhere while no process has the port open.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from hil_tests.world.clock import VirtualLoop
from hil_tests.world.sim_world import World

Address = tuple[str, int]

_DELAY_MIN_S, _DELAY_MAX_S = 0.002, 0.030
_EPHEMERAL = 40_000


class SimNet:
    """``loss``: of all datagrams, that share."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.loss = 0.0
        self._world = world
        self._rng = rng
        self._ports: dict[Address, _Port] = {}
        self._machines: dict[Address, Callable[[bytes], None]] = {}

    def machine(self, to_machine: Callable[[bytes], None], server: Address) -> Callable[[bytes], None]:
        """A machine beside the gateway: what takes its datagrams; what it sends to the server by is returned."""
        address = ("127.0.0.1", _EPHEMERAL + len(self._machines))
        self._machines[address] = to_machine
        return lambda data: self._carry(lambda: self._to_port(server, data, address))

    def bind(self, address: Address, loop: VirtualLoop, protocol: Any) -> asyncio.DatagramTransport:
        if address in self._ports:
            raise OSError(98, "Address already in use")
        port = self._ports[address] = _Port(self, address, loop, protocol)
        loop.call_soon(protocol.connection_made, port)
        return port

    def close(self, port: _Port) -> None:
        if self._ports.get(port.address) is port:
            del self._ports[port.address]

    def close_all(self) -> None:
        """The process that had them is gone."""
        self._ports.clear()

    def to_machine(self, data: bytes, address: Address) -> None:
        self._carry(lambda: self._machines.get(address, _nobody)(data))

    def _to_port(self, server: Address, data: bytes, source: Address) -> None:
        port = self._ports.get(server)
        if port is not None and not port.loop.is_closed():
            port.loop.call_soon(port.protocol.datagram_received, data, source)

    def _carry(self, arrive: Callable[[], None]) -> None:
        if self._rng.random() >= self.loss:
            self._world.after(self._rng.uniform(_DELAY_MIN_S, _DELAY_MAX_S), arrive)


def _nobody(data: bytes) -> None:
    """A datagram to a machine that is not there."""


class _Port(asyncio.DatagramTransport):
    def __init__(self, net: SimNet, address: Address, loop: VirtualLoop, protocol: Any) -> None:
        super().__init__({"sockname": address})
        self.address = address
        self.loop = loop
        self.protocol = protocol
        self._net = net

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._net.to_machine(bytes(data), addr)

    def close(self) -> None:
        self._net.close(self)
        if not self.loop.is_closed():
            self.loop.call_soon(self.protocol.connection_lost, None)


class NetLoop(VirtualLoop):
    """The event loop of a process whose UDP ports are in the simulated world."""

    def __init__(self, net: SimNet) -> None:
        super().__init__()
        self._net = net

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], local_addr: Address, **_: Any
    ) -> tuple[asyncio.DatagramTransport, Any]:
        protocol = protocol_factory()
        return self._net.bind(local_addr, self, protocol), protocol
