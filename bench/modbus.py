"""A thousand Modbus points a second into the store of a whole gateway: `python bench/modbus.py [seconds]`.

50 TCP devices with 20 points each, read every second, by a gateway on one core; the devices run on another. Every
half second a value is written to one of them, a tenth of the writes with less time than they may need:

    seconds=… points_per_s=… missed=… cpu_share=… rss_begin_mb=… rss_half_mb=… rss_end_mb=… rss_max_mb=…
    rss_kb_per_min=… sets_dropped=… writes=… done=… expired=… late=0 spare_ms=… latest_ms=… write_p50_ms=…
    write_max_ms=… limit_write_ms=1000

A write is late when its last byte was in the hands of the kernel after its deadline; `spare_ms` is how long before it
the one that was nearest left, `latest_ms` when its device noted the one that was latest (the machine may have taken the
core away in between). Memory is looked at every second, and `rss_kb_per_min` is the slope of a line through the second
half of the looks. What is bounded, and only takes long to fill, is held low here, so that it is seen to end: the
database's page caches at 512 KiB, and the ledgers' pages, which wait for a sweep, at a minute's.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway import config as configs
from gateway import limits, log
from gateway.daemon import DataDir, Gateway
from gateway.keys import write_file
from gateway.pollers.modbus import ModbusPoller
from gateway.pollers.modbus_client import Client
from gateway.pollers.modbus_types import UNSENT, Outcome, Request

ROOT = Path(__file__).resolve().parent.parent
DEVICES, POINTS = 50, 20
SECONDS = 600.0
CACHE_KIB = 512
SWEEP_EVERY_S = 60.0
LOOK_EVERY_S = 1.0
WRITE_EVERY_S = 0.5
TTL_S, TTL_SHORT_S = 1.0, limits.MODBUS_HAND_OVER_S + 0.001
GATEWAY_CORE, STREET_CORE = 0, 1
POINT = """
[[modbus.point]]
measurand = "level"
name = "p{0}"
unit = "cm"
function = "holding"
address = {1}
type = "u16"
"""
SET_POINT = """
[[modbus.point]]
measurand = "level"
name = "set_point"
unit = "cm"
function = "holding"
address = 5000
type = "u16"
period_s = 86400
writable = { min = 0, max = 65535 }
"""
PROFILE = (
    'title = "m"\nvendor = "v"\nmodel = "m"\nsources = ["bench"]\nchecked = "no"\n[modbus]\nperiod_s = 1\n'
)
CONFIG = (
    '[keys]\nmaster_key_file = "master.key"\n[health]\nenabled = false\n[devices]\nprofiles = "profiles"\n'
)
DEVICE = """
[[modbus]]
name = "bus{0}"
transport = "tcp"
host = "127.0.0.1"
port = {1}

