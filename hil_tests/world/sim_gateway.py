"""The real daemon's parts in the simulated world: everything of gateway/ but sockets, ports and threads.

One object is one life of a process: built, run by the world's clock, and killed. A kill takes its disk and its wires
away first, between two steps of the event loop or in the middle of a commit; what its tasks do after that can change
nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import structlog

from gateway import config as config_module
from gateway import radios
from gateway.config import Config, SerialSection
from gateway.daemon import Gateway
from gateway.links.bridge import Bridge
from gateway.links.port import Counters
from gateway.northbound import mqtt
from gateway.northbound.runner import Runner
from gateway.northbounds import Northbound, work_orders_by
from hil_tests.world.clock import VirtualLoop
from hil_tests.world.order_desk import OrderDesk, SimPlatform
from hil_tests.world.sim_broker import SimBroker, SimSender
from hil_tests.world.sim_line import SimLine
from hil_tests.world.sim_net import NetLoop, SimNet
from hil_tests.world.sim_world import World
from protocols.wire import framing
from protocols.wire.limits import MAX_FRAME

NORTHBOUND = "city"
# Parts that would open sockets.
_NOT_HERE = ("control", "health")
# When a kill comes: with the commit not done, or done and nobody told.
BEFORE, AFTER = "before", "after"
# One fsync of a mediocre SD card.
_COMMIT_MIN_S = 0.002
_COMMIT_MAX_S = 0.060


class GatewayClock:
    """`TrustedClock` of one process: the world's wall time, the loop's monotonic time."""

    def __init__(
        self, world: World, synchronised: Callable[[], bool], offset_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._world = world
        self._offset_s = offset_s
        self.synchronised = synchronised

    def unix_ms(self) -> int:
        return self._world.unix_ms() + round(self._offset_s() * 1000)

    def monotonic(self) -> float:
        return self._world.now_s


class SimDisk(Executor):
    """Commits take their time: a kill finds them begun and not done, or done and not reported."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        # Of the log, while a commit is under way: what a loss of power may tear.
        self.unsynced: tuple[int, int] | None = None
        self.log: Path | None = None
        # Asked at each commit: whether the process dies now, and if, whether the disk has it.
        self.cut: Callable[[], str] | None = None
        self._loop = loop
        self._rng = rng
        self._dead = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        takes_s = self._rng.uniform(_COMMIT_MIN_S, _COMMIT_MAX_S)
        done_after_s = takes_s * self._rng.random()
        self._loop.call_later(done_after_s, self._do, future, takes_s - done_after_s, fn, args, kwargs)
        return future

    def kill(self) -> None:
        self._dead = True

    def _do(self, future: Future[Any], rest_s: float, fn: Any, args: Any, kwargs: Any) -> None:
        if self._dead:
            return
        phase = self.cut() if self.cut is not None else ""
        if phase == BEFORE:
            self._dead = True
            return
        if phase == AFTER:
            fn(*args, **kwargs)
            self._dead = True
            return
        before = self._log_bytes()
        try:
            result = fn(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  (an executor hands every error to whoever awaits)
            self._loop.call_later(rest_s, future.set_exception, error)
        else:
            after = self._log_bytes()
            self.unsynced = (before, after) if after > before else None
            self._loop.call_later(rest_s, self._synced, future, result)

    def _synced(self, future: Future[Any], result: Any) -> None:
        self.unsynced = None
        future.set_result(result)

    def _log_bytes(self) -> int:
        return 0 if self.log is None or not self.log.exists() else self.log.stat().st_size


class SimLink:
    """A serial port whose cable is a `SimLine`; what gateway/links/serial.py is on a real one."""

    listens = True
    can_answer = True
    wants_answer = True
    room = MAX_FRAME

    def __init__(self, name: str, line: SimLine, gateway: SimGateway, loop: VirtualLoop) -> None:
        self.name = name
        self.last_error = ""
        self.counters = Counters()
        self.queued = 0
        self._line = line
        self._gateway = gateway
        self._loop = loop
        self._closed = False
        self._decoder = framing.Decoder()
        line.to_gateway = lambda data: _soon(loop, self._feed, data)

    @property
    def is_open(self) -> bool:
        return self._line.plugged

    @property
    def refused(self) -> dict[str, int]:
        decoder = self._decoder
        return {
            "crc": decoder.crc_errors,
            "oversize": decoder.oversize,
            "noise_bytes": decoder.noise_bytes,
        }

    def send(self, address: int, frame: bytes) -> bool:
        if self._closed or not self._line.plugged:
            return False
        self.counters.frames_out += 1
        self._line.write("down", framing.encode(frame))
        return True

    def picture(self) -> dict[str, float]:
        counters = {name: getattr(self.counters, name) for name in self.counters.__slots__}
        refused = {f"refused_{reason}": count for reason, count in self.refused.items()}
        return {**counters, **refused, "open": float(self.is_open), "queued": self.queued}

    def close(self) -> None:
        self._closed = True
        self._line.to_gateway = None

    def _feed(self, data: bytes) -> None:
        self.counters.bytes_in += len(data)
        for channel, frame in self._decoder.feed(data):
            if channel == framing.SEALED:
                self.counters.frames_in += 1
                self._gateway.ingest.frame(self, frame)
        self._decoder.take_log()


class SimBridgePort(Bridge):
    """A `Bridge` whose cable is a `SimLine`: what it says and hears is its own, only the port is not."""

    def __init__(
        self, lines: dict[str, SimLine], loop: VirtualLoop, name: str, *args: Any, **options: Any
    ) -> None:
        super().__init__(name, *args, **options)
        self._line = lines[name]
        self._plugged_times = -1
        self._line.to_gateway = lambda data: _soon(loop, self._arrived, data)

    async def run(self) -> None:
        while True:
            self._on_progress()
            line = self._line
            if self.is_open and (not line.plugged or line.plugged_times != self._plugged_times):
                self.counters.losses += 1
                self.last_error = "unplugged"
                self._set_open(False)
            if line.plugged and not self.is_open:
                self._plugged_times = line.plugged_times
                self._decoder = framing.Decoder()
                self._set_open(True)
            await asyncio.sleep(self._timing.check_s)

    def close(self) -> None:
        self._line.to_gateway = None

    def _put(self, payload: bytes, channel: int) -> bool:
        if not self.is_open or not self._line.plugged or self._line.to_gateway is None:
            return False
        self.counters.frames_out += 1
        self._line.write("down", framing.encode(payload, channel))
        return True

    def _arrived(self, data: bytes) -> None:
        if self.is_open:
            self._came(data)


class SimRoom:
    """How much the disk of the gateway still holds, whichever life it is in."""

    free_bytes = 1 << 40


class SimGateway(Gateway):
    """`Gateway` with the world's clock, randomness, disk, lines and broker in it."""

    def __init__(
        self,
        config: Config,
        world: World,
        lines: dict[str, SimLine],
        broker: SimBroker,
        clock: GatewayClock,
        rng: random.Random,
        net: SimNet,
        desk: OrderDesk | None = None,
        room: SimRoom | None = None,
    ) -> None:
        self._desk = desk or OrderDesk()
        self.room = room or SimRoom()
        # Asked for when this life shall end and another begin: the rig does it.
        self.on_end: Callable[[str], None] = lambda why: None
        self._world = world
        self._net = net
        self._lines = lines
        self._rng = rng
        self._broker = broker
        self._senders: list[SimSender] = []
        self._sim_links: list[SimLink | SimBridgePort] = []
        self._sim_tasks: list[asyncio.Task[None]] = []
        self.runners: dict[str, Runner] = {}
        self.loop = NetLoop(net)
        self.loop.now_s = world.now_s
        self._disk = SimDisk(self.loop, rng)
        world.loop = self.loop
        super().__init__(
            config,
            quiet_logger(),
            clock=clock,
            random_bytes=rng.randbytes,
            executor=self._disk,
        )
        self._disk.log = self.store.path.with_name(self.store.path.name + "-wal")
        # A kill is no power cut: what the process wrote is with the kernel, and syncing it only costs the test time.
        self.store._connection.execute("PRAGMA synchronous = OFF")
        self.loop.call_soon(self._start)

    def _serial(self, section: SerialSection) -> Any:
        link = SimLink(section.name, self._lines[section.name], self, self.loop)
        self._sim_links.append(link)
        return link

    def _build_air(self) -> radios.Air | None:
        is_known, now_s = self.registry.is_enrolled, self.clock.monotonic
        return radios.build(
            self.config, self._part, self.ingest.frame, is_known, now_s, self.log, self._bridge
        )

    def _bridge(self, *args: Any, **options: Any) -> Bridge:
        port = SimBridgePort(self._lines, self.loop, *args, **options)
        self._sim_links.append(port)
        return port

    def _northbound(self, kind: str, section: Any) -> Northbound:
        if kind == "work_orders":
            platform = SimPlatform(self._world, self._desk, self._rng)
            return work_orders_by(platform, section, self._context())
        sender = SimSender(self._broker)
        self._senders.append(sender)
        places = self.registry.place_of
        format = functools.partial(mqtt.format, marks=self.marks)
        runner = Runner(section.name, self.store, format, sender, places, self.clock, self._rng)
        self.runners[section.name] = runner
        return Northbound(section.name, runner, self.clock)

    def _start(self) -> None:
        self._sim_tasks.append(self.loop.create_task(self._run_parts()))

    async def _run_parts(self) -> None:
        await self.commands.recover()
        for part in self.parts:
            if part.name not in _NOT_HERE:
                self._sim_tasks.append(self.loop.create_task(part.supervise(self.log)))

    def free_bytes(self, folder: Path) -> int:
        return self.room.free_bytes

    def end(self, why: str) -> None:
        self.on_end(why)

    @property
    def unsynced(self) -> tuple[int, int] | None:
        """Of the log: what the disk was not told to keep yet."""
        return self._disk.unsynced

    def cut_at(self, cut: Callable[[], str]) -> None:
        """`cut` says at each commit whether this process is killed there: BEFORE, AFTER, or "" for neither."""
        self._disk.cut = cut

    def kill(self) -> None:
        """The end of the process, at this very moment: what was not committed never was."""
        for link in self._sim_links:
            link.close()
        for sender in self._senders:
            sender.kill()
        self._disk.kill()
        self._net.close_all()
        self._world.loop = None
        _cut_off(self.store._connection)
        _cut_off(self.store._reader)
        self.store._closed = True
        self.loop.set_exception_handler(lambda loop, context: None)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(_bury(self.loop))
        self.loop.close()


async def _bury(loop: VirtualLoop) -> None:
    """Let the cancelled tasks of a dead process unwind; nothing they do reaches anything."""
    others = asyncio.all_tasks(loop) - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def _cut_off(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.rollback()
    connection.close()


def _soon(loop: VirtualLoop, function: Any, *arguments: Any) -> None:
    if not loop.is_closed():
        loop.call_soon(function, *arguments)


def quiet_logger() -> Any:
    """What the daemon logs is dropped: the diary of the world tells more."""
    return structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def write_config(folder: Path, links: list[str], master_key: bytes, further: list[str]) -> Config:
    """A gateway.toml as a person would write it, and the gateway's own reading of it."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "master.key"
    key.write_text(master_key.hex() + "\n", encoding="ascii")
    key.chmod(0o600)
    data = folder / "data"
    data.mkdir(mode=0o700)
    tables = [
        f'[gateway]\nname = "rig"\ndata_dir = "{data}"\n',
        f'[keys]\nmaster_key_file = "{key}"\n',
        "[health]\nenabled = false\n",
    ]
    tables += [f'[[serial]]\nname = "{name}"\npath = "/dev/null-{name}"\n' for name in links]
    tables.append(f'[[mqtt]]\nname = "{NORTHBOUND}"\nhost = "city.invalid"\n')
    tables += further
    file = folder / "gateway.toml"
    file.write_text("\n".join(tables), encoding="utf-8")
    return config_module.load(file)
