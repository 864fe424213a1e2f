"""What the gateway benches share: a broker on its own core, nodes that sealed their frames, a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.channels import Channels
from gateway.clock import SystemClock
from gateway.ingest import Heard, Ingest
from gateway.memory import quieten_gc
from gateway.store import Store, StoreSettings
from protocols.wire import envelope, messages, readings
from protocols.wire.join import NodeJoin

GATEWAY_CORE = 0
BROKER_CORE = 1
SCHEMA = 1
START_S = 1_790_000_000


class Place(NamedTuple):
    """As the registry gives it."""

    site: str
    area: str


def places(address: int, at_ms: int) -> Place:
    """Every node has a site of its own."""
    return _PLACES[address]


_PLACES = {address: Place(f"river-{address:04x}", "330106") for address in range(1, 0xFFFF)}


@contextlib.contextmanager
def broker(window: int = 0) -> Iterator[int]:
    """A Mosquitto on a free loopback port and on its own core; the port."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if binary is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mosquitto.conf")
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages {window}\n"
            "max_queued_messages 0\npersistence false\nset_tcp_nodelay true\nlog_type none\n"
        )
        process = subprocess.Popen(
            [binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pin(process.pid, BROKER_CORE)
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where the machine has more than one."""
    cores = sorted(os.sched_getaffinity(0) if pid == 0 else range(os.cpu_count() or 1))
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(pid, {core})
    elif cores:
        os.sched_setaffinity(pid, {cores[-1]})


class NullLink:
    """A link whose frames go nowhere; counts them."""

    name = "bench"
    room = 512

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.count = 0
        self.keep = True

    def send(self, address: int, frame: bytes) -> bool:
        self.count += 1
        if self.keep:
            self.sent.append(frame)
        return True


class Gateway:
    """Store, channels and ingest as the daemon wires them; acks are built, sealed and handed to the link."""

    def __init__(self, path: Path, nodes: int, settings: StoreSettings | None = None) -> None:
        self.clock = SystemClock()
        self.keys = {address: keys_of(address) for address in range(1, nodes + 1)}
        self.store = Store.open(path, clock=self.clock, random_bytes=os.urandom, settings=settings)
        self.channels = Channels(self.store, self.keys.get)
        self.link = NullLink()
        self.on_heard: Callable[[list[Heard]], None] = lambda heard: None
        quieten_gc()
        self.ingest = Ingest(
            self.store, self.channels, clock=self.clock, random_bytes=os.urandom, on_heard=self._answer
        )

    def _answer(self, heard: list[Heard]) -> None:
        for link, address, frame in self.ingest.acks(heard):
            link.send(address, frame)
        self.on_heard(heard)


def keys_of(address: int) -> tuple[bytes, bytes]:
    return address.to_bytes(16, "big"), address.to_bytes(8, "big")


class Station:
    """A node as far as a gateway sees it: joins, and seals sets of a wandering river."""

    def __init__(self, address: int, seed: int) -> None:
        self.address = address
        self.rng = random.Random(seed * 65_536 + address)
        self.schema = readings.schema(SCHEMA)
        self.values = [series.centre for series in self.schema.series]
        # In the middle of a node's life: PIVs of 2 bytes, as the reference set has.
        self.seq = 10_000
        self.piv = 300
        self.key: envelope.SenderKey | None = None
        self._join = NodeJoin(*keys_of(address), address)
        self._hello = messages.Hello(
            0, None, self.seq + 1, self.seq + 1, "river_station", "virtual", "1.0", 1, 1
        )

    def hello(self) -> bytes:
        return self._join.start(self.rng.randbytes(8), self._hello)

    def answer(self, frame: bytes) -> bytes | None:
        """The next frame of the join; None once it is complete."""
        answer = self._join.receive(envelope.parse(frame, 3), frame, self.rng.randbytes(8), self._hello)
        if answer is None:
            self.use(self._join.agreed)
        return answer

    def use(self, id_context: bytes) -> None:
        """Speak in this epoch."""
        self.key = envelope.sender_key(*keys_of(self.address), id_context, envelope.node_kid(self.address))

    def next_set(self) -> bytes:
        """One more sealed frame with one set."""
        if self.key is None:
            raise RuntimeError(f"station {self.address:04x} has not joined")
        step = self.rng.randint
        self.values = [value + step(-3, 3) for value in self.values]
        body = readings.encode(self.schema, 1, (0,), (tuple(self.values),))
        self.seq += 1
        self.piv += 1
        held = min(self.seq - 10_001, 500)
        plain = messages.encode(
            messages.Readings(SCHEMA, self.seq, held, START_S + 60 * self.seq, body, None)
        )
        return envelope.seal(self.key, self.piv, plain)


async def join_all(gateway: Gateway, stations: list[Station]) -> None:
    """Every station joins, through the gateway's own code."""
    link = gateway.link
    await _commit(gateway)
    for station in stations:
        gateway.ingest.frame(link, station.hello())
        second = station.answer(link.sent.pop())
        if second is None:
            raise RuntimeError("the challenge was taken for an ack")
        gateway.ingest.frame(link, second)
    await _commit(gateway)
    acks = {int.from_bytes(envelope.parse(frame, 3).kid[:2], "big"): frame for frame in link.sent}
    for station in stations:
        station.answer(acks[station.address])
    link.sent.clear()
    link.keep = False


async def _commit(gateway: Gateway) -> None:
    await gateway.store.write(lambda connection: None)


async def until(reached: Callable[[], bool]) -> None:
    """Look every millisecond, which costs the measured process nothing."""
    while not reached():  # noqa: ASYNC110  (what is waited for has no event, and must not get one for a bench)
        await asyncio.sleep(0.001)


def frames_of(stations: list[Station], count: int, seed: int) -> list[bytes]:
    """`count` frames of randomly chosen stations, in the order in which they were sealed."""
    rng = random.Random(seed)
    return [rng.choice(stations).next_set() for _ in range(count)]


class Proxy:
    """Between a gateway and its broker: can be gone, or swallow everything while connections stay up."""

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self.swallow = False
        self._broker_port = broker_port
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers += [writer, up_writer]
        with contextlib.suppress(asyncio.CancelledError):  # the bench is over
            await asyncio.gather(self._carry(reader, up_writer), self._carry(up_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        swallowing = self.swallow  # a connection made while swallowing never recovers
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                swallowing |= self.swallow
                if not swallowing:
                    writer.write(data)
        if not swallowing:
            writer.close()
