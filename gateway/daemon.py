"""The daemon: builds every part from the config, runs them side by side, and stops them.

    links → ingest → store → downlink → links          one event loop; the store's commits in one thread
                       └→ northbounds → brokers        each from its own cursor

One TaskGroup holds the parts; each is supervised (parts.py). kill -9 at any moment is a normal way to
stop, so there is nothing in an orderly stop that correctness depends on.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import (
    account,
    alarm_rows,
    alarming,
    bluetooth,
    buses,
    campaign_rows,
    campaigning,
    commands,
    config_api,
    console_operations,
    damage,
    devices,
    keys,
    limits,
    marks,
    positions,
    programs,
    quality_checks,
    radios,
    registry,
    report_rows,
    silence,
    tokens,
    twice,
    wishes,
)
from gateway.accept import Accept
from gateway.alarm_operations import AlarmOperations
from gateway.channels import Channels
from gateway.clock import SystemClock, TrustedClock
from gateway.commands import Commands, OpenCommand
from gateway.config import Config, SerialSection
from gateway.config_hj212 import platforms
from gateway.control import SOCKET_NAME, ControlServer
from gateway.data_dir import DataDir as DataDir  # where others look for it
from gateway.devices import Devices
from gateway.downlink import Downlink
from gateway.errors import KeyFileError
from gateway.health import HealthServer
from gateway.hearing import Hearing
from gateway.ingest import Heard, Ingest
from gateway.links.routes import Routes
from gateway.links.serial import SerialLink
from gateway.log import Logger
from gateway.memory import quieten_gc
from gateway.northbounds import KINDS, Context, Northbound
from gateway.notices import Notices
from gateway.operations import Operations
from gateway.own_epochs import OwnEpochs
from gateway.parts import Part, ServiceManager, watch
from gateway.pollers import bthome_counters, modbus_memory
from gateway.presence import Presence
from gateway.registry import By, Registry
from gateway.restamp import Restamp
from gateway.silence import Silence
from gateway.space import disk_free_bytes
from gateway.store import Store
from gateway.tokens import Tokens
from gateway.upkeep import Upkeep
from gateway.web import HttpServer, Page, json_page
from gateway.wishes import Wishes
from protocols.wire import codes

if TYPE_CHECKING:
    from gateway.api import Api
    from gateway.config_devices import BleSection, ModbusSection
    from gateway.pollers.ble import BlePoller
    from gateway.pollers.modbus import ModbusPoller
    from gateway.reload import Reload

DATABASE_NAME = "tidegate.db"
STOP = "stop"
EXTRA_SCHEMA = (
    *registry.SCHEMA,
    *positions.SCHEMA,
    *twice.schema(registry.SCHEMA),
    *commands.SCHEMA,
    *wishes.SCHEMA,
    *marks.SCHEMA,
    *silence.SCHEMA,
    *devices.SCHEMA,
    *bthome_counters.SCHEMA,
    *modbus_memory.SCHEMA,
    *tokens.SCHEMA,
    *report_rows.SCHEMA,
    *quality_checks.SCHEMA,
    *alarm_rows.SCHEMA,
    *campaign_rows.SCHEMA,
    *programs.SCHEMA,
)


def load_vault(
    config: Config,
    environ: Mapping[str, str] = os.environ,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> keys.Vault:
    """The vault under the master key that the config names."""
    if config.keys.master_key_credential is not None:
        key = keys.load_credential(config.keys.master_key_credential, environ.get("CREDENTIALS_DIRECTORY"))
    else:
        key = keys.load_file(Path(str(config.keys.master_key_file)))
    return keys.Vault(key, random_bytes)


def open_store(
    config: Config,
    clock: TrustedClock,
    random_bytes: Callable[[int], bytes] = os.urandom,
    executor: Executor | None = None,
) -> Store:
    """The store in the data directory, with the registry's and the commands' tables."""
    return Store.open(
        Path(config.gateway.data_dir, DATABASE_NAME),
        clock=clock,
        random_bytes=random_bytes,
        extra_schema=EXTRA_SCHEMA,
        executor=executor,
    )


class Gateway:
    """Everything that runs, wired. Building it opens the store; `run` opens links and connections.

    A simulated world passes its own clock, randomness and executor of commits, and overrides what makes links and
    northbounds.
    """

    def __init__(
        self,
        config: Config,
        log: Logger,
        *,
        clock: TrustedClock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        executor: Executor | None = None,
    ) -> None:
        self.config = config
        self.log = log
        # Set to end this life: "stop", or why another one shall begin in its place.
        self.ending: asyncio.Future[str] | None = None
        self.reload: Reload | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.clock = clock or SystemClock(assume_synchronised=config.clock.assume_synchronised)
        vault = load_vault(config, random_bytes=random_bytes)
        self.store = open_store(config, self.clock, random_bytes, executor)
        for note in self.store.notes:
            log.warning("store_recovery", note=note)
        self.store.on_corrupt = lambda: self.end("the database is damaged")
        self.marks = marks.Marks(self.store)  # hears of commits before any northbound
        self.registry = Registry(self.store, vault, self.clock, config.gateway.area)
        self._damaged_keys: set[int] = set()
        self.routes = Routes()
        self.presence = Presence(self.clock)
        self.commands = Commands(self.store, self.registry, self.clock)
        self.wishes = Wishes(self.store, self.registry, self.clock)
        self.tokens = Tokens(self.store, self.clock, random_bytes)
        self.channels = Channels(self.store, self._keys_of, gateway_id=config.gateway.sender_id)
        self.downlink = Downlink(
            self.commands,
            self.wishes,
            self.routes,
            self.presence,
            self.clock,
            self._current_channel,
            random_bytes,
            log,
        )
        self.ingest = Ingest(
            self.store,
            self.channels,
            clock=self.clock,
            random_bytes=random_bytes,
            on_heard=self._heard,
        )
        self.downlink.attach(self.ingest.acks)
        epochs = OwnEpochs(self.store, random_bytes)
        self.devices = Devices(
            self.store, self.clock, config.device, config.profiles, gateway_name=config.gateway.name
        )
        self.accept = Accept(self.store, self.clock, epochs, self.devices)
        notices = Notices(self.store, self.clock, epochs)
        self.silence = Silence(self.store, self.registry, self.presence, self.clock, notices)
        self.accept.on_down = self.silence.tell_device
        self.bthome_counters = bthome_counters.Counters(self.store)
        self.commands.on_done = self._command_done
        self.registry.on_changed = self._node_changed
        self.parts: list[Part] = []
        self._part("store", watch=self._store_progress)
        downlink = self._part("downlink", self.downlink.run)
        self.downlink.on_progress = downlink.beat
        waiting = self._part("silence", self.silence.run)
        self.silence.on_progress = waiting.beat
        self.alarms = alarming.build(config, self._part, self.store, self.registry, self.marks, self.clock)
        self.links = [self._serial(section) for section in config.serial]
        self.air = self._build_air()
        self.hearing = None if self.air is None else self._build_hearing(self.air)
        self.campaigns = campaigning.build(self, self._part, self._current_channel, random_bytes)
        self.bluetooth = self._build_bluetooth(config.ble)
        self.buses = self._build_buses(config.modbus)
        self.northbounds = self._build_northbounds()
        self.upkeep = self._build_upkeep()
        self.restamp = Restamp(
            self.store, self.clock, self.ingest.boots, log, lambda: self.northbounds.values(),
            before=self.upkeep.clock_watch.look,
        )  # fmt: skip
        self.restamp.on_progress = self._part("clock", self.restamp.run).beat
        self.operations = Operations(
            self.registry, self.commands, self.wishes, self.tokens, self.status, self.inspect, self.device_status,
            self.reset_device, buses.Writer(self.buses, self.bluetooth, self.devices, self.store, self.clock).write,
            lambda: self.store.read(programs.every),
        )  # fmt: skip
        self.quality = quality_checks.QualityChecks(
            self.store, self.registry, self.clock, platforms(config.hj212)
        )
        self.quality.serve(self.operations)
        damage.serve(self.operations, self.store, self.clock)
        AlarmOperations(self.store, self.clock).serve(self.operations)
        campaigning.serve(self)
        console_operations.serve_lines(self)
        self.control = ControlServer(Path(config.gateway.data_dir, SOCKET_NAME), self.operations, log)
        self._part("control", self.control.run, watch=_answers_only)
        self.health = self._build_health()
        self.api = self._build_api()
        self.started_s = self.clock.monotonic()

    # --- building --------------------------------------------------------------------------------

    def _part(
        self,
        name: str,
        run: Callable[[], Awaitable[None]] | None = None,
        *,
        watch: Callable[[], object | None] | None = None,
    ) -> Part:
        part = Part(name, self.clock, run, watch=watch)
        self.parts.append(part)
        return part

    def launch_parts(self) -> None:
        """Run every part that does not run yet, beside those that do."""
        if self._group is None:
            return
        for part in self.parts:
            if part.name not in self._tasks:
                self._tasks[part.name] = self._group.create_task(part.supervise(self.log), name=part.name)

    async def end_part(self, name: str) -> None:
        """End one, while the others run on; returns when nothing of it runs any more."""
        self.parts[:] = [part for part in self.parts if part.name != name]
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _serial(self, section: SerialSection) -> SerialLink:
        part = self._part(f"serial:{section.name}")
        link = SerialLink(
            section.name, section.path, section.baud, self.ingest.frame, self.log, on_progress=part.beat
        )
        part.run = link.run
        return link

    def _build_air(self) -> radios.Air | None:
        is_known, now_s = self.registry.is_enrolled, self.clock.monotonic
        return radios.build(self.config, self._part, self.ingest.frame, is_known, now_s, self.log)

    def _build_hearing(self, air: radios.Air) -> Hearing:
        section = air.section
        return Hearing(
            air.law,
            self.presence,
            self.commands,
            self.clock,
            self.log,
            adapts=section.adr,
            sf_is_fixed=section.sf is not None,
        )

    def _build_bluetooth(self, sections: Iterable[BleSection]) -> dict[str, BlePoller]:
        counters = self.bthome_counters
        return bluetooth.build(
            sections, self._part, self.devices, self.accept, counters, self.clock, self.log
        )

    def _build_buses(self, sections: Iterable[ModbusSection]) -> dict[str, ModbusPoller]:
        return buses.build(sections, self._part, self.devices, self.accept, self.clock, self.log, self.store)

    def _build_northbounds(self) -> dict[str, Northbound]:
        made = {}
        for kind, section in self.config.northbounds:
            if section.enabled:
                made[section.name] = self.make_northbound(kind, section)
            else:
                self.log.warning("northbound_paused", northbound=section.name)
        return made

    def make_northbound(self, kind: str, section: Any) -> Northbound:
        """One, with its part."""
        northbound = self._northbound(kind, section)
        self._part(f"{kind}:{section.name}", northbound.run, watch=northbound.progress)
        return northbound

    def _northbound(self, kind: str, section: Any) -> Northbound:
        return KINDS[kind].build(section, self._context())

    def _context(self) -> Context:
        return Context(
            self.config.gateway.name,
            self.store,
            self.registry,
            self.clock,
            random.Random(),
            self.marks,
            self.devices,
            self.alarms.rules,
            self.alarms.areas,
        )

    def _build_upkeep(self) -> Upkeep:
        upkeep = Upkeep(
            self.store, self.clock, self.config.store, self.log,
            lambda: self.config.of_records, lambda: self.northbounds,
            free_bytes=self.free_bytes,
        )  # fmt: skip
        upkeep.on_hopeless = self.end
        upkeep.clock_watch.on_jump += [self.ingest.boots.clock_jumped, self.alarms.jumped]
        upkeep.on_progress = self._part("upkeep", upkeep.run).beat
        upkeep.retention.on_progress = self._part("retention", upkeep.retention.run).beat
        return upkeep

    def free_bytes(self, folder: Path) -> int:
        return disk_free_bytes(folder)

    def _build_health(self) -> HealthServer | None:
        section = self.config.health
        if not section.enabled:
            return None
        from gateway.metrics import Exporter  # costs 40 ms and 4 MB, which a gateway without the page keeps

        pages = {"/healthz": self.healthz, "/readyz": self.readyz, "/metrics": Exporter(self.picture).page}
        server = HealthServer(section.address, section.port, pages, self.log)
        self._part("health", server.run, watch=_answers_only)
        return server

    def _build_api(self) -> Api | None:
        section = self.config.api
        if section is None:
            return None
        from gateway.api import Api

        api = Api(self.operations, self.tokens, self.clock, self.log)
        tls = config_api.tls_context(section)
        server = HttpServer(
            "api", section.address, section.port, api.handle, self.log,
            tls=tls, body_bytes_max=limits.API_BODY_BYTES_MAX,
        )  # fmt: skip
        self._part("api", server.run, watch=_answers_only)
        return api

    def _keys_of(self, address: int) -> keys.NodeKeys | None:
        """The keys of a node; one whose row is damaged is told once and is then a stranger, and hurts nobody else."""
        try:
            return self.registry.keys_of(address)
        except KeyFileError as exc:
            if address not in self._damaged_keys:
                self._damaged_keys.add(address)
                self.log.error("node_key_damaged", node=f"{address:04x}", error=str(exc))
            return None

    def _current_channel(self, address: int) -> Any:
        node = self.channels.node(address)
        return None if node is None else node.current

    def _node_changed(self, address: int) -> None:
        """Keys are void: so is everything derived from them."""
        self._damaged_keys.discard(address)
        self.channels.forget(address)
        self.downlink.forget(address)
        self.silence.forget(address)
        self.alarms.forget(address)
        self.campaigns.engine.forget(address)
        if self.hearing is not None:
            self.hearing.forget(address)

    def _heard(self, heard: list[Heard]) -> None:
        self.downlink.on_heard(heard)
        self.silence.on_heard(heard)
        if self.hearing is not None:
            self.hearing.on_heard(heard)

    def _command_done(self, address: int, command: OpenCommand) -> None:
        if command.op == codes.SET_INTERVAL and isinstance(command.args, int):
            self.silence.promised_interval(address, command.args)
        if self.hearing is not None:
            self.hearing.command_done(address, command)

    # --- running ---------------------------------------------------------------------------------

    async def run(
        self,
        manager: ServiceManager | None = None,
        started: Callable[[], None] | None = None,
        reload: Reload | None = None,
    ) -> str:
        """Run every part until SIGTERM or SIGINT ("stop"), or until another life shall begin: why."""
        manager = manager or ServiceManager()
        loop = asyncio.get_running_loop()
        self.ending = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, STOP)
        if reload is not None:
            self.reload = reload
            loop.add_signal_handler(signal.SIGHUP, reload.hang_up)
            self._part("config", reload.run, watch=_answers_only)
        if self.store.corrupt:
            self.end("the database is damaged")
        open_commands = await self.commands.recover()
        await self.devices.begin(self.registry)
        await self.restamp.begin()
        self.log.info(
            "started", nodes=len(self.registry.nodes()), open_commands=open_commands, pid=os.getpid()
        )
        quieten_gc()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.launch_parts()
            watching = group.create_task(watch(self.parts, manager, self.log))
            manager.notify("READY=1", f"STATUS={len(self.links)} links, {len(self.northbounds)} northbounds")
            if started:
                started()
            why = await self.ending
            if why == STOP:
                manager.notify("STOPPING=1")
            self.log.info("stopping", why=why)
            for task in (*self._tasks.values(), watching):
                task.cancel()
        self.log.info("stopped")
        return why

    def end(self, why: str) -> None:
        """End this life; STOP ends the process with it."""
        if self.ending is not None and not self.ending.done():
            self.ending.set_result(why)

    def _store_progress(self) -> object | None:
        """Changes while the store commits; None while there is nothing to commit, or the disk refuses.

        A full disk is told by /readyz; starting the daemon again would not make room.
        """
        if self.store.failing is not None or not self.store.depth():
            return None
        return self.store.counters["commits"]

    # --- what it says of itself ------------------------------------------------------------------

    def healthz(self) -> Page:
        """503 while a part is stalled."""
        stalled = [part.name for part in self.parts if part.stalled]
        parts = {part.name: part.state for part in self.parts}
        return json_page(503 if stalled else 200, {"stalled": stalled, "parts": parts})

    def readyz(self) -> Page:
        """503, with reasons, while the gateway cannot do all of its job."""
        reasons = self.reasons()
        return json_page(503 if reasons else 200, {"reasons": reasons})

    def reasons(self) -> list[str]:
        """Why the gateway is not ready; empty when it is."""
        return account.reasons(self)

    def picture(self) -> dict[str, Any]:
        """Everything countable, for /metrics and status."""
        return account.picture(self)

    def status(self) -> dict[str, Any]:
        """What `tidegate gateway status` shows."""
        return account.status(self)

    def node_status(self, address: int) -> dict[str, Any]:
        """Its row in there."""
        return account.node_status(self, address)

    def inspect(self, address: int, after_event: int) -> dict[str, Any]:
        """What `tidegate node accept` looks at."""
        from gateway.inspection import inspect  # seldom asked for

        return inspect(self, address, after_event)

    def device_status(self) -> list[dict[str, Any]]:
        """What `tidegate gateway devices` shows."""
        return self.devices.rows(self.registry.place_of)

    async def reset_device(self, name: str, by: By) -> int:
        """Let an encrypted BTHome device count anew; the counter it had."""
        device = self.devices.get(name)
        return await self.bthome_counters.reset(device.address, name, self.clock.unix_ms(), by)


def _answers_only() -> None:
    """The watch of a part that only answers when asked: nothing to do is its normal state."""
