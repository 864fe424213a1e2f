"""The books of a million records: in bounded time and memory, to the record, for each source and northbound.

The database is written row by row by this test, which knows what stands in it; the audit is the command a person types.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway import audit_orders, schema
from gateway import epoch as epochs
from gateway.clock import SystemClock
from gateway.config import load
from gateway.daemon import DATABASE_NAME, open_store
from gateway.intervals import Intervals
from tests.gateway.test_daemon import write_config
from tests.gateway.test_daemon_process import CONFIG, ROOT

FIRST_DEVICE = 1 << 31
PER_EPOCH = 5_000
# What the command may take, beyond what Python and its libraries are (75 MB): a fixed part of the database's pages.
RSS_MAX_MB = 200
NORTHBOUNDS = ("city", "province", "hydrology")
TABLES = """
[[mqtt]]
name = "city"
host = "127.0.0.1"
[[hj212]]
name = "province"
host = "127.0.0.1"
port = 9
password_file = "pw"
stations = { "yuhang-3" = "010000A8900016F000169DC0" }
[[sl651]]
name = "hydrology"
host = "127.0.0.1"
port = 9
password_file = "pw"
stations = { "yuhang-3" = "0012345678" }
[[work_orders]]
name = "hotline"
url = "http://127.0.0.1:9/orders"
"""


class World:
    """What is in the database, counted while it is written."""

    def __init__(self, folder: Path, records: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.produced = self.lost = self.missing = 0
        self.stored: Counter[int] = Counter()  # by node
        self.owed = dict.fromkeys(NORTHBOUNDS, 0)
        write_config(folder)
        (folder / "pw").write_text("03E8")
        (folder / "pw").chmod(0o600)
        self.file = folder / "gateway.toml"
        self.file.write_text(CONFIG + TABLES)
        config = load(self.file)
        Path(config.gateway.data_dir).mkdir(mode=0o700)
        open_store(config, SystemClock()).close()
        self.database = Path(config.gateway.data_dir, DATABASE_NAME)
        with sqlite3.connect(self.database) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            self._fill(connection, records)
        connection.close()

    def _fill(self, connection: sqlite3.Connection, records: int) -> None:
        """Epochs of nodes and devices, with gaps: some still missing, some listed as lost; one in 50 is an event."""
        rng = self.rng
        reading = event = 0
        self._bodies = [rng.randbytes(30) for _ in range(64)]
        for number in range(1, records // PER_EPOCH + 1):
            node = FIRST_DEVICE + number if number % 10 == 0 else 1 + number // 3
            connection.execute(
                f"INSERT INTO epoch ({epochs.COLUMNS})"
                " VALUES (?, ?, ?, NULL, NULL, 0, 1, 0, x'', 0, 0, 0, 0, 0, 0, 0, 0)",
                (number, node, number),
            )
            seq = 0
            readings, events = [], []
            for _ in range(PER_EPOCH):
                seq += 1
                if rng.random() < 0.0005:
                    seq += self._gap(connection, number, seq)
                if rng.random() < 0.02:
                    event += 1
                    events.append((event, 2, number, seq, seq, 0, seq, 0, None, 0, 5, 1, "null"))
                else:
                    reading += 1
                    body = self._bodies[seq % 64]
                    readings.append((reading, number, seq, seq, 0, 0, seq, seq, None, 0, 1, None, body))
            connection.executemany(
                f"INSERT INTO reading ({schema.READING_COLUMNS}) VALUES ({_marks(13)})", readings
            )
            connection.executemany(
                f"INSERT INTO event ({schema.EVENT_COLUMNS}) VALUES ({_marks(13)})", events
            )
            self.produced += seq
            self.stored[node] += PER_EPOCH
        self._deliver(connection, reading, event)
        self._alarm(connection, records // 500)

    def _gap(self, connection: sqlite3.Connection, epoch: int, first: int) -> int:
        size = self.rng.randrange(1, 400)
        if self.rng.random() < 0.5:
            connection.execute("INSERT INTO lost VALUES (?, ?, ?, 0, 1)", (epoch, first, first + size - 1))
            self.lost += size
        else:
            self.missing += size
        return size

    def _deliver(self, connection: sqlite3.Connection, readings: int, events: int) -> None:
        """The city has all but many runs here and there and the latest; the platforms' rows wait for some hours."""
        owed = Intervals()
        late = min(10_000, readings // 5)
        for _ in range(2 * late):
            first = self.rng.randrange(1, readings - 2 * late)
            owed.add(first, first + self.rng.randrange(3))
        cursor, behind = max(0, events - 500), readings - late + 1
        connection.execute("INSERT INTO progress VALUES ('city', ?, ?, ?)", (cursor, behind, owed.pack()))
        self.owed["city"] = min(500, events) + late + sum(last - first + 1 for first, last in owed)
        for name in ("province", "hydrology"):
            connection.execute(
                "INSERT INTO progress VALUES (?, ?, ?, ?)", (name, events, readings + 1, Intervals().pack())
            )
            for hour in range(5):
                connection.execute(
                    "INSERT INTO report_row VALUES (?, 'yuhang-3', 'hour', ?, ?, 0, 0, 0, 0, 0, 0, x'')",
                    (name, hour * 3_600_000, (hour + 1) * 3_600_000),
                )
            self.owed[name] = 5 * 60
        for minute in range(24 * 60):
            connection.execute(
                "INSERT INTO report_index VALUES ('yuhang-3', ?, ?)", (minute * 60, 7 * minute + 1)
            )

    def _alarm(self, connection: sqlite3.Connection, count: int) -> None:
        """Alarms: some over, some acknowledged; the platform has some of what happened to them."""
        self.alarms, self.changes, self.sent = count, 0, 0
        for number in range(1, count + 1):
            kinds = ["raised", *["acknowledged"] * (number % 2), *["cleared"] * (number % 3 > 0)]
            connection.execute(
                "INSERT INTO alarm (id, rule, site, area, node, epoch, seq, severity, detail, raised_ms, noticed_ms,"
                " cleared_ms, late, flapping, tier, silent_until_ms)"
                " VALUES (?, 'cover', 's', '33', 1, 1, ?, 1, '', 0, 0, ?, 0, 0, 0, 0)",
                (number, number, 5 if "cleared" in kinds else None),
            )
            has = self.rng.randrange(len(kinds) + 1)
            for turn, kind in enumerate(kinds, 1):
                change = connection.execute(
                    "INSERT INTO alarm_change (alarm, kind, at_ms, tier, who, why) VALUES (?, ?, 0, 0, '', '')",
                    (number, kind),
                ).lastrowid
                if turn == has:
                    connection.execute("INSERT INTO order_sent VALUES ('hotline', ?, ?)", (number, change))
            self.changes += len(kinds)
            self.sent += has


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def audited(world: World, *words: str) -> tuple[str, float, float]:
    """What the command prints, the seconds of processor it took, and the most memory it had."""
    command = [sys.executable, "-c", CHILD, "gateway", "audit", *words, "--config", str(world.file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *out, figures = done.stdout.rstrip().split("\n")
    cpu_s, rss_kb = figures.split()
    return "\n".join(out), float(cpu_s), float(rss_kb) / 1024


# The command, and what it took: of this program alone. (ru_maxrss counts what the process was before it became this
# program, too: the memory of the test's own process.)
CHILD = """
import atexit, re, resource, tidegate
def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak_kb = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print(used.ru_utime + used.ru_stime, peak_kb)
atexit.register(tell)
tidegate.main()
"""


def check(folder: Path, records: int) -> None:
    world = World(folder, records, seed=1)
    text, cpu_s, rss_mb = audited(world, "--json")
    found = json.loads(text)
    assert found["holds"] is True
    rows = found["rows"]
    for name in NORTHBOUNDS:
        mine = [row for row in rows if row["northbound"] == name]
        assert {int(row["node"], 16): row["stored"] for row in mine} == dict(world.stored)
        sums = {
            key: sum(row[key] for row in mine) for key in ("produced", "stored", "queued", "missing", "lost")
        }
        assert sums == {
            "produced": world.produced, "stored": records, "queued": world.owed[name],
            "missing": world.missing, "lost": world.lost,
        }  # fmt: skip
        for row in mine:
            assert row["produced"] == row["delivered"] + row["queued"] + row["missing"] + row["lost"]
    assert found["orders"] == [
        {"northbound": "hotline", "alarms": world.alarms, "changes": world.changes, "sent": world.sent,
         "waiting": world.changes - world.sent, "broken": 0}
    ]  # fmt: skip
    listed, more_s, more_mb = audited(world, "--records")
    sizes = {
        what: sum(map(int, re.findall(rf": {what} .*\((\d+)\)", listed))) for what in ("missing", "lost")
    }
    assert sizes == {"missing": world.missing, "lost": world.lost}, "each of them is listed"
    print(
        f"records={records} rows={len(rows)} cpu_s={cpu_s:.1f} rss_mb={rss_mb:.0f} with_records_cpu_s={more_s:.1f} "
        f"with_records_rss_mb={more_mb:.0f} database_mb={world.database.stat().st_size >> 20}"
    )
    assert max(rss_mb, more_mb) < RSS_MAX_MB


def test_the_books_of_fifty_thousand_records(tmp_path: Path) -> None:
    check(tmp_path, 50_000)


@pytest.mark.soak
def test_the_books_of_a_million_records(tmp_path: Path) -> None:
    check(tmp_path, 1_000_000)


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM alarm_change WHERE kind = 'raised' AND alarm = 7",
        "INSERT INTO alarm_change (alarm, kind, at_ms, tier, who, why) VALUES (7, 'raised', 0, 0, '', '')",
        "UPDATE alarm SET cleared_ms = 5 WHERE id = 6",
        "INSERT INTO order_sent VALUES ('hotline', 999999, 3)",
    ],
)
def test_books_of_alarms_that_do_not_balance_are_told(tmp_path: Path, spoil: str) -> None:
    world = World(tmp_path, 15_000, seed=2)
    with sqlite3.connect(world.database) as connection:
        names = ["hotline"]
        assert [platform.holds for platform in audit_orders.orders(connection, names)] == [True]
        connection.execute(spoil)
        assert [platform.holds for platform in audit_orders.orders(connection, names)] == [False]
    connection.close()
