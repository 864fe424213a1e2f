"""A real Mosquitto behind a proxy that does to MQTT packets what networks and brokers do.

The proxy understands just enough of MQTT to know packets apart: PUBLISH on the way up, PUBACK on the way down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from gateway.northbound.mqtt import MqttSender, MqttSettings
from gateway.northbound.runner import Sender
from hil_tests.northbound_contract import WINDOW, Arrival, arrival_of

PUBLISH = 3
PUBACK = 4
NOT_AUTHORISED = 0x87


def mosquitto() -> str:
    """The broker's program; a test that needs it is skipped where there is none, and fails in CI."""
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed, and CI must run this test: apt-get install mosquitto")
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    return path


class Mosquitto:
    """One broker on a free loopback port."""

    def __init__(self, **options: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        config = Path(self._folder.name, "mosquitto.conf")
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            "log_type none",
        ]
        lines += [f"{name} {value}" for name, value in options.items()]
        config.write_text("\n".join(lines) + "\n")
        self._config = config
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [mosquitto(), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline_s or self._process.poll() is not None:
                    self.close()
                    raise

    def read_files_again(self) -> None:
        """Such as renewed certificates."""
        self._process.send_signal(signal.SIGHUP)

    def again(self) -> None:
        """Another life on the same port: sessions end."""
        self._process.terminate()
        self._process.wait(10)
        self._start()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


class MqttFarSide:
    """Mosquitto and the proxy as the contract's far side."""

    def __init__(self, version: int = 5, **options: object) -> None:
        self._broker = Mosquitto(**{"max_inflight_messages": 0, **options})
        self._version = version
        self._server: asyncio.Server | None = None
        self._port = 0
        self._lines: list[_Line] = []
        self._taken: list[Arrival] = []
        self.topics: list[str] = []
        self.holding = False
        self.swallowing = False
        self.repeating = False
        self.refusals = 0
        self.held: list[tuple[_Line, bytes]] = []

    @property
    def broker_port(self) -> int:
        return self._broker.port

    def settings(self) -> MqttSettings:
        return MqttSettings("127.0.0.1", self._port, "contract", window=WINDOW, connect_timeout_s=0.5)

    def sender(self) -> Sender:
        return MqttSender(self.settings())

    def arrivals(self) -> list[Arrival]:
        return self._taken

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.held.clear()
        for line in self._lines:
            line.cut()
        self._lines.clear()

    async def close(self) -> None:
        await self.stop()
        self._broker.close()

    def hold(self) -> None:
        self.holding = True

    def release(self, *, reverse: bool = False, twice: bool = False) -> None:
        self.holding = False
        held, self.held = self.held, []
        for line, packet in reversed(held) if reverse else held:
            line.down.write(packet * (2 if twice else 1))

    def swallow(self) -> None:
        self.swallowing = True
        for line in self._lines:
            line.deaf = True

    def heal(self) -> None:
        self.swallowing = False

    def refuse_next(self, count: int) -> None:
        self.refusals = count

    def repeat(self) -> None:
        self.repeating = True

    def taken(self, topic: str, payload: bytes) -> None:
        self.topics.append(topic)
        self._taken.append(arrival_of(payload))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._broker.port)
        line = _Line(self, writer, up_writer, deaf=self.swallowing)
        self._lines.append(line)
        with contextlib.suppress(asyncio.CancelledError):  # the test is over
            await asyncio.gather(line.carry(reader, line.go_up), line.carry(up_reader, line.go_down))


class _Line:
    """One proxied connection."""

    def __init__(
        self, far: MqttFarSide, down: asyncio.StreamWriter, up: asyncio.StreamWriter, *, deaf: bool
    ) -> None:
        self.far = far
        self.down = down
        self.up = up
        self.deaf = deaf

    async def carry(self, reader: asyncio.StreamReader, handle: object) -> None:
        """Packet by packet until either end is gone."""
        assert callable(handle)
        try:
            while True:
                head = await reader.readexactly(1)
                length, shift, size = 0, 0, b""
                while True:
                    size += await reader.readexactly(1)
                    length |= (size[-1] & 0x7F) << shift
                    shift += 7
                    if size[-1] < 0x80:
                        break
                body = await reader.readexactly(length)
                if not self.deaf:
                    handle(head[0], head + size + body, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not self.deaf:
                self.cut()

    def go_up(self, head: int, packet: bytes, body: bytes) -> None:
        if head >> 4 == PUBLISH:
            topic_end = 2 + int.from_bytes(body[:2], "big")
            mid = body[topic_end : topic_end + 2]
            if self.far.refusals:
                self.far.refusals -= 1
                self.down.write(bytes((PUBACK << 4, 3)) + mid + bytes((NOT_AUTHORISED,)))
                return
            properties = 1 if self.far._version == 5 else 0  # its length, 0: we send none
            self.far.taken(body[2:topic_end].decode(), body[topic_end + 2 + properties :])
        self.up.write(packet)

    def go_down(self, head: int, packet: bytes, body: bytes) -> None:
        if head >> 4 == PUBACK and self.far.holding:
            self.far.held.append((self, packet))
        elif head >> 4 == PUBACK and self.far.repeating:
            self.down.write(packet * 2)
        else:
            self.down.write(packet)

    def cut(self) -> None:
        self.down.transport.abort()
        self.up.transport.abort()
