"""A registry and a command queue on a real store, with a clock the test holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import marks
from gateway.commands import Commands
from gateway.daemon import EXTRA_SCHEMA
from gateway.keys import NodeKeys, Vault
from gateway.node_file import MintedNode
from gateway.registry import By, Registry
from gateway.store import Store, StoreSettings
from gateway.wishes import Wishes

BY = By("wang", "test")
KEYS = NodeKeys(bytes(range(16)), bytes(range(8)))
MASTER_KEY = bytes(32)


def stopped_gateway(folder: Path, config: str) -> None:
    """Files of a gateway that does not run: its configuration, a master key as [keys] names it, and no data yet."""
    (folder / "gateway.toml").write_text(config, encoding="utf-8")
    key = folder / "master.key"
    key.write_text(MASTER_KEY.hex() + "\n", encoding="ascii")
    key.chmod(0o600)
    (folder / "data").mkdir(mode=0o700)


class HandClock:
    """Time stands still until the test moves it."""

    def __init__(self, unix_s: int = 1_790_000_000) -> None:
        self.now_ms = unix_s * 1000
        self.now_s = 1000.0
        self.is_synchronised = True

    def unix_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_s

    def synchronised(self) -> bool:
        return self.is_synchronised

    def pass_s(self, seconds: float) -> None:
        """Let time go by on both clocks."""
        self.now_ms += int(seconds * 1000)
        self.now_s += seconds


class Desk:
    """What a test of the registry, the commands or the downlink needs around it."""

    def __init__(self, store: Store, clock: HandClock, master_key: bytes) -> None:
        self.store = store
        self.clock = clock
        self.registry = Registry(store, Vault(master_key), clock, "330106")
        self.commands = Commands(store, self.registry, clock)
        self.wishes = Wishes(store, self.registry, clock)
        self.marks = marks.Marks(store)

    async def enrol(self, *addresses: int, site: str | None = None) -> None:
        await self.registry.import_nodes([minted(address, site=site) for address in addresses], BY)


def minted(address: int, *, site: str | None = None, keys: NodeKeys = KEYS) -> MintedNode:
    return MintedNode(address, "river", None, site, keys)


@contextmanager
def desk(
    folder: Path,
    clock: HandClock | None = None,
    master_key: bytes = MASTER_KEY,
    settings: StoreSettings | None = None,
) -> Iterator[Desk]:
    """Open the database in `folder` as the daemon does; opening it again is a restart."""
    held = clock or HandClock()
    store = Store.open(
        folder / "tidegate.db",
        clock=held,
        random_bytes=os.urandom,
        extra_schema=EXTRA_SCHEMA,
        settings=settings,
    )
    try:
        yield Desk(store, held, master_key)
    finally:
        store.close()
