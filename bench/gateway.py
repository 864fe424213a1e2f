"""What a gateway costs and how soon it answers: latency, disk, memory, start-up, backlog, outages.

    python bench/gateway.py [latency] [backlog] [outage]

Each part runs in a process of its own, on one core, with a real Mosquitto on another:

latency   400 frames/s: frame → commit → ack, and what a frame costs the disk
backlog   1,000,000 undelivered rows: start-up, memory, and how fast they drain while live data goes on
outage    how soon a broker that came back, or a connection that went dead, is noticed
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rig
from gateway.fingerprints import of_reading
from gateway.ingest import Heard
from gateway.northbound.mqtt import MqttSender, MqttSettings, format
from gateway.northbound.runner import Runner
from gateway.schema import READING_COLUMNS
from protocols.wire import readings

NODES = 256
RATE_PER_S = 400
BACKLOG_ROWS = 1_000_000


def rss_mb() -> float:
    """Memory of this process that is in RAM now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def written_bytes() -> int:
    """Bytes this process caused to be written to disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def percentile(values: list[float], percent: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[int(percent * 10) - 1]


def runner_to(gateway: rig.Gateway, port: int) -> Runner:
    sender = MqttSender(MqttSettings("127.0.0.1", port, "bench"))
    return Runner("mqtt", gateway.store, format, sender, rig.places, gateway.clock, random.Random(3))


class Paced:
    """Gives frames at a steady rate and notes when each was given."""

    def __init__(self, gateway: rig.Gateway, frames: list[bytes]) -> None:
        self.gateway = gateway
        self.frames = frames
        self.given_s: list[float] = []

    async def give(self, seconds: float) -> None:
        began_s = time.perf_counter()
        count = min(len(self.frames), int(seconds * RATE_PER_S))
        for position in range(count):
            due_s = began_s + position / RATE_PER_S
            delay_s = due_s - time.perf_counter()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self.given_s.append(time.perf_counter())
            self.gateway.ingest.frame(self.gateway.link, self.frames[position])


async def latency(folder: Path, seconds: float) -> None:
    gateway = rig.Gateway(folder / "gateway.db", NODES)
    stations = [rig.Station(address, 1) for address in range(1, NODES + 1)]
    await rig.join_all(gateway, stations)
    paced = Paced(gateway, rig.frames_of(stations, int(seconds * RATE_PER_S), 2))
    acked_s: list[float] = []
    gateway.on_heard = lambda heard: acked_s.extend([time.perf_counter()] * len(heard))
    with rig.broker() as port:
        runner = runner_to(gateway, port)
        running = asyncio.ensure_future(runner.run())
        await rig.until(lambda: bool(runner.status()["connected"]))
        commits, written = gateway.store.counters["commits"], written_bytes()
        await paced.give(seconds)
        await rig.until(
            lambda: len(acked_s) == len(paced.given_s) and runner.counters["delivered"] == len(acked_s)
        )
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    commits = gateway.store.counters["commits"] - commits
    frames = len(paced.given_s)
    took_ms = [(acked - given) * 1000 for acked, given in zip(acked_s, paced.given_s, strict=True)]
    print(
        f"frames_per_s={RATE_PER_S} ack_p50_ms={percentile(took_ms, 50):.1f} ack_p99_ms={percentile(took_ms, 99):.1f} "
        f"ack_max_ms={max(took_ms):.1f} frames_per_commit={frames / commits:.1f} "
        f"bytes_written_per_frame={(written_bytes() - written) / frames:.0f}"
    )
    gateway.store.close()


def fill(path: Path, rows: int) -> None:
    """A database with that many undelivered rows, as `NODES` nodes that went on for days would have left it."""

    async def run() -> None:
        gateway = rig.Gateway(path, NODES)
        stations = [rig.Station(address, 1) for address in range(1, NODES + 1)]
        await rig.join_all(gateway, stations)
        epochs = sorted(gateway.store.epochs)
        schema = readings.schema(rig.SCHEMA)
        body = readings.encode(schema, 1, (0,), (tuple(series.centre + 7 for series in schema.series),))
        insert = f"INSERT INTO reading ({READING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        for first in range(1, rows + 1, 20_000):
            chunk = [
                row_of(row, epochs[row % NODES], body)
                for row in range(first, min(first + 20_000, rows + 1))
            ]  # fmt: skip
            await gateway.store.write(lambda db, chunk=chunk: db.executemany(insert, chunk) and None)  # type: ignore[misc]
        last = 10_001 + rows // NODES
        await gateway.store.write(
            lambda db: (
                db.execute("UPDATE epoch SET cum = ?, upto_reading = ?", (last - 1, rows - 30_000)) and None
            )
        )
        await gateway.store.write(
            lambda db: (
                db.execute("INSERT OR REPLACE INTO meta VALUES ('replay_reading', ?)", (rows - 30_000,))
                and None
            )
        )
        gateway.store._dirty.clear()  # what close() would write knows nothing of these rows
        gateway.store.next_reading = rows + 1
        gateway.store.close()

    asyncio.run(run())


def row_of(row: int, epoch: int, body: bytes) -> tuple[object, ...]:
    """A row of the table `reading`, as the gateway would have written it."""
    seq, time_s = 10_001 + row // NODES, 1_790_000_000 + row
    mark = of_reading(epoch, seq, body, time_s, rig.SCHEMA)
    return (
        row,
        epoch,
        seq,
        300 + row // NODES,
        mark,
        0,
        time_s * 1000,
        time_s,
        None,
        1,
        rig.SCHEMA,
        None,
        body,
    )


async def backlog(folder: Path, rows: int, seconds: float) -> None:
    path = folder / "gateway.db"
    began_s = time.perf_counter()
    gateway = rig.Gateway(path, NODES)
    with rig.broker() as port:
        runner = runner_to(gateway, port)
        start_s = time.perf_counter() - began_s
        owed = runner.status()["backlog"]
        print(f"undelivered_rows={owed} start_s={start_s:.2f} rss_mb={rss_mb():.0f}")
        if owed < rows:
            raise SystemExit(f"{owed} rows are owed, not {rows}")
        live_ms: list[float] = []
        given: dict[int, float] = {}
        paced = Paced(gateway, live_frames(gateway, int(seconds * RATE_PER_S)))
        watch_live(runner, given, live_ms)
        running = asyncio.ensure_future(runner.run())
        await rig.until(lambda: bool(runner.status()["connected"]))
        gateway.on_heard = lambda heard: note_given(heard, paced, given, gateway)
        before, began_s = runner.counters["delivered"], time.perf_counter()
        await paced.give(seconds)
        took_s = time.perf_counter() - began_s
        drained = runner.counters["delivered"] - before - len(live_ms)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    print(
        f"drained_per_s={drained / took_s:.0f} beside live_per_s={len(live_ms) / took_s:.0f} "
        f"live_commit_to_puback_p99_ms={percentile(live_ms, 99):.0f} rss_mb={rss_mb():.0f} "
        f"rss_max_mb={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"
    )
    gateway.store.close()


def live_frames(gateway: rig.Gateway, count: int) -> list[bytes]:
    """Frames that go on where the filled database ends."""
    stations = []
    for address in range(1, NODES + 1):
        station = rig.Station(address, 1)
        node = gateway.channels.node(address)
        if node is None or node.current is None:
            raise SystemExit(f"node {address:04x} is not in the filled database")
        epoch = node.current.epoch
        station.seq = epoch.ledger.highest + 1000
        station.piv = epoch.window.highest + 1000
        station.use(epoch.id_context or b"")
        stations.append(station)
    return rig.frames_of(stations, count, 5)


def watch_live(runner: Runner, given: dict[int, float], live_ms: list[float]) -> None:
    """Note how long after its commit a live reading was confirmed."""
    confirm = runner._on_confirm

    def on_confirm(token: int, taken: bool) -> None:
        key = runner._in_flight.get(token)
        if key is not None and key in given:
            live_ms.append((time.perf_counter() - given.pop(key)) * 1000)
        confirm(token, taken)

    runner._on_confirm = on_confirm  # type: ignore[method-assign]


def note_given(heard: list[Heard], paced: Paced, given: dict[int, float], gateway: rig.Gateway) -> None:
    """The ids of the readings that were just committed: the newest ones."""
    now_s = time.perf_counter()
    last = gateway.store.last_reading
    for row in range(last - len(heard) + 1, last + 1):
        given[row] = now_s


async def outage(folder: Path) -> None:
    """A proxy that can be cut, and can swallow; behind it the broker."""
    gateway = rig.Gateway(folder / "gateway.db", NODES)
    stations = [rig.Station(address, 1) for address in range(1, NODES + 1)]
    await rig.join_all(gateway, stations)
    paced = Paced(gateway, rig.frames_of(stations, 40 * RATE_PER_S, 2))
    with rig.broker() as port:
        proxy = rig.Proxy(port)
        await proxy.start()
        runner = runner_to(gateway, proxy.port)
        running = asyncio.ensure_future(runner.run())
        feeding = asyncio.ensure_future(paced.give(40))
        await rig.until(lambda: runner.counters["delivered"] > 100)
        await proxy.stop()
        await asyncio.sleep(5)
        await proxy.start()
        back_s = await seconds_until(runner, runner.counters["delivered"])
        proxy.swallow = True
        swallowed_s = time.perf_counter()
        await rig.until(lambda: not runner.status()["connected"])
        noticed_s = time.perf_counter() - swallowed_s
        await asyncio.sleep(5)
        proxy.swallow = False
        healed_s = await seconds_until(runner, runner.counters["delivered"])
        await feeding
        await rig.until(lambda: runner.status()["backlog"] == 0)
        for task in (running, feeding):
            task.cancel()
        await asyncio.gather(running, feeding, return_exceptions=True)
        await proxy.stop()
    print(
        f"first_puback_after_return_s={back_s:.2f} half_open_noticed_s={noticed_s:.2f} "
        f"first_puback_after_half_open_s={healed_s:.2f}"
    )
    gateway.store.close()


async def seconds_until(runner: Runner, delivered: int) -> float:
    began_s = time.perf_counter()
    await rig.until(lambda: runner.counters["delivered"] > delivered)
    return time.perf_counter() - began_s


PARTS = ("latency", "backlog", "outage")


def run_part(part: str, folder: Path, seconds: float, rows: int) -> None:
    logging.getLogger("gateway").setLevel(logging.ERROR)  # outages are what is measured, not news
    rig.pin(0, rig.GATEWAY_CORE)
    work: Callable[[], object] = {
        "latency": lambda: asyncio.run(latency(folder, seconds)),
        "fill": lambda: fill(folder / "gateway.db", rows),
        "backlog": lambda: asyncio.run(backlog(folder, rows, seconds)),
        "outage": lambda: asyncio.run(outage(folder)),
    }[part]
    work()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help="latency, backlog, outage; default all")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rows", type=int, default=BACKLOG_ROWS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        run_part(arguments.parts[0], arguments.folder, arguments.seconds, arguments.rows)
        return
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
            for step in ("fill", part) if part == "backlog" else (part,):
                command = [sys.executable, __file__, step, "--folder", folder]
                command += ["--seconds", str(arguments.seconds), "--rows", str(arguments.rows)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
