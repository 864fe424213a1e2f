"""One life of the node: the MicroPython process from a reset to its end, with its console, control and UART ends."""

import os
import select
import signal
import socket
import subprocess
import tty
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from boards.virtual.hub import READ, Hub
from boards.virtual.rom_image import micropython, rom_path

# Heap for the modules of rom/, which are part of a chip's firmware and take none of its heap, so that heap_size is what
# the node has, as on a chip. Measured: 21 kB with Pin and I2C, and 7 kB more because their 154 names, on a chip in ROM,
# push MicroPython's table of names into its next size.
_ROM_HEAP = 28 * 1024
# SPI and its names, on a board whose node has a radio to talk to.
_SPI_HEAP = 2560
# What esp32.Partition knows of two places for MicroPython, and its names.
_PLACES_HEAP = 7 * 1024
# A message of the node's machine module is one datagram; none is longer.
_MESSAGE_MAX = 2048


class Life:
    """Callbacks run on the hub's thread. ``program``: a module of rom/, and how it is run.

    ``on_command`` returns the number or the bytes to answer with, or None.
    """

    def __init__(
        self,
        hub: Hub,
        folder: Path,
        *,
        heap_size: str,
        main: str,
        facts: str,
        is_scaled: bool,
        has_radio: bool,
        uarts: Iterable[int],
        program: tuple[str, ...] = ("-m", "boot"),
        environment: Mapping[str, str] | None = None,
        on_console: Callable[[bytes], None],
        on_command: Callable[[bytes], int | bytes | None],
        on_uart: Callable[[int, bytes], None],
        on_exit: Callable[["Life"], None],
    ) -> None:
        self._hub = hub
        self._on_console = on_console
        self._on_command = on_command
        self._on_uart = on_uart
        self._on_exit = on_exit
        self._over = False
        self._console_fd, console = os.openpty()
        tty.setraw(console)
        os.set_blocking(self._console_fd, False)
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._uarts: dict[int, socket.socket] = {}
        theirs: dict[int, socket.socket] = {}
        for number in uarts:
            self._uarts[number], theirs[number] = socket.socketpair()
            self._uarts[number].setblocking(False)
            theirs[number].setblocking(False)  # a UART read takes what is there
        fds = ";".join(f"{number}:{their.fileno()}" for number, their in theirs.items())
        rom = _ROM_HEAP + has_radio * _SPI_HEAP + bool(environment) * _PLACES_HEAP
        self.process = subprocess.Popen(
            [
                micropython(),
                "-X",
                f"heapsize={_bytes(heap_size) + rom}",
                *program,
            ],
            stdin=console,
            stdout=console,
            stderr=console,
            cwd=folder,
            env={
                "VBOARD": f"{control.fileno()},{facts},{fds}",
                "VBOARD_MAIN": main,
                **(environment or {}),
                "MICROPYPATH": rom_path(is_scaled),
                "TZ": "UTC",
                "PATH": os.defpath,
            },
            pass_fds=(control.fileno(), *(their.fileno() for their in theirs.values())),
            start_new_session=True,
        )
        os.close(console)
        for their in (control, *theirs.values()):
            their.close()
        self._exit_fd = os.pidfd_open(self.process.pid)
        self._watch()

    def _watch(self) -> None:
        hub = self._hub
        hub.watch(self._console_fd, lambda _: self._drain_console())
        hub.watch(self._control.fileno(), lambda _: self._take_messages())
        hub.watch(self._exit_fd, lambda _: self._exited())
        for number, ours in self._uarts.items():
            self._watch_uart(number, ours)

    def _watch_uart(self, number: int, ours: socket.socket) -> None:
        self._hub.watch(ours.fileno(), lambda _: self._take_uart(number))

    def end(self) -> None:
        """Kill it, and hand on what it had already said."""
        if self._over:
            return
        self._over = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._drain_console()
        self._hub.forget(self._console_fd)
        os.close(self._console_fd)
        self._hub.forget(self._exit_fd)
        os.close(self._exit_fd)
        for ours in (self._control, *self._uarts.values()):
            self._hub.forget(ours.fileno())
            ours.close()

    def type_in(self, data: bytes) -> None:
        try:
            os.write(self._console_fd, data)
        except OSError:  # its buffer is full, or it has just ended: lost, as on any UART without flow control
            return

    def to_uart(self, number: int, data: bytes) -> None:
        try:
            self._uarts[number].send(data)
        except (BlockingIOError, ConnectionError):  # not read for long, or just ended
            return

    def take_uarts(self) -> None:
        for number in self._uarts:
            self._take_uart(number)

    def _drain_console(self) -> None:
        while True:
            try:
                data = os.read(self._console_fd, 4096)
            except OSError:  # empty, or the last writer is gone
                break
            self._on_console(data)
        if not self._over and self._hung_up():
            self._hub.forget(self._console_fd)  # it would be reported for ever

    def _hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self._console_fd, READ)
        return any(events & select.POLLHUP for _, events in poller.poll(0))

    def _take_messages(self) -> None:
        while not self._over:
            try:
                message = self._control.recv(_MESSAGE_MAX)
            except (BlockingIOError, ConnectionError):
                return
            if not message:  # the process has ended; its exit is reported apart
                self._hub.forget(self._control.fileno())
                return
            answer = self._on_command(message)
            if answer is not None and not self._over:
                self._answer(answer)

    def _answer(self, answer: int | bytes) -> None:
        """Bytes are announced by their number."""
        try:
            if isinstance(answer, bytes):
                self._control.send(b"%12d" % len(answer))
                self._control.send(answer)
            else:
                self._control.send(b"%12d" % answer)
        except ConnectionError:  # it did not live to hear it
            return

    def _take_uart(self, number: int) -> None:
        try:
            data = self._uarts[number].recv(4096)
        except (BlockingIOError, ConnectionError):
            return
        if data:
            self._on_uart(number, data)
        else:
            self._hub.forget(self._uarts[number].fileno())

    def _exited(self) -> None:
        self._take_messages()  # it may have asked for its end in its last moment
        if not self._over:
            self._drain_console()
            self._on_exit(self)


def _bytes(size: str) -> int:
    """ "160k" or "1m" as MicroPython takes it."""
    factor = {"k": 1024, "m": 1024 * 1024}.get(size[-1].lower(), 1)
    return int(size.rstrip("kKmM")) * factor
