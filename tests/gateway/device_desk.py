"""A store with a device on it, and the way in for its values."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.accept import Accept
from gateway.config_devices import DeviceSection
from gateway.devices import Devices
from gateway.own_epochs import OwnEpochs
from gateway.profiles import Profile
from gateway.store import Store
from tests.gateway.desk import Desk, HandClock, desk

LEVEL = Profile.model_validate(
    {
        "title": "A level meter that exists in tests only",
        "vendor": "nobody",
        "model": "L1",
        "sources": ["this file"],
        "checked": "nothing",
        "modbus": {
            "point": [
                {"measurand": "level", "unit": "cm", "function": "input", "address": 0, "type": "s16",
                 "scale": 0.1, "range": [-100, 500], "suspect": [0, 400]},
                {"measurand": "flow", "unit": "m3/s", "function": "input", "address": 1, "type": "f32"},
                {"measurand": "ph", "unit": "[pH]", "name": "ph_up", "function": "input", "address": 3,
                 "type": "u16", "scale": 0.01},
            ]
        },
    }
)  # fmt: skip


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(test(*args, **fixtures))

    return run


def section(name: str, **more: Any) -> DeviceSection:
    return DeviceSection.model_validate(
        {"name": name, "profile": "level", "modbus": "bus", "unit": 1, **more}
    )


class DeviceDesk:
    """What a poller and a northbound have around them."""

    def __init__(
        self, office: Desk, names: tuple[str, ...], profile: Profile, seed: int, **more: Any
    ) -> None:
        self.office = office
        self.store: Store = office.store
        self.clock = office.clock
        sections = [section(name, site=f"site-{name}", **more) for name in names]
        self.devices = Devices(self.store, self.clock, sections, {"level": profile})
        self.epochs = OwnEpochs(self.store, lambda size: bytes([seed] * size))
        self.accept = Accept(self.store, self.clock, self.epochs, self.devices)


@contextmanager
def device_desk(
    folder: Path,
    *names: str,
    profile: Profile = LEVEL,
    clock: HandClock | None = None,
    seed: int = 7,
    **more: Any,
) -> Iterator[DeviceDesk]:
    """Open the database in `folder` with these devices configured; opening it again is a restart."""
    with desk(folder, clock) as office:
        yield DeviceDesk(office, names or ("level-1",), profile, seed, **more)
