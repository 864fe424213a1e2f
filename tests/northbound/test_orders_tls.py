"""Orders over real TLS: who the platform is, is checked; who we are, is shown; and files are renewed under way."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.errors import ConfigError, NorthboundError
from gateway.northbound.http_client import HttpClient
from gateway.tls_files import TlsFiles
from hil_tests.order_page import OrderServer
from hil_tests.world.order_desk import OrderDesk
from protocols.northbound import work_order
from tests.certificates import authority, certificate

BODY = work_order.encode(
    work_order.Order("TG1", "s", "c", "p", "a", "2026-01-01 00:00:00", "2026-01-02", 0, "event", "gw")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and what the first signed."""
    folder = tmp_path_factory.mktemp("ca")
    authority(folder)
    for name in ("localhost", "platform.example", "gateway", "gateway-2"):
        certificate(folder, name)
    certificate(folder, "old", valid=timedelta(days=-3))
    other = folder / "other"
    other.mkdir()
    authority(other)
    certificate(other, "stranger")
    return folder


@asynccontextmanager
async def platform(cert: Path, desk: OrderDesk, clients: Path | None = None) -> AsyncIterator[int]:
    """A desk that shows that certificate and, where `clients` is an authority, wants one by it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, cert.with_suffix(".key"))
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    server = OrderServer(desk, structlog.get_logger(), tls=context)
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    yield server.port
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def files(ca: Path | None, cert: Path | None = None, key: Path | None = None) -> TlsFiles:
    told = [None if file is None else str(file) for file in (ca, cert, key)]
    return TlsFiles("work_orders hotline", *told, lambda: int(time.time() * 1000))


async def post(port: int, tls: TlsFiles | None, host: str = "127.0.0.1") -> None:
    answer = await HttpClient(5.0, "secret", tls).post(f"https://{host}:{port}/orders?key=hidden", BODY)
    assert work_order.refusal(answer.status, answer.body) is None


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_an_order_reaches_a_platform_whose_certificate_is_good(made: Path) -> None:
    async def story() -> None:
        desk = OrderDesk()
        async with platform(made / "localhost.pem", desk) as port:
            await post(port, files(made / "ca.pem"), "localhost")
            await post(port, files(made / "ca.pem"))
        assert list(desk.orders) == ["TG1"]

    run(story())


@pytest.mark.parametrize(
    ("cert", "ca", "host", "told"),
    [
        (
            "platform.example.pem",
            "ca.pem",
            "localhost",
            r"is not trusted: .* in `url` must be one",
        ),
        ("old.pem", "ca.pem", "127.0.0.1", "expired.* owner must renew"),
        ("other/stranger.pem", "ca.pem", "127.0.0.1", "is not trusted: .* signed it: ca_file"),
        ("localhost.pem", None, "localhost", "is not trusted: .* signed it: ca_file"),
    ],
)
def test_a_platform_that_can_not_show_who_it_is_gets_neither_order_nor_token(
    made: Path, cert: str, ca: str | None, host: str, told: str
) -> None:
    """The default, without ca_file, trusts what the system trusts, and never simply everybody."""

    async def story() -> None:
        desk = OrderDesk()
        async with platform(made / cert, desk) as port:
            with pytest.raises(NorthboundError, match=told) as caught:
                await post(port, files(None if ca is None else made / ca), host)
        assert desk.counters["posts"] == 0
        assert "hidden" not in str(caught.value)
        assert "secret" not in str(caught.value)

    run(story())


def test_a_platform_that_wants_a_certificate_of_ours_gets_it(made: Path) -> None:
    async def story() -> None:
        desk = OrderDesk()
        async with platform(made / "localhost.pem", desk, made / "ca.pem") as port:
            await post(port, files(made / "ca.pem", made / "gateway.pem", made / "gateway.key"))
            wrong = {
                None: "wants a certificate",
                "other/stranger.pem": "who signed",
                "old.pem": "ended 3 days ago",
            }
            for name, told in wrong.items():
                cert = None if name is None else made / name
                key = None if cert is None else cert.with_suffix(".key")
                with pytest.raises(NorthboundError, match=told):
                    await post(port, files(made / "ca.pem", cert, key))
        assert desk.counters["posts"] == 1

    run(story())


def test_files_that_are_renewed_are_used_with_the_next_order_and_half_written_ones_are_not(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        desk = OrderDesk()
        mine = [tmp_path / name for name in ("ca.pem", "my.pem", "my.key")]
        for source, file in zip((made / "ca.pem", made / "old.pem", made / "old.key"), mine, strict=True):
            shutil.copy(source, file)
        tls = files(*mine)
        async with platform(made / "localhost.pem", desk, made / "ca.pem") as port:
            with pytest.raises(NorthboundError):
                await post(port, tls)
            shutil.copy(made / "gateway.pem", mine[1])  # the key is still the old one's
            with pytest.raises(NorthboundError):
                await post(port, tls)
            assert "are used until then" in caplog.text
            shutil.copy(made / "gateway.key", mine[2])
            await post(port, tls)
            mine[0].write_text("nothing")  # who renews the authorities is half way, too
            await post(port, tls)
        async with platform(made / "other" / "stranger.pem", desk) as port:
            with pytest.raises(NorthboundError, match="is not trusted"):
                await post(port, tls)
            shutil.copy(made / "other" / "ca.pem", mine[0])
            await post(port, tls)
        assert desk.counters["posts"] == 3

    run(story())


def test_a_file_that_can_not_be_used_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"work_orders hotline: .* ca_file .*gone.pem: No such file"):
        files(tmp_path / "gone.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        files(made / "ca.pem", made / "gateway.pem", made / "gateway-2.key")


def test_https_without_anything_to_check_it_with_is_refused(made: Path) -> None:
    async def story() -> None:
        async with platform(made / "localhost.pem", OrderDesk()) as port:
            with pytest.raises(NorthboundError, match="nothing to check"):
                await post(port, None)

    run(story())
