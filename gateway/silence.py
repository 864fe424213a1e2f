"""Nodes that have stopped talking: noticed, told once as an event, and told again when they are back.

A node is heard at least once in its heartbeat (SPEC.md 2.4), so one that is not heard for more than two is silent:
lost, stolen, drowned, empty, or its line is cut. It is told after 2.25 heartbeats and before 2.5.

What is counted is time in which this gateway listened. While it runs, that is the monotonic clock. Across a restart it
is the wall clock less the gateway's own absence, and only while that clock is trusted; what was heard last is in the
rows of the store (epoch.heard_ms). A clock that is not trusted, or that jumped, makes the waiting begin anew: late is
better than a false alarm for every node of a city. That a node is silent, and since when its city knows, is the latest
`node_silent` event of the store, so a kill neither forgets it nor tells it twice.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import limits
from gateway.absences import Absences
from gateway.batch import Batch
from gateway.clock import TrustedClock
from gateway.notices import Notices
from gateway.presence import Presence
from gateway.records import KIND_EVENT, OWN_EPOCHS
from gateway.registry import Registry
from gateway.store import Store
from protocols.wire import codes
from protocols.wire.messages import CLEARED, RAISED, Hello, SettingsReport, Status

if TYPE_CHECKING:
    from gateway.ingest import Heard

SCHEMA = (
    # What a node said of its settings, as far as they promise when it will be heard.
    """CREATE TABLE IF NOT EXISTS promise (
        node INTEGER PRIMARY KEY,
        interval_s INTEGER,
        report_s INTEGER,
        alarm_repeat_s INTEGER
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS alive (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        began_ms INTEGER NOT NULL,     -- when the clock was trusted first
        alive_ms INTEGER NOT NULL,     -- the latest note
        absences TEXT NOT NULL         -- JSON, unix seconds
    ) STRICT""",
    # Alarms are few beside readings and trips, and which are raised must be known at the start: found without a scan.
    f"""CREATE INDEX IF NOT EXISTS event_urgent ON event (epoch, code, id, state)
        WHERE kind = 2 AND code < {codes.URGENT_CODES}""",
)
_STATES = f"""SELECT e.node, e.number, v.code, v.state, max(v.id) FROM event v INDEXED BY event_urgent
    JOIN epoch e ON e.id = v.epoch WHERE v.kind = 2 AND v.code < {codes.URGENT_CODES}
    GROUP BY v.epoch, v.code ORDER BY max(v.id)"""
# Not the node's alarms: they do not shorten its heartbeat.
_NO_ALARMS = frozenset((codes.NODE_SILENT, codes.IN_MAINTENANCE, codes.ALARM_TEST, codes.SAFE_MODE))
_KEYS = (
    codes.SETTING_NAMES.index("interval_s"),
    codes.SETTING_NAMES.index("report_s"),
    codes.SETTING_NAMES.index("alarm_repeat_s"),
)
_HEALTH_KEYS = tuple(codes.HEALTH_NAMES.index(name) for name in ("interval_s", "report_s", "alarm_repeat_s"))


@dataclass(frozen=True, slots=True)
class Promise:
    """The settings of a node that say when it will be heard; None where it has not told."""

    interval_s: int | None = None
    report_s: int | None = None
    alarm_repeat_s: int | None = None

    def heartbeat_s(self, has_alarm: bool) -> int:
        """Within so long the node is heard at least once (SPEC.md 2.4)."""
        if self.interval_s is None or self.report_s is None:
            return limits.HEARTBEAT_UNKNOWN_S
        interval_s = self.interval_s
        if has_alarm and self.alarm_repeat_s is not None:
            interval_s = min(interval_s, self.alarm_repeat_s)
        return max(limits.HEARTBEAT_MIN_S, interval_s, self.report_s)


class Silence:
    """Waits for every registered node."""

    def __init__(
        self, store: Store, registry: Registry, presence: Presence, clock: TrustedClock, notices: Notices
    ) -> None:
        self._store = store
        self._registry = registry
        self._presence = presence
        self._clock = clock
        self._notices = notices
        self._started_s = self._looked_s = clock.monotonic()
        self._promises = store.read(_read_promises)
        # node: unix ms of the latest frame that an earlier life heard.
        self._heard_ms: dict[int, int] = {}
        for epoch in store.epochs.values():
            self._heard_ms[epoch.node] = max(epoch.heard_ms, self._heard_ms.get(epoch.node, 0))
        # node: codes of what is raised, node_silent too.
        self._raised: dict[int, set[int]] = {}
        for node, number, code, state, _ in store.read(lambda reader: reader.execute(_STATES).fetchall()):
            self._note_state(node, number, code, state)
        # node: state that is on its way to the disk.
        self._telling: dict[int, int] = {}
        self._absences = Absences()  # of this life, monotonic
        self._wall = _Wall(store)
        self._free_from_s = self._started_s + limits.RETURN_S  # nobody is called silent before
        self._noted_s = float("-inf")
        self._noted_ahead_s = 0.0  # of the wall clock before the monotonic one
        self._due: dict[int, float] = {}
        self._queue: list[tuple[float, int]] = []
        for known in registry.nodes():
            self.watch(known.address)
        store.on_commit.append(self._committed)
        store.on_undo.append(self._undone)
        self.on_progress: Callable[[], None] = lambda: None
        self.link_absent_s: Callable[[str, float, float], float] = lambda link, since_s, now_s: 0.0
        """For how much of a time (monotonic) nobody listened at the link of that name."""

    # ---- what is heard ---------------------------------------------------------------------------------------------

    def on_heard(self, heard: Sequence[Heard]) -> None:
        """What ingest tells after each commit; the presence knows of it already."""
        for entry in heard:
            message = entry.message
            if isinstance(message, Hello) and not entry.new:
                continue  # may be a recording, which must not keep a stolen node alive
            address = entry.node.address
            if self.is_silent(address):
                self._tell(address, CLEARED, None)
            if isinstance(message, Status):
                self._promised(address, [message.health.get(key) for key in _HEALTH_KEYS])
            elif isinstance(message, SettingsReport):
                self._promised(address, [message.document.get(key) for key in _KEYS])

    def promised_interval(self, address: int, interval_s: int) -> None:
        """The node has done a command that set its interval."""
        before = self._promises.get(address, Promise())
        self._promised(address, [interval_s, before.report_s, before.alarm_repeat_s])

    def _promised(self, address: int, told: Sequence[object]) -> None:
        promise = Promise(*(value if isinstance(value, int) else None for value in told))
        if promise == self._promises.get(address) or promise.interval_s is None:
            return
        self._promises[address] = promise
        row = address, promise.interval_s, promise.report_s, promise.alarm_repeat_s
        _put(self._store, _PUT_PROMISE, row)
        self.watch(address)

    def watch(self, address: int) -> None:
        """Something about that node is new: look at it soon."""
        self._at(address, self._clock.monotonic())

    def forget(self, address: int) -> None:
        """Its keys are void. A node that takes its place has promised nothing yet, and was never heard."""
        self._heard_ms.pop(address, None)
        self._promises.pop(address, None)
        self.watch(address)

    # ---- what is not heard -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            self.on_progress()
            await asyncio.sleep(limits.SILENCE_LOOK_S)

    def look(self) -> None:
        """One turn of `run`."""
        now_s = self._clock.monotonic()
        if now_s - self._looked_s > limits.SILENCE_LOOK_S + limits.ABSENCE_MIN_S:
            # Stopped, or starved: what came meanwhile may still wait to be read.
            self._absences.add(self._looked_s, now_s)
            self._excuse(now_s, now_s - self._looked_s)
        self._looked_s = now_s
        if self._clock.synchronised():
            jumped_s = abs(self._clock.unix_ms() / 1000 - now_s - self._noted_ahead_s)
            if now_s - self._noted_s >= limits.ALIVE_NOTE_S or jumped_s > limits.ABSENCE_MIN_S:
                self._note_alive(now_s)
        while self._queue and self._queue[0][0] <= now_s:
            at_s, address = heapq.heappop(self._queue)
            if self._due.get(address) == at_s:
                del self._due[address]
                self._judge(address, now_s)

    def _judge(self, address: int, now_s: float) -> None:
        waited_s = self.waited_s(address)
        if waited_s is None or address in self._telling or not self._registry.is_enrolled(address):
            return  # never heard, it has promised nothing; what is being told is looked at again when it is kept
        limit_s = self.heartbeat_s(address) * limits.SILENT_AFTER_BEATS
        if self.is_silent(address):
            if self._presence.of(address) is not None and waited_s <= limit_s:
                self._tell(address, CLEARED, None)  # heard while that was on its way to the disk
        elif waited_s <= limit_s:
            self._at(address, now_s + max(1.0, limit_s - waited_s))
        elif now_s < self._free_from_s:
            self._at(address, self._free_from_s)
        else:
            self._tell(address, RAISED, int(waited_s))

    def is_silent(self, address: int) -> bool:
        """Whether the city was told so."""
        return codes.NODE_SILENT in self._raised.get(address, ())

    def heartbeat_s(self, address: int) -> int:
        """Within so long that node should be heard."""
        has_alarm = bool(self._raised.get(address, set()) - _NO_ALARMS)
        return self._promises.get(address, Promise()).heartbeat_s(has_alarm)

    def waited_s(self, address: int) -> float | None:
        """For how long this gateway has listened to that node in vain; None when it never heard it."""
        now_s = self._clock.monotonic()
        seen = self._presence.of(address)
        since_s = self._started_s if seen is None else seen.heard_s
        waited_s = now_s - since_s - self._absences.within(since_s, now_s)
        if seen is not None:
            return waited_s - self.link_absent_s(seen.link, since_s, now_s)
        heard_ms = self._heard_ms.get(address)
        if not heard_ms:
            return None
        if not self._clock.synchronised() or self._noted_s == float("-inf"):
            return waited_s
        return max(waited_s, self._wall.listened_s(heard_ms / 1000, self._clock.unix_ms() / 1000))

    def tell_device(self, address: int, is_down: bool, waited_s: int | None) -> None:
        """A device has no heartbeat: its poller knows whether it is there. Told as of a node, once each way."""
        if is_down != self.is_silent(address):
            self._tell(address, RAISED if is_down else CLEARED, waited_s if is_down else None)

    # ---- telling ---------------------------------------------------------------------------------------------------

    def _tell(self, address: int, state: int, detail: int | None) -> None:
        if address not in self._telling:
            self._telling[address] = state
            self._notices.keep(address, codes.NODE_SILENT, state, detail)

    def _committed(self, batch: Batch) -> None:
        for event in batch.events:
            if event.kind == KIND_EVENT and event.code < codes.URGENT_CODES:
                node, number = event.ledger.node, event.ledger.number
                self._note_state(node, number, event.code, event.state)
                if number >= OWN_EPOCHS:
                    self._telling.pop(node, None)
                self.watch(node)  # its heartbeat may be another now, or its waiting begins

    def _undone(self, batch: Batch) -> None:
        for event in batch.events:
            if event.ledger.number >= OWN_EPOCHS and self._telling.pop(event.ledger.node, None) is not None:
                self.watch(event.ledger.node)

    def _note_state(self, node: int, number: int, code: int, state: int) -> None:
        if code == codes.NODE_SILENT and number < OWN_EPOCHS:
            return  # not for a node to say
        raised = self._raised.setdefault(node, set())
        if state == RAISED:
            raised.add(code)
        elif state == CLEARED:
            raised.discard(code)

    def _at(self, address: int, at_s: float) -> None:
        self._due[address] = at_s
        heapq.heappush(self._queue, (at_s, address))

    # ---- its own absence -------------------------------------------------------------------------------------------

    def _note_alive(self, now_s: float) -> None:
        """Write down that the gateway is there; the first time, what it missed before this start is known."""
        first = self._noted_s == float("-inf")
        since_s = self._started_s if first else self._noted_s
        up_s = now_s - since_s - self._absences.within(since_s, now_s)
        self._noted_s = now_s
        self._noted_ahead_s = self._clock.unix_ms() / 1000 - now_s
        absent_s = self._wall.note(self._clock.unix_ms() / 1000, up_s)
        if first:
            self._free_from_s = self._started_s
            self._excuse(self._started_s, absent_s)

    def _excuse(self, now_s: float, absent_s: float) -> None:
        self._free_from_s = max(self._free_from_s, now_s + min(limits.RETURN_S, 2 * absent_s))


class _Wall:
    """The gateway's absences by the wall clock, over all its lives; unix seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        row = store.read(
            lambda reader: reader.execute("SELECT began_ms, alive_ms, absences FROM alive").fetchone()
        )
        self._began_s: float | None = None if row is None else row[0] / 1000
        self._alive_s = 0.0 if row is None else row[1] / 1000
        self._absences = Absences(() if row is None else json.loads(row[2]))

    def note(self, now_s: float, up_s: float) -> float:
        """The gateway is alive, and has been for `up_s` without a break; how long it was not before that."""
        absent_s = 0.0
        if self._began_s is None:
            self._began_s = now_s - up_s
        elif now_s < self._alive_s:  # set back
            self._absences.forget_after(now_s)
        elif now_s - up_s - self._alive_s > limits.ABSENCE_MIN_S:
            absent_s = now_s - up_s - self._alive_s
            self._absences.add(self._alive_s, now_s - up_s)
        self._alive_s = now_s
        row = 1, int(self._began_s * 1000), int(now_s * 1000), json.dumps(self._absences.spans)
        _put(self._store, _PUT_ALIVE, row)
        return absent_s

    def listened_s(self, since_s: float, now_s: float) -> float:
        """For how much of since..now a gateway was listening; 0 when nobody can say."""
        if self._began_s is None or not self._began_s <= since_s <= now_s:
            return 0.0
        return now_s - since_s - self._absences.within(since_s, now_s)


_PUT_PROMISE = (
    "INSERT OR REPLACE INTO promise (node, interval_s, report_s, alarm_repeat_s) VALUES (?, ?, ?, ?)"
)
_PUT_ALIVE = "INSERT OR REPLACE INTO alive (id, began_ms, alive_ms, absences) VALUES (?, ?, ?, ?)"


def _put(store: Store, statement: str, row: tuple[object, ...]) -> None:
    """Write with the next commit. Nobody waits for it: should that fail, the next note says the same and more."""
    done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    store.batch.jobs.append((lambda writer: writer.execute(statement, row), done))
    store.schedule()


def _read_promises(reader: sqlite3.Connection) -> dict[int, Promise]:
    rows = reader.execute("SELECT node, interval_s, report_s, alarm_repeat_s FROM promise")
    return {node: Promise(*row) for node, *row in rows}
