"""What goes down to a node, and when: acks after each commit, the time, commands, and a ping to be heard.

Everything is decided when something was heard, because time and commands name the uplink they answer
(SPEC 2.2). The ack is built by ingest from its ledgers; the rest is built here. A downlink that cannot go
out now is not kept: the next uplink asks again, and what is decided then is newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway import limits
from gateway.clock import TrustedClock
from gateway.commands import Commands
from gateway.ingest import Heard
from gateway.ingest import Link as AnyLink
from gateway.links.routes import Link, Routes
from gateway.log import Logger
from gateway.parts import guard
from gateway.presence import Presence, Seen
from gateway.wishes import Wishes
from protocols.wire import messages
from protocols.wire.codes import HEALTH_NAMES
from protocols.wire.messages import Command, Hello, Ping, Result, Settings, SettingsReport, Status, Time

if TYPE_CHECKING:
    from gateway.updating import Updating

_SETTINGS_VERSION = HEALTH_NAMES.index("settings_version")


class Channel(Protocol):
    """A sealed way to one node. `seal` gives None while no downlink PIV may be used yet."""

    def seal(self, plain: bytes) -> bytes | None: ...


class Downlink:
    """Answers what was heard. `on_heard` is what ingest calls after each commit; `run` does what time brings."""

    def __init__(
        self,
        commands: Commands,
        wishes: Wishes,
        routes: Routes,
        presence: Presence,
        clock: TrustedClock,
        current_channel: Callable[[int], Channel | None],
        random_bytes: Callable[[int], bytes],
        log: Logger,
    ) -> None:
        self._commands = commands
        commands.on_added = self._added
        self._wishes = wishes
        self._routes = routes
        self._presence = presence
        self._clock = clock
        self._current_channel = current_channel
        self._random_bytes = random_bytes
        self._log = log
        self._acks: Callable[[list[Heard]], Iterable[tuple[AnyLink, int, bytes]]] = lambda heard: ()
        self.updates: Updating | None = None
        self._last: dict[int, Heard] = {}
        self.working: set[asyncio.Task[None]] = set()
        self._sending: set[int] = set()  # nodes a command is on its way to
        self.on_progress: Callable[[], None] = lambda: None
        self.counters = dict.fromkeys(
            ("ack", "time", "command", "settings", "ping", "not_sent", "errors", "stray_result"), 0
        )

    def attach(self, acks: Callable[[list[Heard]], Iterable[tuple[AnyLink, int, bytes]]]) -> None:
        """Take `Ingest.acks`: ingest is built with `on_heard`, so it comes last."""
        self._acks = acks

    # --- what was heard --------------------------------------------------------------------------

    def on_heard(self, heard: list[Heard]) -> None:
        """Acknowledge everything that asks for it at once, then give each node what it should know."""
        for link, address, frame in self._acks(
            [self._owing(entry) for entry in heard if self._is_owed(entry)]
        ):
            self._count("ack", link.send(address, frame))
        now_s, now_ms = self._clock.monotonic(), self._clock.unix_ms()
        latest: dict[int, Heard] = {}
        for entry in heard:
            if isinstance(entry.message, Hello) and not entry.new:
                continue  # the first step of a join may be a recording: it must not draw a node's downlinks
            address = entry.node.address
            self._routes.heard(address, cast(Link, entry.link))  # all links of a gateway are such
            self._presence.heard(address, entry.link.name, entry.message, now_s, now_ms)
            latest[address] = entry
            if isinstance(entry.message, Result) and entry.new:
                self._spawn(self._result(address, entry.message))
            elif isinstance(entry.message, (Status, SettingsReport)):
                self._note_settings(address, entry.message)
        for address, entry in latest.items():
            self._last[address] = entry
            self._tell_time(address, entry)
            self._tell_settings(address, entry)
            self._tell_command(address)
            self._tell_update(address, entry)

    def forget(self, address: int) -> None:
        """The node's keys are void."""
        self._last.pop(address, None)
        self._routes.forget(address)
        self._presence.forget(address)

    def _is_owed(self, entry: Heard) -> bool:
        """Whether an ack is due (SPEC 7.4): the node asked, a record is missing, or more goes down anyway."""
        link = cast(Link, entry.link)
        if link.wants_answer or (entry.ledger is not None and entry.ledger.runs):
            return True
        return self._has_news(entry)

    def _owing(self, entry: Heard) -> Heard:
        """On the air a status is sent until something answers it; when there is nothing else, an ack does."""
        link = cast(Link, entry.link)
        if entry.ledger is not None or link.listens or not link.wants_answer or self._has_news(entry):
            return entry
        return entry._replace(ledger=entry.channel.ledger)

    def _has_news(self, entry: Heard) -> bool:
        """Whether there is something for this node beside an ack."""
        address = entry.node.address
        seen = self._presence.of(address)
        return (
            self._wishes.due(address) is not None
            or self._commands.due(address) is not None
            or (self._clock.synchronised() and (seen is None or self._needs_time(seen, entry.message)))
        )

    def _tell_time(self, address: int, entry: Heard) -> None:
        seen = self._presence.of(address)
        if seen is None or not self._clock.synchronised() or not self._needs_time(seen, entry.message):
            return
        seconds, millis = divmod(self._clock.unix_ms(), 1000)
        if self._send("time", address, entry.channel, Time(entry.piv, seconds, millis)):
            seen.time_sent_s = self._clock.monotonic()

    def _needs_time(self, seen: Seen, message: object) -> bool:
        """After a boot, when its clock is off or not trusted, and every few hours."""
        if isinstance(message, Hello):
            return True
        if isinstance(message, Status) and message.tq != messages.GNSS:
            off_s = abs(message.time - self._clock.unix_ms() // 1000)
            if message.tq != messages.SYNCHRONISED or off_s > limits.CLOCK_OFFSET_MAX_S:
                return True
        return seen.time_sent_s is None or self._clock.monotonic() - seen.time_sent_s > limits.TIME_PERIOD_S

    async def _result(self, address: int, result: Result) -> None:
        if not await self._commands.result(address, result):
            self.counters["stray_result"] += 1
        self._tell_command(address)

    # --- settings --------------------------------------------------------------------------------

    def _note_settings(self, address: int, message: Status | SettingsReport) -> None:
        if isinstance(message, SettingsReport):
            self._spawn(self._wishes.reported(address, message.version, message))
            return
        version = message.health.get(_SETTINGS_VERSION)
        if isinstance(version, int):
            self._spawn(self._wishes.reported(address, version))

    def _tell_settings(self, address: int, entry: Heard) -> None:
        wish = self._wishes.due(address)
        if wish is None or isinstance(entry.message, SettingsReport):
            return  # a report may be about this very wish: what it says is noted first
        message = Settings(entry.piv, wish.version, wish.document)
        if self._send("settings", address, entry.channel, message):
            self._wishes.sent(wish)

    # --- commands --------------------------------------------------------------------------------

    def _tell_command(self, address: int) -> None:
        if address not in self._sending and self._commands.due(address) is not None:
            self._sending.add(address)
            self._spawn(self._send_command(address))

    def _added(self, address: int) -> None:
        """A node that was heard just now still listens, and may be asleep before a ping would find it awake."""
        seen, entry = self._presence.of(address), self._last.get(address)
        if seen is None or entry is None or not cast(Link, entry.link).can_answer:
            return
        if self._clock.monotonic() - seen.heard_s <= limits.COMMAND_FRESH_S:
            self._tell_command(address)

    async def _send_command(self, address: int) -> None:
        """Send the command that is due, in answer to the newest uplink there is once it is noted as sent."""
        try:
            command = self._commands.due(address)
            if command is None:
                return
            await self._commands.about_to_send(command)
            entry = self._last.get(address)
            ttl_s = command.ttl_s(self._clock.monotonic())
            if entry is None or ttl_s < 1:
                return
            message = Command(entry.piv, command.command_id, ttl_s, command.op, command.args)
            self._send("command", address, entry.channel, message)
        finally:
            self._sending.discard(address)

    def _ping(self, address: int) -> None:
        """Ask a node that listens for an uplink, because a command waits for one."""
        seen, link = self._presence.of(address), self._routes.link_to(address)
        channel = self._current_channel(address)
        if seen is None or link is None or channel is None or not link.listens:
            return
        now_s = self._clock.monotonic()
        doublings = min(max(0, seen.pings_unanswered - 1), 8)
        pause_s = min(limits.PING_S * 2**doublings, limits.PING_MAX_S)
        if seen.ping_sent_s is None or now_s - seen.ping_sent_s >= pause_s:
            seen.ping_sent_s = now_s
            seen.pings_unanswered += 1
            self._send("ping", address, channel, Ping(int.from_bytes(self._random_bytes(4), "big")))

    async def run(self) -> None:
        """End commands that are too late and ping for those that wait."""
        while True:
            self.on_progress()
            await self.look()
            await asyncio.sleep(limits.DOWNLINK_PERIOD_S)

    async def look(self) -> None:
        """One turn of `run`."""
        await self._commands.expire()
        for address in self._commands.nodes():
            if self._commands.due(address) is not None:
                self._ping(address)
        for address in self._wishes.nodes():
            if self._wishes.due(address) is not None:
                self._ping(address)

    # --- updates ---------------------------------------------------------------------------------

    def _tell_update(self, address: int, entry: Heard) -> None:
        """Last of all: what a campaign has to say, unless something else waits for this node."""
        if self.updates is None:
            return
        is_of_it = self.updates.concerns(entry)
        waits = self._commands.due(address) is not None or self._wishes.due(address) is not None
        if is_of_it or (self.updates.has_news(address) and not waits):
            self._spawn(self._update(self.updates, entry, is_of_it=is_of_it, waits=waits))

    async def _update(self, updates: Updating, entry: Heard, *, is_of_it: bool, waits: bool) -> None:
        if is_of_it:
            await updates.heard(entry)
        if not waits:
            await updates.tell(entry)

    # --- sending ---------------------------------------------------------------------------------

    def _send(self, what: str, address: int, channel: Channel, message: messages.Down) -> bool:
        frame = channel.seal(messages.encode(message))
        return self._count(what, frame is not None and self._routes.send(address, frame))

    def _count(self, what: str, is_sent: bool | None) -> bool:
        self.counters[what if is_sent else "not_sent"] += 1
        return bool(is_sent)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what needs the disk without holding up the acks of the next commit."""
        task = asyncio.ensure_future(self._attempt(work))
        self.working.add(task)
        task.add_done_callback(self.working.discard)

    async def _attempt(self, work: Coroutine[Any, Any, None]) -> None:
        """What fails here, because the store refuses, say, is decided anew at the next uplink."""
        if not await guard(work, self._log, "downlink_failed"):
            self.counters["errors"] += 1
