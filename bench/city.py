"""The whole city's mean for minutes, with a burst of ten times that in the middle: ingest → MQTT confirm, and memory.

    python bench/city.py [minutes] [--burst-s 20]

5.1 million devices are 394 records a second on average; one gateway takes them all here. Frames of 256 nodes come in at
that rate, are opened, committed, acknowledged and published to a real Mosquitto on the other core; a record's time runs
from its frame's arrival to the PUBACK. Frames are sealed beforehand by another process and read from a file, so that
neither their making nor their memory is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rig
from bench.gateway import percentile, rss_mb, runner_to
from gateway.northbound.runner import Runner

NODES = 256
MEAN_PER_S = 394
BURST = 10


def seal(file: Path, stations: list[rig.Station], count: int) -> None:
    """Frames as they will come, each behind its length."""
    rng = random.Random(7)
    with file.open("wb") as stream:
        for _ in range(count):
            frame = rng.choice(stations).next_set()
            stream.write(struct.pack("<H", len(frame)) + frame)


def frames(file: Path) -> Iterator[bytes]:
    """One after the other, without having them all in memory."""
    with file.open("rb") as stream:
        while head := stream.read(2):
            yield stream.read(struct.unpack("<H", head)[0])


class Watch:
    """When each record's frame came, and how long it took to the confirmation."""

    def __init__(self, runner: Runner, first_id: int, count: int) -> None:
        self.given_s = array("d", bytes(8 * count))
        self.took_ms = array("d", bytes(8 * count))
        self.confirmed = 0
        self._first = first_id
        self._runner = runner
        self._confirm = runner._on_confirm
        runner._on_confirm = self._on_confirm  # type: ignore[method-assign]

    def _on_confirm(self, token: int, taken: bool) -> None:
        position = self._runner._in_flight.get(token, 0) - self._first
        if position >= 0 and taken and not self.took_ms[position]:
            self.took_ms[position] = (time.perf_counter() - self.given_s[position]) * 1000
            self.confirmed += 1
        self._confirm(token, taken)


def plan(minutes: float, burst_s: float) -> list[tuple[float, int]]:
    """(seconds, rate) one after the other."""
    rest_s = (60 * minutes - burst_s) / 2
    return [(rest_s, MEAN_PER_S), (burst_s, BURST * MEAN_PER_S), (rest_s, MEAN_PER_S)]


async def give(gateway: rig.Gateway, file: Path, watch: Watch, steps: list[tuple[float, int]]) -> list[int]:
    """Give all frames at their moments; the position at which each step ends, and prints memory on the way."""
    source, position, ends = frames(file), 0, []
    for seconds, rate in steps:
        began_s = time.perf_counter()
        for number in range(int(seconds * rate)):
            delay_s = began_s + number / rate - time.perf_counter()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            elif number % 64 == 0:
                await asyncio.sleep(0)
            watch.given_s[position] = time.perf_counter()
            gateway.ingest.frame(gateway.link, next(source))
            position += 1
        ends.append(position)
        print(f"step_s={seconds:.0f} rate_per_s={rate} rss_mb={rss_mb():.0f}", flush=True)
    return ends


async def city(folder: Path, minutes: float, burst_s: float) -> None:
    gateway = rig.Gateway(folder / "gateway.db", NODES)
    stations = [rig.Station(address, 1) for address in range(1, NODES + 1)]
    await rig.join_all(gateway, stations)
    steps = plan(minutes, burst_s)
    count = sum(int(seconds * rate) for seconds, rate in steps)
    file = folder / "frames"
    sealing = multiprocessing.get_context("fork").Process(target=seal, args=(file, stations, count))
    sealing.start()
    sealing.join()
    with rig.broker() as port:
        runner = runner_to(gateway, port)
        watch = Watch(runner, gateway.store.next_reading, count)
        running = asyncio.ensure_future(runner.run())
        await rig.until(lambda: bool(runner.status()["connected"]))
        before_mb, cpu_s, began_s = rss_mb(), time.process_time(), time.perf_counter()
        ends = await give(gateway, file, watch, steps)
        await rig.until(lambda: watch.confirmed == count)
        cpu_percent = 100 * (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
        after_mb, max_mb = rss_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for name, took in (
        ("all", watch.took_ms),
        ("mean_rate", watch.took_ms[: ends[0]] + watch.took_ms[ends[1] :]),
        ("burst", watch.took_ms[ends[0] : ends[1]]),
    ):
        values = list(took)
        print(
            f"records={name} count={len(values)} p50_ms={percentile(values, 50):.1f} "
            f"p99_ms={percentile(values, 99):.1f} max_ms={max(values):.0f}"
        )
    print(
        f"minutes={minutes:g} rss_before_mb={before_mb:.0f} rss_after_mb={after_mb:.0f} "
        f"rss_max_mb={max_mb:.0f} cpu_percent={cpu_percent:.0f} "
        f"sent_again={runner.counters['live_overflow']} lost={count - watch.confirmed}"
    )
    gateway.store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--burst-s", type=float, default=20)
    arguments = parser.parse_args()
    rig.pin(0, rig.GATEWAY_CORE)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        asyncio.run(city(Path(folder), arguments.minutes, min(arguments.burst_s, 60 * arguments.minutes / 2)))


if __name__ == "__main__":
    main()
