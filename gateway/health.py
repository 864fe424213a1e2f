"""/healthz, /readyz and /metrics over HTTP/1.1: three pages, no body read, one request a connection.

healthz answers 503 while a part is stalled: restarting may help. readyz answers 503 while the gateway
cannot do its job, with the reasons: restarting will not. metrics is the Prometheus text format
(metrics.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway import limits
from gateway.log import Logger
from gateway.parts import guard


class Page(NamedTuple):
    status: int
    content_type: str
    body: bytes


REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def json_page(status: int, content: dict[str, Any]) -> Page:
    """A page for people with curl and for load balancers."""
    return Page(status, "application/json", json.dumps(content, indent=1).encode() + b"\n")


class HealthServer:
    """Serves `pages`, path → function that makes the page."""

    def __init__(
        self,
        address: str,
        port: int,
        pages: dict[str, Callable[[], Page]],
        log: Logger,
        *,
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._asked_port = port
        self.pages = pages
        self._on_listening = on_listening
        self._log = log
        self._connections = 0
        self.port = 0
        self.counters = {"requests": 0, "refused": 0}

    async def run(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(
            self._client, self._address, self._asked_port, limit=limits.HTTP_HEAD_BYTES_MAX
        )
        self.port = server.sockets[0].getsockname()[1]
        self._log.info("health_listens", address=self._address, port=self.port)
        self._on_listening()
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > limits.HTTP_CONNECTIONS_MAX:
                self.counters["refused"] += 1
                return
            if not await guard(self._serve(reader, writer), self._log, "health_failed"):
                self.counters["refused"] += 1
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(limits.HTTP_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.counters["refused"] += 1

    def _answer(self, head: bytes) -> bytes:
        method, page = self._page(head)
        if page.status in (400, 404, 405):
            self.counters["refused"] += 1
        else:
            self.counters["requests"] += 1
        lines = (
            f"HTTP/1.1 {page.status} {REASONS[page.status]}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else page.body)

    def _page(self, head: bytes) -> tuple[bytes, Page]:
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return b"", json_page(400, {"error": "not an HTTP/1 request"})
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return method, json_page(405, {"error": "allowed are GET and HEAD"})
        make = self.pages.get(target.partition(b"?")[0].decode("latin-1"))
        if make is None:
            return method, json_page(404, {"error": "no such page", "pages": list(self.pages)})
        return method, make()
