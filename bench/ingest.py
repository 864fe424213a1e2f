"""Sealed single-set frames → open → decode → one durable transaction → acked and MQTT QoS 1 confirmed, on one core.

    python bench/ingest.py [--frames 100000] [--nodes 256]

prints `frames_per_s=… floor_frames_per_s=… ratio=…` and, beside it, the floors of each component. The floor is one
bare loop in the same run, with the same cryptography, cbor2, SQLite settings, rows a commit, MQTT client, payload,
window and broker, and nothing in between: no replay window, no ledger, no acks, no cursor, no codec, no formatting. The
gateway part runs on one core, the broker on another.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cbor2

from bench import rig
from gateway import schema as database
from gateway.northbound.mqtt import MqttSender, MqttSession, MqttSettings, format
from gateway.northbound.runner import Destination, Runner
from gateway.store import Store, StoreSettings
from protocols.wire import envelope

# Frames handed to ingest at once: what a busy serial port gives per read.
CHUNK = 32
SETTINGS = StoreSettings()
_INSERT = f"INSERT INTO reading ({database.READING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Samples:
    """What the gateway run leaves for the floors: the same frames, keys, rows and payloads."""

    def __init__(self, frames: list[bytes], keys: dict[bytes, envelope.SenderKey]) -> None:
        self.frames = frames
        self.keys = keys
        self.rows: list[tuple[Any, ...]] = []
        self.payloads: list[bytes] = []
        self.destinations: list[Destination] = []


async def gateway_run(
    folder: Path, port: int, frames: int, nodes: int, window: int
) -> tuple[float, Samples, str]:
    """frames/s of the real path, from the first frame taken to the last PUBACK."""
    gateway = rig.Gateway(folder / "gateway.db", nodes)
    stations = [rig.Station(address, 1) for address in range(1, nodes + 1)]
    await rig.join_all(gateway, stations)
    sealed = rig.frames_of(stations, frames, 2)
    keys = {
        envelope.node_kid(station.address): station.key for station in stations if station.key is not None
    }
    samples = Samples(sealed, keys)
    sender = MqttSender(MqttSettings("127.0.0.1", port, "bench", window=window))
    runner = Runner("mqtt", gateway.store, format, sender, rig.places, gateway.clock, random.Random(3))
    running = asyncio.ensure_future(runner.run())
    await rig.until(lambda: bool(runner.status()["connected"]))
    io_before = written_bytes()
    commits_before = gateway.store.counters["commits"]
    cpu_before = time.process_time()
    began = time.perf_counter()
    position = 0
    while position < frames:
        if gateway.store.depth() < 2 * SETTINGS.batch_frames and runner.queued() < SETTINGS.batch_frames:
            gateway.ingest.frames(gateway.link, sealed[position : position + CHUNK])
            position += CHUNK
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0.001)  # all that may be under way is under way: wait, do not spin
    await rig.until(lambda: runner.counters["delivered"] >= frames)
    took_s = time.perf_counter() - began
    cpu_s = time.process_time() - cpu_before
    commits = gateway.store.counters["commits"] - commits_before
    written = written_bytes() - io_before
    if gateway.ingest.refused or runner.counters["live_overflow"]:
        raise SystemExit(f"refused {gateway.ingest.refused}, {runner.counters}: not the path to be measured")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    extra = (
        f"cpu_us_per_frame={cpu_s / frames * 1e6:.1f} frames_per_commit={frames / commits:.0f} "
        f"acks={gateway.link.count - nodes} bytes_written_per_frame={written / frames:.0f}"
    )
    gateway.store.close()
    collect(folder / "gateway.db", samples)
    return frames / took_s, samples, extra


def collect(path: Path, samples: Samples) -> None:
    """The very rows and payloads of the run."""
    store = Store.open(path, clock=rig.SystemClock(), random_bytes=os.urandom)
    columns = f"SELECT {database.READING_COLUMNS} FROM reading ORDER BY id"
    samples.rows = store.read(lambda reader: reader.execute(columns).fetchall())
    for reading in store.readings(1, len(samples.rows), len(samples.rows)):
        place = rig.places(reading.ledger.node, 0)
        samples.payloads.append(format(reading, place.site, False))
        samples.destinations.append(
            Destination(place.area, place.site, f"{reading.ledger.node:04x}", "readings")
        )
    store.close()


def written_bytes() -> int:
    """Bytes this process caused to be written to disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


class Publisher:
    """The bare use of the client: as many in flight as the window has, nothing remembered."""

    def __init__(self) -> None:
        self.confirmed = 0
        self.sent = 0
        self.low = 0
        self.wanted = asyncio.Event()
        self.session: MqttSession | None = None

    async def connect(self, port: int, window: int) -> MqttSession:
        self.session = await MqttSender(MqttSettings("127.0.0.1", port, "floor", window=window)).connect(
            self._on_confirm
        )
        self.low = window // 2
        return self.session

    def fill(self, samples: Samples, until: int) -> None:
        """Publish up to `until` or a full window."""
        session = self.session
        if session is None:
            raise RuntimeError("not connected")
        while self.sent < until and self.sent - self.confirmed < session.window:
            session.publish(samples.destinations[self.sent], samples.payloads[self.sent])
            self.sent += 1

    def _on_confirm(self, token: int, taken: bool) -> None:
        self.confirmed += 1
        # A wake-up for every few publishes: one for each would measure the wake-ups.
        if self.sent - self.confirmed <= self.low:
            self.wanted.set()


