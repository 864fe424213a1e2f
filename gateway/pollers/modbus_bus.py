"""One Modbus bus on the event loop: keeps its port or connection open, and carries what its scheduler wants.

The scheduler is pure; here are the clock, the waiting and the opening. Whatever the medium does, `run` comes back by
itself: an unplugged adapter is looked for by its path, a connection is made anew with growing pauses, and one that is
half open (nothing is answered any more, by nobody on it) is closed and made again.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from gateway import limits
from gateway.errors import LinkError
from gateway.log import Logger
from gateway.pollers.modbus_device import DOWN, SUSPECT, UP
from gateway.pollers.modbus_ports import SERIAL, Place
from gateway.pollers.modbus_scheduler import Scheduler
from gateway.pollers.modbus_types import ANSWERED, LOST, REFUSED, Job, Outcome, Request, Write
from gateway.serial_problem import serial_problem

# A supervised part shows progress at least so often.
BEAT_S = 5.0
# That a bus was lost, and is back, is told so often at most.
LOST_TOLD_S = 60.0


class Exchanger(Protocol):
    """What carries one request at a time: modbus_client.Client."""

    counters: Counter[str]

    @property
    def is_open(self) -> bool: ...

    @property
    def place(self) -> Place: ...

    async def open(self) -> None: ...

    def close(self) -> None: ...

    def is_same_port(self) -> bool: ...

    async def exchange(
        self, request: Request, timeout_s: float, not_after_s: float = math.inf
    ) -> Outcome: ...


class Bus:
    """A scheduler and its medium. `run()` never returns; `write()` may be called at any time."""

    def __init__(
        self,
        name: str,
        client: Exchanger,
        scheduler: Scheduler,
        log: Logger,
        *,
        on_progress: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.client = client
        self.scheduler = scheduler
        self.counters: Counter[str] = Counter()
        self.last_error = ""
        self._log = log.bind(bus=name)
        self._on_progress = on_progress
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._heard_s = monotonic()
        self._unheard = 0
        self._checked_s = monotonic()
        self._closed_s = monotonic()
        self._opened_s = monotonic()
        self._has_asked = self._has_heard = self._has_closed = False  # since it was opened
        self._told_lost_s = -math.inf
        self._is_told_open = self._was_turned_away = False

    @property
    def is_open(self) -> bool:
        return self.client.is_open

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Open, serve until it is lost, and again; ends only by cancellation."""
        pause_s = limits.MODBUS_RECONNECT_MIN_S
        try:
            while True:
                self._on_progress()
                if await self._open():
                    await self._serve()
                    if self._has_heard or self._has_closed:
                        pause_s = limits.MODBUS_RECONNECT_MIN_S
                        continue
                    if not self._is_turned_away():
                        pause_s = limits.MODBUS_RECONNECT_MIN_S
                await self._pause(pause_s)
                if not self._is_absent():
                    pause_s = min(pause_s * 2, limits.MODBUS_RECONNECT_MAX_S)
        finally:
            self.client.close()

    def _is_turned_away(self) -> bool:
        """Whether the far side takes connections and ends them, as devices do that have too many already: asking again
        at once would keep both busy for nothing."""
        if not self._has_asked and self._closed_s - self._opened_s > limits.MODBUS_RECONNECT_MIN_S:
            return False  # it ends connections on which nothing is asked for a while
        self._tell_unavailable(
            f"{self.client.place}: the connection was taken and ended without an answer. Has the device other masters? "
            "Most take one to four connections."
        )
        self._was_turned_away = True
        return True

    def _tell_unavailable(self, reason: str) -> None:
        if reason != self.last_error:  # once, not twice a second for the weekend a cable is out
            self._log.warning("bus_unavailable", reason=reason)
            self.last_error = reason
            self._is_told_open = False

    def _tell_open(self) -> None:
        self.last_error, self._was_turned_away = "", False
        if not self._is_told_open:
            self._log.info("bus_open", at=str(self.client.place))
            self._is_told_open = True

    def _is_absent(self) -> bool:
        """A port that is not there is looked for by one stat(), as often as at first."""
        place = self.client.place
        return place.kind == SERIAL and not os.path.exists(place.path)

    async def _open(self) -> bool:
        place = self.client.place
        try:
            if self._is_absent():
                raise LinkError(serial_problem(place.path, FileNotFoundError(errno.ENOENT, "")))
            await self.client.open()
        except LinkError as exc:
            self.counters["open_errors"] += 1
            self._tell_unavailable(str(exc))
            return False
        self.counters["opens"] += 1
        if not self._was_turned_away:
            self._tell_open()
        self._opened_s = self._heard_s = self._checked_s = self._monotonic()
        self._unheard = 0
        self._has_asked = self._has_heard = self._has_closed = False
        self.scheduler.line_up(self._heard_s)
        return True

    async def _pause(self, pause_s: float) -> None:
        """Wait before the next try; writes expire meanwhile, and after a while nobody can be said to be up."""
        now_s = self._monotonic()
        self.scheduler.writes.expire(now_s)
        if now_s - self._closed_s >= limits.MODBUS_DOWN_AFTER_S:
            self.scheduler.line_down(now_s)
        until_s = min(self.scheduler.writes.next_expiry_s(), now_s + min(pause_s, BEAT_S))
        end_s = now_s + pause_s
        while now_s < end_s:
            await asyncio.sleep(max(0.001, min(until_s, end_s) - now_s))
            now_s = self._monotonic()
            self.scheduler.writes.expire(now_s)
            until_s = min(self.scheduler.writes.next_expiry_s(), now_s + BEAT_S)
            self._on_progress()

    async def _serve(self) -> None:
        while self.client.is_open:
            self._on_progress()
            now_s = self._monotonic()
            step = self.scheduler.next(now_s)
            if isinstance(step, Job):
                outcome = await self.client.exchange(step.request, step.timeout_s, step.not_after_s)
                now_s = self._monotonic()
                self.scheduler.done(now_s, step, outcome)
                self._look(now_s, outcome)
            else:
                await self._wait(min(step.until_s - now_s, BEAT_S))
        self._closed_s = self._monotonic()
        self.counters["losses"] += 1
        # Some devices end a connection after each answer: that is no news every second.
        if self._closed_s - self._told_lost_s >= LOST_TOLD_S:
            self._told_lost_s, self._is_told_open = self._closed_s, False
            self._log.warning("bus_lost", at=str(self.client.place))

    async def _wait(self, seconds: float) -> None:
        """Until something is due, or a write comes."""
        self._wake.clear()
        handle = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()

    def _look(self, now_s: float, outcome: Outcome) -> None:
        """Close what is no longer what it was: a renumbered port, a connection on which nobody answers."""
        self._has_asked = True
        if outcome.kind in (ANSWERED, REFUSED):
            if not self._has_heard:
                self._has_heard = True
                self._tell_open()  # one that turned others away may have taken this one
            self._heard_s, self._unheard = now_s, 0
            return
        if outcome.kind == LOST:
            return
        self._unheard += 1
        if now_s - self._checked_s < limits.SERIAL_CHECK_S:
            return
        self._checked_s = now_s
        if not self.client.is_same_port():
            self._log.warning("bus_renumbered", at=str(self.client.place))
            self._has_closed = True
            self.client.close()
        is_long = now_s - self._heard_s >= limits.MODBUS_HALF_OPEN_S
        if is_long and self._unheard >= limits.MODBUS_DOWN_AFTER_COUNT and self.client.place.kind != SERIAL:
            self.counters["half_open"] += 1
            self._has_closed = True
            self.client.close()

    # --- from outside ----------------------------------------------------------------------------

    def write(self, write: Write) -> str:
        """Queue a write; "" or why it is not taken. Its deadline is in seconds of `monotonic`."""
        refusal = self.scheduler.write(write, self._monotonic())
        self._wake.set()
        return refusal

    def picture(self) -> dict[str, float]:
        """Counters and gauges for /metrics."""
        states = Counter(state.state for state in self.scheduler.states)
        writes = {f"writes_{result}": count for result, count in self.scheduler.writes.counters.items()}
        heard = {f"heard_{what}": count for what, count in self.client.counters.items()}
        return {
            **dict.fromkeys(("requests", ANSWERED, REFUSED, "silent", "spoilt", "lost", "points_read"), 0),
            **self.scheduler.counters,
            **self.counters,
            **writes,
            **heard,
            "busy_seconds": self.scheduler.busy_s,
            "open": float(self.is_open),
            "devices_up": states[UP],
            "devices_suspect": states[SUSPECT],
            "devices_down": states[DOWN],
        }

    def device_pictures(self) -> dict[str, dict[str, Any]]:
        """The same by device."""
        return {
            state.device.name: {
                **dict.fromkeys(("requests", ANSWERED, REFUSED, "silent", "spoilt", "deadlines_missed"), 0),
                **state.counters,
                "state": state.shown,
                "latency_seconds": state.latency_s,
                "probe_pause_seconds": self.scheduler.probe_pause_s(index),
                "refused_ranges": sum(len(ranges) for ranges in state.refused.values()),
            }
            for index, state in enumerate(self.scheduler.states)
        }
