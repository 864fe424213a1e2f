"""A bench of straw: disks that die, boards that are a dictionary, a gateway that is another one.

What a disk keeps over a kill is what was written; over a power cut only what was synced, whole or torn.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from boards.virtual import board as constants
from flash_tools import book, files
from flash_tools.addresses import Station
from flash_tools.errors import FlashToolError, RegistryError
from flash_tools.key_store import KeyStore
from flash_tools.provisioning import Units, Wanted
from flash_tools.station import Bench, Booted, Order, Outcome, StationRun, Written
from gateway import node_file
from hil_tests.world.flash import Flash, LittleFs
from protocols.wire import identity

MASTER = bytes(range(32))
RANGE = range(0x100, 0x120)
MACS = ("24:0a:c4:00:00:01", "24:0a:c4:00:00:02")
RIVER = Wanted("river", "virtual", "330110001001", "bridge-1", calibrations=("ph=17:7.02/7.00:4.05/4.01",))


class Killed(BaseException):
    """The process is no more: nothing behind this runs."""


class Steps:
    """Counts what could be the last thing that happens, and dies at step `at`."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.count = 0
        self.is_dead = False

    def step(self) -> bool:
        """True when this is the one: the caller does it by halves, and dies."""
        if self.is_dead:
            raise Killed
        self.count += 1
        self.is_dead = self.count == self.at
        return self.is_dead


class DyingOs:
    """What files.py sees of `os`: the same, until the process dies; then the disk is what it would be."""

    def __init__(self, steps: Steps, torn: float) -> None:
        self._steps = steps
        self._torn = torn
        self._open: dict[int, Path] = {}
        # What a power cut leaves: of files, their bytes; of folders, what stood under a name (None: nothing).
        self._bytes: dict[Path, bytes] = {}
        self._names: dict[Path, bytes | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        where = Path(path)
        if flags & os.O_CREAT:
            self._die()
            if not where.exists():
                self._names.setdefault(where, None)
        handle = os.open(path, flags, mode)
        self._open[handle] = where
        return handle

    def write(self, handle: int, data: Any) -> int:
        where = self._open[handle]
        self._bytes.setdefault(where, where.read_bytes())
        if self._steps.step():
            os.write(handle, bytes(data)[: round(self._torn * len(data))])
            raise Killed
        return os.write(handle, data)

    def ftruncate(self, handle: int, size: int) -> None:
        where = self._open[handle]
        self._bytes.setdefault(where, where.read_bytes())
        self._die()
        os.ftruncate(handle, size)

    def fsync(self, handle: int) -> None:
        self._die()
        where = self._open[handle]
        if where.is_dir():
            for path in [path for path in self._names if path.parent == where]:
                del self._names[path]
        self._bytes.pop(where, None)

    def replace(self, source: Path, target: Path) -> None:
        self._die()
        self._names.setdefault(target, target.read_bytes() if target.exists() else None)
        self._names.pop(source, None)
        if source in self._bytes:
            self._bytes[target] = self._bytes.pop(source)
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        self._die()
        os.unlink(path)

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)
        os.close(handle)

    def _die(self) -> None:
        if self._steps.step():
            raise Killed

    def bury(self, *, is_power_cut: bool) -> None:
        """The kernel closes what is open; with the power gone, what was not synced goes, too, but for a torn piece."""
        for handle in list(self._open):
            self.close(handle)
        if not is_power_cut:
            return
        for path, durable in self._bytes.items():
            if path.exists():
                now = path.read_bytes()
                more = now[len(durable) :] if now.startswith(durable) else b""
                path.write_bytes(durable + more[: round(self._torn * len(more))])
        for path, before in self._names.items():
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)


@dataclass
class Chip:
    """A board: its MAC, and the `state` partition that it holds."""

    mac: str
    chip: str = constants.CHIP
    flash_size: int = constants.FLASH_SIZE
    state: bytes | None = None
    app: bytes = b""
    sent: int = 0

    @property
    def identity(self) -> identity.Identity | None:
        """Who the node is that starts on this board."""
        if not self.state:
            return None
        with LittleFs(Flash(image=self.state)).open("/identity", "rb") as file:
            return identity.decode(file.read())


