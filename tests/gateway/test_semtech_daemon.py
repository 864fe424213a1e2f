"""The real daemon in a conversation with a packet forwarder over UDP: what is heard is stored and answered in its
window, and nothing that a network can send harms it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway import config as configs
from gateway import keys
from gateway.daemon import Gateway
from tests.gateway.fake_forwarder import EUI, FakeForwarder, asking, rxpk
from tests.gateway.fake_node import FakeNode
from tests.gateway.test_daemon import ADDRESS, enrol, running

TMST = 4_294_000_000  # a second before the counter wraps


def air_config(tmp_path: Path, euis: tuple[str, ...] = (EUI,)) -> configs.Config:
    key = tmp_path / "master.key"
    if not key.exists():
        keys.write_file(key)
    listed = ", ".join(f'"{eui}"' for eui in euis)
    text = f"""
        [keys]
        master_key_file = "master.key"
        [clock]
        assume_synchronised = true
        [health]
        port = 0
        [lora]
        plan = "cn470"
        channel = 20
        [[semtech]]
        name = "roof"
        bind = "127.0.0.1:0"
        gateways = [{listed}]
    """
    return configs.parse(text, "gateway.toml", tmp_path)


@asynccontextmanager
async def on_the_air(tmp_path: Path) -> AsyncIterator[tuple[Gateway, FakeForwarder]]:
    """A gateway with one enrolled node and one forwarder that asks for downlinks."""
    async with running(air_config(tmp_path)) as gateway:
        await enrol(gateway, ADDRESS)
        assert gateway.air is not None
        server = gateway.air.servers[0]
        listens = asyncio.Event()
        server.on_listening = listens.set
        if not server.port:
            await listens.wait()
        forwarder = await FakeForwarder(server.port).open()
        await forwarder.pull()
        try:
            yield gateway, forwarder
        finally:
            forwarder.close()


async def join(node: FakeNode, forwarder: FakeForwarder, tmst: int = 1_000_000) -> None:
    """Both steps of a join, each answered in its window."""
    frame = node.start()
    for _ in range(2):
        await forwarder.push(rxpk(asking(frame), tmst))
        answers = node.receive(payload(await forwarder.downlink()))
        frame = answers[0] if answers else b""
        tmst += 5_000_000
    assert node.epoch is not None, node.refused


def payload(txpk: dict[str, Any]) -> bytes:
    return base64.b64decode(txpk["data"], validate=True)


def stored(gateway: Gateway) -> int:
    count: int = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM event").fetchone()[0])
    return count


def test_an_alarm_is_stored_and_acknowledged_in_the_first_window(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_the_air(tmp_path) as (gateway, forwarder):
            node = FakeNode(ADDRESS)
            await join(node, forwarder)
            time = payload(await forwarder.downlink())  # a hello is told the time, too
            node.receive(time)
            node.keep()
            await forwarder.push(rxpk(asking(node.pending()[0]), TMST))
            txpk = await forwarder.downlink()
            node.receive(payload(txpk))
            assert node.acked == 1
            assert stored(gateway) == 1
            assert txpk == {
                "imme": False,
                "tmst": (TMST + 1_000_000) % 2**32,
                "freq": 474.3,
                "rfch": 0,
                "powe": 17,
                "modu": "LORA",
                "datr": "SF9BW125",
                "codr": "4/5",
                "ipol": True,
                "prea": 8,
                "ncrc": False,
                "size": len(payload(txpk)),
                "data": txpk["data"],
            }

    asyncio.run(scenario())
