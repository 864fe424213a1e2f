"""The doors of a whole gateway: every route wants a token, a path is a name, and nobody can hold them shut."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from pathlib import Path

import pytest

from gateway import limits
from gateway.config import Config
from gateway.daemon import Gateway
from gateway.operations import LOOKS
from gateway.tokens import ADMIN, VIEWER
from gateway.web import HttpServer
from tests.certificates import authority, certificate
from tests.gateway.desk import BY
from tests.gateway.test_daemon import running, write_config

API = "[api]\nport = 0\n"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def server_of(gateway: Gateway) -> HttpServer:
    part = next(part for part in gateway.parts if part.name == "api")
    server = part.run.__self__  # type: ignore[attr-defined]
    assert isinstance(server, HttpServer)
    return server


async def listening(gateway: Gateway) -> HttpServer:
    server = server_of(gateway)
    async with asyncio.timeout(10):
        while not server.port:  # noqa: ASYNC110 - the daemon hands no event out, and it is a turn or two of the loop
            await asyncio.sleep(0)
    return server


async def status_of(port: int, method: str, target: str, *headers: str, body: bytes = b"") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"{method} {target} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(head).encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


def test_no_route_answers_without_a_token_that_is_good(tmp_path: Path) -> None:
    """Every operation that there is, by every method: those of parts that came later, too."""

    async def scenario() -> None:
        async with running(write_config(tmp_path, API)) as gateway:
            port = (await listening(gateway)).port
            good = await gateway.tokens.add("page", ADMIN, 1, BY)
            gone = await gateway.tokens.add("gone", ADMIN, 1, BY)
            await gateway.tokens.revoke("gone", BY)
            ways: list[tuple[str, ...]] = [
                (),
                ("Authorization: Bearer tg_0123456789abcdef",),
                (f"Authorization: Bearer {gone}",),
                (f"Authorization: Basic {good}",),
                (f"Authorization: {good}",),
                (f"X-Token: {good}", f"Cookie: token={good}"),
            ]
            assert len(gateway.operations.names) > 25
            count = 0
            for name in ("", *gateway.operations.names, "nothing.there", "../status", "%2e%2e/status"):
                for method in METHODS:
                    way = ways[count % len(ways)]
                    assert await status_of(port, method, f"/api/v1/{name}", *way) == 401, (method, name, way)
                    count += 1
                for way in ways:
                    assert await status_of(port, "GET", f"/api/v1/{name}?token={good}", *way) == 401
                    count += 1
            assert await status_of(port, "GET", "/api/v1", f"Authorization: Bearer {good}") == 200
            print(f"operations={len(gateway.operations.names)} requests={count} refused={count}")

    asyncio.run(scenario())


def test_a_token_of_the_least_role_changes_nothing_by_any_route(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(write_config(tmp_path, API)) as gateway:
            port = (await listening(gateway)).port
            viewer = f"Authorization: Bearer {await gateway.tokens.add('page', VIEWER, 1, BY)}"
            before = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM audit").fetchone())
            for name in gateway.operations.names:
                if name in LOOKS:
                    continue
                status = 429
                while status == 429:  # it asks faster than one token may
                    status = await status_of(port, "POST", f"/api/v1/{name}", viewer, body=b'{"why": "me"}')
                assert status in (403, 404), name
            after = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM audit").fetchone())
            assert before == after

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path",
    ["/api/v1/../../etc/passwd", "/api/v1/%2e%2e/status", "//api/v1/status", "/api/v1/status/", "/api/v1/status%00",
     "/api/v1/STATUS", "/api/v2/status", "/", "http://elsewhere/api/v1/status"],
)  # fmt: skip
def test_a_path_is_a_name_and_nothing_else(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with running(write_config(tmp_path, API)) as gateway:
            port = (await listening(gateway)).port
            token = await gateway.tokens.add("page", ADMIN, 1, BY)
            assert await status_of(port, "GET", path, f"Authorization: Bearer {token}") == 404

    asyncio.run(scenario())


def test_what_is_for_this_machine_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(write_config(tmp_path, API)):
            data = tmp_path / "data"
            async with asyncio.timeout(10):
                while not (data / "control.sock").exists():  # noqa: ASYNC110 - a turn or two of the loop
                    await asyncio.sleep(0)
            modes = {path.name: stat.S_IMODE(os.stat(path).st_mode) for path in (data, *data.iterdir())}
            assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}

    asyncio.run(scenario())


# --- whoever comes and says nothing, or very slowly ------------------------------------------------


def secured(folder: Path) -> Config:
    authority(folder)
    certificate(folder, "localhost")
    return write_config(folder, API + 'cert_file = "localhost.pem"\nkey_file = "localhost.key"\n')


async def asked_by_tls(folder: Path, port: int, token: str) -> bytes:
    trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
    )
    writer.write(f"GET /api/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def test_who_connects_and_says_no_hello_is_one_of_few_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred sockets that never begin TLS: few are kept, for a short time, and then the door is open again."""
    monkeypatch.setattr(limits, "HTTP_TIMEOUT_S", 0.5)

    async def scenario() -> None:
        async with running(secured(tmp_path)) as gateway:
            server = await listening(gateway)
            token = await gateway.tokens.add("page", VIEWER, 1, BY)
            idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
            ends = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in idle)), 20)
            assert ends == [b""] * 100, "each was hung up on"
            for _, writer in idle:
                writer.close()
            assert server.counters["refused"] == 100
            assert (await asked_by_tls(tmp_path, server.port, token)).startswith(b"HTTP/1.1 200")

    asyncio.run(scenario())


def test_a_request_that_drips_in_is_cut_off_and_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_TIMEOUT_S", 0.3)

    async def drip(port: int) -> int:
        """One byte after the other, for as long as it is let."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0
        gone = asyncio.ensure_future(reader.read())
        writer.write(b"GET /api/v1 HTTP/1.1\r\n")
        while not gone.done() and sent < 1_000_000:
            writer.write(b"X-Slow: 1\r\n" if sent % 400 == 0 else b"")
            sent += 1
            await asyncio.wait({gone}, timeout=0.01)
        writer.close()
        assert b"200" not in await gone
        return sent

    async def scenario() -> None:
        async with running(write_config(tmp_path, API)) as gateway:
            server = await listening(gateway)
            token = await gateway.tokens.add("page", VIEWER, 1, BY)
            slow = [asyncio.create_task(drip(server.port)) for _ in range(limits.HTTP_CONNECTIONS_MAX - 1)]
            assert await status_of(server.port, "GET", "/api/v1", f"Authorization: Bearer {token}") == 200
            await asyncio.wait_for(asyncio.gather(*slow), 20)
            assert server.counters["refused"] >= len(slow)

    asyncio.run(scenario())


# --- who we speak to ------------------------------------------------------------------------------


def test_nothing_of_ours_can_be_told_not_to_check_a_certificate() -> None:
    """No key of the configuration does it, and no line of the gateway."""
    root = Path(__file__).resolve().parents[2]
    words = (
        "CERT_" + "NONE",
        "check_hostname = " + "False",
        "verify=" + "False",
        "_create_unverified" + "_context",
    )
    lines = [
        f"{path.relative_to(root)}: {word}"
        for folder in ("gateway", "protocols", "flash_tools")
        for path in (root / folder).rglob("*.py")
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert lines == []
    names = str(Config.model_json_schema())
    assert [word for word in ("insecure", "verify", "unverified", "skip_") if word in names] == []
