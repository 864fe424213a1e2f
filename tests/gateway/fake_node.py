"""A node for tests of the gateway: the node's side of SPEC.md on the same wire code, without flash or
sensors.

`FakeNode` has no I/O: frames in, frames out. `PtyNode` puts one behind a pseudo-terminal, as a USB port
would be.
"""

from __future__ import annotations

import asyncio
import os
import random
import tty
from collections.abc import Callable
from pathlib import Path

from protocols.wire import envelope, framing, messages
from protocols.wire.errors import WireError
from protocols.wire.join import NodeJoin, epoch_number

SECRET = bytes(range(16))
SALT = bytes(range(8))


class FakeNode:
    """Joins, keeps events and results in a list, sends what is not acknowledged, and executes commands."""

    def __init__(
        self, address: int = 0x12, *, seed: int = 1, secret: bytes = SECRET, salt: bytes = SALT
    ) -> None:
        self.address = address
        self.secret = secret
        self.salt = salt
        self.rng = random.Random(seed)
        self.join = NodeJoin(secret, salt, address)
        self.id_context = b""
        self.piv = 0
        self.dn_piv = -1
        self.records: dict[int, messages.Event | messages.Result] = {}
        self.acked = 0
        self.received: list[messages.Down] = []
        self.executed: list[tuple[int, int | None]] = []
        self.last_command = 0
        self.refused: list[str] = []
        self.time_quality = messages.SYNCHRONISED
        self.now_s: Callable[[], int] = lambda: 1_790_000_000

    @property
    def epoch(self) -> int | None:
        return epoch_number(self.id_context) if self.id_context else None

    def hello(self) -> messages.Hello:
        oldest = self.acked + 1
        return messages.Hello(
            max(self.dn_piv, 0), self.epoch, oldest, len(self.records) + 1, "river", "virtual", "test", 1, 1
        )

    def start(self) -> bytes:
        """The first frame of a join."""
        return self.join.start(self.rng.randbytes(8), self.hello())

    def keep(self, code: int = 1, state: int = messages.RAISED) -> int:
        """Put an event into the outbox; its seq."""
        seq = len(self.records) + 1
        self.records[seq] = messages.Event(seq, 0, self.now_s(), self.time_quality, code, state, None, None)
        return seq

    def pending(self) -> list[bytes]:
        """Frames of every record that is not acknowledged."""
        return [
            self.seal(record._replace(held=seq - self.acked - 1))
            for seq, record in self.records.items()
            if seq > self.acked
        ]

    def status(self) -> bytes:
        health = {5: len(self.records) - self.acked, 11: 900}
        return self.seal(messages.Status(max(self.dn_piv, 0), self.now_s(), self.time_quality, health))

    def seal(self, message: messages.Up) -> bytes:
        key = envelope.sender_key(self.secret, self.salt, self.id_context, envelope.node_kid(self.address))
        self.piv += 1
        return envelope.seal(key, self.piv, messages.encode(message))

    def receive(self, frame: bytes) -> list[bytes]:
        """Take a downlink; what the node sends because of it."""
        try:
            header = envelope.parse(frame, envelope.KID_DOWN)
            if header.kid_context or not self.id_context:
                return self._joining(header, frame)
            key = envelope.sender_key(
                self.secret, self.salt, self.id_context, envelope.gateway_kid(self.address)
            )
            plain = envelope.open_(key, header, frame)
            if header.piv <= self.dn_piv:
                raise messages.DecodeError("replayed")
            self.dn_piv = header.piv
            return self._do(messages.decode_down(plain))
        except WireError as error:
            self.refused.append(str(error))
            return []

    def _joining(self, header: envelope.Header, frame: bytes) -> list[bytes]:
        answer = self.join.receive(header, frame, self.rng.randbytes(8), self.hello())
        if answer is not None:
            return [answer]
        self.id_context = self.join.agreed
        self.dn_piv = self.join.ack_piv
        self.piv = 0
        if self.join.ack is not None:
            self.received.append(self.join.ack)
        return self.pending()

    def _do(self, message: messages.Down) -> list[bytes]:
        self.received.append(message)
        if isinstance(message, messages.Ack):
            self.acked = message.cum
        elif isinstance(message, messages.Ping):
            return [self.status()]
        elif isinstance(message, messages.Command) and message.answers == self.piv:
            return self._execute(message)
        return []

    def _execute(self, command: messages.Command) -> list[bytes]:
        if command.command_id <= self.last_command:
            return []
        self.last_command = command.command_id
        self.executed.append((command.op, command.args))
        seq = len(self.records) + 1
        self.records[seq] = messages.Result(
            seq, 0, self.now_s(), self.time_quality, command.command_id, messages.DONE, None, None
        )
        return self.pending()

    def got(self, kind: type) -> list[messages.Down]:
        """Downlinks of that kind."""
        return [message for message in self.received if isinstance(message, kind)]


class Pty:
    """A pseudo-terminal whose symlink `path` stands for a USB port. The far side is the caller's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1
        self.slave_name = ""
        self.plug()

    def plug(self) -> None:
        """A device appears; like in real life, under another number."""
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self.slave_name = os.ttyname(slave)
        os.close(slave)
        partial = self.path.with_suffix(".new")
        partial.symlink_to(self.slave_name)
        partial.replace(self.path)

    def unplug(self, *, remove: bool = True) -> None:
        """Pull the cable: the file goes, and whoever holds the port open is hung up on."""
        if remove:
            self.path.unlink()
        os.close(self.master)
        self.master = -1


class PtyNode:
    """A FakeNode on a Pty, driven by the running event loop. `until` waits for what a test wants to see."""

    def __init__(self, node: FakeNode, pty: Pty) -> None:
        self.node = node
        self.pty = pty
        self.frames: list[bytes] = []
        self._decoder = framing.Decoder()
        self._changed = asyncio.Event()
        self.attach()

    def attach(self) -> None:
        """Serve the pty's current master."""
        self._decoder = framing.Decoder()
        asyncio.get_running_loop().add_reader(self.pty.master, self._readable)

    def detach(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pty.master)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            os.write(self.pty.master, framing.encode(frame))

    def _readable(self) -> None:
        try:
            data = os.read(self.pty.master, 4096)
        except OSError:  # nobody has the port open just now
            return
        for _, payload in self._decoder.feed(data):
            self.frames.append(payload)
            self.send(*self.node.receive(payload))
        self._changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait until `condition`, which a downlink brings about."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
