"""A packet forwarder for tests of the gateway: two UDP sockets, and datagrams as real ones send them.

Written from the protocol's own description (basic_pkt_fwd, PROTOCOL.TXT), and shares no code with what it talks to.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable
from typing import Any

EUI = "aa555a0000000101"
FREQ_MHZ = 474.3  # CN470, channel 20


class Socket(asyncio.DatagramProtocol):
    """Keeps what comes in."""

    def __init__(self) -> None:
        self.inbox: list[bytes] = []
        self.changed = asyncio.Event()
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.inbox.append(data)
        self.changed.set()

    def send(self, data: bytes, port: int) -> None:
        assert self.transport is not None
        self.transport.sendto(data, ("127.0.0.1", port))

    async def until(self, condition: Callable[[], Any]) -> Any:
        """What `condition` gives once it is true; it is asked after each datagram."""
        async with asyncio.timeout(20):
            while not (found := condition()):
                self.changed.clear()
                await self.changed.wait()
        return found


class FakeForwarder:
    """One concentrator. `tx_error` is what it answers to PULL_RESP; None: it does not answer."""

    def __init__(self, port: int, eui: str = EUI, *, version: int = 2, seed: int = 1) -> None:
        self.port = port
        self.eui = bytes.fromhex(eui)
        self.version = version
        self.rng = random.Random(seed)
        self.up = Socket()
        self.down = Socket()
        self.tx_error: str | None = "NONE"
        self.answered = 0

    async def open(self, host: str = "127.0.0.1") -> FakeForwarder:
        loop = asyncio.get_running_loop()
        for socket in (self.up, self.down):
            await loop.create_datagram_endpoint(lambda socket=socket: socket, local_addr=(host, 0))  # type: ignore[misc]
        return self

    def close(self) -> None:
        for socket in (self.up, self.down):
            if socket.transport is not None:
                socket.transport.close()

    def head(self, kind: int) -> bytes:
        return bytes((self.version, *self.rng.randbytes(2), kind)) + self.eui

    async def pull(self) -> None:
        """Ask for downlinks, and wait for the answer."""
        datagram = self.head(2)
        self.down.send(datagram, self.port)
        wanted = datagram[:3] + b"\x04"
        await self.down.until(lambda: wanted in self.down.inbox)

    async def push(self, *packets: dict[str, Any]) -> None:
        """Send PUSH_DATA with `packets`, and wait for the answer."""
        await self.push_body(json.dumps({"rxpk": packets}).encode())

    async def push_body(self, body: bytes) -> None:
        datagram = self.head(0) + body
        self.up.send(datagram, self.port)
        wanted = datagram[:3] + b"\x01"
        await self.up.until(lambda: wanted in self.up.inbox)

    async def downlink(self) -> dict[str, Any]:
        """The next txpk; it is answered as `tx_error` says."""
        found: list[bytes] = await self.down.until(self._downlinks)
        datagram = found[0]
        self.answered += 1
        if self.tx_error is not None:
            body = b"" if self.tx_error == "" else json.dumps({"txpk_ack": {"error": self.tx_error}}).encode()
            self.down.send(bytes((self.version, *datagram[1:3], 5)) + self.eui + body, self.port)
        txpk: dict[str, Any] = json.loads(datagram[4:])["txpk"]
        return txpk

    def _downlinks(self) -> list[bytes]:
        return [data for data in self.down.inbox if data[3] == 3][self.answered :]


def rxpk(packet: bytes, tmst: int = 1_000_000, **changes: Any) -> dict[str, Any]:
    """A packet as a forwarder reports it; `None` leaves a field out."""
    whole = {
        "tmst": tmst,
        "chan": 2,
        "rfch": 0,
        "freq": FREQ_MHZ,
        "stat": 1,
        "modu": "LORA",
        "datr": "SF9BW125",
        "codr": "4/5",
        "lsnr": 7.5,
        "rssi": -71,
        "size": len(packet),
        "data": base64.b64encode(packet).decode(),
    }
    whole |= changes
    return {key: value for key, value in whole.items() if value is not None}


def asking(frame: bytes) -> bytes:
    """A frame as a packet whose sender wants an answer."""
    return bytes((frame[0] | 0x20,)) + frame[1:]
