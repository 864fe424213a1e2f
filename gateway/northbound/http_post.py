"""One POST over HTTP/1.1, with h11 on asyncio's streams: a connection for each, a time limit and a bound on the answer.

Alarms are few: a pool would be more to go wrong. Certificates are checked, redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from gateway.errors import NorthboundError
from gateway.limits import HTTP_ANSWER_BYTES_MAX

_CHUNK = 16_384


class Answer(NamedTuple):
    status: int
    body: bytes


class HttpPoster:
    """`post(url, body)`. Raises NorthboundError when there was no whole answer in time."""

    def __init__(self, timeout_s: float, token: str | None, tls: ssl.SSLContext | None) -> None:
        self._timeout_s = timeout_s
        self._token = token
        self._tls = tls

    async def post(self, url: str, body: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(url, body)
        except TimeoutError as exc:
            raise NorthboundError(f"{_shown(url)}: no answer within {self._timeout_s:g} s") from exc
        except (OSError, h11.ProtocolError) as exc:
            raise NorthboundError(f"{_shown(url)}: {str(exc) or type(exc).__name__}") from exc

    async def _exchange(self, url: str, body: bytes) -> Answer:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        host = parts.hostname or ""
        reader, writer = await asyncio.open_connection(host, port, ssl=self._tls if is_tls else None)
        try:
            http = h11.Connection(h11.CLIENT)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            shown = f"[{host}]" if ":" in host else host
            headers = [
                ("Host", shown if parts.port is None else f"{shown}:{port}"),
                ("Content-Type", "application/json; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            if self._token is not None:
                headers.append(("Authorization", f"Bearer {self._token}"))
            request = h11.Request(method="POST", target=target, headers=headers)
            for event in (request, h11.Data(data=body), h11.EndOfMessage()):
                writer.write(http.send(event) or b"")
            await writer.drain()
            return await _answer(http, reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                writer.transport.abort()


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    status, body, received = 0, bytearray(), 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            received += len(data)
            if received > 2 * HTTP_ANSWER_BYTES_MAX:
                raise OSError(f"an answer of more than {HTTP_ANSWER_BYTES_MAX} bytes")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > HTTP_ANSWER_BYTES_MAX:
                raise OSError(f"an answer of more than {HTTP_ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            if not status:
                raise OSError("the connection was closed without an answer")
            return Answer(status, bytes(body))


def _shown(url: str) -> str:
    """Without its query: some platforms have their users put a key there."""
    return url.partition("?")[0]
