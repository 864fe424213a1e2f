"""The board's USB serial port as the gateway sees it: a pty behind a stable symlink, which can be unplugged.

Nobody holds the slave open but the gateway, so the kernel tells whether anyone listens: what a node says to a closed
port is lost, as on a real one.
"""

import errno
import os
import select
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from boards.virtual.hub import READ_WRITE_EDGE, Hub

# What may wait for a gateway that is slow to read; more is lost, oldest kept, like in a USB driver's buffer.
_PENDING_MAX = 64 * 1024
_BAUDS = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()
}


class LinkPort:
    def __init__(
        self,
        hub: Hub,
        link_path: Path,
        receive: Callable[[bytes], None],
        *,
        pending_max: int = _PENDING_MAX,
        on_hang_up: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_hang_up``: whoever had it open closed it. Also called when it is plugged in, and nobody has."""
        self._hub = hub
        self._link_path = link_path
        self._receive = receive
        self._master = -1
        self._pending_max = pending_max
        self._on_hang_up = on_hang_up
        self._pending = bytearray()
        self.lost_bytes = 0

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    @property
    def baud(self) -> int | None:
        """What the other side has set; None where it is none of the usual ones."""
        return _BAUDS.get(termios.tcgetattr(self._master)[5]) if self.plugged else None

    def plug(self, *, avoid: str = "") -> None:
        """Make a new pty; ``avoid`` is a device name not to come back under."""
        if self.plugged:
            return
        master, slave = os.openpty()
        name = os.ttyname(slave)
        if name == avoid:
            other = os.openpty()
            os.close(master)
            os.close(slave)
            master, slave = other
            name = os.ttyname(slave)
        tty.setraw(slave)  # also clears OPOST; it lasts as long as the master is open
        os.close(slave)
        os.set_blocking(master, False)
        self._master = master
        self._hub.watch(master, self._on_event, READ_WRITE_EDGE)
        fresh = self._link_path.with_name(self._link_path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        fresh.rename(self._link_path)

    def unplug(self) -> str:
        """Hang up on whoever has it open, and remove the link. The name it had."""
        if not self.plugged:
            return ""
        name = os.readlink(self._link_path)
        self._link_path.unlink()
        self._hub.forget(self._master)
        os.close(self._master)
        self._master = -1
        self._pending.clear()
        return name

    def listening(self) -> bool:
        """Does anyone have the port open?"""
        if not self.plugged:
            return False
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poller.poll(0))

    def send(self, data: bytes) -> None:
        if not self.listening():
            self.lost_bytes += len(data) + len(self._pending)
            self._pending.clear()
            return
        room = max(0, self._pending_max - len(self._pending))
        self.lost_bytes += max(0, len(data) - room)
        self._pending += data[:room]
        self._write()

    def _on_event(self, events: int) -> None:
        if events & select.EPOLLIN:
            self._read()
        if events & select.EPOLLOUT and self._pending:
            self._write()
        if events & select.EPOLLHUP:
            self._on_hang_up()

    def _read(self) -> None:
        while self.plugged:
            try:
                data = os.read(self._master, 4096)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EIO):  # empty; nobody has it open
                    return
                raise
            if not data:
                return
            self._receive(data)

    def _write(self) -> None:
        try:
            while self._pending:
                written = os.write(self._master, self._pending)
                del self._pending[:written]
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
