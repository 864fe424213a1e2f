"""Devices that are no nodes of ours, beside a street of nodes: two meters on Modbus TCP and a thermometer on Bluetooth.

Their side runs on an event loop in a thread of its own; the gateway reaches them by loopback ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass

from hil_tests.world import ble_street, modbus_models
from hil_tests.world.modbus_street import TcpStreet

THERMOMETER = "C0:00:00:00:00:01"
_PERIOD_S = 3
_DRIFT_S = 1.0
_START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class DemoDevice:
    """One of them: its name, its profile, how it is reached, and the points that a person looks at first."""

    name: str
    profile: str
    reached: str
    way: tuple[str, str]
    shown: tuple[str, ...]


DEVICES = (
    DemoDevice(
        "level-1", "geolux_lx80", 'modbus = "bus"\nunit = 3', ("modbus tcp", "unit 3"), ("level",)
    ),
    DemoDevice(
        "energy-1", "eastron_sdm120", 'modbus = "bus"\nunit = 7', ("modbus tcp", "unit 7"),
        ("voltage", "active_power"),
    ),
    DemoDevice(
        "warmth-1", "bthome_thermometer", f'ble = "radio"\naddress = "{THERMOMETER}"', ("ble", "bthome"),
        ("ambient_temperature", "relative_humidity"),
    ),
)  # fmt: skip


class DeviceStreet:
    """Begins at once; `close()` ends it."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed} devices")
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._end = asyncio.Event()
        self._ports = (0, 0)
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise TimeoutError("the simulated devices do not start")

    def tables(self, area: str) -> list[str]:
        """What the gateway's configuration has to say of them."""
        modbus, ble = self._ports
        tables = [
            f'[[modbus]]\nname = "bus"\ntransport = "tcp"\nhost = "127.0.0.1"\nport = {modbus}\n',
            f'[[ble]]\nname = "radio"\nbackend = "bumble"\nadapter = "tcp-client:127.0.0.1:{ble}"\n',
        ]
        tables += [
            f'[[device]]\nname = "{one.name}"\nprofile = "{one.profile}"\n{one.reached}\nsite = "{one.name}"\n'
            f'area = "{area}"\nperiod_s = {_PERIOD_S}\n'
            for one in DEVICES
        ]
        return tables

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        meters = [
            modbus_models.slave("geolux_lx80", 3, self._rng),
            modbus_models.slave("eastron_sdm120", 7, self._rng),
        ]
        network = TcpStreet(meters)
        await network.open()
        air = ble_street.Air(self._rng)
        ble_street.Beacon(air, THERMOMETER, _advert).start()
        server = await ble_street.offer(air)
        self._ports = network.port, server.sockets[0].getsockname()[1]
        self._started.set()
        while not self._end.is_set():
            for one in meters:
                modbus_models.drift(one, self._rng)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), _DRIFT_S)
        server.close()
        await network.close()


def _advert(count: int) -> bytes:
    step = count // 3
    return ble_street.bthome(ble_street.measurements(step, 1840 + 10 * (step % 20), 5200 - 10 * (step % 30)))
