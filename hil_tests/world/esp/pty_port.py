"""A chip behind a pseudo-terminal: a path that any program opens, and no reset lines.

The ioctls of the lines fail with ENOTTY there, esptool only warns. So the pty does by itself what a hand at the buttons
would: a SYNC to a chip that is not in its loader resets it into the loader, and after such a session the chip is reset
and starts from its flash: when the host closes the port, goes back to the baud rate of the console, or says nothing for
long.
"""

from __future__ import annotations

from pathlib import Path

from boards.virtual.clock import BoardClock
from boards.virtual.hub import Hub, shared_hub
from boards.virtual.port import LinkPort
from hil_tests.world.esp.chip import ROM_BAUD
from hil_tests.world.esp.pace import Pacer
from hil_tests.world.esp.port import Device, garbled

SYNC = b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20" + b"\x55" * 32 + b"\xc0"
# Of a host that keeps the port open to listen; a tool that talks to a loader pauses for less, also on a busy machine.
_QUIET_S = 15.0
# Between the loader's change of speed and the host's, the two differ for a moment.
_SLOWED_S = 1.5
_LOOK_S = 0.1
# A stub's read has at most 256 KiB under way, and escapes may double them.
_PENDING_MAX = 1024 * 1024


class PtyPort:
    def __init__(
        self,
        device: Device,
        path: Path,
        *,
        slower: float = 0.0,
        has_boot_button: bool = True,
        hub: Hub | None = None,
    ) -> None:
        """``has_boot_button``: what is described above; else the chip starts as its lines are."""
        self.device = device
        self.path = path
        self._hub = hub or shared_hub()
        self._has_button = has_boot_button
        self._was_loading = False
        self._quiet_s = 0.0
        self._tail = b""
        self._clock = BoardClock(0.0)
        self._port = LinkPort(self._hub, path, self._hear, pending_max=_PENDING_MAX, on_hang_up=self._closed)
        self._pacer = Pacer(self._clock, self._port.send, slower)
        self._hub.call(self._plug)

    def _plug(self) -> None:
        self.device.say = self._say
        self._hub.add_clock(self._clock)
        self._port.plug()

    def close(self) -> None:
        def unplug() -> None:
            self._port.unplug()
            self._hub.remove_clock(self._clock)

        self._hub.call(unplug)

    def unplug(self) -> None:
        """Pull the cable of a board that has another supply."""
        self._hub.call(lambda: self._port.unplug())

    def replug(self) -> None:
        self._hub.call(self._port.plug)

    def _hear(self, data: bytes) -> None:
        baud = self._port.baud or self.device.baud
        self._pacer.heard(len(data), baud)
        if self._has_button and self._asks_for_loader(data):
            self.device.set_lines(False, True)
            self.device.set_lines(True, False)
            self.device.set_lines(False, False)
            self._was_loading = True
            self._tail = b""
            self._clock.call_later(_LOOK_S, self._look)
        self._quiet_s = 0.0
        self.device.hear(data, baud)

    def _asks_for_loader(self, data: bytes) -> bool:
        self._tail = (self._tail + data)[-2 * len(SYNC) :]
        return not self._was_loading and SYNC in self._tail

    def _look(self) -> None:
        """While a session goes on: is it over?"""
        if not self._was_loading:
            return
        self._quiet_s += _LOOK_S
        has_slowed = self._port.baud == ROM_BAUD != self.device.baud
        if self._quiet_s > _QUIET_S or (has_slowed and self._quiet_s > _SLOWED_S):
            self._closed()
        else:
            self._clock.call_later(_LOOK_S, self._look)

    def _closed(self) -> None:
        if self._was_loading:
            self._was_loading = False
            self.device.set_lines(False, True)
            self.device.set_lines(False, False)

    def _say(self, data: bytes) -> None:
        def send() -> None:
            baud = self._port.baud
            is_heard = baud is None or baud == self.device.baud
            self._pacer.send(data if is_heard else garbled(data), self.device.baud)

        self._hub.call(send)
