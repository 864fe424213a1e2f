"""A regulator's platform that was away for 72 hours: how fast its rows drain, beside a floor, and what fresh ones wait.

    python bench/rows.py [hj212] [hj212-40ms] [sl651-m1] [sl651-m2] [sl651-m2-40ms] [--hours 72] [--sites 64]

Each site has measured every five minutes. HJ 212 owes ten-minute and hour rows of that, SL 651 timed and hourly
reports. They are drained to the simulated platform, which is a process of its own on the other core, while fresh sets
come in at the whole city's mean of 394 a second. The floor is the same connection with rows that are ready, without a
store. What is fresh is real-time data of every 2 s (HJ 212) and added reports (SL 651), timed from the moment that they
were due to their confirmation; in mode M1, which has none, to the moment that they were sent, as the whole is.

A station of SL 651 in mode M2 waits for each confirmation: then the line is the limit, sites / round trip, and is
printed beside what was reached.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rig, steps
from gateway import civil
from gateway.clock import SystemClock
from gateway.daemon import EXTRA_SCHEMA
from gateway.errors import NorthboundError
from gateway.fingerprints import of_reading
from gateway.marks import NO_MARK
from gateway.northbound.hj212 import Hj212Sender
from gateway.northbound.hj212_report import Hj212Report, ReportSettings, Told
from gateway.northbound.hj212_settings import Hj212Settings
from gateway.northbound.rows import RowsRunner
from gateway.northbound.sl651 import SlSender
from gateway.northbound.sl651_report import SlReport
from gateway.northbound.sl651_settings import SlSettings
from gateway.records import NO_PIV, Reading
from gateway.report_rows import Key
from gateway.store import Store
from hil_tests.world.hj_platform import HjPlatform
from hil_tests.world.sl_centre import SlCentre
from protocols.northbound import hj212
from protocols.wire import readings as codec

ZONE = ZoneInfo("Asia/Shanghai")
KINDS = ("hj212", "hj212-40ms", "sl651-m1", "sl651-m2", "sl651-m2-40ms")
FRESH_PER_S = 394
HJ_WINDOW = 64
MINUTE_S, REAL_TIME_S, TIMED_S, HOUR_S = 600, 2, 300, 3600
FLOOR_ROWS = 10_000
ROUND_TRIP_S = 0.04
# What mode M1 calls delivered has only outlived this, the time-out that settings begin with.
M1_TIMEOUT_S = 10
SCHEMA = 1


def site_of(address: int) -> str:
    return f"river-{address:04x}"


class Nobody:
    """No question is asked in this bench."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@dataclass
class Plan:
    kind: str
    hours: float
    every_s: float
    sites: int

    @property
    def sets(self) -> int:
        return int(self.hours * 3600 / self.every_s)

    @property
    def limit_rows_per_s(self) -> float:
        """What a line of 40 ms allows: HJ 212 three quarters of its window, SL 651 one report of each station."""
        under_way = HJ_WINDOW * 3 // 4 if self.kind.startswith("hj212") else self.sites
        return under_way / ROUND_TRIP_S

    @property
    def stations(self) -> dict[str, str]:
        return {site_of(address): f"{address:010d}" for address in range(1, self.sites + 1)}


# ---- the far side ------------------------------------------------------------------------------------------------


def far_side(kind: str, pipe: Connection) -> None:
    """A platform in a process of its own: tells its port, ends when the pipe does."""

    async def serve() -> None:
        far: HjPlatform | SlCentre = HjPlatform() if kind.startswith("hj212") else SlCentre()
        if kind.startswith("sl651-m1") and isinstance(far, SlCentre):
            far.faults.mute = True
        if kind.endswith("40ms"):
            far.faults.ack_after_s = ROUND_TRIP_S
        pipe.send(await far.serve())
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await far.close()
        await asyncio.sleep(0.1)  # connections end by themselves

    rig.pin(0, rig.BROKER_CORE)
    asyncio.run(serve())


class FarSide:
    def __init__(self, kind: str) -> None:
        here, there = multiprocessing.Pipe()
        self._pipe = here
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=far_side, args=(kind, there), daemon=True)
        self._process.start()
        self.port = int(here.recv())

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(5)


# ---- the gateway -------------------------------------------------------------------------------------------------


