"""Connections of the HTTP client: used again while requests follow each other, and never at the price of an answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.errors import NorthboundError
from gateway.limits import HTTP_KEPT_MAX
from gateway.northbound.http_client import Answer, HttpClient
from gateway.tls_files import TlsFiles
from tests.certificates import authority, certificate

RESET = b""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Far:
    """A server that keeps connections: `answer(connection, request)`, both from 1, is what it says; None hangs up, and
    RESET does without a word to the end."""

    def __init__(self, answer: Callable[[int, int], bytes | None]) -> None:
        self.requests: list[tuple[int, int]] = []
        self.port = 0
        self.all_closed = asyncio.Event()
        self._open = 0
        self._answer = answer
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self._open += 1
        self.all_closed.clear()
        connection, number = self._connections, 0
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or b"0"))
                number += 1
                self.requests.append((connection, number))
                said = self._answer(connection, number)
                if said == RESET:
                    whole = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, whole)
                if not said:
                    break
                writer.write(said)
                await writer.drain()
        self._open -= 1
        if not self._open:
            self.all_closed.set()
        writer.close()


@asynccontextmanager
async def served(
    answer: Callable[[int, int], bytes | None] = lambda connection, number: OK,
) -> AsyncIterator[Far]:
    far = Far(answer)
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    far.port = server.sockets[0].getsockname()[1]
    yield far
    server.close()


async def post(client: HttpClient, far: Far) -> Answer:
    return await client.post(f"http://127.0.0.1:{far.port}/orders", b"{}")


def test_requests_that_follow_each_other_go_over_one_connection() -> None:
    async def scenario() -> None:
        async with served() as far:
            client = HttpClient(5.0, None, None)
            for _ in range(5):
                assert await post(client, far) == Answer(200, b"ok")
            await client.get(f"http://127.0.0.1:{far.port}/orders/TG1")
            assert far.requests == [(1, number) for number in range(1, 7)]

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["after its answer", "in the place of an answer", "reset in its place"])
def test_a_kept_connection_that_was_closed_costs_no_order(how: str) -> None:
    """Servers close what is idle as they like: just then the next request may be under way."""

    def answer(connection: int, number: int) -> bytes | None:
        gone = RESET if "reset" in how else None
        return gone if connection == 1 and number == 3 else OK

    async def scenario() -> None:
        async with served(answer) as far:
            client = HttpClient(5.0, None, None)
            for _ in range(2):
                await post(client, far)
            if how == "after its answer":
                (lines,) = client._kept.values()
                lines[0].reader.feed_eof()  # as asyncio does when the far side's FIN comes
            assert await post(client, far) == Answer(200, b"ok")
            expected = [(1, 1), (1, 2), (1, 3), (2, 1)] if "place" in how else [(1, 1), (1, 2), (2, 1)]
            assert far.requests == expected

    asyncio.run(scenario())


def test_a_new_connection_that_is_closed_without_an_answer_is_an_error_and_not_asked_for_ever() -> None:
    async def scenario() -> None:
        async with served(lambda connection, number: OK if connection == 1 and number == 1 else None) as far:
            client = HttpClient(5.0, None, None)
            await post(client, far)
            with pytest.raises(NorthboundError, match="closed without an answer"):
                await post(client, far)
            assert far.requests == [(1, 1), (1, 2), (2, 1)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,  # an answer that nobody asked for would be taken for the next one's
        OK + b"HTTP/1.1 2",
    ],
)
def test_a_connection_that_may_not_or_can_not_be_trusted_is_not_used_again(said: bytes) -> None:
    async def scenario() -> None:
        async with served(lambda connection, number: said) as far:
            client = HttpClient(5.0, None, None)
            for _ in range(3):
                assert await post(client, far) == Answer(200, b"ok")
            assert [request for _, request in far.requests] == [1, 1, 1]
            assert not client._kept
            async with asyncio.timeout(10):
                await far.all_closed.wait()

    asyncio.run(scenario())


def test_what_comes_over_a_quiet_connection_is_no_answer_to_the_next_request() -> None:
    async def scenario() -> None:
        async with served() as far:
            client = HttpClient(5.0, None, None)
            await post(client, far)
            (lines,) = client._kept.values()
            lines[0].reader.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
            assert await post(client, far) == Answer(200, b"ok")
            assert far.requests == [(1, 1), (2, 1)]

    asyncio.run(scenario())


def test_a_kept_connection_is_not_used_beyond_the_certificates_it_was_made_with(tmp_path: Path) -> None:
    """Renewed files: else a backlog that drains for hours would go on with what has ended."""
    authority(tmp_path)
    certificate(tmp_path, "localhost")
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    there.load_cert_chain(tmp_path / "localhost.pem", tmp_path / "localhost.key")

    async def scenario() -> None:
        far = Far(lambda connection, number: OK)
        server = await asyncio.start_server(far.serve, "127.0.0.1", 0, ssl=there)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/orders"
        client = HttpClient(5.0, None, TlsFiles("hotline", str(tmp_path / "ca.pem"), None, None, lambda: 0))
        for _ in range(2):
            await client.post(url, b"{}")
        text = (tmp_path / "ca.pem").read_text(encoding="ascii")
        (tmp_path / "ca.pem").write_text(text + "\n", encoding="ascii")
        for _ in range(2):
            await client.post(url, b"{}")
        assert far.requests == [(1, 1), (1, 2), (2, 1), (2, 2)]
        server.close()

    asyncio.run(scenario())


def test_connections_are_bounded_and_let_go_when_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.northbound.http_client.HTTP_KEPT_S", 0.05)

    async def scenario() -> None:
        async with served() as far:
            client, most = HttpClient(5.0, None, None), 0
            requests = asyncio.gather(*(post(client, far) for _ in range(2 * HTTP_KEPT_MAX)))
            async with asyncio.timeout(10):
                while client._kept or not requests.done():
                    most = max(most, *(len(lines) for lines in client._kept.values()), 0)
                    await asyncio.sleep(0)
                await far.all_closed.wait()
            assert 1 < most <= HTTP_KEPT_MAX

    asyncio.run(scenario())


def test_a_request_that_is_cut_off_leaves_no_connection_behind() -> None:
    """Half an answer may still be under way on it."""

    async def scenario() -> None:
        async with served(lambda connection, number: OK if number == 1 else OK[:-1]) as far:
            client = HttpClient(0.2, None, None)
            await post(client, far)
            with pytest.raises(NorthboundError, match="no answer within"):
                await post(client, far)
            assert not client._kept
            assert far.requests == [(1, 1), (1, 2)]
            async with asyncio.timeout(10):
                await far.all_closed.wait()

    asyncio.run(scenario())
