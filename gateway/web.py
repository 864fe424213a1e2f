"""HTTP/1.1 for the gateway's pages and its API: h11 knows the protocol, this file bounds what a client may cost.

One request a connection, so a client is one socket, one task and at most one body, all of them with a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import h11

from gateway import limits
from gateway.log import Logger
from gateway.parts import guard

_CHUNK = 65536


class Request(NamedTuple):
    """What a client asked. Names of headers are lower case; of a header that came twice, the last counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: str


class Page(NamedTuple):
    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


NO_PAGE = Page(404, "text/plain", b"")
Handler = Callable[[Request], Awaitable[Page]]


class Refused(Exception):
    """A request that is answered before anybody reads it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def json_page(status: int, content: Any, *headers: tuple[str, str]) -> Page:
    """A page for programs, and for people with curl."""
    return Page(
        status,
        "application/json",
        json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n",
        headers,
    )


class HttpServer:
    """Serves `handle` at an address. `name` is what its lines in the log begin with."""

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        handle: Handler,
        log: Logger,
        *,
        tls: ssl.SSLContext | None = None,
        body_bytes_max: int = 0,
        connections_max: int = limits.HTTP_CONNECTIONS_MAX,
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._address = address
        self._asked_port = port
        self._handle = handle
        self._log = log
        self._tls = tls
        self._body_bytes_max = body_bytes_max
        self._connections_max = connections_max
        self._on_listening = on_listening
        self._connections = 0
        self.port = 0
        self.counters = {"requests": 0, "refused": 0}

    async def run(self) -> None:
        """Serve until cancelled."""
        # Without TLS at first: who only connects, and never says hello, counts as well.
        server = await asyncio.start_server(self._client, self._address, self._asked_port, limit=_CHUNK)
        self.port = server.sockets[0].getsockname()[1]
        self._log.info(f"{self._name}_listens", address=self._address, port=self.port)
        self._on_listening()
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > self._connections_max:
                self.counters["refused"] += 1
                return
            if self._tls is not None and not await self._is_private(writer):
                self.counters["refused"] += 1
                return
            if not await guard(self._serve(reader, writer), self._log, f"{self._name}_failed"):
                self.counters["refused"] += 1
        finally:
            self._connections -= 1
            writer.close()

    async def _is_private(self, writer: asyncio.StreamWriter) -> bool:
        """Whether a client could agree with us on how to speak."""
        try:
            await writer.start_tls(self._tls, ssl_handshake_timeout=limits.HTTP_TIMEOUT_S)  # type: ignore[arg-type]
        except (OSError, ssl.SSLError, TimeoutError):
            return False
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX)
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        try:
            request, page = await self._read(http, reader, writer, peer)
            if request is not None:
                async with asyncio.timeout(limits.CONTROL_TIMEOUT_S):
                    page = await self._handle(request)
            self.counters["refused" if page.status in _REFUSALS else "requests"] += 1
            async with asyncio.timeout(limits.HTTP_TIMEOUT_S):
                _send(http, writer, page, has_body=request is None or request.method != "HEAD")
                await writer.drain()
                await _let_go(http, reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError):
            self.counters["refused"] += 1

    async def _read(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> tuple[Request | None, Page]:
        """The request, or what is answered to something else."""
        try:
            async with asyncio.timeout(limits.HTTP_TIMEOUT_S):
                return await self._request(http, reader, writer, peer), NO_PAGE
        except Refused as exc:
            return None, json_page(exc.status, {"error": str(exc)})
        except h11.RemoteProtocolError as exc:
            return None, json_page(exc.error_status_hint, {"error": f"not an HTTP/1.1 request: {exc}"})

    async def _request(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> Request:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                size = limits.HTTP_HEAD_BYTES_MAX if head is None else _CHUNK
                http.receive_data(await reader.read(size))
            elif isinstance(event, h11.Request):
                head = event
                self._check(head)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._body_bytes_max:
                    raise Refused(413, f"a body has at most {self._body_bytes_max} bytes here")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode(), headers, bytes(body), peer)
            else:  # it closed, or wants what we do not speak
                raise ConnectionResetError

    def _check(self, head: h11.Request) -> None:
        if not head.http_version.startswith(b"1."):
            raise Refused(505, "allowed is HTTP/1.1")
        for name, value in head.headers:
            if name == b"content-length" and int(value) > self._body_bytes_max:
                raise Refused(413, f"a body has at most {self._body_bytes_max} bytes here")


# What is no answer to a question: neither done nor told why the gateway can not.
_REFUSALS = frozenset((400, 401, 403, 404, 405, 409, 413, 429, 431, 505))


def _send(http: h11.Connection, writer: asyncio.StreamWriter, page: Page, *, has_body: bool) -> None:
    headers = [
        ("Content-Type", page.content_type),
        ("Content-Length", str(len(page.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
        *page.headers,
    ]
    answer = h11.Response(status_code=page.status, headers=headers, reason=HTTPStatus(page.status).phrase)
    writer.write(http.send(answer) or b"")
    if has_body:
        writer.write(http.send(h11.Data(data=page.body)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")


async def _let_go(http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on what a refused client still sends: closing at once would take the answer away from it."""
    if http.their_state is h11.SEND_BODY and writer.can_write_eof():
        writer.write_eof()
        with contextlib.suppress(OSError):
            left = limits.HTTP_LINGER_BYTES_MAX
            while left > 0 and (data := await reader.read(_CHUNK)):
                left -= len(data)
