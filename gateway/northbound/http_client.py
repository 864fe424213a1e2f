"""Requests over HTTP/1.1, with h11 on asyncio's streams: a time limit, and a bound on the answer.

A connection is used again while requests follow each other closely, as when days of orders drain, and closed when
none comes for a moment: between two alarms nothing is held open. Certificates are checked, redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from gateway.errors import NorthboundError
from gateway.limits import HTTP_ANSWER_BYTES_MAX, HTTP_ETAG_BYTES_MAX, HTTP_KEPT_MAX, HTTP_KEPT_S
from gateway.tls_files import TlsFiles, distrust

_CHUNK = 16_384


class Answer(NamedTuple):
    """``etag``: as it came, "" when there was none or one that is too long to keep."""

    status: int
    body: bytes
    etag: str = ""


class _Closed(OSError):
    """In the place of an answer."""


class _Line:
    """One connection, and what h11 knows of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self.reader = reader
        self.writer = writer
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is quiet and open, as far as is known here."""
        heard = self.reader._buffer  # type: ignore[attr-defined]  # what nobody asked for; there is no other way to see it
        return not (heard or self.reader.at_eof() or self.writer.transport.is_closing())

    def close(self) -> None:
        self.writer.close()
        self.writer.transport.abort()


# To whom a connection leads, and by which certificates: renewed ones are used from the next request on.
_Way = tuple[str, int, ssl.SSLContext | None]


class HttpClient:
    """`post` and `get`. Both raise NorthboundError when there was no whole answer in time.

    A far side may close a kept connection just as a request goes; that one is sent again over a new one, so it may
    arrive twice: what is posted here has a code of its own by which copies are dropped.
    """

    def __init__(self, timeout_s: float, token: str | None, tls: TlsFiles | None) -> None:
        self._timeout_s = timeout_s
        self._token = token
        self._tls = tls
        self._kept: dict[_Way, list[_Line]] = {}

    async def post(self, url: str, body: bytes) -> Answer:
        headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        return await self._in_time("POST", url, headers, body)

    async def get(self, url: str, etag: str = "") -> Answer:
        """With the etag of the last answer a far side may say 304: nothing new."""
        headers = [("Accept", "application/json")] + ([("If-None-Match", etag)] if etag else [])
        return await self._in_time("GET", url, headers, b"")

    async def _in_time(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(method, url, headers, body)
        except TimeoutError as exc:
            raise NorthboundError(f"{shown(url)}: no answer within {self._timeout_s:g} s") from exc
        except ssl.SSLCertVerificationError as exc:
            raise NorthboundError(f"{shown(url)} {distrust(exc, 'url')}") from exc
        except ssl.SSLError as exc:
            told = f"TLS: {exc.reason or exc}".replace("_", " ").lower()
            raise NorthboundError(f"{shown(url)}: {told}{self._remark()}") from exc
        except _Closed as exc:
            raise NorthboundError(f"{shown(url)}: {exc}{self._remark()}") from exc
        except (OSError, h11.ProtocolError) as exc:
            raise NorthboundError(f"{shown(url)}: {str(exc) or type(exc).__name__}") from exc

    def _remark(self) -> str:
        """What may explain that the far side does not want us."""
        if self._tls is None:
            return ""
        if self._tls.days_left() is None:
            return ". Perhaps it wants a certificate of this gateway: cert_file and key_file"
        return self._tls.remark() or ". Perhaps it does not know who signed this gateway's certificate"

    async def _exchange(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        if is_tls and self._tls is None:
            raise OSError("there is nothing to check its certificate with")
        host = parts.hostname or ""
        tls = self._tls.context() if is_tls and self._tls is not None else None
        way = host, parts.port or (443 if is_tls else 80), tls
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        address = f"[{host}]" if ":" in host else host
        about = [("Host", address if parts.port is None else f"{address}:{parts.port}")]
        if self._token is not None:
            about.append(("Authorization", f"Bearer {self._token}"))
        request = h11.Request(method=method, target=target, headers=[*about, *headers])
        while (line := self._take_kept(way)) is not None:
            try:
                return await self._ask(way, line, request, body)
            except (_Closed, ConnectionError):
                continue  # it was closed there while nothing was said
        reader, writer = await asyncio.open_connection(*way[:2], ssl=tls)
        return await self._ask(way, _Line(reader, writer), request, body)

    async def _ask(self, way: _Way, line: _Line, request: h11.Request, body: bytes) -> Answer:
        """Over that line, which is kept or closed then."""
        is_kept = False
        try:
            parts = (request, *([h11.Data(data=body)] if body else ()), h11.EndOfMessage())
            line.writer.write(b"".join(line.http.send(part) or b"" for part in parts))
            await line.writer.drain()
            answer = await _answer(line.http, line.reader)
            is_kept = self._keep(way, line)
            return answer
        finally:
            if not is_kept:
                line.close()

    def _take_kept(self, way: _Way) -> _Line | None:
        lines = self._kept.pop(way, [])
        while lines:
            line = lines.pop()
            if line.expiry is not None:
                line.expiry.cancel()
            if line.is_good:
                if lines:
                    self._kept[way] = lines
                return line
            line.close()
        return None

    def _keep(self, way: _Way, line: _Line) -> bool:
        """Whether it is kept: the far side wants that, and it said no more than it was asked for."""
        http = line.http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE or http.trailing_data[0]:
            return False
        lines = self._kept.setdefault(way, [])
        if len(lines) >= HTTP_KEPT_MAX:
            return False
        http.start_next_cycle()
        lines.append(line)
        line.expiry = asyncio.get_running_loop().call_later(HTTP_KEPT_S, self._expire, way, line)
        return True

    def _expire(self, way: _Way, line: _Line) -> None:
        lines = self._kept.get(way, [])
        if line in lines:
            lines.remove(line)
        if not lines:
            self._kept.pop(way, None)
        line.close()


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    status, body, received, etag = 0, bytearray(), 0, ""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            if (
                not data and not status
            ):  # over TLS, that is how some refuse who shows no certificate that they know
                raise _Closed("the connection was closed without an answer")
            received += len(data)
            if received > 2 * HTTP_ANSWER_BYTES_MAX:
                raise OSError(f"an answer of more than {HTTP_ANSWER_BYTES_MAX} bytes")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            status, etag = event.status_code, _etag(event)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > HTTP_ANSWER_BYTES_MAX:
                raise OSError(f"an answer of more than {HTTP_ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return Answer(status, bytes(body), etag)


def _etag(response: h11.Response) -> str:
    value = dict(response.headers).get(b"etag", b"")
    if len(value) > HTTP_ETAG_BYTES_MAX or not value.isascii():
        return ""
    return value.decode()


def shown(url: str) -> str:
    """Without its query: some platforms have their users put a key there."""
    return url.partition("?")[0]
