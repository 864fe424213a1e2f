"""A gateway with HJ 212 northbounds in a world with a virtual clock: real store, real runner, platforms in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway import civil, quality_checks
from gateway.daemon import EXTRA_SCHEMA
from gateway.fingerprints import of_reading
from gateway.marks import Marks
from gateway.northbound.hj212 import Hj212Sender
from gateway.northbound.hj212_commands import Desk
from gateway.northbound.hj212_report import Hj212Report, ReportSettings, Told
from gateway.northbound.hj212_settings import Hj212Settings
from gateway.northbound.rows import RowsRunner
from gateway.records import NO_PIV, Reading
from gateway.registry import Place
from gateway.store import Store, StoreSettings
from hil_tests.world.clock import InlineExecutor, VirtualLoop, WorldClock, pass_s
from hil_tests.world.hj_platform import HjPlatform
from protocols.northbound import hj212
from protocols.wire import readings as codec

ZONE = ZoneInfo("Asia/Shanghai")
MN = "010000A8900016F000169DC0"
SITE = "lishui-3"
# Of schema 1: temperature 15.00, pH 7.80, oxygen 8.50, 600 uS/cm, 30.0 NTU, 0 mV, 1.00 mg/L, level.
GOOD_SET = (1500, 780, 850, 600, 300, 0, 100, 1000)
# The begin of a civil hour and day: 2026-09-22 00:00 at Shanghai.
START_S = civil.unix_ms("20260922000000", ZONE) // 1000


class Killed(Exception):
    """The process is gone."""


class KillingExecutor(InlineExecutor):
    """COMMIT number `at` is the last thing that this process does, or the first that it does not."""

    def __init__(self, at: int = 0, *, before: bool = False) -> None:
        self.commits = 0
        self.killed = asyncio.Event()
        self._at = at
        self._before = before

    def disarm(self) -> None:
        """It lives on."""
        self._at = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.commits += 1
        if self._at and self.commits >= self._at:
            if self.commits == self._at and not self._before:
                fn(*args, **kwargs)
            self.killed.set()
            return Future()
        return super().submit(fn, *args, **kwargs)


class Given(NamedTuple):
    node: int
    time_s: int
    values: tuple[int | None, ...]
    flags: tuple[int, ...] | None


class Rig:
    """``sites``: by node."""

    def __init__(
        self, folder: Path, platform: HjPlatform, *, sites: dict[int, str] | None = None, seed: int = 1, **settings: Any
    ) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.platform = platform
        self.sites = sites or {0x12: SITE}
        self.given: list[Given] = []
        self.clock = WorldClock(loop, START_S - int(loop.time()))
        self._path = folder / "tidegate.db"
        self._rng = random.Random(seed)
        self._report = dict(settings.pop("report", {}))
        self._told = {
            "real_time_s": 0,
            "minute_s": 600,
            "timeout_s": 10,
            "resends": 3,
            **settings.pop("told", {}),
        }
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self.executor = KillingExecutor()

    # ---- the gateway ---------------------------------------------------------------------------------------------

    def open(self, executor: KillingExecutor | None = None) -> None:
        """Start, or start again."""
        self.open_store(executor)
        self._epochs = {epoch.node: epoch for epoch in self.store.epochs.values()}
        self.told = Told(**self._told)
        mns = {site: MN if site == SITE else f"MN{site}" for site in self.sites.values()}
        report = ReportSettings(mns, ZONE, **{"sample_s": 0, **self._report})
        self.settings = Hj212Settings(
            "river-city",
            "platform.example",
            9001,
            "21",
            hj212.VERSION_2017,
            "123456",
            report,
            **self._settings,
        )
        self.report = Hj212Report(report, self.told, Marks(self.store).of, self._checks)
        self.sender = Hj212Sender(
            self.settings, self.told, lambda: self.desk, self.clock, self.platform.open_wire
        )
        self.runner = RowsRunner(
            "river-city", self.store, self.report, self.sender,
            lambda node, at_ms: Place(self.sites.get(node, "elsewhere"), "330106"), self.clock, self._rng,
        )  # fmt: skip
        self.desk = Desk(self.settings, self.told, self.report, self.store, self.clock, self.runner.readings)
        self._task = asyncio.get_running_loop().create_task(self.runner.run())
        self._give_again()

    def open_store(self, executor: KillingExecutor | None) -> None:
        self.executor = executor or KillingExecutor()
        self.store = Store.open(
            self._path, clock=self.clock, random_bytes=self._rng.randbytes, extra_schema=EXTRA_SCHEMA,
            settings=StoreSettings(linger_ms=5), executor=self.executor,
        )  # fmt: skip
        # What is killed in this world is the process: the disk under it goes on, and need not be waited for.
        self.store._connection.execute("PRAGMA synchronous = OFF")

    def another(self, name: str, platform: HjPlatform) -> RowsRunner:
        """A northbound beside it, to another platform."""
        settings = replace(self.settings, name=name)
        sender = Hj212Sender(settings, self.told, lambda: self.desk, self.clock, platform.open_wire)
        return RowsRunner(
            name, self.store, self.report, sender,
            lambda node, at_ms: Place(self.sites.get(node, "elsewhere"), "330106"), self.clock, self._rng,
        )  # fmt: skip

    def _checks(self, site: str, kind: str, at_ms: int) -> list[tuple[str, dict[str, str], str]]:
        return self.store.read(lambda connection: quality_checks.of_row(connection, site, kind, at_ms))

    async def close(self, *, kill: bool = False) -> None:
        """Stop; with `kill` as kill -9 does: nothing is saved and what was not committed is gone."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if not kill:
            self.store.close()
            return
        self.store._closed = True
        if self.store._timer is not None:
            self.store._timer.cancel()
        self.store._reader.close()
        self.store._connection.close()

    def failure(self) -> BaseException | None:
        """Why the runner ended, if it did."""
        assert self._task is not None
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None

    # ---- what comes in -------------------------------------------------------------------------------------------

    def give(
        self, time_s: int, values: tuple[int | None, ...] = GOOD_SET, flags: tuple[int, ...] | None = None, *,
        node: int = 0x12,
    ) -> None:  # fmt: skip
        """One set of a node; given again after a kill if it was not committed, as nodes do."""
        self.given.append(Given(node, time_s, values, flags))
        self._put(len(self.given), self.given[-1])

    def _give_again(self) -> None:
        known = {row[0] for row in self.store.read(lambda c: c.execute("SELECT seq FROM reading").fetchall())}
        for seq, given in enumerate(self.given, start=1):
            if seq not in known:
                self._put(seq, given)

    def _put(self, seq: int, given: Given) -> None:
        store = self.store
        epoch = self._epochs.get(given.node)
        if epoch is None:
            epoch = self._epochs[given.node] = store.add_epoch(
                given.node, 1 << 48 | given.node, None, None, 1
            )
        ledger = epoch.ledger
        now_ms = self.clock.unix_ms()
        flags = None if given.flags is None else bytes(given.flags)
        body = codec.encode(
            codec.schema(1), 1, (0,), (given.values,), None if flags is None else (given.flags,)
        )
        fingerprint = of_reading(ledger.row_id, seq, body, given.time_s, 1)
        ledger.offer(seq, fingerprint)
        row_id = store.next_reading
        store.next_reading += 1
        batch = store.batch
        batch.sets += 1
        batch.reading_rows.append(
            (
                row_id,
                ledger.row_id,
                seq,
                NO_PIV,
                fingerprint,
                0,
                now_ms,
                given.time_s,
                None,
                1,
                1,
                flags,
                body,
            )
        )
        batch.readings.append(
            Reading(row_id, ledger, seq, 0, now_ms, given.time_s, 1, 1, given.values, given.flags)
        )
        store.schedule()

    async def live(self, seconds: int, every_s: int = 60, node: int = 0x12) -> None:
        """A node that measures: a set every so often, each another."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while loop.time() < end_s:
            now_s = self.clock.unix_ms() // 1000
            self.give(now_s, self.set_of(now_s), node=node)
            await pass_s(every_s)

    def set_of(self, time_s: int) -> tuple[int, ...]:
        """What a station measures then."""
        step = (time_s // 60) % 97
        return (1500 + step, 780 + step % 7, 850 - step, 600 + step, 300, step - 40, 100 + step, 1000)

    # ---- what must have come out ---------------------------------------------------------------------------------

    def expected(self, cn: str, period_s: int, until_s: int) -> dict[tuple[str, str, str], dict[str, str]]:
        """Rows by key with the pH that all sets given so far make, for periods that ended by `until_s`."""
        groups: dict[tuple[str, int], list[int]] = {}
        for given in self.given:
            start_s = (
                given.time_s - (given.time_s + 8 * 3600) % period_s
            )  # eight hours before Greenwich, all year
            if start_s + period_s <= until_s and given.values[1] is not None:
                groups.setdefault((self.sites[given.node], start_s), []).append(given.values[1])
        rows = {}
        for (site, start_s), values in groups.items():
            key = MN if site == SITE else f"MN{site}", cn, civil.text(start_s * 1000, ZONE)
            mean = sum(values) / len(values) / 100
            rows[key] = {
                "w01001-Min": f"{min(values) / 100:.2f}", "w01001-Avg": f"{mean:.2f}",
                "w01001-Max": f"{max(values) / 100:.2f}", "w01001-Flag": "N",
            }  # fmt: skip
        return rows

    def got(self, cn: str) -> dict[tuple[str, str, str], dict[str, str]]:
        """The platform's rows, their pH."""
        return {
            key: {name: value for name, value in arrival.items.items() if name.startswith("w01001")}
            for key, arrival in self.platform.rows.items()
            if key[1] == cn
        }


def in_world(story: Coroutine[Any, Any, Any]) -> Any:
    """Run on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