class Gateway:
    """A store, and one northbound of rows to 127.0.0.1."""

    def __init__(self, path: Path, plan: Plan, port: int) -> None:
        self.plan = plan
        self.clock = SystemClock()
        self.store = Store.open(path, clock=self.clock, random_bytes=os.urandom, extra_schema=EXTRA_SCHEMA)
        self.sender, report = self._hj212(port) if plan.kind.startswith("hj212") else self._sl651(port)
        rng = random.Random(1)
        self.runner = RowsRunner(
            "regulator", self.store, report, self.sender, lambda node, at_ms: rig.places(node, at_ms), self.clock, rng
        )  # fmt: skip
        self._epochs = {epoch.node: epoch for epoch in self.store.epochs.values()}
        self._seq = {epoch.node: epoch.ledger.cum for epoch in self.store.epochs.values()}

    def _hj212(self, port: int) -> tuple[Any, Any]:
        settings = ReportSettings(self.plan.stations, ZONE)
        told = Told(REAL_TIME_S, MINUTE_S, 10, 3)
        report = Hj212Report(settings, told, lambda reading: NO_MARK)
        self.settings: Any = Hj212Settings(
            "regulator", "127.0.0.1", port, "21", hj212.VERSION_2017, "123456", settings, in_flight=HJ_WINDOW
        )
        return Hj212Sender(self.settings, told, Nobody, self.clock), report  # type: ignore[arg-type]

    def _sl651(self, port: int) -> tuple[Any, Any]:
        confirmed = "m1" not in self.plan.kind
        self.settings = SlSettings(
            "regulator", "127.0.0.1", port, 1, self.plan.stations, ord("Q"), "03E8", ZONE, "bench", confirmed,
            timed_s=TIMED_S, link_keep_s=0, timeout_s=10 if confirmed else M1_TIMEOUT_S, steps={"level": 1.0},
        )  # fmt: skip
        report = SlReport(self.settings, lambda reading: NO_MARK, self._history, self.clock)
        return SlSender(self.settings, Nobody, self.store, self.clock), report  # type: ignore[arg-type]

    def _history(self, site: str, start_ms: int, end_ms: int) -> list[Reading]:
        return self.runner.readings(Key(site, "", start_ms), end_ms)

    def put(self, address: int, time_s: int, level: int) -> None:
        """One set of a node, as ingest.py would give it to the store."""
        store = self.store
        epoch = self._epochs.get(address)
        if epoch is None:
            epoch = self._epochs[address] = store.add_epoch(address, 1 << 48 | address, None, None, 1)
        seq = self._seq[address] = self._seq.get(address, 0) + 1
        ledger, now_ms = epoch.ledger, self.clock.unix_ms()
        step = seq % 97
        values = (1500 + step, 780 + step % 7, 850 - step, 600 + step, 300, step - 40, 100 + step, level)
        body = codec.encode(codec.schema(SCHEMA), 1, (0,), (values,))
        mark = of_reading(ledger.row_id, seq, body, time_s, SCHEMA)
        ledger.offer(seq, mark)
        row_id = store.next_reading
        store.next_reading += 1
        store.batch.sets += 1
        store.batch.reading_rows.append(
            (row_id, ledger.row_id, seq, NO_PIV, mark, 0, now_ms, time_s, None, 1, SCHEMA, None, body)
        )
        store.batch.readings.append(Reading(row_id, ledger, seq, 0, now_ms, time_s, 1, SCHEMA, values, None))
        store.schedule()


async def fill(path: Path, plan: Plan) -> None:
    """What came in while the platform was away, looked at as it came; then the gateway stops."""
    gateway = Gateway(path, plan, 1)

    async def refused(host: str, port: int) -> Any:
        raise NorthboundError("away")

    gateway.sender._open = refused
    running = asyncio.ensure_future(gateway.runner.run())
    now_s = gateway.clock.unix_ms() // 1000
    for number in range(plan.sets):
        for address in range(1, plan.sites + 1):
            gateway.put(address, now_s - int(plan.every_s * (plan.sets - number)), 1000)
        await rig.until(lambda: not gateway.store.batch.readings)
    await rig.until(lambda: gateway.runner._next_reading > gateway.store.last_reading)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await gateway.store.write(as_it_came)
    gateway.store.close()


def as_it_came(connection: sqlite3.Connection) -> None:
    """The rows as they would be had their readings come in time."""
    connection.execute("UPDATE report_row SET late = 0, due_ms = end_ms + 60000")


class Watch:
    """Rows as they are confirmed: the backlog is counted, what is fresh is timed."""

    def __init__(self, gateway: Gateway) -> None:
        self.backlog = 0
        self.last_s = 0.0
        self.fresh_ms: list[float] = []
        self._runner = gateway.runner
        self._clock = gateway.clock
        self._began_ms = gateway.clock.unix_ms()
        self._confirm = gateway.runner._on_confirm
        gateway.runner._on_confirm = self._on_confirm  # type: ignore[method-assign]

    def _on_confirm(self, token: int, taken: bool) -> None:
        sent = self._runner._in_flight.get(token)
        if sent is not None and taken:
            if sent.row.due_ms >= self._began_ms:
                self.fresh_ms.append(self._clock.unix_ms() - sent.row.due_ms)
            else:
                self.backlog += 1
                self.last_s = time.perf_counter()
        self._confirm(token, taken)


