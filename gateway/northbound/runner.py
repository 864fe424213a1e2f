"""Delivers committed records to one far side, at least once, whatever fails; the same for every kind of northbound.

What is owed is a set of row ids: everything committed and not confirmed. A row leaves it when the far side confirmed
it, and only then; nothing else moves the cursor. While a session is up there are three lanes, in this order:

    events      one strict cursor, in order of arrival
    live        readings committed while the session is up, handed over in memory, `resent` false
    backlog     everything else that is owed, read from the store in order, `resent` true

Live goes first, but a quarter of the window is the backlog's while there is one. What was in flight when a session
ends is owed again. What the far side refuses is put aside and offered again after a pause, and holds nobody up: only
while it refuses everything is the whole delivery paused. Readings that come faster than the far side takes them join
the backlog: memory is bounded, the disk is the queue.

Prior art: the outbox pattern; TCP's selective acknowledgement for "what is owed" (RFC 2018).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.batch import Batch
from gateway.clock import Clock
from gateway.errors import NorthboundError
from gateway.intervals import Intervals
from gateway.limits import (
    BACKLOG_CHUNK,
    CONFIRM_TIMEOUT_S,
    EVENTS_HELD_MAX,
    EVENTS_IN_FLIGHT_MAX,
    LIVE_QUEUE_MAX,
    OWED_RUNS_MAX,
    PROGRESS_PERIOD_S,
    RECONNECT_MAX_S,
    RECONNECT_MIN_S,
    REFUSED_IN_A_ROW_MAX,
    REFUSED_PAUSE_MAX_S,
    REFUSED_PAUSE_S,
)
from gateway.records import EVENTS, KIND_RESULT, READINGS, RESULTS, Event, Reading
from gateway.store import Store

log = logging.getLogger(__name__)


class Place(Protocol):
    """Where a record belongs."""

    @property
    def site(self) -> str: ...

    @property
    def area(self) -> str: ...


@dataclass(frozen=True, eq=False, slots=True)
class Destination:
    """What a sender may make an address from. One object per node, place and stream: senders cache by identity."""

    area: str
    site: str
    node: str
    stream: str


# (token, whether the far side took it). A token that was confirmed before is ignored.
OnConfirm = Callable[[int, bool], None]
# What a format makes goes to the session of its own sender as it is.
Format = Callable[[Reading | Event, str, bool], Any]


class Session(Protocol):
    """One connection of a sender."""

    window: int  # how many may be unconfirmed

    def publish(self, destination: Destination, payload: Any) -> int:
        """Send; a token by which it will be confirmed, unique among those in flight. Raises NorthboundError."""

    async def lost(self) -> str:
        """Wait until the connection is gone; says why."""

    def abort(self) -> None:
        """End the connection at once, without waiting for anybody."""


class Sender(Protocol):
    """Makes sessions."""

    async def connect(self, on_confirm: OnConfirm) -> Session:
        """A session that is ready to publish, in bounded time. Raises NorthboundError."""


class Runner:
    """One northbound. `run` is supervised by the daemon."""

    def __init__(
        self, name: str, store: Store, format: Format, sender: Sender, places: Callable[[int, int], Place],
        clock: Clock, rng: random.Random,
    ) -> None:  # fmt: skip
        self.name = name
        self.counters = dict.fromkeys(("delivered", "refused", "sessions", "stalls", "live_overflow"), 0)
        self._store = store
        self._format = format
        self._sender = sender
        self._places = places
        self._clock = clock
        self._rng = rng
        self._event_cursor, self._next_reading, self._owed = store.progress(name)
        self._session: Session | None = None
        # token: id of a reading, or minus the id of an event.
        self._in_flight: dict[int, int] = {}
        self._confirmed: list[int] = []
        self._live: deque[Reading] = deque()
        self._backlog = Intervals()
        self._chunk: deque[Reading] = deque()
        self._backlog_keys: set[int] = set()
        # In flight with a time that is another one by now.
        self._outdated: set[int] = set()
        self._event_sent = self._event_cursor
        # Those between the cursor and the last one sent; and how many of them are unconfirmed and not refused.
        self._events_held: deque[int] = deque()
        self._events_out = 0
        self._events_confirmed: set[int] = set()
        self._events_resent_to = 0
        self._events: deque[Event] = deque()
        self._destinations: dict[tuple[int, Place, str], Destination] = {}
        self._pump_due = False
        self._saved_s = 0.0
        self._progressed_s = 0.0
        self._paused_until_s = 0.0
        # Refused, and when they are offered again: events soon, readings each time later.
        self._refused_readings = Intervals()
        self._refused_events: list[int] = []
        self._again_s: float | None = None
        self._events_again_s: float | None = None
        self._offered_again = Intervals()
        self._again_pause_s = REFUSED_PAUSE_S
        self._refused_in_a_row = 0
        self._saved: tuple[int, int, bytes] | None = None
        self.why_not = ""  # connected: what the far side or the way to it said last
        store.on_commit.append(self._committed)
        self._catch_up()

    # ---- the story -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, deliver until the session ends, and again, for ever."""
        pause_s = RECONNECT_MIN_S
        told = ""
        was_away = False
        while True:
            try:
                session = await self._sender.connect(self._on_confirm)
            except NorthboundError as error:
                self.why_not, was_away = str(error), True
                if str(error) != told:  # an outage is one line in the log, not one a second
                    told = str(error)
                    log.warning("%s: %s; trying again until it works", self.name, told)
                await asyncio.sleep(pause_s * (0.5 + 0.5 * self._rng.random()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)
                continue
            self.counters["sessions"] += 1
            self.why_not = ""
            began_s, before = self._clock.monotonic(), self.counters["delivered"]
            if was_away or not told:
                again = " again" if was_away else ""
                log.info("%s: connected%s, %d records are owed", self.name, again, self.status()["backlog"])
            was_away = False
            try:
                self._begin(session)
                why = await self._watch(session)
            finally:
                session.abort()
                self._end()
            self.why_not = why
            if why != told:
                log.warning("%s: session ended: %s", self.name, why)
            if self.counters["delivered"] > before or self._clock.monotonic() - began_s > CONFIRM_TIMEOUT_S:
                pause_s, told = RECONNECT_MIN_S, ""
                continue
            # Somebody who only accepts and hangs up: no reason to come back faster than to one who is away.
            told = why
            await asyncio.sleep(pause_s * (0.5 + 0.5 * self._rng.random()))
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _watch(self, session: Session) -> str:
        """Until the session ends by itself, or confirms nothing for too long: then it is half open."""
        lost = asyncio.ensure_future(session.lost())
        try:
            while True:
                done, _ = await asyncio.wait({lost}, timeout=CONFIRM_TIMEOUT_S / 4)
                if done:
                    return lost.result()
                silent_s = self._clock.monotonic() - self._progressed_s
                if self._in_flight and silent_s > CONFIRM_TIMEOUT_S:
                    self.counters["stalls"] += 1
                    return f"{len(self._in_flight)} records are unconfirmed and none was confirmed for {silent_s:.1f} s"
                self._save(force=False)
                self._pump()
        finally:
            lost.cancel()

    def _begin(self, session: Session) -> None:
        self._session = session
        self._progressed_s = self._clock.monotonic()
        self._events_resent_to = self._store.last_event
        self._event_sent = self._event_cursor
        self._backlog = Intervals.unpack(self._owed.pack())
        self._pump()

    def _end(self) -> None:
        """Whatever was not confirmed is owed again; it never left the set."""
        self._session = None
        self._settle()
        self._in_flight.clear()
        self._live.clear()
        self._chunk.clear()
        self._events.clear()
        self._events_held.clear()
        self._events_out = 0
        self._events_confirmed.clear()
        self._refused_readings = Intervals()
        self._refused_events.clear()
        self._again_s = self._events_again_s = None
        self._offered_again, self._again_pause_s = Intervals(), REFUSED_PAUSE_S
        self._backlog_keys.clear()
        self._outdated.clear()
        self._save(force=True)

    # ---- what comes in -------------------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        readings = batch.readings
        if readings:
            first, last = readings[0].id, readings[-1].id
            self._owed.add(first, last)
            self._next_reading = last + 1
            if self._session is not None:
                if len(self._live) + len(readings) > LIVE_QUEUE_MAX:
                    self.counters["live_overflow"] += len(readings)
                    self._backlog.add(first, last)
                else:
                    self._live.extend(readings)
        if (readings or batch.events) and self._session is not None:
            self._pump()

    async def restamped(self, rows: Intervals, old: tuple[int, int], new: tuple[int, int]) -> None:
        """These readings have other times: owed once more. Durable with the caller's next write."""
        in_flight = {key for key in self._in_flight.values() if key in rows} | {
            key for key in self._confirmed if key in rows
        }
        for first, last in rows:
            self._owed.add(first, last)
            if self._session is not None:
                self._backlog.add(first, last)
        self._live = deque(reading for reading in self._live if reading.id not in rows)
        # Read anew, all of it: what is left of it would overtake what comes back behind it.
        for reading in self._chunk:
            self._backlog.add(reading.id, reading.id)
        self._chunk.clear()
        self._outdated |= in_flight
        for key in in_flight:
            self._backlog.remove(key, key)
        self._save(force=True)
        self._pump()

    def _catch_up(self) -> None:
        """Rows committed before this northbound was made, or while it was switched off."""
        last = self._store.next_reading - 1
        if self._next_reading <= last:
            self._owed.add(self._next_reading, last)
            self._next_reading = last + 1

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Fill the window."""
        self._pump_due = False
        session = self._session
        if session is None or self._clock.monotonic() < self._paused_until_s:
            return
        if self._confirmed:
            self._settle()
        try:
            self._offer_again(session)
            self._pump_events(session)
            self._pump_live(session)
            self._pump_backlog(session)
        except NorthboundError as error:
            log.warning("%s: %s", self.name, error)
            session.abort()

    def _pump_events(self, session: Session) -> None:
        while self._event_sent < self._store.last_event:
            if len(self._in_flight) >= session.window or self._events_out >= EVENTS_IN_FLIGHT_MAX:
                return
            if len(self._events_held) >= EVENTS_HELD_MAX:
                return
            if not self._events:
                self._events.extend(self._store.events(self._event_sent, EVENTS_IN_FLIGHT_MAX))
                if not self._events:
                    return
            event = self._events.popleft()
            self._send_event(session, event, event.id <= self._events_resent_to)
            self._event_sent = event.id
            self._events_held.append(event.id)

    def _send_event(self, session: Session, event: Event, resent: bool) -> None:
        stream = RESULTS if event.kind == KIND_RESULT else EVENTS
        self._events_out += 1
        self._send(session, event, stream, resent, -event.id)

    def _pump_live(self, session: Session) -> None:
        live = self._live
        if not live:
            return
        room = session.window - len(self._in_flight)
        if self._backlog or self._chunk:
            room -= max(0, session.window // 4 - len(self._backlog_keys))
        while room > 0 and live:
            reading = live.popleft()
            self._send(session, reading, READINGS, False, reading.id)
            room -= 1

    def _pump_backlog(self, session: Session) -> None:
        room = session.window - len(self._in_flight)
        if self._live:
            room = min(room, session.window // 4 - len(self._backlog_keys))
        while room > 0 and (self._chunk or self._read_chunk()):
            reading = self._chunk.popleft()
            self._send(session, reading, READINGS, True, reading.id)
            self._backlog_keys.add(reading.id)
            room -= 1

    def _read_chunk(self) -> bool:
        """Read on in the backlog; whether there was anything."""
        while self._backlog:
            first = self._backlog.starts[0]
            last = min(self._backlog.ends[0], first + BACKLOG_CHUNK - 1)
            self._backlog.remove(first, last)
            rows = self._store.readings(first, last, BACKLOG_CHUNK)
            if len(rows) < last - first + 1:
                self._disown(first, last, rows)
            if rows:
                self._chunk.extend(rows)
                return True
        return False

    def _disown(self, first: int, last: int, rows: list[Reading]) -> None:
        """Ids of a commit that failed, or rows that were evicted: there is nothing to deliver."""
        there = Intervals()
        for row in rows:
            there.add(row.id, row.id)
        for gap in there.missing(first, last):
            self._owed.remove(*gap)

    def _send(self, session: Session, record: Reading | Event, stream: str, resent: bool, key: int) -> None:
        ledger = record.ledger
        place = self._places(ledger.node, record.received_ms)
        destination = self._destinations.get((ledger.node, place, stream))
        if destination is None:
            destination = Destination(place.area, place.site, f"{ledger.node:04x}", stream)
            self._destinations[ledger.node, place, stream] = destination
        if not self._in_flight:
            self._progressed_s = self._clock.monotonic()
        self._in_flight[session.publish(destination, self._format(record, place.site, resent))] = key

    # ---- what comes back -----------------------------------------------------------------------------------------

    def _on_confirm(self, token: int, taken: bool) -> None:
        """The far side answered for one record. Called often: the work is done once per turn of the loop."""
        key = self._in_flight.pop(token, None)
        if key is None:
            return
        if key < 0:
            self._events_out -= 1
        if taken:
            self._refused_in_a_row = 0
            self._confirmed.append(key)
        else:
            self._refused(key)
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _refused(self, key: int) -> None:
        """The far side said no: still owed, and offered again after a pause."""
        self.counters["refused"] += 1
        now_s = self._clock.monotonic()
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= REFUSED_IN_A_ROW_MAX:
            self._paused_until_s = now_s + REFUSED_PAUSE_S
        if key > 0:
            if self._again_s is None:
                self._again_s = now_s + self._again_pause_s
            self._outdated.discard(key)
            self._backlog_keys.discard(key)
            self._refused_readings.add(key, key)
        else:
            if self._events_again_s is None:
                self._events_again_s = now_s + REFUSED_PAUSE_S
            self._refused_events.append(-key)

    def _offer_again(self, session: Session) -> None:
        """What was refused a while ago."""
        now_s = self._clock.monotonic()
        if self._again_s is not None and now_s >= self._again_s:
            self._offer_readings_again()
        if self._events_again_s is not None and now_s >= self._events_again_s:
            self._offer_events_again(session)

    def _offer_readings_again(self) -> None:
        """A line is not filled for days with what nobody takes: the pause doubles until one of them is taken."""
        self._again_s = None
        self._again_pause_s = min(2 * self._again_pause_s, REFUSED_PAUSE_MAX_S)
        self._offered_again, self._refused_readings = self._refused_readings, Intervals()
        for first, last in self._offered_again:
            self._backlog.add(first, last)

    def _offer_events_again(self, session: Session) -> None:
        """An event goes at once, behind those that overtook it; the cursor waits."""
        self._events_again_s = None
        events, self._refused_events = self._refused_events, []
        for event_id in sorted(events):
            if len(self._in_flight) >= session.window or self._events_out >= EVENTS_IN_FLIGHT_MAX:
                self._refused_events.append(event_id)
                self._events_again_s = self._clock.monotonic() + REFUSED_PAUSE_S
                continue
            found = self._store.events(event_id - 1, 1)
            if found and found[0].id == event_id:
                self._send_event(session, found[0], True)
            else:  # evicted meanwhile
                self._confirmed.append(-event_id)

    def _settle(self) -> None:
        """Take what was confirmed out of what is owed."""
        confirmed, self._confirmed = self._confirmed, []
        if not confirmed:
            return
        self._progressed_s = self._clock.monotonic()
        self.counters["delivered"] += len(confirmed)
        confirmed.sort()
        owed = self._owed
        first = last = 0
        for key in confirmed:
            if key < 0:
                self._events_confirmed.add(-key)
                continue
            if self._offered_again and key in self._offered_again:
                self._again_pause_s = REFUSED_PAUSE_S
            if key == last + 1 and first:
                last = key
            else:
                if first:
                    owed.remove(first, last)
                first = last = key
        if first:
            owed.remove(first, last)
        while self._events_held and self._events_held[0] in self._events_confirmed:
            self._event_cursor = self._events_held.popleft()
            self._events_confirmed.discard(self._event_cursor)
        if self._backlog_keys:
            self._backlog_keys.difference_update(confirmed)
        for key in self._outdated.intersection(confirmed):
            self._outdated.discard(key)
            owed.add(key, key)
            self._backlog.add(key, key)
        self._save(force=False)

    def _save(self, *, force: bool) -> None:
        """Hand the progress to the store, now and then: what is lost of it with a kill is sent once more."""
        now_s = self._clock.monotonic()
        if force or now_s - self._saved_s >= PROGRESS_PERIOD_S:
            progress = self._event_cursor, self._next_reading, self._bounded_owed()
            if progress != self._saved:
                self._saved = progress
                self._saved_s = now_s
                self._store.save_progress(self.name, *progress)

    def _bounded_owed(self) -> bytes:
        """What is owed, in at most OWED_RUNS_MAX runs; joining the last ones sends what lies between once more."""
        owed = self._owed
        if len(owed) <= OWED_RUNS_MAX:
            return owed.pack()
        bounded = Intervals.unpack(owed.pack())
        bounded.add(owed.starts[OWED_RUNS_MAX - 1], owed.ends[-1])
        return bounded.pack()

    def queued(self) -> int:
        """Readings handed over and not yet sent."""
        return len(self._live)

    def close(self) -> None:
        """`run` has ended for good: hear of no further commit."""
        self._store.on_commit.remove(self._committed)

    def held(self) -> tuple[int, int, Intervals]:
        """What must stay in the store for this far side: (event cursor, next reading, what is owed below it)."""
        self._settle()
        return self._event_cursor, self._next_reading, self._owed

    def evicted(self, runs: Intervals) -> None:
        """There was no room: these readings are not there any more."""
        for first, last in runs:
            self._owed.remove(first, last)
            self._backlog.remove(first, last)

    # ---- for people ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """How the delivery is doing. `backlog` is everything that is owed, what is in flight included."""
        return {
            **self.counters,
            "connected": self._session is not None,
            "backlog": self._owed.count() + self._store.count_events(self._event_cursor),
            "in_flight": len(self._in_flight),
            "event_cursor": self._event_cursor,
            "oldest_undelivered_ms": self._oldest_ms(),
        }

    def _oldest_ms(self) -> int | None:
        first_reading = self._owed.starts[0] if self._owed else None
        return self._store.oldest_received_ms(first_reading, self._event_cursor)
