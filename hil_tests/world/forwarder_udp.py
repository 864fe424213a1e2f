"""A forwarder's socket, for rigs of real processes: on loopback, served by the virtual boards' hub."""

from __future__ import annotations

import socket

from boards.virtual.hub import Hub
from hil_tests.world.forwarder import Forwarder

_DATAGRAM_MAX = 65_535


class UdpLeg:
    """Give `send` to a Forwarder, then `attach` it. Both are called on the hub's thread."""

    def __init__(self, hub: Hub, server: tuple[str, int]) -> None:
        self._hub = hub
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(server)
        self._forwarder: Forwarder | None = None

    def attach(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._hub.watch(self._socket.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError:
            return  # nobody listens there yet, or the buffer is full: a datagram is lost, as they are

    def close(self) -> None:
        self._hub.forget(self._socket.fileno())
        self._socket.close()

    def _readable(self, fd: int) -> None:
        while True:
            try:
                data = self._socket.recv(_DATAGRAM_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # what an earlier datagram met (nobody there) is told here, once
            if self._forwarder is not None:
                self._forwarder.datagram(data)
