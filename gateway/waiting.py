"""The life of a gateway whose disk takes nothing: full, read-only, broken, or not mounted.

It acknowledges nothing, so nodes keep what they have; it says what is wrong, in the log, at /readyz and to the service
manager; and it ends as soon as the disk can be written, for the next life is an ordinary one. It holds no file open on
that disk: a file system that has to be mounted anew can be.
"""

from __future__ import annotations

import asyncio
import errno
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import disk
from gateway.health import HealthServer
from gateway.parts import Part, ServiceManager, watch
from gateway.space import RESERVE_NAME
from gateway.web import Page, json_page

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config import Config
    from gateway.log import Logger

ADVICE = (
    "Nothing is acknowledged, nodes keep what they have; it goes on by itself once the disk can be written."
)


class Waiting:
    """One wait, for the reason that the store could not be opened."""

    def __init__(
        self, config: Config, log: Logger, clock: Clock, why: str, manager: ServiceManager, pause_s: float
    ) -> None:
        self.reason = f"store: {why}. {ADVICE}"
        self._config = config
        self._log = log
        self._clock = clock
        self._manager = manager
        self._pause_s = pause_s
        self._folder = Path(config.gateway.data_dir)
        self._again = asyncio.Event()
        self._is_told_to_stop = False

    async def run(self) -> bool:
        """Wait until the disk can be written; False when told to stop instead."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._again.set)  # somebody has made room, and will not wait
        if self._gives_reserve():
            return True  # once: that may be all it takes
        self._log.error("disk_refuses", reason=self.reason)
        self._manager.notify("READY=1", f"STATUS=waiting for the disk: {self.reason}")
        parts = self._parts()
        tasks = [asyncio.create_task(part.supervise(self._log)) for part in parts]
        tasks.append(asyncio.create_task(watch(parts, self._manager, self._log)))
        try:
            began_s = self._clock.monotonic()
            while not await self._looks_again():
                pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        waited_s = self._clock.monotonic() - began_s
        if not self._is_told_to_stop:
            self._log.warning("disk_takes_again", waited_s=round(waited_s, 1))
        else:
            self._manager.notify("STOPPING=1")
            self._log.info("stopped")
        return not self._is_told_to_stop

    async def _looks_again(self) -> bool:
        """After a pause: whether there is an end to it."""
        self._again.clear()
        try:
            async with asyncio.timeout(self._pause_s):
                await self._again.wait()
        except TimeoutError:
            pass
        return self._is_told_to_stop or await asyncio.to_thread(self._is_over)

    def _is_over(self) -> bool:
        """Whether the disk can be written, or is there at all: the folder is made by who comes next."""
        refusal = disk.refusal(self._folder)
        return refusal is None or isinstance(refusal, FileNotFoundError)

    def _gives_reserve(self) -> bool:
        """What was kept back for a full disk: events may have it, and cannot come in before the store is open."""
        refusal = disk.refusal(self._folder)
        try:
            if refusal is None or refusal.errno not in (errno.ENOSPC, errno.EDQUOT):
                return False
            self._folder.joinpath(RESERVE_NAME).unlink()
        except OSError:
            return False
        self._log.warning("reserve_given", reason=self.reason)
        return True

    def _stop(self) -> None:
        self._is_told_to_stop = True
        self._again.set()

    # ---- what it says of itself ------------------------------------------------------------------------------------

    def _parts(self) -> list[Part]:
        section = self._config.health
        if not section.enabled:
            return []
        pages = {"/healthz": self.healthz, "/readyz": self.readyz, "/metrics": self.metrics}
        server = HealthServer(section.address, section.port, pages, self._log)
        return [Part("health", self._clock, server.run, watch=lambda: None)]

    def healthz(self) -> Page:
        """200: starting this process again would not mend the disk."""
        return json_page(200, {"stalled": [], "parts": {"store": "waiting for the disk"}})

    def readyz(self) -> Page:
        return json_page(503, {"reasons": [self.reason]})

    def metrics(self) -> Page:
        """The one figure that there is to tell."""
        text = "# TYPE tidegate_store_failing gauge\ntidegate_store_failing 1.0\n"
        return Page(200, "text/plain; version=0.0.4; charset=utf-8", text.encode())
