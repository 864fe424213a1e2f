"""A daemon whose certificate at the order desk has ended: what is owed goes as soon as a renewed one is there."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import structlog

from gateway import alarm_rows
from gateway.alarm_rows import Alarm
from gateway.daemon import Gateway
from hil_tests.order_page import OrderServer
from hil_tests.world.order_desk import OrderDesk
from tests.certificates import authority, certificate
from tests.gateway.test_daemon_process import CONFIG
from tests.gateway.test_reload import living


@contextmanager
def heard(text: str) -> Iterator[asyncio.Event]:
    """Set when a line of the delivery's log has it."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                loop.call_soon_threadsafe(event.set)

    ear, logger = Ear(), logging.getLogger("gateway.northbound.work_orders")
    logger.addHandler(ear)
    try:
        yield event
    finally:
        logger.removeHandler(ear)


async def raise_alarm(gateway: Gateway, seq: int) -> None:
    now_ms = int(time.time() * 1000)

    def write(connection: sqlite3.Connection) -> None:
        number = alarm_rows.insert(
            connection,
            Alarm(0, "cover_open", "lid-1", "330106", 0x12, 1, seq, 3, "40", now_ms, now_ms, None, 0, 0, 0, None, None,
                  None, 0),
        )  # fmt: skip
        alarm_rows.change(connection, number, "raised", now_ms, 0)

    await gateway.store.write(write)


def table(folder: Path, port: int) -> str:
    files = "".join(f'{key} = "{folder / name}"\n' for key, name in FILES.items())
    return f'[[work_orders]]\nname = "hotline"\nurl = "https://127.0.0.1:{port}/orders"\n{files}'


FILES = {"ca_file": "ca.pem", "cert_file": "my.pem", "key_file": "my.key"}


def test_a_daemon_whose_certificate_is_renewed_delivers_what_it_owes_without_a_restart(
    tmp_path: Path,
) -> None:
    authority(tmp_path)
    certificate(tmp_path, "localhost")
    certificate(tmp_path, "gateway")
    certificate(tmp_path, "old", valid=timedelta(days=-3))
    for suffix in (".pem", ".key"):
        shutil.copy(tmp_path / f"old{suffix}", tmp_path / f"my{suffix}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "localhost.pem", tmp_path / "localhost.key")
    context.verify_mode = ssl.CERT_REQUIRED

    async def scenario() -> None:
        desk, came = OrderDesk(), asyncio.Event()
        desk.on_change = lambda order: came.set()
        server = OrderServer(desk, structlog.get_logger(), tls=context)
        serving = asyncio.create_task(server.run())
        await server.ready.wait()
        async with asyncio.timeout(60), living(tmp_path) as it:
            with heard("ended 3 days ago: renew it") as told:
                await it.change(CONFIG + table(tmp_path, server.port))
                await raise_alarm(it.gateway, 1)
                await told.wait()
            northbound = it.gateway.northbounds["hotline"]
            assert "not connected" in str(northbound.problem())
            assert not desk.orders
            for suffix in (".pem", ".key"):
                shutil.copy(tmp_path / f"gateway{suffix}", tmp_path / f"my{suffix}")
            await came.wait()
            assert it.gateway.northbounds["hotline"] is northbound, "nothing was begun anew"
            came.clear()
            await raise_alarm(it.gateway, 2)
            await came.wait()
            assert len(desk.orders) == 2
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(scenario())
