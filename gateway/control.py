"""The control socket: how a command line asks the running daemon, which alone writes to the database.

A unix socket of mode 0600 in the data directory; one JSON line in, one JSON line out. Who asks is what
the kernel says of the peer, so the audit log cannot be told another name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import Any

from gateway import limits
from gateway.errors import ControlError, GatewayError
from gateway.log import Logger
from gateway.operations import LOOKS, Operations, Reply, Request, answer
from gateway.parts import guard

SOCKET_NAME = "control.sock"


class ControlServer:
    """Serves `operations` at `path`."""

    def __init__(self, path: Path, operations: Operations, log: Logger) -> None:
        self._path = path
        self._operations = operations
        self._log = log
        self._clients = 0
        self.counters = {"requests": 0, "refused": 0}

    async def run(self) -> None:
        """Serve until cancelled. A socket left by a killed daemon is replaced: the data directory's lock is ours."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        old_mask = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        except OSError as exc:
            listener.close()
            raise ControlError(
                f"{self._path}: cannot be made: {exc}. Is the path of data_dir very long?"
            ) from exc
        finally:
            os.umask(old_mask)
        server = await asyncio.start_unix_server(
            self._client, sock=listener, limit=limits.CONTROL_REQUEST_BYTES_MAX
        )
        try:
            async with server:
                await server.serve_forever()
        finally:
            with contextlib.suppress(
                OSError
            ):  # gone, or on a disk that takes nothing: the next start replaces it
                os.unlink(self._path)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > limits.CONTROL_CONNECTIONS_MAX:
                self.counters["refused"] += 1
                return
            if not await guard(self._serve(reader, writer), self._log, "control_failed"):
                self.counters["refused"] += 1
        finally:
            self._clients -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(limits.CONTROL_TIMEOUT_S):
                writer.write(await self._reply(reader, writer))
                await writer.drain()
        except (OSError, TimeoutError):
            self.counters["refused"] += 1

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        who = peer_name(writer.get_extra_info("socket"))
        try:
            request: Any = json.loads(await reader.readline())
        except (ValueError, RecursionError):  # readline: ValueError beyond the limit
            request = None
        if not isinstance(request, dict):
            self.counters["refused"] += 1
            return _line({"error": "not a JSON object in one line within the limit", "exit_code": 1})
        self.counters["requests"] += 1
        operation = str(request.get("operation"))[:40]
        if operation not in LOOKS:  # who waits for an answer asks five times a second
            self._log.info("control", operation=operation, who=who)
        return _line(await answer(self._operations, request, who))


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def peer_name(peer: socket.socket) -> str:
    """The login name behind a unix socket, by the kernel's account."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return user_name(uid)


def user_name(uid: int) -> str:
    """The login name of `uid`; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def ask(data_dir: Path, request: Request) -> Reply | None:
    """Send `request` to the daemon of `data_dir`. None when none is listening; GatewayError when it refuses."""
    path = data_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(limits.CONTROL_TIMEOUT_S)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as exc:
            raise ControlError(
                f"{path}: {exc.strerror or exc}. Run this as the user of the gateway, or as root."
            ) from exc
        try:
            client.sendall(_line(request))
            client.shutdown(socket.SHUT_WR)
            data = _read_all(client)
        except OSError as exc:
            raise ControlError(
                f"the gateway did not answer within {limits.CONTROL_TIMEOUT_S:.0f} s: {exc}"
            ) from exc
    try:
        answered = json.loads(data)
    except ValueError as exc:
        raise ControlError(
            "the gateway ended before it answered; `tidegate gateway status` tells more."
        ) from exc
    if "error" in answered:
        error = GatewayError(answered["error"])
        error.exit_code = answered.get("exit_code", 1)
        raise error
    reply: Reply = answered["reply"]
    return reply


def _read_all(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
