"""A broker that was away for 72 hours: how fast the backlog drains, beside a floor, and what fresh records wait for it.

    python bench/backlog.py [--hours 72] [--every-s 300] [--fresh-per-s 394]

A gateway with 256 stations that measure every five minutes has 221,184 undelivered sets after 72 hours. They are
drained to a real Mosquitto on the other core while fresh ones come in at the whole city's mean. The floor is the bare
MQTT client with payloads that are ready, without a store. A fresh record's time runs from its commit to the PUBACK.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import gateway as parts
from bench import rig
from gateway.northbound.mqtt import MqttSender, MqttSession, MqttSettings
from gateway.northbound.runner import Destination

PAYLOAD = b"x" * 600  # a set of eight in JSON
FLOOR_COUNT = 50_000


async def drain(folder: Path, rows: int, fresh_per_s: int) -> None:
    parts.RATE_PER_S = fresh_per_s
    gateway = rig.Gateway(folder / "gateway.db", parts.NODES)
    with rig.broker() as port:
        runner = parts.runner_to(gateway, port)
        owed = runner.status()["backlog"]
        if owed < rows:
            raise SystemExit(f"{owed} rows are owed, not {rows}")
        fresh_ms: list[float] = []
        given: dict[int, float] = {}
        # As many as come in while the backlog drains at the least rate that is asked for.
        paced = parts.Paced(gateway, parts.live_frames(gateway, fresh_per_s * rows // 2000))
        parts.watch_live(runner, given, fresh_ms)
        gateway.on_heard = lambda heard: parts.note_given(heard, paced, given, gateway)
        running = asyncio.ensure_future(runner.run())
        await rig.until(lambda: bool(runner.status()["connected"]))
        began_s = time.perf_counter()
        feeding = asyncio.ensure_future(paced.give(1e9))
        await rig.until(
            lambda: runner.counters["delivered"] - len(fresh_ms) >= rows or feeding.done() or running.done()
        )
        took_s, drained = time.perf_counter() - began_s, runner.counters["delivered"] - len(fresh_ms)
        for task in (feeding, running):
            task.cancel()
        await asyncio.gather(running, feeding, return_exceptions=True)
    print(
        f"backlog_records={rows} drained={drained} drained_per_s={drained / took_s:.0f} "
        f"beside fresh_per_s={len(fresh_ms) / took_s:.0f} fresh_p99_ms={parts.percentile(fresh_ms, 99):.0f} "
        f"fresh_max_ms={max(fresh_ms):.0f} rss_mb={parts.rss_mb():.0f} "
        f"rss_max_mb={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"
    )
    gateway.store.close()


async def floor() -> None:
    """The client alone, with as many in flight as the runner has."""
    confirmed = sent = 0
    room = asyncio.Event()

    def on_confirm(token: int, taken: bool) -> None:
        nonlocal confirmed
        confirmed += 1
        room.set()

    with rig.broker() as port:
        session: MqttSession = await MqttSender(MqttSettings("127.0.0.1", port, "floor")).connect(on_confirm)
        destination = Destination("330106", "river-0012", "0012", "readings")
        began_s = time.perf_counter()
        while confirmed < FLOOR_COUNT:
            while sent < FLOOR_COUNT and sent - confirmed < session.window:
                session.publish(destination, PAYLOAD)
                sent += 1
            room.clear()
            await room.wait()
        print(f"floor_publishes_per_s={FLOOR_COUNT / (time.perf_counter() - began_s):.0f}")
        session.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=72)
    parser.add_argument("--every-s", type=float, default=300)
    parser.add_argument("--fresh-per-s", type=int, default=394)
    parser.add_argument("--step", choices=("fill", "drain", "floor"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = int(given.hours * 3600 / given.every_s) * parts.NODES
    if given.step is None:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
            for step in ("fill", "drain", "floor"):
                command = [sys.executable, __file__, *sys.argv[1:], "--step", step, "--folder", folder]
                subprocess.run(command, check=True)
        return
    logging.getLogger("gateway").setLevel(logging.ERROR)
    rig.pin(0, rig.GATEWAY_CORE)
    if given.step == "fill":
        parts.fill(given.folder / "gateway.db", rows)
    else:
        asyncio.run(drain(given.folder, rows, given.fresh_per_s) if given.step == "drain" else floor())


if __name__ == "__main__":
    main()
