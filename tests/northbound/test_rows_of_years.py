"""Rows of reports over years: what a gateway does with them each minute stays short, whatever there is.

The tables are made by SQL, as a year of stations leaves them that nobody tidied. What is asserted is how much each step
looks at and removes; the soak prints how long the longest one takes with a hundred stations.
"""

from __future__ import annotations

import asyncio
import functools
import random
import resource
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import limits, report_rows
from gateway.daemon import EXTRA_SCHEMA
from gateway.northbound.row_books import Books
from gateway.northbound.rows import RowsRunner
from gateway.store import Store, StoreSettings
from hil_tests.world.clock import InlineExecutor, WorldClock, pass_s
from tests.northbound.hj_rig import START_S, in_world

DAY_S = 86_400
KINDS = {"2051": 600, "2061": 3600}
FILL = "WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < ?)"


def site(number: int) -> str:
    return f"river-{number:03d}"


def fill(connection: sqlite3.Connection, stations: int, days: int, away_days: int, every_s: int) -> None:
    """`province` has confirmed every row, `city` has been away so long; readings of each station by turns."""
    for number in range(stations):
        connection.execute(
            f"INSERT INTO report_index SELECT * FROM ({FILL} SELECT ?, ? - v * ?, 100000000 - v * ? + ? FROM n)",
            (days * DAY_S // every_s, site(number), START_S, every_s, stations, number),
        )
        for northbound, state, span in (("province", 1, days), ("city", 0, away_days)):
            for kind, period_s in KINDS.items():
                connection.execute(
                    f"INSERT INTO report_row SELECT * FROM ({FILL} SELECT ?, ?, ?, 1000 * (? - (v + 1) * ?),"
                    " 1000 * (? - v * ?), ?, 0, 1000 * (? - v * ? + 60), 1, 0, 1, x'0011223344556677' FROM n)",
                    (span * DAY_S // period_s - 1, northbound, site(number), kind, START_S, period_s, START_S, period_s,
                     state, START_S, period_s),
                )  # fmt: skip


class Nothing:
    """A report of sites, without any reading."""

    volatile = ("2011",)

    def __init__(self, sites: list[str]) -> None:
        self.sites = sites


def opened(
    folder: Path, stations: int, days: int, away_days: int, every_s: int = 300
) -> tuple[Store, WorldClock]:
    clock = WorldClock(asyncio.get_running_loop(), START_S - int(asyncio.get_running_loop().time()) + 120)
    store = Store.open(
        folder / "tidegate.db", clock=clock, random_bytes=random.Random(1).randbytes, extra_schema=EXTRA_SCHEMA,
        settings=StoreSettings(linger_ms=5), executor=InlineExecutor(),
    )  # fmt: skip
    store._connection.execute("PRAGMA synchronous = OFF")
    store._connection.execute("BEGIN")
    fill(store._connection, stations, days, away_days, every_s)
    store._connection.execute("COMMIT")
    return store, clock


def runner(store: Store, clock: WorldClock, name: str, sites: list[str]) -> RowsRunner:
    report: Any = Nothing(sites)
    nobody: Any = None
    return RowsRunner(name, store, report, nobody, nobody, clock, random.Random(1))


def count(store: Store, table: str, where: str = "1") -> int:
    return int(store.read(lambda db: db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]))


def test_a_year_that_was_not_tidied_comes_down_step_by_step(tmp_path: Path) -> None:
    async def story() -> None:
        store, clock = opened(tmp_path, 3, 150, 0, every_s=3600)
        one = runner(store, clock, "province", [site(number) for number in range(3)])
        steps, kept_ms = 0, 1000 * (START_S + 120 - limits.REPORT_KEPT_S)
        while True:
            before = count(store, "report_row"), count(store, "report_index")
            await store.write(one._tidy_now)
            for name in one._sites_to_tidy():
                await store.write(functools.partial(one._tidy_site, site=name))
            after = count(store, "report_row"), count(store, "report_index")
            steps += 1
            assert all(
                was - now <= 3 * limits.REPORT_TIDY_ROWS + 3 for was, now in zip(before, after, strict=True)
            )
            if before == after:
                break
        assert steps > 20
        assert count(store, "report_row", f"northbound = 'province' AND end_ms < {kept_ms}") == 0
        assert count(store, "report_row", "northbound = 'province'") == 3 * 45 * (144 + 24)
        assert count(store, "report_index", f"time < {kept_ms // 1000}") == 0
        store.close()

    in_world(story())


