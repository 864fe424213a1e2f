"""What the Bluetooth tests share: a poller with everything it said, on any backend."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from gateway.clock import SystemClock
from gateway.pollers.ble import BlePoller

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.pollers.ble_advert import Advert
    from gateway.pollers.ble_backend import Backend
    from gateway.pollers.ble_gatt import GattDevice, GattPoint

QUIET = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Desk:
    """A poller, and what came out of it."""

    def __init__(self, backend: Backend, clock: Clock | None = None, **options: Any) -> None:
        self.adverts: list[Advert] = []
        self.values: list[tuple[str, str, bytes]] = []  # device, characteristic, value
        self.count: Counter[str] = Counter()
        self.poller = BlePoller(
            "test",
            backend,
            clock or SystemClock(),
            QUIET,
            on_advert=self.adverts.append,
            on_values=self._values,
            **options,
        )

    def _values(self, device: GattDevice, values: dict[GattPoint, bytes]) -> None:
        self.values += [(device.name, point.characteristic, data) for point, data in values.items()]
        self.count[device.name] += len(values)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        """The poller runs during the body; a failure of it is one of the test."""
        task = asyncio.create_task(self.poller.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and task.exception() is not None:
                raise AssertionError("the poller failed") from task.exception()


async def until(condition: Callable[[], object], what: str = "", timeout_s: float = 20.0) -> None:
    """Wait for what happens in other processes; they have no event to wait for."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  (another process tells no event)
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not happen within {timeout_s} s: {what}") from None
