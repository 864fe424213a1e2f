"""`--rig=sim`: a whole Tidegate in one thread, on a virtual clock, from one seed.

The firmware, the gateway's store, ingest, downlink, commands and northbound runner are the real ones; cables, flash
chips, the sondes' bus, the disk's latency and the broker are simulated byte by byte. Everything random comes from the
seed, so a failure is replayed exactly by the command that its message names.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from boards.virtual.line import LineFaults
from flash_tools.mint import IDENTITY_PATH, MINT_FILE, mint
from gateway import audit, node_file, recovery
from gateway.daemon import DATABASE_NAME
from gateway.registry import By
from hil_tests.consumer import Judge, RecordId
from hil_tests.errors import RigError
from hil_tests.street import AREA, FIRST_ADDRESS, QUIET_INTERVAL_S, STATUS_S
from hil_tests.system import Books, told_by_gateway
from hil_tests.world.flash import Flash, LittleFs
from hil_tests.world.order_desk import OrderDesk
from hil_tests.world.river import River
from hil_tests.world.sim_broker import SimBroker
from hil_tests.world.sim_gateway import NORTHBOUND, GatewayClock, SimGateway, SimRoom, write_config
from hil_tests.world.sim_line import SimLine
from hil_tests.world.sim_net import SimNet
from hil_tests.world.sim_node import SimNode
from hil_tests.world.sim_world import World
from protocols.measurands import registry
from protocols.wire import cbor
from protocols.wire import identity as identity_file
from protocols.wire.codes import SET_INTERVAL

_BY = By("rig", "test")
# How finely `wait_until` looks.
_LOOK_S = 0.05
# Commands of the rig must outlast whatever is wrong with a line at that moment.
_COMMAND_TTL_S = 3600


class SimRig:
    """A `System` in one process."""

    rig = "sim"

    def __init__(
        self,
        folder: Path,
        stations: int = 2,
        interval_s: int = 1,
        seed: int = 1,
        node_type: str = "river",
        settings: Mapping[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self.node_type = node_type
        # Those that a station is minted with.
        self.settings = {0: interval_s, 1: interval_s, 2: STATUS_S} if settings is None else dict(settings)
        self.seed = seed
        self.interval_s = interval_s
        self.world = World()
        self.judge = Judge()
        self.broker = SimBroker(self.world, self.random("broker"), self._taken)
        self.desk = OrderDesk()
        self.net = SimNet(self.world, self.random("net"))
        self.lines: dict[str, SimLine] = {}
        self.bridge_lines: dict[str, SimLine] = {}  # by the names of their tables
        self.stations: dict[str, SimNode] = {}
        self.set_up()
        for index in range(stations):
            self._add_station(index)
        self.nodes = tuple(self.stations)
        links = {f"river-{node}": line for node, line in self.lines.items()}
        self._links = links
        key = self.random("master key").randbytes(32)
        self.config = write_config(folder / "gateway", list(links), key, self.tables())
        self.gateway: SimGateway | None = None
        self.clock_is_synchronised = True
        self.clock_offset_s = 0.0
        self.room = SimRoom()
        self._starts = 0
        self._problems: list[str] = []
        self.start_gateway()
        self.enrol()
        for station in self.stations.values():
            self.outfit(station)
            self.switch_on(station)

    def set_up(self) -> None:
        """What there must be before the first station."""

    def tables(self) -> list[str]:
        """Further tables of gateway.toml."""
        return []

    def outfit(self, station: SimNode) -> None:
        """What a rig of other nodes connects to them before they are switched on."""

    def switch_on(self, station: SimNode) -> None:
        station.power_on()

    def random(self, what: str) -> random.Random:
        """Randomness for one purpose: what one part draws does not move the others."""
        return random.Random(f"{self.seed} {what}")

    def _add_station(self, index: int) -> None:
        minted = mint(
            out=self.folder,
            address=FIRST_ADDRESS + index,
            node_type=self.node_type,
            area=AREA,
            site=f"bridge-{index + 1}",
            settings=self.settings,
            random=self.random(f"mint {index}").randbytes,
        )
        name = f"{minted.address:04x}"
        line = SimLine(name, self.world, self.random(f"line {index}"))
        self.lines[name] = line
        image = minted.state_image.read_bytes()
        self.stations[name] = SimNode(
            identity_on(image),
            image,
            self.world,
            line,
            River(self.seed + index).quantities,
            f"{self.seed} {index}",
        )

    def _taken(self, record: dict[str, Any]) -> None:
        self.judge.take(record)

    # -- System ----------------------------------------------------------------------------------------------

    def run_s(self, seconds: float) -> None:
        self.world.run_s(seconds)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline_s = self.world.now_s + timeout_s
        while not holds():
            if self.world.now_s >= deadline_s:
                raise TimeoutError(f"after {timeout_s} s still no {what}\n{self.describe()}")
            self.world.run_s(_LOOK_S)

    def kill_gateway(self) -> None:
        self.world.note("gateway killed")
        self.alive.kill()
        self.gateway = None

    def start_gateway(self) -> None:
        self._starts += 1
        rng = self.random(f"gateway {self._starts}")
        clock = GatewayClock(self.world, lambda: self.clock_is_synchronised, lambda: self.clock_offset_s)
        lines = self._links | self.bridge_lines
        try:
            gateway = SimGateway(
                self.config, self.world, lines, self.broker, clock, rng, self.net, self.desk, self.room
            )
        except sqlite3.DatabaseError as error:  # as gateway/lives.py does
            if not recovery.is_corruption(error):
                raise
            recovery.suspect(self.data / DATABASE_NAME, str(error))
            gateway = SimGateway(
                self.config, self.world, lines, self.broker, clock, rng, self.net, self.desk, self.room
            )
        self.gateway = gateway
        gateway.on_end = lambda why: self._begin_again(gateway)
        if gateway.store.corrupt:  # met while it was built
            self._begin_again(gateway)
        if self.gateway.store.restored:
            made = (record_id for one in self.stations.values() for record_id in one.held() | one.past_open)
            self.judge.gateway_restored(made)
        self.world.note("gateway started")

    def _begin_again(self, gateway: SimGateway) -> None:
        """That life asks for its end, from within: it comes when its loop has stopped."""

        def again() -> None:
            if self.gateway is gateway:
                self.kill_gateway()
                self.start_gateway()

        self.world.after(0.0, again)

    def enrol(self) -> None:
        """Register the minted nodes, as `tidegate gateway node import` does."""
        minted = node_file.parse((self.folder / MINT_FILE).read_text(encoding="utf-8"), MINT_FILE)
        self.ask(lambda gateway: gateway.registry.import_nodes(minted, _BY))

    @property
    def alive(self) -> SimGateway:
        """The gateway, which must be running."""
        if self.gateway is None:
            raise RigError("the gateway was killed and not started again")
        return self.gateway

    def ask(self, work: Callable[[SimGateway], Coroutine[Any, Any, Any]], timeout_s: float = 10) -> Any:
        """Do something in the gateway's loop, as a person at its command line would; the outcome."""
        gateway = self.alive
        task: asyncio.Task[Any] = gateway.loop.create_task(work(gateway))
        self.wait_until(task.done, timeout_s, "answer of the gateway")
        return task.result()

    @property
    def data(self) -> Path:
        """The gateway's data directory."""
        return Path(self.config.gateway.data_dir)

    def backup_gateway(self) -> Path:
        copy = self.folder / f"backup-{self._starts}"
        shutil.copytree(self.data, copy, ignore=shutil.ignore_patterns("*.sock"), dirs_exist_ok=True)
        return copy

    def restore_gateway(self, backup: Path) -> None:
        """What an administrator does: the database files come back, nothing else is touched."""
        for file in self.data.glob("*.db*"):
            file.unlink()
        for file in sorted(backup.glob("*.db*")):
            shutil.copy2(file, self.data / file.name)

    def metrics(self) -> dict[str, float]:
        return dict(_flat("", self.alive.picture()))

    def stop_broker(self) -> None:
        self.broker.stop()

    def start_broker(self) -> None:
        self.broker.start()

    def silence_network(self) -> None:
        self.broker.silence()

    def restore_network(self) -> None:
        self.broker.restore()

    def power_cut(self, node: str) -> None:
        self.stations[node].power_cut()

    def reflash_app(self, node: str) -> None:
        """Another image in the `app` partition: to the state partition that is a power cycle."""
        station = self.stations[node]
        station.power_off()
        station.power_on()

    def erase_state(self, node: str) -> None:
        station = self.stations[node]
        station.erase_state()
        station.power_on()

    def line_faults(self, percent: float) -> None:
        """That share of the bytes is spoiled in both directions, a quarter in each of four ways."""
        share = percent / 100 / 4
        for index, line in enumerate(self.lines.values()):
            faults = LineFaults(self.seed + index, corrupt=share, drop=share, duplicate=share, reorder=share)
            line.faults = faults if percent else None

    def unplug(self, node: str) -> None:
        self.lines[node].unplug()

    def replug(self, node: str) -> None:
        self.lines[node].replug()

    def settle(self, timeout_s: float = 60) -> Books:
        """Quiet the nodes by command, and wait until nothing is on its way any more."""
        deadline_s = self.world.now_s + timeout_s
        for name in self.nodes:
            self._quiet(name)
        while not self.is_settled() and self.world.now_s < deadline_s:
            self.world.run_s(0.5)
        return self.books()

    def _quiet(self, node: str) -> None:
        address = int(node, 16)
        self.ask(
            lambda gateway: gateway.commands.add(address, SET_INTERVAL, QUIET_INTERVAL_S, _COMMAND_TTL_S, _BY)
        )

    def is_settled(self) -> bool:
        """Whether nothing is on its way: no command, no record on a node, nothing owed to the city."""
        gateway = self.alive
        return bool(
            not gateway.commands.nodes()
            and all(station.waiting() == 0 for station in self.stations.values())
            and gateway.runners[NORTHBOUND].status()["backlog"] == 0
            and gateway.store.depth() == 0
        )

    # -- the books -------------------------------------------------------------------------------------------

    def books(self) -> Books:
        """Promises, store and city, as they stand."""
        held: dict[RecordId, tuple[int, bytes]] = {}
        maybe: dict[RecordId, tuple[int, bytes]] = {}
        for station in self.stations.values():
            held |= station.held()
            maybe |= station.past_open
        delivered = frozenset(self.judge.records)
        contents = held | maybe
        altered = [
            f"{record_id} is not what the node kept"
            for record_id in sorted(delivered & contents.keys())
            if not _same(contents[record_id], self.judge.records[record_id])
        ]
        own = self.alive.store.read(lambda db: told_by_gateway(db, delivered))
        found = audit.summary(self.alive.store.read(lambda db: audit.balance(db, [NORTHBOUND])))
        return Books(
            kept=frozenset(held) | (delivered & maybe.keys()) | own,
            stored=int(found["stored"]),
            delivered=delivered,
            listed_lost=int(found["lost"]),
            copies=self.judge.copies,
            problems=(*self.judge.problems, *altered),
        )

    def describe(self) -> str:
        """Where everything stands, for the message of a failure."""
        arrived = f"{len(self.judge.records)} records, {self.judge.copies} copies"
        lines = [f"seed {self.seed}, {self.world.now_s:.3f} s, diary {self.world.digest}; {arrived}"]
        for name, station in self.stations.items():
            state = f"on, {station.waiting()} waiting" if station.is_on else "off"
            lines.append(f"{name}: {state}; {station.station.log[-5:]}")
        if self.gateway is not None:
            lines.append(f"gateway: {self.gateway.picture()}")
        return "\n".join(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self.gateway is not None:
            self.kill_gateway()


def identity_on(state_image: bytes) -> identity_file.Identity:
    """What minting put on the node."""
    with LittleFs(Flash(image=state_image)).open(IDENTITY_PATH, "rb") as file:
        return identity_file.decode(file.read())


def _same(kept: tuple[int, bytes], record: dict[str, Any]) -> bool:
    """Whether the city got what the node kept, number for number."""
    items = cbor.loads(kept[1])
    if "readings" in record:
        schema, time, tq, values, _ = items
        measurands = registry().of_schema(schema)
        shown = [record["readings"][measurand.name]["v"] for measurand in measurands]
        meant = [
            None if value is None else measurand.value_of(value)
            for measurand, value in zip(measurands, values, strict=True)
        ]
        return shown == meant and record["tq"] == tq and (tq == 3 or record["time"] == time)
    time, tq, code, _, detail = items
    what = record.get("event") or record.get("result") or {}
    return bool(
        what.get("code", what.get("command_id")) == code
        and what["detail"] == detail
        and record["tq"] == tq
        and (tq == 3 or record["time"] == time)
    )


def _flat(prefix: str, picture: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Nested counters under joined names, as a metrics page has them."""
    for key, value in picture.items():
        name = f"{prefix}_{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _flat(name, value)
        elif isinstance(value, (int, float)):
            yield name, float(value)
