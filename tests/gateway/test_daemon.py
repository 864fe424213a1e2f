"""The whole daemon on one event loop, with nodes behind pseudo-terminals: what a node sends is stored,
acknowledged and answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway import config as configs
from gateway import keys, node_file
from gateway.audit import balance
from gateway.daemon import DataDir, Gateway
from gateway.log import setup
from gateway.registry import By
from tests.gateway.fake_node import SALT, SECRET, FakeNode, Pty, PtyNode

ADDRESS = 0x12


def write_config(tmp_path: Path, extra: str = "") -> configs.Config:
    key = tmp_path / "master.key"
    if not key.exists():
        keys.write_file(key)
    text = f"""
        [keys]
        master_key_file = "master.key"
        [gateway]
        area = "330106"
        [clock]
        assume_synchronised = true
        [health]
        port = 0
        [[serial]]
        name = "river-1"
        path = "port"
        {extra}
    """
    return configs.parse(text, "gateway.toml", tmp_path)


async def enrol(gateway: Gateway, *addresses: int) -> None:
    minted = [
        node_file.MintedNode(address, "river", None, "yuhang-3", keys.NodeKeys(SECRET, SALT))
        for address in addresses
    ]
    await gateway.registry.import_nodes(minted, By("test", "test"))


@asynccontextmanager
async def running(config: configs.Config) -> AsyncIterator[Gateway]:
    """A gateway as `tidegate gateway run` runs it, without the process around it."""
    with DataDir(Path(config.gateway.data_dir)):
        gateway = Gateway(config, setup("error", "json"))
        started = asyncio.Event()
        task = asyncio.create_task(gateway.run(started=started.set))
        await started.wait()
        try:
            yield gateway
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gateway.store.close()


async def joined(node: PtyNode) -> None:
    node.send(node.node.start())
    await node.until(lambda: node.node.epoch is not None)


def test_a_node_joins_sends_and_is_acknowledged_after_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        pty = Pty(tmp_path / "port")
        async with running(write_config(tmp_path)) as gateway:
            await enrol(gateway, ADDRESS)
            peer = PtyNode(FakeNode(ADDRESS), pty)
            node = peer.node
            await joined(peer)
            for _ in range(20):
                node.keep()
            peer.send(*node.pending())
            await peer.until(lambda: node.acked == 20)
            stored = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM event").fetchone()[0])
            assert stored == 20
            rows = gateway.store.read(balance)
            assert [(row.node, row.produced, row.stored, row.lost, row.holds) for row in rows] == [
                (ADDRESS, 20, 20, 0, True)
            ]
            peer.detach()

    asyncio.run(scenario())
