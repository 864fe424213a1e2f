"""A real Mosquitto on loopback, and a TCP proxy in front of it that goes silent without closing anything."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from hil_tests.processes import spawn

CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 65536


class BrokerError(Exception):
    """The broker could not be started; the message says what to install or look at."""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mosquitto_path() -> str | None:
    """Debian puts it into /usr/sbin, which is not on every PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """One broker process in its own folder. Sessions survive ``stop()`` and ``start()``."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        # As root Mosquitto drops to its own user, which could not write its database into our folder.
        user = "user root\n" if os.geteuid() == 0 else ""
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{user}"
            f"persistence true\npersistence_location {folder}/\n"
            # The consumer of a test may be slower than the gateway: nothing may be dropped on its account.
            "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 0\n"
            f"log_dest file {folder}/mosquitto.log\n",
            encoding="utf-8",
        )

    def start(self) -> None:
        path = mosquitto_path()
        if path is None:
            raise BrokerError(
                "mosquitto is not installed: run `make test` once, or `apt-get install mosquitto`"
            )
        with (self.folder / "mosquitto.err").open("ab") as errors:
            command = [path, "-c", str(self.folder / "mosquitto.conf")]
            self._process = spawn(command, output=errors)
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None:
                said = "".join(
                    file.read_text(encoding="utf-8", errors="replace")
                    for file in sorted(self.folder.glob("mosquitto.[le]*"))
                )
                raise BrokerError(f"mosquitto ended with {self._process.returncode}: {said[-2000:]}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"mosquitto does not answer on port {self.port} after {CONNECT_TIMEOUT_S} s"
                )
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
            return True
        return False

    def stop(self) -> None:
        """SIGTERM, so that sessions and queued messages are saved."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=20)
        self._process = None


class Proxy:
    """Forwards TCP on loopback. ``silence()`` makes the network half-open: bytes vanish, nothing is reset."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._upstream_port = upstream_port
        self._silent = threading.Event()
        self._ended = threading.Event()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._waiting: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="mqtt-proxy", daemon=True)
        self._thread.start()

    def silence(self) -> None:
        """From now on every byte is swallowed; new connections are accepted, and get no answer."""
        self._silent.set()

    def restore(self) -> None:
        """The network is back. What was opened before or during the silence is dead, and is reset now."""
        self._silent.clear()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        was_silent = False
        while not self._ended.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                sock = key.fileobj
                if sock is self._listener:
                    self._accept()
                elif isinstance(sock, socket.socket):
                    self._forward(sock)
            silent = self._silent.is_set()
            if was_silent and not silent:
                self._drop_all()
            was_silent = silent
        self._drop_all()
        self._selector.close()
        self._listener.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        if self._silent.is_set():
            self._waiting.append(client)
            return
        try:
            upstream = socket.create_connection(("127.0.0.1", self._upstream_port), timeout=2)
        except OSError:
            client.close()
            return
        for one, other in ((client, upstream), (upstream, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        peer = self._peers.get(sock)
        if peer is None:
            return
        try:
            data = sock.recv(_CHUNK_BYTES)
            if data and not self._silent.is_set():
                peer.sendall(data)
        except OSError:
            data = b""
        if not data and not self._silent.is_set():
            self._drop(sock)
        elif not data:
            # Half-open: the other side must not learn of the end, but a closed socket is readable for ever.
            self._selector.unregister(sock)

    def _drop(self, sock: socket.socket) -> None:
        peer = self._peers.pop(sock, None)
        for end in (sock, peer):
            if end is None:
                continue
            self._peers.pop(end, None)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()

    def _drop_all(self) -> None:
        for sock in list(self._peers):
            self._drop(sock)
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()