def test_many_rows_are_counted_and_held_site_by_site_and_few_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.northbound.row_books.ROWS_COUNTED_MAX", 500)
    monkeypatch.setattr("gateway.northbound.row_books._PAUSE_S", 1.0)

    async def story() -> None:
        store, clock = opened(tmp_path, 4, 10, 5, every_s=1800)
        now_ms = clock.unix_ms()
        exact = store.read(functools.partial(report_rows.count, northbound="city", until_ms=now_ms))
        wanted = store.read(functools.partial(report_rows.held, northbound="city"))
        assert exact > 500
        assert wanted.count() == 4 * 5 * 48
        books = Books("city", store, lambda: [site(number) for number in range(4)], lambda: 7, clock)
        assert books.held()[2] is False, "nothing may leave before it is known"
        assert books.count(now_ms) == 500, "at least"
        read, seen = store.read, []

        def watched(ask: Any) -> Any:
            if getattr(ask, "func", None) is report_rows.held_of_site:
                seen.append(ask)
            return read(ask)

        monkeypatch.setattr(store, "read", watched)
        looking = asyncio.ensure_future(books.run())
        await pass_s(5)
        assert books.count(now_ms) == exact
        held_to, held, known = books.held()
        assert (held_to, list(held), known) == (7, list(wanted), True)
        looks = len(seen)
        for _ in range(60):
            books.held()
            await pass_s(1)
        assert len(seen) == looks, "a look of 4 s is good for longer than a minute"
        await pass_s(60)
        books.held()
        await pass_s(5)
        assert len(seen) == looks + 4
        few = Books("province", store, list, lambda: 9, clock)
        assert few.count(now_ms) == 0
        assert few.held()[0::2] == (9, True)
        looking.cancel()
        store.close()

    in_world(story())


def test_rows_of_sites_that_are_reported_no_longer_are_found_from_site_to_site(tmp_path: Path) -> None:
    async def story() -> None:
        store, _ = opened(tmp_path, 5, 2, 2, every_s=3600)
        kept = [site(1), site(4), "river-of-tomorrow"]
        before = count(store, "report_row", "northbound = 'city'")
        gone = await store.write(lambda db: report_rows.withdraw(db, "city", kept))
        assert gone == before * 3 // 5
        assert await store.write(lambda db: report_rows.withdraw(db, "city", kept)) == 0
        assert await store.write(lambda db: report_rows.withdraw(db, "province", [])) == 0, (
            "confirmed ones stay"
        )
        left = store.read(
            lambda db: db.execute("SELECT DISTINCT site FROM report_row WHERE state = 0").fetchall()
        )
        assert left == [(site(1),), (site(4),)]
        store.close()

    in_world(story())


