"""The gateway's control socket from the bench's side: one JSON line there, one back.

A client of its own, because the bench does not import the gateway: the socket is what both agree on. It is found by the
configuration of the gateway on this machine.
"""

from __future__ import annotations

import json
import socket
import tomllib
from pathlib import Path
from typing import Any

from flash_tools.errors import AcceptanceError

SOCKET_NAME = "control.sock"
_TIMEOUT_S = 15.0
# The gateway answers a status of a thousand nodes with about 1 MB.
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Control:
    """Asks the gateway whose configuration is `config`."""

    def __init__(self, config: Path) -> None:
        try:
            table = tomllib.loads(config.read_text(encoding="utf-8")).get("gateway", {})
            data_dir = str(table.get("data_dir", "data"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError) as error:
            raise AcceptanceError(
                f"{config}: is not the configuration of a gateway ({error}). Run this on the gateway's machine and "
                "name its gateway.toml with --config"
            ) from error
        self.path = config.absolute().parent / data_dir / SOCKET_NAME

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """The reply; AcceptanceError with the gateway's own words when it refuses."""
        data = self._exchange(json.dumps({"operation": operation, **request}).encode() + b"\n")
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise AcceptanceError(
                "the gateway ended before it answered; start it and run this again"
            ) from error
        if "error" in answer:
            raise AcceptanceError(str(answer["error"]))
        reply: dict[str, Any] = answer["reply"]
        return reply

    def _exchange(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
            client.settimeout(_TIMEOUT_S)
            try:
                client.connect(str(self.path))
                client.sendall(line)
                client.shutdown(socket.SHUT_WR)
                data = b""
                while piece := client.recv(65536):
                    data += piece
                    if len(data) > _ANSWER_BYTES_MAX:
                        raise AcceptanceError(f"{self.path}: answers without an end; is it the gateway's?")
            except OSError as error:
                raise AcceptanceError(
                    f"no gateway answers at {self.path} ({error.strerror or error}). Start it with `tidegate gateway "
                    "run`, as the user who runs this, and run this again"
                ) from error
        return data
