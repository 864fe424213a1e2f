"""Supervised parts: each link, each northbound and each helper of the daemon runs as one, beside the others.

A part that fails is logged, counted and started again after a growing pause; it never takes another one
down. A part that neither works nor says that there is nothing to do is stalled: that shows in /healthz,
and systemd is no longer told that all is well.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway import limits
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.log import Logger


class Part:
    """One supervised part. `run` is expected to go on until it is cancelled.

    A part shows progress by calling `beat`, or has a `watch`: a function whose value changes with progress, and
    is None when there is nothing to do.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        run: Callable[[], Awaitable[None]] | None = None,
        *,
        watch: Callable[[], object | None] | None = None,
    ) -> None:
        self.name = name
        self.state = "starting"  # starting, running, failed, stopped
        self.failures = 0
        self.last_error = ""
        self.run = run or _for_ever
        self._clock = clock
        self._watch = watch
        self._seen: object | None = None
        self._beat_s = clock.monotonic()

    def beat(self) -> None:
        """The part has just made progress."""
        self._beat_s = self._clock.monotonic()

    def idle_s(self) -> float:
        """Seconds since the last progress."""
        return self._clock.monotonic() - self._beat_s

    def look(self) -> None:
        """Ask the watch, if there is one. Called about once a second."""
        if self._watch is None:
            return
        now = self._watch()
        if now is None or now != self._seen:
            self.beat()
        self._seen = now

    @property
    def stalled(self) -> bool:
        """Whether the part should have made progress and has not."""
        return self.state == "running" and self.idle_s() > limits.PART_STALLED_S

    async def supervise(self, log: Logger) -> None:
        """Run the part for ever. Ends only by cancellation."""
        pause_s = limits.PART_RETRY_MIN_S
        while True:
            started_s = self._clock.monotonic()
            self.state = "running"
            self.beat()
            try:
                await self.run()
                self.last_error = "ended by itself"
            except asyncio.CancelledError:
                self.state = "stopped"
                raise
            except Exception as exc:  # whatever it is, the other parts go on
                if _is_being_cancelled():  # and failed at cleaning up
                    self.state = "stopped"
                    raise asyncio.CancelledError from exc
                self.last_error = f"{type(exc).__name__}: {exc}"
                log.error("part_failed", part=self.name, error=self.last_error, exc_info=exc)
            self.failures += 1
            self.state = "failed"
            if self._clock.monotonic() - started_s >= limits.PART_SETTLED_S:
                pause_s = limits.PART_RETRY_MIN_S
            log.warning("part_restarts", part=self.name, in_s=pause_s, failures=self.failures)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, limits.PART_RETRY_MAX_S)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _for_ever() -> None:
    """What a part does that has no loop of its own and is only watched."""
    await asyncio.Event().wait()


async def guard(work: Coroutine[Any, Any, None], log: Logger, event: str) -> bool:
    """Run the top of a short task: what it did not foresee is logged as `event` and goes no further.

    False when it failed, for the caller's counter.
    """
    try:
        await work
    except GatewayError as exc:  # foreseen, and its message says enough
        log.error(event, error=str(exc))
        return False
    except Exception as exc:  # one request or one answer must not end the part that serves them
        log.error(event, error=repr(exc), exc_info=exc)
        return False
    return True


class ServiceManager:
    """systemd's notification socket; does nothing where there is none."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        values = os.environ if environ is None else environ
        self._address = values.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(values.get("WATCHDOG_USEC", ""), values.get("WATCHDOG_PID", ""))

    def notify(self, *lines: str) -> None:
        """Send `lines` such as READY=1. A manager that does not listen is not our trouble."""
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        ) as out:
            try:
                out.sendto("\n".join(lines).encode(), address)
            except OSError:
                return


def _watchdog_s(microseconds: str, pid: str) -> float | None:
    """How long the service manager waits for a sign of life; None when it does not wait."""
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None


async def watch(parts: list[Part], manager: ServiceManager, log: Logger, period_s: float = 1.0) -> None:
    """Look at every part about once a second; feed the watchdog only while none is stalled."""
    reported: set[str] = set()
    if manager.watchdog_s is not None:
        period_s = min(period_s, manager.watchdog_s / 3)
    while True:
        for part in parts:
            part.look()
        stalled = {part.name for part in parts if part.stalled}
        for name in stalled - reported:
            log.error("part_stalled", part=name, after_s=limits.PART_STALLED_S)
        for name in reported - stalled:
            log.info("part_moves_again", part=name)
        reported = stalled
        if not stalled and manager.watchdog_s is not None:
            manager.notify("WATCHDOG=1")
        await asyncio.sleep(period_s)