def test_rows_beyond_the_bound_give_way_some_at_a_time_the_shortest_and_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = [site(number) for number in range(3)]
    most = 2 * 24 * 30 + 100
    monkeypatch.setattr("gateway.northbound.rows.REPORT_ROWS_MAX", most)
    monkeypatch.setattr("gateway.northbound.row_books.ROWS_COUNTED_MAX", 500)
    monkeypatch.setattr(report_rows, "REPORT_GIVE_UP_ROWS", 1000)

    async def story() -> None:
        store, clock = opened(tmp_path, 3, 0, 30, every_s=3600)
        one = runner(store, clock, "city", sites)
        assert count(store, "report_row", "northbound = 'city'") == 3 * 30 * (144 + 24)
        while True:
            newest = dict(store.read(lambda db: db.execute(
                "SELECT site, min(start_ms) FROM report_row WHERE kind = '2051' AND northbound = 'city' GROUP BY site"
            ).fetchall()))  # fmt: skip
            if len(newest) == 3:
                assert max(newest.values()) - min(newest.values()) <= 65 * 600_000, (
                    "the oldest of all sites first"
                )
            before = one.counters["given_up"]
            await one._books._look()
            for _ in range(2):  # what the first one gave up is no more in the books than in the table
                await store.write(one._tidy_now)
            gone = one.counters["given_up"] - before
            if not gone:
                break
            assert gone <= 2000
            assert count(store, "report_row", "kind = '2051' AND northbound = 'city'") == 0 or (
                count(store, "report_row", "kind = '2061' AND northbound = 'city'") == 3 * 30 * 24
            ), "their sums are in the longer ones"
        assert count(store, "report_row", "northbound = 'city'") == most
        assert count(store, "report_row", "kind = '2051' AND northbound = 'city'") == 0
        query = "EXPLAIN QUERY PLAN " + report_rows.OWED_STARTS
        plan = store.read(lambda db: db.execute(query, (sites[0], 0, "city", "2051", 64)).fetchall())
        assert "TEMP B-TREE" not in str(plan), "nothing is sorted"
        store.close()

    in_world(story())


def rss_mb() -> float:
    return (
        int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        * resource.getpagesize()
        / (1 << 20)
    )


@pytest.mark.soak
def test_a_year_of_a_hundred_stations(tmp_path: Path) -> None:
    """Each piece of work of a minute, timed: it prints, and asserts only that there was so much to look at."""

    async def story() -> None:
        sites = [site(number) for number in range(100)]
        store, clock = opened(tmp_path, 100, 365, 45)
        rows, index = count(store, "report_row"), count(store, "report_index")
        assert rows > 6_000_000
        store.close()
        before_mb = rss_mb()
        took: dict[str, float] = {}

        def timed(name: str, work: Callable[[], Any]) -> Any:
            began_s = time.perf_counter()
            result = work()
            took[name] = max(took.get(name, 0.0), (time.perf_counter() - began_s) * 1000)
            return result

        store = timed("open", lambda: Store.open(
            tmp_path / "tidegate.db", clock=clock, random_bytes=random.Random(1).randbytes, extra_schema=EXTRA_SCHEMA,
            settings=StoreSettings(linger_ms=5), executor=InlineExecutor(),
        ))  # fmt: skip
        writer = store._connection
        for name in ("province", "city"):
            one = runner(store, clock, name, sites)
            timed("withdraw", lambda name=name: report_rows.withdraw(writer, name, sites))  # type: ignore[misc]
            for _ in range(13):
                timed("tidy", lambda one=one: one._tidy_now(writer))  # type: ignore[misc]
                for at in one._sites_to_tidy():
                    timed("tidy_site", lambda one=one, at=at: one._tidy_site(writer, at))  # type: ignore[misc]
                timed("status", one.status)
            timed("held", one.held)
            for number in range(100):
                ask = functools.partial(
                    report_rows.held_of_site, northbound=name, site=site(number), until_ms=clock.unix_ms()
                )
                timed("held_of_site", lambda ask=ask: store.read(ask))  # type: ignore[misc]
            due = functools.partial(
                report_rows.due, northbound=name, late=False, since_ms=0, until_ms=clock.unix_ms(), limit=70
            )
            timed("due", lambda due=due: store.read(due))  # type: ignore[misc]
        give_up = functools.partial(report_rows.give_up, writer, "city", sites, 100_000)
        assert timed("give_up", give_up) == limits.REPORT_GIVE_UP_ROWS
        figures = " ".join(f"{name}_max_ms={value:.1f}" for name, value in took.items())
        grown_mb = rss_mb() - before_mb
        print(f"stations=100 days=365 rows={rows} index={index} {figures} rss_grown_mb={grown_mb:.0f}")
        assert grown_mb < 100, "whatever there is, it stays in the database"
        store.close()

    in_world(story())
