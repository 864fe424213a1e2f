"""A chip behind `rfc2217://127.0.0.1:PORT`: a serial port over TCP with its reset lines, for one client at a time."""

from __future__ import annotations

import select
import socket
from types import SimpleNamespace
from typing import Any

from serial.rfc2217 import PortManager

from boards.virtual.clock import BoardClock
from boards.virtual.hub import READ, READ_WRITE_EDGE, Hub, shared_hub
from hil_tests.world.esp.pace import Pacer
from hil_tests.world.esp.port import Device, garbled

# More than a stub's read may have under way; a client that lets more wait is cut off.
_PENDING_MAX = 2 * 1024 * 1024


class _Wires(SimpleNamespace):
    """What pyserial's protocol side sets and asks of a serial port. A UART of a chip is 8N1, whatever it is told."""

    def __init__(self, device: Device) -> None:
        super().__init__(
            bytesize=8, parity="N", stopbits=1, xonxoff=False, rtscts=False, break_condition=False
        )
        self.cts = self.dsr = self.ri = self.cd = False
        self.baudrate = 115200
        self._device = device
        self._dtr = self._rts = False

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, level: bool) -> None:
        self._dtr = level
        self._device.set_lines(self._dtr, self._rts)

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, level: bool) -> None:
        self._rts = level
        self._device.set_lines(self._dtr, self._rts)

    def reset_input_buffer(self) -> None:
        """What was sent is on its way to the client already."""

    def reset_output_buffer(self) -> None:
        """The chip has it already."""


class Rfc2217Port:
    """``url`` is what a tool is given. A second client is turned away while there is a first."""

    def __init__(self, device: Device, port: int = 0, *, slower: float = 0.0, hub: Hub | None = None) -> None:
        self.device = device
        self._hub = hub or shared_hub()
        self._clock = BoardClock(0.0)
        self._pacer = Pacer(self._clock, self._to_client, slower)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._manager: Any = None
        self._wires = _Wires(device)
        self._pending = bytearray()
        self._hub.call(self._start)

    @property
    def url(self) -> str:
        return f"rfc2217://127.0.0.1:{self.port}"

    def _start(self) -> None:
        self.device.say = self._say
        self._hub.add_clock(self._clock)
        self._hub.watch(self._listener.fileno(), lambda _: self._accept(), READ)

    def close(self) -> None:
        def stop() -> None:
            self._drop()
            self._hub.forget(self._listener.fileno())
            self._listener.close()
            self._hub.remove_clock(self._clock)

        self._hub.call(stop)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._client is not None:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        manager: Any = PortManager  # its types ask for whole serial ports; it needs what stands above
        self._manager = manager(self._wires, SimpleNamespace(write=self._write))
        self._hub.watch(client.fileno(), self._on_event, READ_WRITE_EDGE)

    def _drop(self) -> None:
        if self._client is not None:
            self._hub.forget(self._client.fileno())
            self._client.close()
            self._client = self._manager = None
            self._pending.clear()

    def _on_event(self, events: int) -> None:
        if events & select.EPOLLIN:
            self._read()
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self._drop()
        elif events & select.EPOLLOUT:
            self._flush()

    def _read(self) -> None:
        while self._client is not None:
            try:
                data = self._client.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._drop()
                return
            for piece in _runs(self._manager.filter(data)):
                self.device.let_go()
                self._pacer.heard(len(piece), self._wires.baudrate)
                self.device.hear(piece, self._wires.baudrate)

    def _say(self, data: bytes) -> None:
        def send() -> None:
            is_heard = self._wires.baudrate == self.device.baud
            self._pacer.send(data if is_heard else garbled(data), self.device.baud)

        self._hub.call(send)

    def _to_client(self, data: bytes) -> None:
        if self._manager is not None:
            self._write(data.replace(b"\xff", b"\xff\xff"))

    def _write(self, data: bytes) -> None:
        """As it is, telnet's own bytes among it."""
        self._pending += data
        self._flush()
        if len(self._pending) > _PENDING_MAX:
            self._drop()

    def _flush(self) -> None:
        try:
            while self._pending and self._client is not None:
                del self._pending[: self._client.send(self._pending)]
        except BlockingIOError:
            return
        except ConnectionError:
            self._drop()


def _runs(single: Any) -> list[bytes]:
    """The bytes that the telnet filter lets through, in one piece."""
    whole = b"".join(single)
    return [whole] if whole else []