[[device]]
name = "d{0}"
profile = "many"
modbus = "bus{0}"
unit = 1
"""


class Figures(NamedTuple):
    """What was measured, in the order in which it is printed."""

    seconds: float
    points_per_s: float
    missed: int
    cpu_share: float
    rss_begin_mb: float
    rss_half_mb: float
    rss_end_mb: float
    rss_max_mb: float
    rss_kb_per_min: float
    sets_dropped: int
    writes: int
    done: int
    expired: int
    late: int  # left after its deadline
    spare_ms: float  # left so long before its deadline, the nearest one
    latest_ms: float  # noted by its device so long after its deadline; negative: before it
    write_p50_ms: float
    write_max_ms: float

    def __str__(self) -> str:
        return " ".join(f"{name}={value:.4g}" for name, value in self._asdict().items())


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Writes:
    """Orders a write now and then, and notes how each ended."""

    def __init__(self, gateway: Gateway, seconds: float) -> None:
        self._pollers = list(gateway.buses.values())
        self.count = 0
        self.results: Counter[str] = Counter()
        # By number, and made before: what is measured is the gateway's memory, and not ours.
        never = [math.nan] * (int(seconds / WRITE_EVERY_S) + 2)
        self.ordered_s, self.deadline_s = array("d", never), array("d", never)
        self.left_s = array("d", never)  # when they were in the hands of the kernel
        self.done_s = array("d", never)
        for poller in self._pollers:
            self._listen(poller)

    def _listen(self, poller: ModbusPoller) -> None:
        """Note when each write goes out: what it waits for after that is the machine's, not the gateway's."""
        client = poller.bus.client
        assert isinstance(client, Client)
        exchange = client.exchange

        async def noted(request: Request, timeout_s: float, not_after_s: float = math.inf) -> Outcome:
            outcome = await exchange(request, timeout_s, not_after_s)
            if request.values and outcome.note != UNSENT:
                self.left_s[request.values[0]] = client.left_s
            return outcome

        client.exchange = noted  # type: ignore[method-assign]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self.count += 1
            number = self.count
            ttl_s = TTL_SHORT_S if number % 10 == 0 else TTL_S
            self.ordered_s[number] = time.monotonic()
            self.deadline_s[number] = self.ordered_s[number] + ttl_s

            def done(result: str, detail: str, number: int = number) -> None:
                self.results[result] += 1
                if result == "done":
                    self.done_s[number] = time.monotonic()

            self._pollers[number % DEVICES].write(f"d{number % DEVICES}", "set_point", number, ttl_s, done)


def configuration(folder: Path, ports: list[int]) -> configs.Config:
    """A gateway with all of them."""
    (folder / "profiles").mkdir()
    many = PROFILE + "".join(POINT.format(i, 2 * i) for i in range(POINTS)) + SET_POINT
    (folder / "profiles" / "many.toml").write_text(many)
    write_file(folder / "master.key")
    text = CONFIG + "".join(DEVICE.format(i, port) for i, port in enumerate(ports))
    (folder / "bench.toml").write_text(text)
    return configs.load(folder / "bench.toml")


async def measure(folder: Path, ports: list[int], seconds: float) -> tuple[Gateway, Writes, list[float]]:
    """Run the gateway for `seconds`; CPU share, resident memory at the begin and the end, points read."""
    gateway = Gateway(configuration(folder, ports), log.setup("error", "json"))
    writes = Writes(gateway, seconds)
    running = asyncio.create_task(gateway.run())
    await gateway.store.write(
        lambda connection: connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}").close()
    )
    gateway.store.read(lambda connection: connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}").close())
    await asyncio.sleep(max(1.0, seconds / 10))
    writing = asyncio.create_task(writes.run())
    began_s, began_cpu_s, began = time.monotonic(), time.process_time(), points_read(gateway)
    looks = await watch(gateway, seconds)
    took_s = time.monotonic() - began_s
    writing.cancel()
    await asyncio.sleep(TTL_S + 0.5)  # the last ones end
    if running.done():
        raise RuntimeError("the gateway ended meanwhile: these would be the figures of nothing")
    figures = [
        took_s,
        (points_read(gateway) - began) / (took_s + TTL_S + 0.5),
        (time.process_time() - began_cpu_s) / (took_s + TTL_S + 0.5),
        looks[0],
        looks[len(looks) // 2],
        looks[-1],
        max(looks),
        slope(looks[len(looks) // 2 :]) * 1000 * 60 / LOOK_EVERY_S,
    ]
    running.cancel()
    await asyncio.gather(running, writing, return_exceptions=True)
    return gateway, writes, figures


async def watch(gateway: Gateway, seconds: float) -> list[float]:
    """Resident memory, look by look."""
    looks = []
    for second in range(int(seconds / LOOK_EVERY_S)):
        looks.append(rss_mb())
        if second % (SWEEP_EVERY_S / LOOK_EVERY_S) == 0:
            gateway.store.want_sweep = True
        await asyncio.sleep(LOOK_EVERY_S)
    return [*looks, rss_mb()]


def slope(values: list[float]) -> float:
    """Of the line through `values`, per step."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((i - middle) ** 2 for i in range(len(values)))
    return sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread if spread else 0.0


def points_read(gateway: Gateway) -> int:
    return sum(poller.scheduler.counters["points_read"] for poller in gateway.buses.values())


def bench(seconds: float) -> Figures:
    """The whole measurement."""
    command = [sys.executable, "-m", "hil_tests.world.modbus_many", str(DEVICES), str(POINTS)]
    cores = os.sched_getaffinity(0)
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as street,
    ):
        assert street.stdin is not None
        assert street.stdout is not None
        if {GATEWAY_CORE, STREET_CORE} <= cores:
            os.sched_setaffinity(street.pid, {STREET_CORE})
            os.sched_setaffinity(0, {GATEWAY_CORE})
        try:
            ports = json.loads(street.stdout.readline())
            folder = Path(name)
            with DataDir(folder / "data"):
                gateway, writes, figures = asyncio.run(measure(folder, ports, seconds))
                gateway.store.close()
            street.stdin.close()
            landed = json.loads(street.stdout.readline())
        finally:
            os.sched_setaffinity(0, cores)
            street.terminate()
    return judged(gateway, writes, figures, landed)


def judged(
    gateway: Gateway,
    writes: Writes,
    figures: list[float],
    landed: list[tuple[int, int, float]],
) -> Figures:
    """Hold what the devices saw against what was ordered."""
    left = [number for number, left_s in enumerate(writes.left_s) if not math.isnan(left_s)]
    assert {number for _port, number, _at_s in landed} <= set(left), "a write landed that had not left"
    after_s = [at_s - writes.deadline_s[number] for _port, number, at_s in landed]
    spare_s = [writes.deadline_s[number] - writes.left_s[number] for number in left]
    lasted_ms = sorted(
        1000 * (done_s - ordered_s)
        for done_s, ordered_s in zip(writes.done_s, writes.ordered_s, strict=True)
        if not math.isnan(done_s)
    )
    took_s, rate, cpu_share, begin_mb, half_mb, end_mb, max_mb, kb_per_min = figures
    missed = sum(
        state.counters["deadlines_missed"] for p in gateway.buses.values() for state in p.scheduler.states
    )
    return Figures(
        took_s,
        rate,
        missed,
        cpu_share,
        begin_mb,
        half_mb,
        end_mb,
        max_mb,
        kb_per_min,
        int(sum(device.counters["dropped"] for device in gateway.devices.by_name.values())),
        writes.count,
        writes.results["done"],
        writes.results["expired"],
        sum(spare < 0 for spare in spare_s),
        1000 * min(spare_s),
        1000 * max(after_s),
        lasted_ms[len(lasted_ms) // 2],
        lasted_ms[-1],
    )


if __name__ == "__main__":
    found = bench(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
    print(found, "limit_points_per_s=950 limit_write_ms=1000")