@dataclass
class World:
    """The folder of a bench, chips at its ports, and the registry of a gateway."""

    folder: Path
    chips: dict[str, Chip] = field(default_factory=lambda: {mac: Chip(mac) for mac in MACS})
    registry: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    steps: Steps = field(default_factory=Steps)
    broken: dict[str, str] = field(default_factory=dict)  # MAC -> why it fails
    app: bytes = b"firmware 1"
    name: str = "gateway.toml"

    # ---- the gateway -----------------------------------------------------------------------------------------------

    def known(self) -> set[int]:
        return set(self.registry)

    def add(self, lines: Sequence[str]) -> None:
        if self.steps.step():
            raise Killed
        nodes = node_file.parse("\n".join(lines), "stdin")
        for node in nodes:
            if self.registry.get(node.address, node.keys) != node.keys:
                raise RegistryError(f"node {node.address:04x} is registered with another key")
        self.registry |= {node.address: tuple(node.keys) for node in nodes}

    # ---- the bench -------------------------------------------------------------------------------------------------

    @property
    def book(self) -> Path:
        return self.folder / "units.jsonl"

    def units(self) -> Units:
        return Units(book.read(self.book))

    def run(
        self,
        macs: Sequence[str] = MACS,
        wanted: Wanted = RIVER,
        *,
        again: bool = False,
        at_gateway: bool = True,
        flashed: Sequence[int] = (),
    ) -> list[Outcome]:
        bench = Bench(self.folder, Station("bench-1", (RANGE,)), KeyStore(MASTER))
        with book.opened(self.book) as opened:
            units = Units(opened.entries, opened)
            gateway = self if at_gateway else None
            run = StationRun(bench, units, gateway, who="wang", again=again, flashed=flashed)
            return run.run(macs, self.open, lambda mac, chip: wanted)

    @contextlib.contextmanager
    def open(self, mac: str) -> Iterator[StrawBoard]:
        yield StrawBoard(self, self.chips[mac])


class StrawBoard:
    def __init__(self, world: World, chip: Chip) -> None:
        self._world = world
        self._chip = chip

    def write(self, order_for: Callable[[Any], Order]) -> Written:
        chip, world = self._chip, self._world
        order = order_for(chip)
        if chip.mac in world.broken:
            raise FlashToolError(world.broken[chip.mac])
        blocks = 0
        if order.state is not None and order.state != chip.state:
            # Whoever writes a key to a board must have it in the book first.
            unit = world.units().of_mac(chip.mac)
            assert unit is not None
            keys = KeyStore(MASTER).open(unit.mac, unit.address, unit.sealed)
            assert keys.master_secret == order.identity.master_secret
            there = chip.identity
            assert there is None or there == order.identity or order.replaces, (
                "it takes a living node's place"
            )
            if world.steps.step():
                chip.state = None
                raise Killed
            chip.state = order.state
            blocks += 1
        if chip.app != world.app:
            if world.steps.step():
                chip.app = b""
                raise Killed
            chip.app = world.app
            blocks += 8
        chip.sent += blocks
        return Written(
            chip.chip, "v1.0", 4 * 2**20, False, False, "0.1.0", "1.28.0", "00" * 32, blocks, 9, 4096 * blocks
        )  # fmt: skip

    def boot(self, order: Order) -> Booted:
        if self._world.steps.step():
            raise Killed
        assert self._chip.identity == order.identity
        return Booted("a sealed hello", "a sealed hello", "0.1.0")


@contextlib.contextmanager
def dying(world: World, at: int, *, torn: float, is_power_cut: bool) -> Iterator[None]:
    """Whatever is done in here dies at step `at`, if it comes that far; then the disk is what it would be."""
    world.steps = Steps(at)
    disk = DyingOs(world.steps, torn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", disk)
        # In the order of the ports: which step is which must not depend on threads.
        patch.setattr("flash_tools.station.ThreadPoolExecutor", OneByOne)
        try:
            yield
        except Killed:
            pass
        finally:
            disk.bury(is_power_cut=is_power_cut and world.steps.is_dead)
    world.steps = Steps()


class OneByOne:
    def __init__(self, max_workers: int) -> None:
        assert max_workers > 0
        assert threading.current_thread() is threading.main_thread()

    def __enter__(self) -> OneByOne:
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(map)
