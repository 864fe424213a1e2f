"""A gateway's southern half in a test: real store, channels and ingest; fake clock, link and disk; nodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from gateway.channels import Channel, Channels
from gateway.ingest import Heard, Ingest
from gateway.store import Store, StoreSettings
from protocols.wire import envelope, messages, readings
from protocols.wire.join import NodeJoin
from protocols.wire.limits import MAX_FRAME

START_MS = 1_790_000_000_000
SCHEMA = 1
# A set well inside every range of the registry.
GOOD_SET = (1500, 780, 850, 600, 300, 0, 100, 1000)


class FakeClock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.is_synchronised = True

    def synchronised(self) -> bool:
        return self.is_synchronised

    def unix_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


class Disk(Executor):
    """Runs commits at once, or holds them back until `release`, or fails them."""

    def __init__(self) -> None:
        self.hold = False
        self.fail_with: Exception | None = None
        self._held: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.hold:
            self._held.append((future, function, args))
        else:
            self._run(future, function, args)
        return future

    def release(self) -> None:
        self.hold = False
        held, self._held = self._held, []
        for future, function, args in held:
            self._run(future, function, args)

    def _run(self, future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.fail_with is not None:
            future.set_exception(self.fail_with)
            return
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001  (as any executor does)
            future.set_exception(error)


class FakeLink:
    """Keeps what is sent."""

    name = "fake"
    room = MAX_FRAME

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def send(self, address: int, frame: bytes) -> bool:
        self.sent.append((address, frame))
        return True

    def take(self) -> list[tuple[int, bytes]]:
        sent, self.sent = self.sent, []
        return sent


class South:
    """Store, channels and ingest around one database file; acks go out as the daemon sends them."""

    def __init__(self, path: Path, addresses: tuple[int, ...] = (0x12,), **settings: Any) -> None:
        self.path = path
        self.clock = FakeClock()
        self.random = random.Random(7)
        self.disk = Disk()
        self.link = FakeLink()
        self.heard: list[Heard] = []
        self.keys = {address: keys_of(address) for address in addresses}
        self.settings = StoreSettings(**{"linger_ms": 0, "progress_linger_ms": 0, **settings})
        self.open()

    def open(self) -> None:
        """Start, or start again."""
        self.store = Store.open(
            self.path,
            clock=self.clock,
            random_bytes=self.random.randbytes,
            settings=self.settings,
            executor=self.disk,
        )
        self.channels = Channels(self.store, self.keys.get)
        self.ingest = Ingest(
            self.store,
            self.channels,
            clock=self.clock,
            random_bytes=self.random.randbytes,
            on_heard=self._on_heard,
        )

    def stop(self) -> None:
        """In order."""
        self.store.close()

    def kill(self) -> None:
        """As after kill -9: the connections are dropped, nothing is flushed or closed in order."""
        self.store._closed = True
        self.store._connection.rollback()
        self.store._connection.close()
        self.store._reader.close()

    def _on_heard(self, heard: list[Heard]) -> None:
        self.heard += heard
        for link, address, frame in self.ingest.acks(heard):
            link.send(address, frame)

    async def commit(self) -> None:
        """Wait until everything that was taken in is committed."""
        await self.store.write(lambda connection: None)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.store.read(lambda reader: reader.execute(query).fetchall())


class TestNode:
    """A node as far as a gateway can tell: joins, seals, opens what it gets."""

    __test__ = False

    def __init__(self, south: South, address: int = 0x12, seed: int = 1) -> None:
        self.south = south
        self.address = address
        self.random = random.Random(seed)
        self.seq = 0
        self.piv = 0
        self.dn_piv = 0
        self.epoch: int | None = None
        self.oldest = 1
        self.boots = 1

    def hello_message(self) -> messages.Hello:
        return messages.Hello(
            self.dn_piv,
            self.epoch,
            self.oldest,
            self.seq + 1,
            "river_station",
            "virtual",
            "1.0",
            self.boots,
            1,
        )

    async def join(self) -> messages.Ack:
        """All four steps; the ack of the last."""
        south = self.south
        south.link.take()
        join = NodeJoin(*keys_of(self.address), self.address)
        south.ingest.frame(south.link, join.start(self.random.randbytes(8), self.hello_message()))
        ((_, challenge),) = south.link.take()
        second = join.receive(
            envelope.parse(challenge, 3), challenge, self.random.randbytes(8), self.hello_message()
        )
        assert second is not None
        south.ingest.frame(south.link, second)
        await south.commit()
        ((_, ack),) = south.link.take()
        assert join.receive(envelope.parse(ack, 3), ack, b"", self.hello_message()) is None
        self.use(join.agreed)
        assert join.ack is not None
        return join.ack

    def use(self, id_context: bytes) -> None:
        """Speak in this epoch from now on."""
        from protocols.wire.join import epoch_number

        secret, salt = keys_of(self.address)
        self.key = envelope.sender_key(secret, salt, id_context, envelope.node_kid(self.address))
        self.down_key = envelope.sender_key(secret, salt, id_context, envelope.gateway_kid(self.address))
        self.epoch = epoch_number(id_context)
        self.piv = self.dn_piv = 0

    def seal(self, message: messages.Up) -> bytes:
        self.piv += 1
        return envelope.seal(self.key, self.piv, messages.encode(message))

    def reading(
        self, seq: int | None = None, *, time: int = 1_790_000_000, values: tuple[int, ...] = GOOD_SET, tq: int = 1,
        oldest: int | None = None, epoch: int | None = None,
    ) -> bytes:  # fmt: skip
        """A sealed set; the next seq unless one is given."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        body = readings.encode(readings.schema(SCHEMA), tq, (0,), (values,))
        held = seq - (self.oldest if oldest is None else oldest)
        return self.seal(messages.Readings(SCHEMA, seq, held, time, body, epoch))

    def event(
        self, seq: int | None = None, *, code: int = 1, state: int = 1, oldest: int | None = None
    ) -> bytes:
        """A sealed alarm."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        held = seq - (self.oldest if oldest is None else oldest)
        return self.seal(messages.Event(seq, held, 1_790_000_000, 1, code, state, 180, None))

    def give(self, *frames: bytes) -> None:
        self.south.ingest.frames(self.south.link, frames)

    def opened(self) -> list[messages.Down]:
        """What the gateway sent to this node since the last call."""
        found = []
        for address, frame in self.south.link.take():
            if address == self.address:
                header = envelope.parse(frame, 3)
                assert header.piv >= self.dn_piv, "a downlink PIV came twice"
                self.dn_piv = header.piv + 1
                found.append(messages.decode_down(envelope.open_(self.down_key, header, frame)))
        return found

    async def last_ack(self) -> messages.Ack:
        """Commit, and the newest ack that came of it."""
        await self.south.commit()
        acks = [message for message in self.opened() if isinstance(message, messages.Ack)]
        return acks[-1]


def keys_of(address: int) -> tuple[bytes, bytes]:
    return address.to_bytes(16, "big"), address.to_bytes(8, "big")


Story = Callable[[South, TestNode], Coroutine[Any, Any, None]]


def tell(path: Path, story: Story, *, join: bool = True, **settings: Any) -> None:
    """Run a story with a gateway and one node that has joined."""

    async def run() -> None:
        south = South(path / "gateway.db", **settings)
        node = TestNode(south)
        if join:
            await node.join()
            south.heard.clear()
        await story(south, node)
        south.store.close()

    asyncio.run(run())


def state_of(south: South) -> tuple[object, ...]:
    """Everything a refused frame must leave as it was."""
    return (
        [
            (
                e.number,
                e.ledger.cum,
                list(e.ledger.runs),
                dict(e.ledger.pending),
                e.window.highest,
                e.window.bitmap,
            )
            for e in south.store.epochs.values()
        ],
        south.store.next_reading,
        south.store.next_event,
        south.store.batch.is_empty(),
        south.rows("SELECT count(*) FROM reading"),
        south.rows("SELECT count(*) FROM conflict"),
        list(south.link.sent),
        len(south.heard),
    )


def current(south: South, node: TestNode) -> Channel:
    found = south.channels.node(node.address)
    assert found is not None
    assert found.current is not None
    return found.current