async def floor_run(folder: Path, port: int, samples: Samples, window: int) -> tuple[float, float]:
    """frames/s of the bare loop, and the processor seconds of one frame."""
    connection = database.connect(
        str(folder / "floor.db"), wal_pages=SETTINGS.wal_mib * 256, cache_kib=SETTINGS.cache_kib
    )
    database.create(connection, ())
    publisher = Publisher()
    session = await publisher.connect(port, window)
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    count = len(samples.frames)
    batch = SETTINGS.batch_frames
    opened = committed = 0  # frames
    commit: asyncio.Future[Any] | None = None
    committing = 0
    began = time.perf_counter()
    cpu_before = time.process_time()
    while publisher.confirmed < count:
        if commit is not None and commit.done():
            committed, commit = committing, None
        # As far ahead as helps: one batch is published, one is being committed, one is opened.
        if opened < count and opened - committed < 2 * batch and committed - publisher.sent < batch:
            for frame in samples.frames[opened : opened + batch]:
                open_bare(frame, samples.keys)
            opened = min(opened + batch, count)
        if commit is None and committed < opened:
            committing = min(committed + batch, opened)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, samples.rows[committed:committing])
            commit = loop.run_in_executor(executor, connection.execute, "COMMIT")
        publisher.fill(samples, committed)
        publisher.wanted.clear()
        waiting = [asyncio.ensure_future(publisher.wanted.wait())]
        if commit is not None:
            waiting.append(commit)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
    took_s = time.perf_counter() - began
    cpu_s = time.process_time() - cpu_before
    session.abort()
    executor.shutdown()
    connection.close()
    return count / took_s, cpu_s / count


def open_bare(frame: bytes, keys: dict[bytes, envelope.SenderKey]) -> list[Any]:
    """cryptography and cbor2, and the least arithmetic that makes a nonce."""
    size = frame[0] & 7
    piv = int.from_bytes(frame[1 : 1 + size], "big")
    key = keys[frame[1 + size : 3 + size]]
    nonce = key.nonce_head + (key.nonce_tail ^ piv).to_bytes(5, "big")
    plain = key.cipher.decrypt(nonce, frame[3 + size :], key.aad_heads[size] + frame[1 : 1 + size] + b"\x40")
    message: list[Any] = cbor2.loads(plain)
    return message


def crypto_floor(samples: Samples) -> float:
    began = time.perf_counter()
    for frame in samples.frames:
        open_bare(frame, samples.keys)
    return len(samples.frames) / (time.perf_counter() - began)


def sqlite_floor(folder: Path, samples: Samples) -> float:
    connection = database.connect(
        str(folder / "sqlite.db"), wal_pages=SETTINGS.wal_mib * 256, cache_kib=SETTINGS.cache_kib
    )
    database.create(connection, ())
    began = time.perf_counter()
    for start in range(0, len(samples.rows), SETTINGS.batch_frames):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, samples.rows[start : start + SETTINGS.batch_frames])
        connection.execute("COMMIT")
    took_s = time.perf_counter() - began
    connection.close()
    return len(samples.rows) / took_s


async def mqtt_floor(port: int, samples: Samples, window: int) -> float:
    publisher = Publisher()
    session = await publisher.connect(port, window)
    count = len(samples.payloads)
    began = time.perf_counter()
    while publisher.confirmed < count:
        publisher.fill(samples, count)
        publisher.wanted.clear()
        await publisher.wanted.wait()
    took_s = time.perf_counter() - began
    session.abort()
    return count / took_s


async def measure(frames: int, nodes: int, window: int) -> None:
    rig.pin(0, rig.GATEWAY_CORE)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name, rig.broker() as port:
        folder = Path(name)
        rate, samples, extra = await gateway_run(folder, port, frames, nodes, window)
        floor, floor_cpu_s = await floor_run(folder, port, samples, window)
        print(f"frames_per_s={rate:.0f} floor_frames_per_s={floor:.0f} ratio={rate / floor:.2f}")
        print(f"  {extra} nodes={nodes} window={window} payload_bytes={len(samples.payloads[0])}")
        print(f"  floor bare_loop cpu_us_per_frame={floor_cpu_s * 1e6:.1f}")
        print(f"  floor aes_ccm_and_cbor frames_per_s={crypto_floor(samples):.0f}")
        rows_rate = sqlite_floor(folder, samples)
        print(
            f"  floor sqlite_group_commit rows_per_s={rows_rate:.0f} rows_per_commit={SETTINGS.batch_frames}"
        )
        print(f"  floor mqtt_qos1 publishes_per_s={await mqtt_floor(port, samples, window):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=256)
    parser.add_argument("--window", type=int, default=512, help="unconfirmed publishes")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.frames, arguments.nodes, arguments.window))


if __name__ == "__main__":
    main()