async def drain(path: Path, plan: Plan) -> None:
    far = FarSide(plan.kind)
    gateway = Gateway(path, plan, far.port)
    runner, watch = gateway.runner, Watch(gateway)
    owed = gateway.store.read(
        lambda db: db.execute(
            "SELECT count(*) FROM report_row WHERE state = 0 AND due_ms < ?", (gateway.clock.unix_ms(),)
        ).fetchone()[0]
    )
    feeding = asyncio.ensure_future(feed(gateway))
    running = asyncio.ensure_future(runner.run())
    await rig.until(lambda: bool(runner.counters["sessions"]))
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await finished(lambda: watch.backlog >= owed, running)
    took_s, cpu_s = watch.last_s - began_s, time.process_time() - cpu_s
    if plan.kind == "sl651-m1":  # what was sent is called delivered so much later
        took_s -= M1_TIMEOUT_S
        watch.fresh_ms = [late_ms - 1000 * M1_TIMEOUT_S for late_ms in watch.fresh_ms]
    for task in (feeding, running):
        task.cancel()
    await asyncio.gather(running, feeding, return_exceptions=True)
    records = plan.sets * plan.sites
    limit = f"limit_rows_per_s={plan.limit_rows_per_s:.0f} " if plan.kind.endswith("40ms") else ""
    if not watch.fresh_ms:
        raise SystemExit("no fresh row came: the drain was too short to tell")
    print(
        f"kind={plan.kind} owed_rows={owed} owed_records={records} rows_per_s={watch.backlog / took_s:.0f} "
        f"rows_per_cpu_s={watch.backlog / cpu_s:.0f} "
        f"{limit}records_per_s={records * watch.backlog / owed / took_s:.0f} "
        f"{steps.told(watch.fresh_ms, cpu_s, took_s)}",
        flush=True,
    )
    gateway.store.close()
    far.close()


async def finished(reached: Callable[[], bool], running: asyncio.Task[None]) -> None:
    await rig.until(lambda: reached() or running.done())
    if running.done():
        running.result()


async def feed(gateway: Gateway) -> None:
    """Fresh sets at the whole city's mean, the sites in turn; the level moves."""
    began_s, number = time.perf_counter(), 0
    while True:
        delay_s = began_s + number / FRESH_PER_S - time.perf_counter()
        await asyncio.sleep(max(0.0, delay_s))
        number += 1
        level = 1000 + 100 * (number // gateway.plan.sites % 7)
        gateway.put(1 + number % gateway.plan.sites, gateway.clock.unix_ms() // 1000, level)


async def floor(path: Path, plan: Plan) -> None:
    """The connection alone, with rows that are ready, and as many under way."""
    far = FarSide(plan.kind)
    gateway = Gateway(path, plan, far.port)
    confirmed = sent = 0
    room = asyncio.Event()

    def on_confirm(token: int, taken: bool) -> None:
        nonlocal confirmed
        confirmed += 1
        room.set()

    keys = [message(gateway, plan, address) for address in range(1, plan.sites + 1)]
    rows = FLOOR_ROWS // (4 if plan.kind.endswith("40ms") else 1)
    session = await gateway.sender.connect(on_confirm)
    began_s = time.perf_counter()
    while confirmed < rows:
        while sent < rows and sent - confirmed < session.window:
            session.send(*keys[sent % len(keys)], resent=True)
            sent += 1
        room.clear()
        await room.wait()
    took_s = time.perf_counter() - began_s - (M1_TIMEOUT_S if plan.kind == "sl651-m1" else 0)
    print(f"kind={plan.kind} floor_rows_per_s={rows / took_s:.0f}", flush=True)
    session.abort()
    gateway.store.close()
    far.close()


def message(gateway: Gateway, plan: Plan, address: int) -> tuple[Key, bytes]:
    """A row with figures as they are, of eight measurands."""
    report: Any = gateway.runner._report
    schema = codec.schema(SCHEMA)
    values = tuple(series.centre + 7 for series in schema.series)
    now_ms = gateway.clock.unix_ms()
    period_s = MINUTE_S if plan.kind.startswith("hj212") else TIMED_S
    start_ms = civil.period_start_ms(now_ms, period_s, ZONE)
    epoch = gateway._epochs[address]
    readings = [
        Reading(
            number, epoch.ledger, number, 0, now_ms, start_ms // 1000 + 60 * number, 1, SCHEMA, values, None
        )
        for number in range(1, 3)
    ]
    kind = hj212.MINUTE if plan.kind.startswith("hj212") else "32"
    key = Key(site_of(address), kind, start_ms)
    return key, report.message(key, start_ms + period_s * 1000, readings)


def main() -> None:
    ways: dict[str, steps.Step] = {
        "fill": lambda path, *plan: fill(path, Plan(*plan)),
        "drain": lambda path, *plan: drain(path, Plan(*plan)),
        "floor": lambda path, *plan: floor(path, Plan(*plan)),
    }
    steps.play(__file__, __doc__, KINDS, {"hours": 72.0, "every-s": 300.0, "sites": 64}, ways)


if __name__ == "__main__":
    main()
